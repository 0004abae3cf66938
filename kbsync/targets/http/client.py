"""How far a target's clock is from ours, by the `Date` of its answers.

One request and its answer: what was asked goes out once, and comes back as an answer or a failure.

Asks a target over HTTP: carefully, not too much at a time, and with one clear outcome for each call.
"""

from __future__ import annotations

import asyncio
import codecs
import json as json_text
import math
import random
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from copy import copy
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import httpx
from tenacity import AsyncRetrying, RetryCallState, retry_if_result, stop_after_attempt

from kbsync.core.backoff import pause
from kbsync.core.debugging import tell
from kbsync.core.meter import Meter, Outcome
from kbsync.core.text import fits_header
from kbsync.errors import Halted, Rejected, TargetError, Unavailable, Unsure
from kbsync.targets.http import bodies, connection
from kbsync.targets.http.bodies import CHUNK, FilePart, RequestBody, form
from kbsync.targets.http.connection import SLOW_LINE, Endpoint, Timeouts
from kbsync.targets.http.download import Download
from kbsync.targets.http.errors import (
    ON_THE_WAY,
    FailedRequest,
    HttpAnswer,
    Judge,
    SendTrace,
    Sign,
    by_status,
    lost,
)
from kbsync.targets.http.limits import Account, Gate, Pace, Sleep

SECOND = 1.0
"""What a `Date` (RFC 9110, 6.6.1) leaves out."""


@dataclass(slots=True)
class Timepiece:
    """`apart`: seconds by which the target was ahead at its last dated answer; None before one."""

    apart: float | None = None

    def learn(self, date: float | None, sent_at: float, heard_at: float) -> None:
        """An answer was made at `date`, between sending and hearing: only what lies outside counts.

        All in seconds since the epoch.
        """
        if date is not None:
            self.apart = max(0.0, date - heard_at) + min(0.0, date + SECOND - sent_at)


LARGEST_ANSWER = 32 * 1024 * 1024
"""Bytes of an answer that are read, unpacked."""

REDIRECTS = 3

PATIENCE = 2.0
"""Seconds: a target that wants to be left alone for longer is not asked again at once."""

_STREAMED = {"Accept": "text/event-stream", "Accept-Encoding": "identity"}
_NAME_OF_SECRET = re.compile("auth|key|token|secret", re.IGNORECASE)
_SHORTEST_SECRET = 8


@dataclass(frozen=True, slots=True)
class HttpCall:
    """One call. `body` makes the bytes to send, anew for each try. `is_repeatable`: twice does no harm."""

    op: str
    method: str
    path: str
    body: Callable[[], RequestBody] | None = field(default=None, repr=False)
    params: Mapping[str, str] | None = field(default=None, repr=False)
    is_repeatable: bool = False


@dataclass(frozen=True, slots=True)
class Ending:
    """How one request ended, and how many bytes of its body went out."""

    outcome: HttpAnswer | FailedRequest
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

    async def carry_out(self, asked: HttpCall) -> Ending:
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

    def _tell(self, asked: HttpCall, ending: Ending, seconds: float) -> None:
        """Without the path and its parameters, which may hold what is private."""
        outcome = ending.outcome
        error = outcome.error.reason if isinstance(outcome, FailedRequest) else ""
        status = None if isinstance(outcome, FailedRequest) else outcome.status
        told = {"sent_bytes": ending.sent_bytes, "seconds": round(seconds, 3), "error": error}
        tell("request.ended", call=asked.op, host=self.host, method=asked.method, status=status, **told)

    async def _outcome(
        self, asked: HttpCall, headers: Mapping[str, str], outflow: RequestBody | None
    ) -> HttpAnswer | FailedRequest:
        """The outcome is a value so that no error of the wire, with its request, is tied to ours."""
        journey = SendTrace()
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

    async def stream(self, asked: HttpCall) -> AsyncGenerator[bytes | HttpAnswer | FailedRequest, None]:
        """Send it once; its bytes as they come. What is no stream of events comes whole, and judged.

        A way that breaks off ends in a `Failure`. Each wait for bytes is bounded, their number too.
        """
        outflow = asked.body() if asked.body is not None else RequestBody("application/json", b"{}")
        headers = {**_fit(asked.op, self.headers()), **_STREAMED}
        journey = SendTrace()
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
        self, asked: HttpCall, request: httpx.Request
    ) -> AsyncGenerator[bytes | HttpAnswer | FailedRequest, None]:
        """The first bytes tell what it is: no line of an event begins as JSON and pages do."""
        sent_at = self.wall()
        response = await self.http.send(request, stream=True, auth=connection.NO_AUTH)
        held, is_stream = b"", False
        try:
            async with aclosing(bodies.pieces(response, LARGEST_ANSWER)) as pieces:
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

    def _budget(self, outflow: RequestBody | None) -> float:
        return self.timeouts.whole + (outflow.size / SLOW_LINE if outflow is not None else 0.0)

    async def _take(self, size: int, deadline: asyncio.Timeout) -> None:
        """Wait for our own limit on bytes a second, which is no fault of the target's."""
        rest = self.pace.claim(size)
        if rest > 0:
            deadline.reschedule((deadline.when() or 0.0) + rest)
            await self.sleep(rest)

    async def _answer(
        self, asked: HttpCall, headers: Mapping[str, str], outflow: RequestBody | None, journey: SendTrace
    ) -> HttpAnswer:
        """The answer, redirects within the target's own origin followed where nothing but a look is asked."""
        request = self._request(asked, headers, outflow, journey)
        for _ in range(REDIRECTS):
            answer, onward = await self._round(asked, request)
            if onward is None or not asked.is_repeatable or asked.method != "GET":
                return answer
            if not connection.is_same_origin(onward, request.url):
                return answer
            request = self.http.build_request("GET", onward, headers=headers, extensions=request.extensions)
        return (await self._round(asked, request))[0]

    def _request(
        self, asked: HttpCall, headers: Mapping[str, str], outflow: RequestBody | None, journey: SendTrace
    ) -> httpx.Request:
        url = httpx.URL(f"{str(self.base).rstrip('/')}/{asked.path.lstrip('/')}")
        if asked.params:
            url = url.copy_merge_params({name: _utf8(text) for name, text in asked.params.items()})
        all_headers = {**headers, **(outflow.headers if outflow is not None else {})}
        return self.http.build_request(
            asked.method, url, content=outflow, headers=all_headers, extensions={"trace": journey}
        )

    async def _round(self, asked: HttpCall, request: httpx.Request) -> tuple[HttpAnswer, httpx.URL | None]:
        """One answer, and where it redirects to."""
        sent_at = self.wall()
        response = await self.http.send(request, stream=True, auth=connection.NO_AUTH)
        try:
            content = await bodies.whole(response, LARGEST_ANSWER)
        finally:
            await response.aclose()
        answer = self._read(asked, response, content, sent_at)
        return answer, response.next_request.url if response.next_request is not None else None

    def _read(self, asked: HttpCall, response: httpx.Response, content: bytes, sent_at: float) -> HttpAnswer:
        content = _without_secrets(content, response.request.headers)
        answer = HttpAnswer(
            op=asked.op,
            status=response.status_code,
            headers={name.lower(): value for name, value in response.headers.items()},
            body=bodies.parsed(content),
            text=bodies.excerpt(content),
            sent_at=sent_at,
            host=self.host,
        )
        self.timepiece.learn(answer.date, sent_at, self.wall())
        return answer

    def _judged(self, asked: HttpCall, answer: HttpAnswer) -> HttpAnswer | FailedRequest:
        is_redirect = 300 <= answer.status < 400
        error = by_status(answer) if is_redirect else self.judge(answer)
        if error is None:
            return answer
        error = _with_wish(error, answer, asked)
        is_passing = isinstance(error, Unavailable | Unsure)
        sign = self._sign(answer, error) if is_passing else Sign.UP
        wish = error.retry_after or 0.0 if isinstance(error, Unavailable) else 0.0
        again = is_passing and not is_redirect and sign is not Sign.BUSY and wish <= PATIENCE
        return FailedRequest(error, sign, again, answer.retry_after)

    def _sign(self, answer: HttpAnswer, error: TargetError) -> Sign:
        if isinstance(error, Unavailable) and (answer.status == 429 or error.code in self.slow_codes):
            return Sign.BUSY
        return Sign.DOWN if answer.status >= 500 or answer.is_page else Sign.UP


async def _at_once(_size: int) -> None:
    """A question is short: our own limit on bytes a second is for documents."""


def _begins_event(content: bytes) -> bool:
    beginning = content.removeprefix(codecs.BOM_UTF8).lstrip()
    return bool(beginning) and beginning[:1] not in (b"{", b"[", b"<")


def _with_wish(error: TargetError, answer: HttpAnswer, asked: HttpCall) -> TargetError:
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


TRIES = 3
FIRST_PAUSE, LONGEST_PAUSE = 0.4, 2.0
"""Seconds between the tries of an idempotent call, the upper half of it by chance."""

JSON = "application/json"

SMALL = 64 * 1024
"""Bytes of a request up to which its time tells of the service and not of the line."""


class Client:
    """The way to one target. `target`: its name; `headers` gives those with the key, asked for each time.

    `judge` reads the vendor's answers; `slow_codes` are its codes that mean "too many requests" as HTTP
    429 does. `steady` and `wall` are clocks in seconds, `sleep` waits by `steady`. `account`: shared with
    the other ways to the same account. Raises `UsageError` where the endpoint cannot be used as it is set.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        target: str,
        headers: Callable[[], Mapping[str, str]],
        judge: Judge,
        meter: Meter | None = None,
        steady: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        sleep: Sleep = asyncio.sleep,
        chance: Callable[[], float] = random.random,
        transport: httpx.AsyncBaseTransport | None = None,
        slow_codes: frozenset[str] = frozenset(),
        account: Account | None = None,
    ) -> None:
        self.target = target
        self.meter = meter if meter is not None else Meter()
        account = account or Account(steady)
        self.breaker, self.lacking = account.breaker, account.lacking
        self.gate = Gate(
            endpoint.concurrency,
            endpoint.requests_per_minute,
            steady,
            sleep,
            account=account,
            is_first=endpoint.is_first,
        )
        self._telling = 0 if endpoint.upload_bytes_per_second else SMALL
        self._pace: Callable[[], Awaitable[None]] | None = None
        self._timeouts = endpoint.timeouts
        self._steady, self._sleep, self._chance = steady, sleep, chance
        base, trust = connection.origin(endpoint), connection.trusted(endpoint)
        connection.check_proxy(endpoint, trust)
        self._connect = partial(connection.connections, endpoint, trust, transport)
        self._http = self._connect()
        self._foreign: httpx.AsyncClient | None = None
        self._foreign_slots = asyncio.Semaphore(max(1, endpoint.concurrency))
        self._exchange = Exchange(
            http=self._http,
            base=base,
            timeouts=endpoint.timeouts,
            headers=headers,
            judge=judge,
            slow_codes=slow_codes,
            pace=Pace(endpoint.upload_bytes_per_second, steady),
            wall=wall,
            sleep=sleep,
            proxy=connection.proxy_host(endpoint, trust) if transport is None else "",
        )

    def unhurried(self, pace: Callable[[], Awaitable[None]]) -> Client:
        """The same gate, breaker and connections; each try of each request waits for `pace` first."""
        self._foreign = self._foreign or self._connect()  # so that there is one to let go of
        slow = copy(self)
        slow._pace = pace
        return slow

    def at(self, address: str, judge: Judge) -> Client:
        """The same gate, breaker and connections, for another path of the same host that `judge` reads."""
        other = copy(self)
        other._exchange = replace(self._exchange, base=httpx.URL(address), judge=judge)
        return other

    @property
    def in_flight(self) -> int:
        """Requests that are on their way now."""
        return self.gate.in_flight

    @property
    def limit(self) -> int:
        """Requests that may be on their way at a time, as the target's answers have it now."""
        return self.gate.limit

    @property
    def clock_apart(self) -> float | None:
        """Seconds by which the target's clock is ahead of ours; None where it has not said."""
        return self._exchange.timepiece.apart

    async def ask(
        self, op: str, method: str, path: str, *, params: Mapping[str, str] | None = None, json: Any = None
    ) -> HttpAnswer:
        """An idempotent call, tried `TRIES` times at most. Raises `Unavailable`, `Rejected` or `Halted`."""
        text = None if json is None else _text(json)  # before its turn comes, once for all tries
        body = None if text is None else partial(RequestBody, JSON, text)
        asked = HttpCall(op, method, path, body, params, is_repeatable=True)
        retrying = AsyncRetrying(
            sleep=self._wait,
            stop=stop_after_attempt(TRIES),
            wait=self._pause,
            retry=retry_if_result(_may_go_well),
            retry_error_callback=_last,
        )
        return _answer(await retrying(self._turn, asked))

    @asynccontextmanager
    async def soon(self, op: str, seconds: float) -> AsyncGenerator[None, None]:
        """Somebody waits: what is asked within is answered in `seconds`, all pauses and tries among them.

        Raises `Unavailable` where it is not, and at once where the target wants a longer pause.
        """
        if (rest := self.gate.rest) > seconds:
            host, pause = self._exchange.host, math.ceil(rest)
            raise Unavailable(f"{op}: {host} is not asked for {pause} s", retry_after=rest, untried=True)
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError:
            reason = f"{op}: {self._exchange.host} did not answer within {seconds:g} s"
            raise Unavailable(reason, code="late") from None

    async def send(self, op: str, path: str, *, fields: Mapping[str, str], file: FilePart) -> HttpAnswer:
        """POST a form with one file, once, never repeated.

        Raises `Unavailable` only where nothing can have been stored, else `Unsure`; `Rejected`, `Halted`
        by the judge, and `Rejected` for a name that is no text.
        """
        try:
            body = form(fields, file)
        except UnicodeEncodeError:
            body = None
        if body is None:
            raise Rejected(f"{op}: a name with bytes that are not UTF-8 cannot be sent; rename the file")
        return _answer(await self._turn(HttpCall(op, "POST", path, lambda: body)))

    async def post(self, op: str, path: str, *, json: Any) -> HttpAnswer:
        """POST JSON with an effect that is not repeatable, once; errors as `send`."""
        return _answer(await self._turn(HttpCall(op, "POST", path, partial(_json, json))))

    async def stream(self, op: str, path: str, *, json: Any) -> AsyncGenerator[bytes | HttpAnswer, None]:
        """POST JSON once; the bytes of a stream of events as they come, or one whole answer that is none.

        Close it if left early. Errors as `send`, also when the way breaks off in the middle.
        """
        if (rest := self.breaker.rest) is not None:
            raise self._refusal(op, rest).error
        burst = await self.gate.enter()
        begun, outcome = self._steady(), Outcome.OK
        try:
            asked = HttpCall(op, "POST", path, partial(_json, json))
            async with aclosing(self._exchange.stream(asked)) as pieces:
                async for piece in pieces:
                    if not isinstance(piece, bytes):
                        self._learn(piece, burst)
                        outcome = _outcome(piece)
                        yield _answer(piece)
                    else:
                        yield piece
        finally:
            self.meter.answered(op, outcome, self._steady() - begun)
            self.gate.leave()

    async def deliver(self, op: str, method: str, path: str, body: RequestBody) -> HttpAnswer:
        """Send a body as it is, once; errors as `send`."""
        return _answer(await self._turn(HttpCall(op, method, path, lambda: body)))

    async def read(self, url: str, *, most: int) -> AsyncGenerator[bytes, None]:
        """Bytes of a foreign http(s) address, without credentials, at most `most`; close it if left early.

        Raises `Unavailable`, or `Rejected` with code `404`, `403` and the like or `too-large`. It neither
        waits for nor counts against the target's limits, but no more than `concurrency` go at a time.
        """
        if self._pace is not None:
            await self._pace()
        async with self._foreign_slots:
            if self._foreign is None:
                self._foreign = self._connect()
            reading = Download(self._foreign, "read", self._timeouts, most, self._steady)
            try:
                async with aclosing(reading.pieces(url)) as pieces:
                    async for piece in pieces:
                        yield piece
            finally:
                await reading.aclose()

    async def aclose(self) -> None:
        """Let go of the connections."""
        await self._http.aclose()
        if self._foreign is not None:
            await self._foreign.aclose()

    async def _turn(self, asked: HttpCall) -> HttpAnswer | FailedRequest:
        """One request when its turn has come, or a refusal while the target is left alone."""
        if self._pace is not None:
            await self._pace()
        if (rest := self.breaker.rest) is not None:
            return self._refusal(asked.op, rest)
        burst = await self.gate.enter()
        try:
            rest = self.breaker.admit()
            return self._refusal(asked.op, rest) if rest is not None else await self._measured(asked, burst)
        finally:
            self.gate.leave()

    async def _measured(self, asked: HttpCall, burst: int) -> HttpAnswer | FailedRequest:
        begun = self._steady()
        try:
            ending = await self._exchange.carry_out(asked)
        except BaseException:
            self.breaker.withdraw()
            raise
        seconds = self._steady() - begun
        self._count(asked, ending, seconds)
        self._learn(ending.outcome, burst)
        if isinstance(ending.outcome, HttpAnswer):
            self.lacking.works(asked.op)
        if isinstance(ending.outcome, HttpAnswer) and ending.sent_bytes <= self._telling:
            self.gate.answered(burst, asked.op, seconds)
        return ending.outcome

    def _count(self, asked: HttpCall, ending: Ending, seconds: float) -> None:
        uploaded = 0 if asked.is_repeatable else ending.sent_bytes
        self.meter.answered(asked.op, _outcome(ending.outcome), seconds, uploaded)

    def _learn(self, outcome: HttpAnswer | FailedRequest, burst: int) -> None:
        """What a request's end says of the target changes how the next ones go."""
        match outcome:
            case FailedRequest(error=error, sign=Sign.DOWN, wish=wish):
                self.breaker.failed(error.reason, wish)
            case FailedRequest(sign=Sign.NONE):
                self.breaker.withdraw()
            case FailedRequest(error=Unavailable(retry_after=wish), sign=Sign.BUSY):
                self.breaker.succeeded()
                self.gate.slowed(burst, wish)
            case _:
                self.breaker.succeeded()
                self.gate.succeeded(burst)

    def _refusal(self, op: str, rest: float) -> FailedRequest:
        reason = f"{op}: the target is left alone for {math.ceil(rest)} s after: {self.breaker.cause}"
        return FailedRequest(Unavailable(reason, retry_after=rest, untried=True), Sign.NONE)

    async def _wait(self, seconds: float) -> None:
        await self._sleep(seconds)

    def _pause(self, state: RetryCallState) -> float:
        return pause(state.attempt_number, self._chance, first=FIRST_PAUSE, longest=LONGEST_PAUSE)


def _json(json: Any) -> RequestBody:
    return RequestBody(JSON, _text(json))


def _text(json: Any) -> bytes:
    text = json_text.dumps(json, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8", "replace")


def _may_go_well(outcome: HttpAnswer | FailedRequest) -> bool:
    return isinstance(outcome, FailedRequest) and outcome.again


def _last(state: RetryCallState) -> Any:
    return state.outcome.result() if state.outcome is not None else None


def _answer(outcome: HttpAnswer | FailedRequest) -> HttpAnswer:
    if isinstance(outcome, FailedRequest):
        raise outcome.error
    return outcome


def _outcome(outcome: HttpAnswer | FailedRequest) -> Outcome:
    match outcome:
        case HttpAnswer():
            return Outcome.OK
        case FailedRequest(error=Unavailable()):
            return Outcome.UNAVAILABLE
        case FailedRequest(error=Unsure()):
            return Outcome.UNSURE
        case FailedRequest(error=Halted()):
            return Outcome.HALTED
    return Outcome.REJECTED
