"""How many requests go at a time, and how soon: fewer and later when the target asks for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from kbsync.targets.http.account import Account
from kbsync.targets.http.latency import Latency

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
ROUNDS_TO_RISE = 4
"""The limit rises by one after this many times itself of successes."""

MINUTE = 60.0

Sleep = Callable[[float], Awaitable[object]]


class Gate:
    """Lets callers in, first come first served, at most `limit` at a time.

    `concurrency`: the limit it begins at and never passes. `requests_per_minute`: 0 for no limit, else
    never more in any minute, nor in one that an earlier process or gate began, unless this `is_first`.
    `steady`: a clock in seconds that never steps back; `sleep` waits by it.
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
        self._latency = Latency(steady)
        self._turnstile = asyncio.Lock()
        self._freed = asyncio.Event()
        self._limit, self._in_flight = self._most, 0
        self._pause = FIRST_PAUSE
        self._burst, self._successes = 0, 0

    @property
    def limit(self) -> int:
        """How many may be in flight now."""
        return self._limit

    @property
    def in_flight(self) -> int:
        """How many are."""
        return self._in_flight

    @property
    def rest(self) -> float:
        """Seconds for which no request begins, because the target wants it or our own limit does; 0: none."""
        return max(0.0, self._account.quiet_until - self._steady(), self._spacing.free_at - self._steady())

    async def enter(self) -> int:
        """Wait for a slot; `leave` gives it back. The number says to which burst the caller belongs."""
        async with self._turnstile:  # fair: whoever holds it is the first in line
            while not await self._is_open():
                pass
            self._in_flight += 1
            self._spacing.count(self._steady())
        return self._burst

    def leave(self) -> None:
        """Give a slot back."""
        self._in_flight -= 1
        self._freed.set()

    def slowed(self, burst: int, wish: float | None) -> None:
        """The target said "too many": half as many, and a pause of `wish` seconds or of our own.

        Answers of one burst halve once; a longer wish among them still counts.
        """
        if burst == self._burst:
            self._halve()
            self._account.be_quiet(wish or self._pause)
            self._pause = min(self._pause * 2, LONGEST_PAUSE)
        elif wish:
            self._account.be_quiet(wish)

    def answered(self, burst: int, kind: str, seconds: float) -> None:
        """A request took so long; to be told of those only that can be compared within their `kind`.

        Half as many go at a time where answers take ever longer and it is our requests that queue up.
        """
        is_full = burst == self._burst and self._in_flight * 2 >= self._limit
        if not is_full:
            self._latency.learn(kind, seconds)
        elif self._latency.saw(kind, seconds, self._limit) and self._limit > 1:
            self._halve()

    def succeeded(self, burst: int) -> None:
        """A request of `burst` went well; old ones say nothing about the pace since."""
        if burst != self._burst:
            return
        self._pause = FIRST_PAUSE
        if self._latency.is_rising:
            return
        self._successes += 1
        if self._successes >= self._limit * ROUNDS_TO_RISE:
            self._successes = 0
            self._limit = min(self._limit + 1, self._most)

    async def _is_open(self) -> bool:
        """True when the first in line may go now; else something was waited for, and it asks again."""
        if self._in_flight >= self._limit:
            self._freed.clear()
            await self._freed.wait()
            return False
        now = self._steady()
        rest = max(self._account.quiet_until, self._spacing.free_at) - now
        if rest > 0:
            await self._sleep(rest)
            return False
        return True

    def _halve(self) -> None:
        self._burst += 1
        self._limit = max(1, self._limit // 2)
        self._successes = 0
        self._latency.begin_anew()


class Spacing:
    """Evenly spaced starts with a small burst, never more than `per_minute` in any minute; 0: no limit.

    A virtual schedule (GCRA): each start moves it on by one interval, and it may run ahead of the clock
    by the burst. `since`: before that moment the limit may have been used up by an earlier schedule, which
    this one continues.
    """

    def __init__(self, per_minute: int, since: float | None = None) -> None:
        burst = min(5, 1 + per_minute // 30)
        self._interval = MINUTE / (per_minute - burst + 1) if per_minute else 0.0
        self._ahead = (burst - 1) * self._interval
        self._due = float("-inf") if since is None else since + self._ahead + self._interval

    @property
    def free_at(self) -> float:
        """When the next may start, by the same clock as `count`."""
        return self._due - self._ahead

    def count(self, now: float) -> None:
        """One starts."""
        self._due = max(self._due, now) + self._interval


class Pace:
    """At most `per_second` bytes a second for all who claim from it together; 0: no limit."""

    def __init__(self, per_second: int, steady: Callable[[], float]) -> None:
        self._per_second = per_second
        self._steady = steady
        self._free_at = 0.0

    def chunk(self, most: int) -> int:
        """Bytes to claim at a time: less than `most` at a slow pace, lest a line is silent for long."""
        return min(most, max(1024, self._per_second // 4)) if self._per_second else most

    def claim(self, size: int) -> float:
        """Seconds to wait before `size` bytes may go; whoever claims waits, then sends."""
        if not self._per_second:
            return 0.0
        now = self._steady()
        begin = max(now, self._free_at)
        self._free_at = begin + size / self._per_second
        return begin - now
