"""Limits requests to a service: how many at a time, how many per minute, and none while it is down.

All mirrors of an account share an `Account`. Each mirror has its own `Gate`, the only class here that waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from kbsync.errors import NotOffered

FAILURES_IN_A_ROW = 5
FIRST_REST, MAX_REST = 1.0, 60.0
PROBE_PATIENCE = 10.0
"""Seconds after which another call may probe a target that is down, because the first probe may hang or be a
large upload."""

MISSING_CALL_SECONDS = 3600.0
"""Seconds to wait before retrying a call that the service doesn't support."""

CONFIRMATION_INTERVAL = 60.0
"""Minimum seconds between the two responses needed to prove that a call doesn't exist: one response, or
several at once, may come from a gateway."""

AMBIGUOUS_STATUSES = ("404", "405", "501")
"""HTTP statuses that may mean that a call is missing, but that gateways and servers also return for other
reasons.
"""

FIRST_PAUSE, MAX_PAUSE = 1.0, 30.0
ROUNDS_TO_RISE = 4
"""Number of successes, per unit of the concurrency limit, after which the limit rises by one."""

MINUTE = 60.0

Sleep = Callable[[float], Awaitable[None]]


class Breaker:
    """Blocks calls to a target that is down, for longer each time. After that time, a single call probes the
    target.

    It opens after `FAILURES_IN_A_ROW`, for 1 s, doubled after each failed probe, up to 60 s. Calls have
    numbers, because one may end long after others began: only the probe's own outcome ends the probe, and a
    call from before the breaker opened doesn't lengthen the pause. `steady`: a monotonic clock in seconds.
    """

    def __init__(self, steady: Callable[[], float]) -> None:
        self._steady = steady
        self._failures = 0
        self._pause = FIRST_REST
        self._until: float | None = None
        self._calls = 0
        self._last_before = 0  # the last call that began before the breaker opened
        self._probe: int | None = None
        self._probed_at = 0.0
        self.cause = ""

    @property
    def rest(self) -> float | None:
        """The number of seconds until calls are allowed again, or None if they are allowed now."""
        if self._until is None:
            return None
        rest = self._until - self._steady()
        if rest > 0:
            return rest
        is_awaited = self._probe is not None and self._steady() - self._probed_at < PROBE_PATIENCE
        return FIRST_REST if is_awaited else None

    def begin(self) -> int:
        """Record the start of a call, which is allowed if `rest` is None.

        Return its number, to be passed back with its outcome.
        """
        self._calls += 1
        if self._until is not None:
            self._probe, self._probed_at = self._calls, self._steady()
        return self._calls

    def succeeded(self) -> None:
        """Record that the target responded to a call. From now on, all calls are allowed."""
        self._failures, self._pause = 0, FIRST_REST
        self._until = self._probe = None

    def failed(self, call: int, cause: str, retry_after: float | None = None) -> None:
        """Record that the target was down when it was called.

        `cause`: a sentence for messages. `retry_after`: the target's Retry-After.
        """
        if call == self._probe:
            self._pause = min(self._pause * 2, MAX_REST)
        elif self._until is not None or call <= self._last_before:
            return
        else:
            self._failures += 1
            if self._failures < FAILURES_IN_A_ROW:
                return
        self.cause, self._last_before = cause, self._calls
        self._until = self._steady() + max(self._pause, retry_after or 0.0)
        self._probe = None

    def withdraw(self, call: int) -> None:
        """Record that a call ended without showing the target's state.

        If it was the probe, the next call probes instead.
        """
        if call == self._probe:
            self._probe = None


class MissingCalls:
    """Remembers which calls a service doesn't have, so that they aren't repeated.

    `steady`: a monotonic clock in seconds.
    """

    def __init__(self, steady: Callable[[], float]) -> None:
        self._steady = steady
        self._doubted: dict[str, float] = {}  # when the call was first missing since it last worked
        self._missing: dict[str, tuple[float, NotOffered]] = {}

    @contextmanager
    def remembered(self, op: str) -> Iterator[None]:
        """Remember whether the service has the call `op`, which is made inside the context.

        Once it has been proven that the service lacks the call, raise `NotOffered` for an hour without
        sending a request.
        """
        self.check(op)
        try:
            yield
        except NotOffered as error:
            self.note(op, error)
            raise

    def check(self, op: str) -> None:
        """Raise `NotOffered` if it was proven within the last hour that the service lacks the call."""
        if self.lacks(op):
            error = self._missing[op][1]
            raise NotOffered(error.reason, code=error.code)

    def lacks(self, op: str) -> bool:
        """Return whether it was proven within the last hour that the service doesn't have the call."""
        return op in self._missing and self._steady() - self._missing[op][0] < MISSING_CALL_SECONDS

    def note(self, op: str, error: NotOffered) -> NotOffered:
        """Record that the service lacks the call, which isn't a document's fault. Return `error`.

        The service's own code proves that at once. An HTTP status proves it only if it recurs at least
        `CONFIRMATION_INTERVAL` seconds later.
        """
        # A failing gateway may return 404 for every path for a while. Believing one 404 could cost an hour of
        # searches and repairs.
        now = self._steady()
        first = self._doubted.setdefault(op, now)
        is_service_code = error.code not in AMBIGUOUS_STATUSES
        if (
            is_service_code
            or op in self._missing
            or CONFIRMATION_INTERVAL <= now - first < MISSING_CALL_SECONDS
        ):
            self._missing[op] = (now, error)
        elif now - first >= MISSING_CALL_SECONDS:
            self._doubted[op] = now
        return error

    def works(self, op: str) -> None:
        """Record that the service has the call."""
        self._doubted.pop(op, None)
        self._missing.pop(op, None)


class Account:
    """The state that all mirrors of an account share.

    It knows whether the service is down or has asked for a pause, and which calls it lacks. `steady`: a
    monotonic clock in seconds.
    """

    def __init__(self, steady: Callable[[], float]) -> None:
        self._steady = steady
        self.breaker = Breaker(steady)
        self.missing = MissingCalls(steady)
        self.quiet_until = float("-inf")
        """No request starts before this time."""

    def be_quiet(self, seconds: float) -> None:
        """Pause for this many seconds, as requested by the service.

        If there are several pauses, the longest applies.
        """
        self.quiet_until = max(self.quiet_until, self._steady() + seconds)


class LongPauseError(Exception):
    """Raised if the target wants no request for `seconds`, which is too long to wait for."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class Gate:
    """Admits callers in the order in which they arrive, at most `limit` at a time.

    `concurrency`: the initial and maximum limit. `requests_per_minute`: the maximum in any minute, even
    across a restart of the process unless it `is_first`; 0 means no limit. `steady`: a monotonic clock in
    seconds. `sleep` waits by that clock.
    """

    def __init__(
        self,
        concurrency: int,
        requests_per_minute: int,
        steady: Callable[[], float],
        sleep: Sleep,
        *,
        account: Account | None = None,
        is_first: bool = False,
    ) -> None:
        self._most = max(1, concurrency)
        self._spacing = Spacing(requests_per_minute, None if is_first else steady())
        self._steady, self._sleep = steady, sleep
        self._account = account or Account(steady)
        self._turnstile = asyncio.Lock()
        self._freed = asyncio.Event()
        self.limit, self.in_flight = self._most, 0
        self._pause = FIRST_PAUSE
        self._burst, self._successes = 0, 0

    @property
    def rest(self) -> float:
        """The number of seconds until the target or our own limit allows the next request, or 0 if it may
        start now.
        """
        return max(0.0, max(self._account.quiet_until, self._spacing.free_at) - self._steady())

    async def enter(self) -> int:
        """Wait for a slot, which `leave` frees. Return the number of the caller's burst.

        Raises `LongPauseError` instead of waiting if the target asked for more than `MAX_PAUSE` seconds.
        """
        async with self._turnstile:  # fair: its holder is next in line
            # Both may change during either wait, so check both again.
            while self.in_flight >= self.limit or self.rest > 0:
                if self.in_flight >= self.limit:
                    self._freed.clear()
                    await self._freed.wait()
                elif (pause := self._account.quiet_until - self._steady()) > MAX_PAUSE:
                    raise LongPauseError(pause)
                else:
                    await self._sleep(self.rest)
            self.in_flight += 1
            self._spacing.count(self._steady())
        return self._burst

    def leave(self) -> None:
        """Free a slot."""
        self.in_flight -= 1
        self._freed.set()

    def slow_down(self, burst: int, retry_after: float | None) -> None:
        """Halve the limit after "too many requests", and pause for `retry_after` seconds or our default.

        Responses to the same burst halve it only once, but a longer `retry_after` among them still applies.
        """
        # A service refuses requests sent together all at once: count that as one refusal.
        if burst == self._burst:
            self._burst += 1
            self.limit = max(1, self.limit // 2)
            self._successes = 0
            self._account.be_quiet(retry_after or self._pause)
            self._pause = min(self._pause * 2, MAX_PAUSE)
        elif retry_after:
            self._account.be_quiet(retry_after)

    def succeeded(self, burst: int) -> None:
        """Record that a request of `burst` succeeded. Requests from before the last slowdown are ignored."""
        if burst != self._burst:
            return
        self._pause = FIRST_PAUSE
        # Raise the limit slowly and lower it quickly, like TCP, because services don't document their limits.
        self._successes += 1
        if self._successes >= self.limit * ROUNDS_TO_RISE:
            self._successes = 0
            self.limit = min(self.limit + 1, self._most)


class Spacing:
    """Spaces the starts of requests evenly after a small burst, with at most `per_minute` in any minute; 0
    means no limit.

    It keeps a virtual schedule (GCRA): each start advances the schedule by one interval, and the schedule may
    run ahead of the clock by the length of the burst. `since`: assume that an earlier process used up the
    limit before that time.
    """

    def __init__(self, per_minute: int, since: float | None = None) -> None:
        burst = min(5, 1 + per_minute // 30)  # so that a search doesn't have to wait for the first upload
        self._interval = MINUTE / (per_minute - burst + 1) if per_minute else 0.0
        self._ahead = (burst - 1) * self._interval
        self._due = float("-inf") if since is None else since + self._ahead + self._interval

    @property
    def free_at(self) -> float:
        """The time of the next allowed start, by the same clock as `count`."""
        return self._due - self._ahead

    def count(self, now: float) -> None:
        """Record a start."""
        self._due = max(self._due, now) + self._interval


class Pace:
    """Limits all uploads together to `per_second` bytes per second; 0 means no limit."""

    def __init__(self, per_second: int, steady: Callable[[], float]) -> None:
        self._per_second = per_second
        self._steady = steady
        self._free_at = 0.0

    def chunk(self, limit: int) -> int:
        """Return the number of bytes to reserve at a time.

        At a slow pace, it is less than `limit`, so that no connection is silent for long.
        """
        return min(limit, max(1024, self._per_second // 4)) if self._per_second else limit

    def claim(self, size: int) -> float:
        """Reserve `size` bytes. Return how many seconds to wait before sending them."""
        if not self._per_second:
            return 0.0
        now = self._steady()
        begin = max(now, self._free_at)
        self._free_at = begin + size / self._per_second
        return begin - now
