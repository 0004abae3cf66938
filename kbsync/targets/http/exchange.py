"""One request and its answer: what was asked goes out once, and comes back as an answer or a failure."""

from __future__ import annotations

import asyncio
import codecs
import re
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field

import httpx

from kbsync.core.debugging import tell
from kbsync.core.headers import fits_header
from kbsync.errors import Halted, TargetError, Unavailable, Unsure
from kbsync.targets.http import reading, wire
from kbsync.targets.http.answers import Answer, Judge, by_status
from kbsync.targets.http.endpoint import SLOW_LINE, Timeouts
from kbsync.targets.http.failures import ON_THE_WAY, Failure, Journey, Sign, lost
from kbsync.targets.http.gate import Pace, Sleep
from kbsync.targets.http.multipart import CHUNK, Outflow
from kbsync.targets.http.timepiece import Timepiece

LARGEST_ANSWER = 32 * 1024 * 1024
"""Bytes of an answer that are read, unpacked."""

REDIRECTS = 3

PATIENCE = 2.0
"""Seconds: a target that wants to be left alone for longer is not asked again at once."""

_STREAMED = {"Accept": "text/event-stream", "Accept-Encoding": "identity"}
_NAME_OF_SECRET = re.compile("auth|key|token|secret", re.IGNORECASE)
_SHORTEST_SECRET = 8


@dataclass(frozen=True, slots=True)
class Asked:
    """One call. `body` makes the bytes to send, anew for each try. `is_repeatable`: twice does no harm."""

    op: str
    method: str
    path: str
    body: Callable[[], Outflow] | None = field(default=None, repr=False)
    params: Mapping[str, str] | None = field(default=None, repr=False)
    is_repeatable: bool = False


@dataclass(frozen=True, slots=True)
class Ending:
    """How one request ended, and how many bytes of its body went out."""

    outcome: Answer | Failure
    sent_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Exchange:
    """Carries requests to one target. `base`: its address; `headers` gives the key, asked for each time.

    `judge` is the vendor's reading; `slow_codes` are its codes that mean "too many requests". `proxy`: the
    one on the way, for messages; "" for none.
    """

    http: httpx.AsyncClient
    base: httpx.URL
    timeouts: Timeouts
    headers: Callable[[], Mapping[str, str]] = field(repr=False)
    judge: Judge
    slow_codes: frozenset[str]
    pace: Pace
    wall: Callable[[], float]
    sleep: Sleep
    proxy: str = ""
    timepiece: Timepiece = field(default_factory=Timepiece)

    @property
    def host(self) -> str:
        """The target's name for messages, with its port where that is not the usual one."""
        return self.base.netloc.decode("ascii")

    async def carry_out(self, asked: Asked) -> Ending:
        """Send it, wait for the answer, read it. Errors of `headers` and of `judge` pass through."""
        headers = _fit(asked.op, self.headers())
        outflow = asked.body() if asked.body is not None else None
        began = self.wall()
        try:
            ending = Ending(await self._outcome(asked, headers, outflow), outflow.sent if outflow else 0)
            self._tell(asked, ending, self.wall() - began)
            return ending
        finally:
            if outflow is not None:
                outflow.close()

    def _tell(self, asked: Asked, ending: Ending, seconds: float) -> None:
        """Without the path and its parameters, which may hold what is private."""
        outcome = ending.outcome
        error = outcome.error.reason if isinstance(outcome, Failure) else ""
        status = None if isinstance(outcome, Failure) else outcome.status
        told = {"sent_bytes": ending.sent_bytes, "seconds": round(seconds, 3), "error": error}
        tell("request.ended", call=asked.op, host=self.host, method=asked.method, status=status, **told)

    async def _outcome(
        self, asked: Asked, headers: Mapping[str, str], outflow: Outflow | None
    ) -> Answer | Failure:
        """The outcome is a value so that no error of the wire, with its request, is tied to ours."""
        journey = Journey()
        try:
            async with asyncio.timeout(self._budget(outflow)) as deadline:
                if outflow is not None:
                    outflow.open(lambda size: self._take(size, deadline), self.pace.chunk(CHUNK))
                answer = await self._answer(asked, headers, outflow, journey)
        except ON_THE_WAY as error:
            may_have_arrived = not asked.is_repeatable and journey.may_have_arrived(error)
            through = f" (through the proxy {self.proxy})" if self.proxy else ""
            beginning = f"{asked.op}: {self.host}{through}"
            return lost(beginning, error, self.timeouts, may_have_arrived=may_have_arrived)
        return self._judged(asked, answer)

    async def stream(self, asked: Asked) -> AsyncGenerator[bytes | Answer | Failure, None]:
        """Send it once; its bytes as they come. What is no stream of events comes whole, and judged.

        A way that breaks off ends in a `Failure`. Each wait for bytes is bounded, their number too.
        """
        outflow = asked.body() if asked.body is not None else Outflow("application/json", b"{}")
        headers = {**_fit(asked.op, self.headers()), **_STREAMED}
        journey = Journey()
        outflow.open(_at_once)
        try:
            request = self._request(asked, headers, outflow, journey)
            async with aclosing(self._streamed(asked, request)) as pieces:
                async for piece in pieces:
                    yield piece
        except ON_THE_WAY as error:
            beginning = f"{asked.op}: {self.host}"
            may_have_arrived = journey.may_have_arrived(error)
            yield lost(beginning, error, self.timeouts, may_have_arrived=may_have_arrived)

    async def _streamed(
        self, asked: Asked, request: httpx.Request
    ) -> AsyncGenerator[bytes | Answer | Failure, None]:
        """The first bytes tell what it is: no line of an event begins as JSON and pages do."""
        sent_at = self.wall()
        response = await self.http.send(request, stream=True, auth=wire.NO_AUTH)
        held, is_stream = b"", False
        try:
            async with aclosing(reading.pieces(response, LARGEST_ANSWER)) as pieces:
                async for piece in pieces:
                    held += piece
                    is_stream = is_stream or (response.is_success and _begins_event(held))
                    if is_stream:
                        yield held
                        held = b""
        finally:
            await response.aclose()
        if not is_stream:
            yield self._judged(asked, self._read(asked, response, held, sent_at))

    def _budget(self, outflow: Outflow | None) -> float:
        return self.timeouts.whole + (outflow.size / SLOW_LINE if outflow is not None else 0.0)

    async def _take(self, size: int, deadline: asyncio.Timeout) -> None:
        """Wait for our own limit on bytes a second, which is no fault of the target's."""
        rest = self.pace.claim(size)
        if rest > 0:
            deadline.reschedule((deadline.when() or 0.0) + rest)
            await self.sleep(rest)

    async def _answer(
        self, asked: Asked, headers: Mapping[str, str], outflow: Outflow | None, journey: Journey
    ) -> Answer:
        """The answer, redirects within the target's own origin followed where nothing but a look is asked."""
        request = self._request(asked, headers, outflow, journey)
        for _ in range(REDIRECTS):
            answer, onward = await self._round(asked, request)
            if onward is None or not asked.is_repeatable or asked.method != "GET":
                return answer
            if not wire.is_same_origin(onward, request.url):
                return answer
            request = self.http.build_request("GET", onward, headers=headers, extensions=request.extensions)
        return (await self._round(asked, request))[0]

    def _request(
        self, asked: Asked, headers: Mapping[str, str], outflow: Outflow | None, journey: Journey
    ) -> httpx.Request:
        url = httpx.URL(f"{str(self.base).rstrip('/')}/{asked.path.lstrip('/')}")
        if asked.params:
            url = url.copy_merge_params({name: _utf8(text) for name, text in asked.params.items()})
        all_headers = {**headers, **(outflow.headers if outflow is not None else {})}
        return self.http.build_request(
            asked.method, url, content=outflow, headers=all_headers, extensions={"trace": journey}
        )

    async def _round(self, asked: Asked, request: httpx.Request) -> tuple[Answer, httpx.URL | None]:
        """One answer, and where it redirects to."""
        sent_at = self.wall()
        response = await self.http.send(request, stream=True, auth=wire.NO_AUTH)
        try:
            content = await reading.whole(response, LARGEST_ANSWER)
        finally:
            await response.aclose()
        answer = self._read(asked, response, content, sent_at)
        return answer, response.next_request.url if response.next_request is not None else None

    def _read(self, asked: Asked, response: httpx.Response, content: bytes, sent_at: float) -> Answer:
        content = _without_secrets(content, response.request.headers)
        answer = Answer(
            op=asked.op,
            status=response.status_code,
            headers={name.lower(): value for name, value in response.headers.items()},
            body=reading.parsed(content),
            text=reading.excerpt(content),
            sent_at=sent_at,
            host=self.host,
        )
        self.timepiece.learn(answer.date, sent_at, self.wall())
        return answer

    def _judged(self, asked: Asked, answer: Answer) -> Answer | Failure:
        is_redirect = 300 <= answer.status < 400
        error = by_status(answer) if is_redirect else self.judge(answer)
        if error is None:
            return answer
        error = _with_wish(error, answer, asked)
        is_passing = isinstance(error, Unavailable | Unsure)
        sign = self._sign(answer, error) if is_passing else Sign.UP
        wish = error.retry_after or 0.0 if isinstance(error, Unavailable) else 0.0
        again = is_passing and not is_redirect and sign is not Sign.BUSY and wish <= PATIENCE
        return Failure(error, sign, again, answer.retry_after)

    def _sign(self, answer: Answer, error: TargetError) -> Sign:
        if isinstance(error, Unavailable) and (answer.status == 429 or error.code in self.slow_codes):
            return Sign.BUSY
        return Sign.DOWN if answer.status >= 500 or answer.is_page else Sign.UP


async def _at_once(_size: int) -> None:
    """A question is short: our own limit on bytes a second is for documents."""


def _begins_event(content: bytes) -> bool:
    beginning = content.removeprefix(codecs.BOM_UTF8).lstrip()
    return bool(beginning) and beginning[:1] not in (b"{", b"[", b"<")


def _with_wish(error: TargetError, answer: Answer, asked: Asked) -> TargetError:
    """Where asking again does no harm nothing is unsure; and the target's wish is kept with the error."""
    if isinstance(error, Unsure) and asked.is_repeatable:
        return Unavailable(error.reason, code=error.code, retry_after=answer.retry_after)
    if isinstance(error, Unavailable) and error.retry_after is None:
        error.retry_after = answer.retry_after
    return error


def _fit(op: str, headers: Mapping[str, str]) -> Mapping[str, str]:
    """The headers, if they can be sent; the errors of httpx and h11 would quote the key."""
    for name, value in headers.items():
        if not fits_header(value):
            raise Halted(
                "credentials",
                f"{op}: the header {name} cannot be sent: the API key is empty or has characters "
                "(a line end, a blank at an end, non-ASCII) that no key has; check it",
            )
    return headers


def _without_secrets(content: bytes, headers: Mapping[str, str]) -> bytes:
    """An answer that quotes the request's key, as some proxies do, must not carry it into a message."""
    for name, value in headers.items():
        secret = value.rpartition(" ")[2].encode()
        if _NAME_OF_SECRET.search(name) and len(secret) >= _SHORTEST_SECRET:
            content = content.replace(secret, b"***")
    return content


def _utf8(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
