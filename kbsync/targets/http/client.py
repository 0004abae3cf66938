"""Sends requests to a target within its limits, and gives each call a clear outcome.

Each attempt passes through `Client._attempt`: it waits at the gate, is sent, and its response is classified.
Only `request` retries, because only its calls are safe to repeat (ADR 13).
"""

from __future__ import annotations

import asyncio
import codecs
import hashlib
import math
import random
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Container, Iterable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from copy import copy
from dataclasses import field
from functools import partial
from typing import Any, TypedDict, TypeVar

import httpx
from tenacity import AsyncRetrying, retry_if_result, stop_after_attempt

from kbsync.contract.meter import Meter, Outcome
from kbsync.core.backoff import pause
from kbsync.core.text import fits_header
from kbsync.dataclass import dataclass
from kbsync.errors import Halted, NotOffered, Rejected, TargetError, Unavailable, Unsure
from kbsync.logs import log_debug
from kbsync.targets.http import connection
from kbsync.targets.http.bodies import (
    CHUNK,
    FilePart,
    RequestBody,
    excerpt,
    form_body,
    json_body,
    json_text,
    parse_json,
    read_response,
    response_pieces,
)
from kbsync.targets.http.connection import SLOW_LINE, Endpoint
from kbsync.targets.http.errors import (
    EXCERPT,
    TRANSPORT_ERRORS,
    CompressedError,
    FailedRequest,
    HttpResponse,
    ResponseClassifier,
    SendTrace,
    Sign,
    TooLargeError,
    describe_failure,
    failed_request,
)
from kbsync.targets.http.limits import Account, Gate, LongPauseError, Pace, Sleep
from kbsync.targets.http.rules import by_status, require_parsed

MAX_ATTEMPTS = 3
FIRST_PAUSE, MAX_PAUSE = 0.4, 2.0
"""Maximum seconds between attempts at an idempotent call. The pause is random and at least half this long."""

MAX_RESPONSE_BYTES = 32 * 1024 * 1024
"""Maximum size of a response in bytes."""

JSON_LINES = "application/x-ndjson"

REDIRECTS, DOWNLOAD_REDIRECTS = 3, 5
_LATER = (408, 425, 429)

PATIENCE = 2.0
"""Maximum number of seconds to wait before a retry; if the target requests a longer pause, the call fails."""

DATE_RESOLUTION = 1.0
"""Resolution of a `Date` header in seconds (RFC 9110, 6.6.1)."""

_NAME_OF_SECRET = re.compile("auth|key|token|secret", re.IGNORECASE)
_MIN_SECRET_LENGTH, _MIN_OTHER_LENGTH = 8, 4  # a shorter one may occur in ordinary words

HANGING_SHARE = 0.5
"""Share of the available time after which a request without a response counts against the target."""

NO_RESPONSE_AFTER = 10.0
"""Seconds after which a canceled request without a response counts against the target."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Patience:
    """The time that a caller is willing to wait: `seconds` in total, until `deadline`."""

    seconds: float
    deadline: asyncio.Timeout


_PATIENCE: ContextVar[Patience | None] = ContextVar("patience", default=None)


@dataclass(slots=True)
class ClockSkew:
    """How far the target's clock is off.

    `offset`: the number of seconds by which it was ahead of ours (negative: behind) at the last response, or
    None before the first response.
    """

    offset: float | None = None

    def learn(self, at: float | None, sent_at: float, heard_at: float, *, leaves_out: float = 0.0) -> None:
        """Record the date of a response.

        A date is used only if it is outside the interval between sending and receiving, so that a slow upload
        never looks like a clock difference. All times are in epoch seconds.
        """
        if at is not None:
            self.offset = max(0.0, at - heard_at) + min(0.0, at + leaves_out - sent_at)


class ClientOptions(TypedDict, total=False):
    """What a target passes to its client: clocks and transport, which tests replace, and the target's
    account.
    """

    steady: Callable[[], float]
    wall: Callable[[], float]
    sleep: Sleep
    chance: Callable[[], float]
    transport: httpx.AsyncBaseTransport | None
    account: Account | None


@dataclass(frozen=True, slots=True)
class HttpCall:
    """A call.

    `body` creates a new request body for each attempt. `is_repeatable`: whether the call is safe to repeat.
    """

    op: str
    method: str
    path: str
    body: Callable[[], RequestBody] | None = field(default=None, repr=False)
    params: Mapping[str, str] | None = field(default=None, repr=False)
    is_repeatable: bool = False


class Client:
    """Sends the requests to one target.

    `certain_calls`: see `ServiceTarget`. `headers` returns the headers with the key for each request.
    `classify_response` is the service's classifier. `steady` and `wall` are clocks in seconds, and `sleep`
    waits by `steady`. `account` is shared with the other clients of the account. Raises `UsageError` if the
    endpoint can't be used.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        headers: Callable[[], Mapping[str, str]],
        classify_response: ResponseClassifier,
        certain_calls: Container[str] = (),
        steady: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        sleep: Sleep = asyncio.sleep,
        chance: Callable[[], float] = random.random,
        transport: httpx.AsyncBaseTransport | None = None,
        account: Account | None = None,
    ) -> None:
        self.meter = Meter()
        account = account or Account(steady)
        self.breaker, self.missing = account.breaker, account.missing
        self.gate = Gate(
            endpoint.concurrency,
            endpoint.requests_per_minute,
            steady,
            sleep,
            account=account,
            is_first=endpoint.is_first,
        )
        self.skew = ClockSkew()
        self.classify_response, self.certain_calls = classify_response, certain_calls
        self._headers = headers
        # Further words that no message may contain, in addition to the key; the longest first.
        self.secrets: Iterable[str] = ()
        self._steady, self._wall, self._sleep, self._chance = steady, wall, sleep, chance
        self._timeouts = endpoint.timeouts
        self._upload_pace = Pace(endpoint.upload_bytes_per_second, steady)
        self._pace: Callable[[], Awaitable[None]] | None = None
        self._base, trust = connection.origin(endpoint), connection.trusted(endpoint)
        proxy = ""
        with suppress(connection.UnusableProxyError):  # the request that needs the proxy reports this error
            proxy = connection.proxy_host(endpoint, trust)
        self._proxy_note = f" (through the proxy {proxy})" if proxy and transport is None else ""
        self._http = connection.connections(endpoint, trust, transport)
        # Signed URLs lead to other hosts, so they share no connection and no header with the target.
        self._downloads = connection.connections(endpoint, trust, transport)
        self._download_slots = asyncio.Semaphore(max(1, endpoint.concurrency))

    def with_pace(self, pace: Callable[[], Awaitable[None]]) -> Client:
        """Return a client with the same gate, breaker and connections.

        Each attempt of each of its requests first waits for `pace`.
        """
        slow = copy(self)
        slow._pace = pace
        return slow

    def with_base_url(self, address: str, classify_response: ResponseClassifier) -> Client:
        """Return a client for a different path on the host.

        It has its own `classify_response` and the same gate, breaker and connections.
        """
        other = copy(self)
        other._base, other.classify_response = httpx.URL(address), classify_response
        return other

    @property
    def host(self) -> str:
        """The target's name for messages, including the port unless it is the default one."""
        return self._base.netloc.decode("ascii")

    async def request(
        self, op: str, method: str, path: str, *, params: Mapping[str, str] | None = None, json: Any = None
    ) -> HttpResponse:
        """Send an idempotent call, at most `MAX_ATTEMPTS` times.

        Raises `Unavailable`, `Rejected` or `Halted`.
        """
        body = None if json is None else partial(json_body, json_text(json))
        call = HttpCall(op, method, path, body, params, is_repeatable=True)
        retrying = AsyncRetrying(
            sleep=self._sleep,
            stop=stop_after_attempt(MAX_ATTEMPTS),
            wait=lambda state: pause(
                state.attempt_number, self._chance, first=FIRST_PAUSE, longest=MAX_PAUSE
            ),
            retry=retry_if_result(lambda outcome: isinstance(outcome, FailedRequest) and outcome.may_retry),
            retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
        )
        return self._response_or_raise(op, await retrying(self._attempt, call))

    async def read(
        self,
        op: str,
        path: str,
        parse: Callable[[Any], T | None],
        *,
        params: Mapping[str, str] | None = None,
        json: Any = None,
    ) -> T:
        """GET something, or POST `json`, like `request`. Return the parsed body of the response.

        Raises `Unavailable` if `parse` returns None, because the body has an unexpected shape.
        """
        method = "GET" if json is None else "POST"
        response = await self.request(op, method, path, params=params, json=json)
        return require_parsed(response, parse(response.body))

    @asynccontextmanager
    async def time_limit(self, op: str, seconds: float) -> AsyncGenerator[None, None]:
        """Limit requests inside the context to `seconds`, including pauses and retries, because a user is
        waiting.

        Raises `Unavailable` after that time, or at once if the target requests a longer pause. A request
        canceled by the limit counts as a failure of the target; otherwise, each search would wait for a
        hanging target.
        """
        if (rest := self.gate.rest) > seconds:
            reason = f"{op}: kbsync must wait {math.ceil(rest)} s before its next request to {self.host}"
            raise Unavailable(reason, retry_after=rest, untried=True)
        try:
            async with asyncio.timeout(seconds) as deadline:
                before = _PATIENCE.set(Patience(seconds, deadline))
                try:
                    yield
                finally:
                    _PATIENCE.reset(before)
        except TimeoutError:
            raise Unavailable(f"{op}: {self.host} did not answer within {seconds:g} s", code="late") from None

    async def post_form(
        self, op: str, path: str, *, fields: Mapping[str, Any], file: FilePart
    ) -> HttpResponse:
        """POST a form with one file, without retries.

        Raises `Unavailable` only if nothing can have been stored, otherwise `Unsure`. Raises `Rejected` or
        `Halted` as the classifier decides, and `Rejected` for a name that isn't valid text.
        """
        # Check it before the request waits: httpx would raise while building the form.
        if any("\ud800" <= character <= "\udfff" for character in file.filename):
            raise Rejected(
                f"{op}: the file name contains bytes that are not UTF-8 and cannot be sent; rename the file"
            )
        return await self.request_once(op, "POST", path, partial(form_body, fields, file))

    async def post(self, op: str, path: str, *, json: Any) -> HttpResponse:
        """POST JSON without retries, for a call that isn't safe to repeat.

        Raises the same errors as `post_form`.
        """
        return await self.request_once(op, "POST", path, partial(json_body, json_text(json)))

    async def request_once(
        self, op: str, method: str, path: str, body: Callable[[], RequestBody]
    ) -> HttpResponse:
        """Send a request without retries.

        `body` is called only once the request may start. Raises the same errors as `post_form`.
        """
        return self._response_or_raise(op, await self._attempt(HttpCall(op, method, path, body)))

    async def stream(self, op: str, path: str, *, json: Any) -> AsyncGenerator[bytes | HttpResponse, None]:
        """POST JSON without retries. Yield the bytes of an event stream as they arrive, or the whole response
        if it isn't a stream.

        Close the iterator if you leave early. Raises the same errors as `post_form`, even if the connection
        breaks in the middle. Each wait for bytes, the total number of bytes and, unless it is an event
        stream, the total time are limited.
        """
        async with self._slot() as (burst, number):
            started_at, outcome = self._steady(), None
            try:
                call = HttpCall(op, "POST", path, partial(json_body, json_text(json)))
                async with aclosing(self._stream_pieces(call)) as pieces:
                    async for piece in pieces:
                        if isinstance(piece, bytes):
                            self.breaker.succeeded()
                            outcome = Outcome.OK
                            yield piece
                        else:
                            self._learn(piece, burst, number)
                            outcome = _outcome_kind(piece)
                            yield self._response_or_raise(op, piece)
            finally:
                self.breaker.withdraw(number)  # applies if no bytes arrived
                if outcome is not None:
                    self.meter.answered(op, outcome, self._steady() - started_at)

    async def digest_at(self, address: str, *, limit: int) -> str:
        """Return the SHA-256 (lowercase hex) of a file at a foreign http(s) URL, such as that of a stored
        document, requested without key or cookie.

        Raises `Unavailable`, or `Rejected` with code `too-large` for more than `limit` bytes, `compressed`,
        or the HTTP status, such as `404`. Reasons name the host and never the URL, whose query may be a
        signature. Downloads don't count toward the target's limits, but at most `concurrency` run at a time.
        """
        if self._pace is not None:
            await self._pace()
        url, host = httpx.URL(), "an address"
        async with self._download_slots:
            try:
                async with asyncio.timeout(self._timeouts.whole + limit / SLOW_LINE):
                    for _ in range(DOWNLOAD_REDIRECTS + 1):
                        previous, url = url, url.join(address)
                        if url.scheme not in ("http", "https") or not url.host:
                            raise httpx.UnsupportedProtocol("")
                        if (previous.scheme, url.scheme) == ("https", "http"):
                            raise Unavailable(
                                f"read: {host} redirects from https to http, which kbsync doesn't follow"
                            )
                        host = url.host
                        request = self._downloads.build_request("GET", url)
                        sending = self._downloads.send(request, auth=connection.NO_AUTH, stream=True)
                        async with aclosing(await sending) as response:
                            if not response.has_redirect_location:
                                return await _digest_of(response, host, limit)
                            address = response.headers["location"]
                failure = f"redirects more than {DOWNLOAD_REDIRECTS} times"
            except TRANSPORT_ERRORS as error:
                failure = describe_failure(error, self._timeouts)
        # Outside of the handler, because the transport error contains the URL.
        raise Unavailable(f"read: {host} {failure}")

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()
        await self._downloads.aclose()

    def _response_or_raise(self, op: str, outcome: HttpResponse | FailedRequest) -> HttpResponse:
        if isinstance(outcome, HttpResponse):
            return outcome
        if isinstance(outcome.error, NotOffered) and op in self.certain_calls:
            raise Unavailable(outcome.error.reason, code=outcome.error.code)
        raise outcome.error

    async def _attempt(self, call: HttpCall) -> HttpResponse | FailedRequest:
        """Wait for the gate and send one request. Raises `Unavailable` while the target is down."""
        if self._pace is not None:
            await self._pace()
        async with self._slot() as (burst, number):
            started_at, sent_at = self._steady(), asyncio.get_running_loop().time()
            try:
                outcome, sent_bytes = await self._exchange(call)
            except BaseException as error:
                self._record_cancelled(call, number, error, sent_at)
                raise
            # only data to store counts as uploaded, not the bodies of queries
            uploaded = 0 if call.is_repeatable else sent_bytes
            self.meter.answered(call.op, _outcome_kind(outcome), self._steady() - started_at, uploaded)
            self._learn(outcome, burst, number)
            if isinstance(outcome, HttpResponse):
                self.missing.works(call.op)
            return outcome

    @asynccontextmanager
    async def _slot(self) -> AsyncGenerator[tuple[int, int], None]:
        """Hold a slot of the gate. Yield its burst and the number of the call, to be passed back with the
        outcome.

        Raises `Unavailable` while the target is down or wants a long pause.
        """
        # Check before the gate, so that no queue forms for a target that is down. Check again behind it: the
        # target may have gone down in the meantime, and only one call at a time probes it.
        self._check_breaker()
        try:
            burst = await self.gate.enter()
        except LongPauseError as pause:
            reason = f"{self.host} asked kbsync to pause its requests"
            raise Unavailable(reason, retry_after=pause.seconds, untried=True) from None
        try:
            self._check_breaker()
            yield burst, self.breaker.begin()
        finally:
            self.gate.leave()

    def _check_breaker(self) -> None:
        if (rest := self.breaker.rest) is not None:
            # The reason is also shown by commands that end now, and by `status` later, so it names no time.
            raise Unavailable(self.breaker.cause, retry_after=rest, untried=True)

    def _record_cancelled(self, call: HttpCall, number: int, error: BaseException, sent_at: float) -> None:
        """Record a request that was canceled or that failed in our own code.

        It counts against the target only if the time was spent waiting for the target.
        """
        patience, waited = _PATIENCE.get(), asyncio.get_running_loop().time() - sent_at
        is_cancelled = isinstance(error, asyncio.CancelledError)
        if patience is not None and is_cancelled and patience.deadline.expired():
            if waited >= HANGING_SHARE * patience.seconds:
                reason = f"{call.op}: {self.host} did not answer within {patience.seconds:g} s"
                self.breaker.failed(number, reason)
                return
        elif is_cancelled and call.is_repeatable and waited >= NO_RESPONSE_AFTER:
            reason = f"{call.op}: {self.host} did not answer; kbsync gave up after {waited:.0f} s"
            self.breaker.failed(number, reason)
            return
        self.breaker.withdraw(number)

    def _learn(self, outcome: HttpResponse | FailedRequest, burst: int, number: int) -> None:
        """Adjust the breaker, and the pace of later requests, to the outcome of a request."""
        match outcome:
            case FailedRequest(error=error, sign=Sign.DOWN, retry_after=retry_after):
                self.breaker.failed(number, error.reason, retry_after)
            case FailedRequest(sign=Sign.NONE):
                self.breaker.withdraw(number)
            case FailedRequest(error=Unavailable(retry_after=retry_after), sign=Sign.BUSY):
                self.breaker.succeeded()
                self.gate.slow_down(burst, retry_after)
            case _:
                self.breaker.succeeded()
                self.gate.succeeded(burst)

    async def _exchange(self, call: HttpCall) -> tuple[HttpResponse | FailedRequest, int]:
        """Send a request once and read its response. Also return how many bytes of its body were sent.

        Errors raised by `headers` and `classify_response` pass through.
        """
        headers = _check_headers(call.op, self._headers())
        trace, began = SendTrace(), self._wall()
        body: RequestBody | None = None
        response: HttpResponse | None = None
        outcome: HttpResponse | FailedRequest
        try:
            async with asyncio.timeout(self._timeouts.whole) as deadline:
                if call.body is not None:
                    # Create the body only now, so that a request that waits at the gate doesn't keep a file
                    # open.
                    body = call.body()
                    _extend(deadline, body.size / SLOW_LINE)
                    body.start(partial(self._wait_to_send, deadline), self._upload_pace.chunk(CHUNK))
                response = await self._fetch(call, self._build_request(call, headers, body, trace))
        except TRANSPORT_ERRORS as error:
            # The outcome of an upload that may have arrived is unsure: the engine looks for the document
            # instead of sending it again (promise 3).
            may_have_arrived = not call.is_repeatable and trace.may_have_arrived(error)
            outcome = self._failed_request(call, error, may_have_arrived=may_have_arrived)
        finally:
            if body is not None:
                body.close()
        if response is not None:
            outcome = self._outcome_of(call, response, headers)
        sent_bytes = body.sent if body is not None else 0
        log_debug(  # omits the path and its parameters, which may be private
            "request.ended",
            call=call.op,
            host=self.host,
            method=call.method,
            status=outcome.status if isinstance(outcome, HttpResponse) else None,
            sent_bytes=sent_bytes,
            seconds=round(self._wall() - began, 3),
            error=outcome.error.reason if isinstance(outcome, FailedRequest) else "",
        )
        return outcome, sent_bytes

    async def _stream_pieces(
        self, call: HttpCall
    ) -> AsyncGenerator[bytes | HttpResponse | FailedRequest, None]:
        """Yield the bytes of an event stream as they arrive. If the response isn't an event stream, read it
        completely and classify it.

        The first bytes show which it is, because no event line begins like JSON or a web page. A stream of
        JSON lines is identified by its content type.
        """
        assert call.body is not None
        headers = {**_check_headers(call.op, self._headers()), "Accept": "text/event-stream"}
        trace, sent_at = SendTrace(), self._wall()
        try:
            # The byte rate limit is for documents; a question is short.
            request = self._build_request(call, headers, call.body(), trace)
            held, is_stream = b"", False
            async with (
                asyncio.timeout(self._timeouts.whole) as deadline,
                aclosing(await self._http.send(request, stream=True, auth=connection.NO_AUTH)) as response,
                aclosing(response_pieces(response, MAX_RESPONSE_BYTES)) as pieces,
            ):
                kind = response.headers.get("content-type", "").lower()
                async for piece in pieces:
                    held += piece
                    beginning = held.removeprefix(codecs.BOM_UTF8).lstrip()[:1]
                    is_event = kind.startswith(JSON_LINES) or beginning not in (b"", b"{", b"[", b"<")
                    is_stream = is_stream or (response.is_success and is_event)
                    if is_stream:
                        deadline.reschedule(None)  # a model may write for a long time
                        yield held
                        held = b""
            if not is_stream:
                yield self._outcome_of(call, self._parse_response(call, response, held, sent_at), headers)
        except TRANSPORT_ERRORS as error:
            yield self._failed_request(call, error, may_have_arrived=trace.may_have_arrived(error))

    def _failed_request(self, call: HttpCall, error: Exception, *, may_have_arrived: bool) -> FailedRequest:
        beginning = f"{call.op}: {self.host}{self._proxy_note}"
        return failed_request(beginning, error, self._timeouts, may_have_arrived=may_have_arrived)

    async def _wait_to_send(self, deadline: asyncio.Timeout, size: int) -> None:
        """Wait for our own byte rate limit. This wait doesn't count against the target."""
        rest = self._upload_pace.claim(size)
        if rest > 0:
            _extend(deadline, rest)
            await self._sleep(rest)

    def _build_request(
        self, call: HttpCall, headers: Mapping[str, str], body: RequestBody | None, trace: SendTrace
    ) -> httpx.Request:
        url = httpx.URL(f"{str(self._base).rstrip('/')}/{call.path.lstrip('/')}")
        if call.params:
            params = {name: text.encode("utf-8", "replace").decode() for name, text in call.params.items()}
            url = url.copy_merge_params(params)
        return self._http.build_request(
            call.method,
            url,
            content=body,
            headers={**headers, **(body.headers if body is not None else {})},
            extensions={"trace": trace},
        )

    async def _fetch(self, call: HttpCall, request: httpx.Request) -> HttpResponse:
        """Return the response.

        Redirects of a GET are followed only within the target's origin, because the key must not be sent
        elsewhere.
        """
        for redirects in range(REDIRECTS + 1):
            sent_at = self._wall()
            response = await self._http.send(request, stream=True, auth=connection.NO_AUTH)
            try:
                content = await read_response(response, MAX_RESPONSE_BYTES)
            finally:
                await response.aclose()
            onward = response.next_request
            is_read = call.is_repeatable and call.method == "GET"
            if onward is None or not is_read or redirects == REDIRECTS:
                break
            if not connection.is_same_origin(onward.url, request.url):
                break
            request = onward
        return self._parse_response(call, response, content, sent_at)

    def _parse_response(
        self, call: HttpCall, response: httpx.Response, content: bytes, sent_at: float
    ) -> HttpResponse:
        # Redact only texts for messages: a key may be a word that also occurs in names and documents.
        beginning = content[: 8 * EXCERPT].decode("utf-8", "replace")
        result = HttpResponse(
            op=call.op,
            status=response.status_code,
            headers={name.lower(): value for name, value in response.headers.items()},
            body=parse_json(content),
            text=excerpt(self._redact(beginning, response.request.headers).encode("utf-8", "replace")),
            sent_at=sent_at,
            host=self.host,
        )
        self.skew.learn(result.date, sent_at, self._wall(), leaves_out=DATE_RESOLUTION)
        return result

    def redact(self, text: str) -> str:
        """Return the target's message without the key and `secrets`, so that it is safe to show and store.

        The message may echo them.
        """
        return self._redact(text, self._headers())

    def _redact(self, text: str, headers: Mapping[str, str]) -> str:
        """Return `text` without `secrets` and those in a request's headers, which some proxies and services
        echo.
        """
        for secret in self.secrets:
            text = text.replace(secret, "***")
        named = (value for name, value in headers.items() if _NAME_OF_SECRET.search(name))
        return _remove_secrets(text, (value.rpartition(" ")[2] for value in named), _MIN_SECRET_LENGTH)

    def _redact_error(self, error: TargetError, headers: Mapping[str, str]) -> None:
        error.reason = self._redact(error.reason, headers)
        error.args = (error.reason,)

    @contextmanager
    def redacting(self, *secrets: str) -> Iterator[None]:
        """Remove the key and other `secrets` from errors raised inside the context, which may quote the
        target.
        """
        try:
            yield
        except TargetError as error:
            error.reason = _remove_secrets(error.reason, secrets, _MIN_OTHER_LENGTH)
            self._redact_error(error, self._headers())
            raise

    def classify_error(self, op: str, body: Any) -> TargetError | None:
        """Classify an error reported within a stream."""
        return self.classify_response(HttpResponse(op, 200, {}, body, "", 0.0, self.host))

    def _outcome_of(
        self, call: HttpCall, response: HttpResponse, headers: Mapping[str, str]
    ) -> HttpResponse | FailedRequest:
        # A redirect comes from a gateway and says nothing about the service; the request was probably not
        # carried out.
        is_redirect = 300 <= response.status < 400
        error = by_status(response) if is_redirect else self.classify_response(response)
        if error is None:
            return response
        self._redact_error(error, headers)
        retry_after = response.retry_after
        if isinstance(error, Unsure) and call.is_repeatable:  # repeatable calls are never unsure
            error = Unavailable(error.reason, code=error.code, retry_after=retry_after)
        if not isinstance(error, Unavailable | Unsure):
            return FailedRequest(error, Sign.UP, retry_after=retry_after)
        sign = Sign.DOWN if response.status >= 500 or response.is_page else Sign.UP
        if isinstance(error, Unavailable):
            if error.retry_after is None:
                error.retry_after = retry_after
            # 429 may also mean an empty account, for which the classifier doesn't return `Unavailable`
            if response.status == 429 or error.is_rate_limit:
                sign = Sign.BUSY
        pause = (error.retry_after if isinstance(error, Unavailable) else None) or 0.0
        # Don't retry at once if the target asked for fewer requests or for a longer pause.
        may_retry = not is_redirect and sign is not Sign.BUSY and pause <= PATIENCE
        return FailedRequest(error, sign, may_retry, retry_after)


def _outcome_kind(outcome: HttpResponse | FailedRequest) -> Outcome:
    match outcome:
        case HttpResponse():
            return Outcome.OK
        case FailedRequest(error=Unavailable()):
            return Outcome.UNAVAILABLE
        case FailedRequest(error=Unsure()):
            return Outcome.UNSURE
        case FailedRequest(error=Halted()):
            return Outcome.HALTED
    return Outcome.REJECTED


def _extend(deadline: asyncio.Timeout, seconds: float) -> None:
    deadline.reschedule((deadline.when() or 0.0) + seconds)


def _check_headers(op: str, headers: Mapping[str, str]) -> Mapping[str, str]:
    """Return the headers.

    If they can't be sent, raise our own error, because httpx and h11 would quote the key in theirs.
    """
    for name, value in headers.items():
        if not fits_header(value):
            raise Halted(
                "credentials",
                f"{op}: the header {name} cannot be sent: the API key is empty or contains invalid "
                "characters (a line break, a space at either end, or non-ASCII); check the key",
            )
    return headers


def _remove_secrets(text: str, secrets: Iterable[str], min_length: int) -> str:
    for secret in secrets:
        if secret[:min_length] in text:
            # also prefixes of the secret, the longest first, because a quote may end in the middle of it
            for end in range(len(secret), min_length - 1, -1):
                text = text.replace(secret[:end], "***")
    return text


async def _digest_of(response: httpx.Response, host: str, limit: int) -> str:
    """Return the SHA-256 of a response's bytes. See `Client.digest_at`."""
    status, length = response.status_code, response.headers.get("content-length", "")
    if 400 <= status < 500 and status not in _LATER:
        raise Rejected(f"read: {host} answered {status}", code=str(status))
    if status != httpx.codes.OK:
        raise Unavailable(f"read: {host} answered {status}")
    digest = hashlib.sha256()
    try:
        if length.isdecimal() and int(length) > limit:
            raise TooLargeError
        async for piece in response_pieces(response, limit):
            digest.update(piece)
    except TooLargeError:
        raise Rejected(f"read: {host} is larger than {limit:,} bytes", code="too-large") from None
    except CompressedError as error:
        # such a response comes every time, and doesn't prove the file's bytes
        raise Rejected(f"read: {host} answered, but {error}", code="compressed") from None
    return digest.hexdigest()
