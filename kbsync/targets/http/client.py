"""Asks a target over HTTP: carefully, not too much at a time, and with one clear outcome for each call."""

from __future__ import annotations

import asyncio
import json as json_text
import math
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from copy import copy
from dataclasses import replace
from functools import partial
from typing import Any

import httpx
from tenacity import AsyncRetrying, RetryCallState, retry_if_result, stop_after_attempt

from kbsync.core.meter import Meter, Outcome
from kbsync.core.pauses import pause
from kbsync.errors import Halted, Rejected, Unavailable, Unsure
from kbsync.targets.http import wire
from kbsync.targets.http.account import Account
from kbsync.targets.http.answers import Answer, Judge
from kbsync.targets.http.endpoint import Endpoint
from kbsync.targets.http.exchange import Asked, Ending, Exchange
from kbsync.targets.http.failures import Failure, Sign
from kbsync.targets.http.foreign import ForeignRead
from kbsync.targets.http.gate import Gate, Pace, Sleep
from kbsync.targets.http.multipart import Outflow, Part, form

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
        base, trust = wire.origin(endpoint), wire.trusted(endpoint)
        wire.check_proxy(endpoint, trust)
        self._connect = partial(wire.connections, endpoint, trust, transport)
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
            proxy=wire.proxy_host(endpoint, trust) if transport is None else "",
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
    ) -> Answer:
        """An idempotent call, tried `TRIES` times at most. Raises `Unavailable`, `Rejected` or `Halted`."""
        text = None if json is None else _text(json)  # before its turn comes, once for all tries
        body = None if text is None else partial(Outflow, JSON, text)
        asked = Asked(op, method, path, body, params, is_repeatable=True)
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

    async def send(self, op: str, path: str, *, fields: Mapping[str, str], file: Part) -> Answer:
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
        return _answer(await self._turn(Asked(op, "POST", path, lambda: body)))

    async def post(self, op: str, path: str, *, json: Any) -> Answer:
        """POST JSON with an effect that is not repeatable, once; errors as `send`."""
        return _answer(await self._turn(Asked(op, "POST", path, partial(_json, json))))

    async def stream(self, op: str, path: str, *, json: Any) -> AsyncGenerator[bytes | Answer, None]:
        """POST JSON once; the bytes of a stream of events as they come, or one whole answer that is none.

        Close it if left early. Errors as `send`, also when the way breaks off in the middle.
        """
        if (rest := self.breaker.rest) is not None:
            raise self._refusal(op, rest).error
        burst = await self.gate.enter()
        begun, outcome = self._steady(), Outcome.OK
        try:
            asked = Asked(op, "POST", path, partial(_json, json))
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

    async def deliver(self, op: str, method: str, path: str, body: Outflow) -> Answer:
        """Send a body as it is, once; errors as `send`."""
        return _answer(await self._turn(Asked(op, method, path, lambda: body)))

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
            reading = ForeignRead(self._foreign, "read", self._timeouts, most, self._steady)
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

    async def _turn(self, asked: Asked) -> Answer | Failure:
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

    async def _measured(self, asked: Asked, burst: int) -> Answer | Failure:
        begun = self._steady()
        try:
            ending = await self._exchange.carry_out(asked)
        except BaseException:
            self.breaker.withdraw()
            raise
        seconds = self._steady() - begun
        self._count(asked, ending, seconds)
        self._learn(ending.outcome, burst)
        if isinstance(ending.outcome, Answer):
            self.lacking.works(asked.op)
        if isinstance(ending.outcome, Answer) and ending.sent_bytes <= self._telling:
            self.gate.answered(burst, asked.op, seconds)
        return ending.outcome

    def _count(self, asked: Asked, ending: Ending, seconds: float) -> None:
        uploaded = 0 if asked.is_repeatable else ending.sent_bytes
        self.meter.answered(asked.op, _outcome(ending.outcome), seconds, uploaded)

    def _learn(self, outcome: Answer | Failure, burst: int) -> None:
        """What a request's end says of the target changes how the next ones go."""
        match outcome:
            case Failure(error=error, sign=Sign.DOWN, wish=wish):
                self.breaker.failed(error.reason, wish)
            case Failure(sign=Sign.NONE):
                self.breaker.withdraw()
            case Failure(error=Unavailable(retry_after=wish), sign=Sign.BUSY):
                self.breaker.succeeded()
                self.gate.slowed(burst, wish)
            case _:
                self.breaker.succeeded()
                self.gate.succeeded(burst)

    def _refusal(self, op: str, rest: float) -> Failure:
        reason = f"{op}: the target is left alone for {math.ceil(rest)} s after: {self.breaker.cause}"
        return Failure(Unavailable(reason, retry_after=rest, untried=True), Sign.NONE)

    async def _wait(self, seconds: float) -> None:
        await self._sleep(seconds)

    def _pause(self, state: RetryCallState) -> float:
        return pause(state.attempt_number, self._chance, first=FIRST_PAUSE, longest=LONGEST_PAUSE)


def _json(json: Any) -> Outflow:
    return Outflow(JSON, _text(json))


def _text(json: Any) -> bytes:
    text = json_text.dumps(json, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8", "replace")


def _may_go_well(outcome: Answer | Failure) -> bool:
    return isinstance(outcome, Failure) and outcome.again


def _last(state: RetryCallState) -> Any:
    return state.outcome.result() if state.outcome is not None else None


def _answer(outcome: Answer | Failure) -> Answer:
    if isinstance(outcome, Failure):
        raise outcome.error
    return outcome


def _outcome(outcome: Answer | Failure) -> Outcome:
    match outcome:
        case Answer():
            return Outcome.OK
        case Failure(error=Unavailable()):
            return Outcome.UNAVAILABLE
        case Failure(error=Unsure()):
            return Outcome.UNSURE
        case Failure(error=Halted()):
            return Outcome.HALTED
    return Outcome.REJECTED
