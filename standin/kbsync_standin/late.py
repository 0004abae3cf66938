"""Work that is done some time after the request that asked for it."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable

from kbsync_standin.messages import StandInClock

Work = Callable[[], object]


class LateWork:
    """Keeps work until it is due on the stand-in's clock; a timer watches where real time makes it due."""

    def __init__(self, clock: StandInClock) -> None:
        self._clock = clock
        self._owed: list[tuple[float, int, Work]] = []
        self._order = itertools.count()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """How many are owed."""
        return len(self._owed)

    def owe(self, seconds: float, work: Work) -> None:
        """Do `work` in `seconds`. Needs a running loop."""
        heapq.heappush(self._owed, (self._clock.now() + seconds, next(self._order), work))
        self._wind()

    def catch_up(self) -> None:
        """Do what is due, in the order of the times."""
        while self._owed and self._owed[0][0] <= self._clock.now():
            _, _, work = heapq.heappop(self._owed)
            work()

    def clear(self) -> None:
        """Owe nothing any more."""
        self._owed.clear()
        self._stop()

    def _wind(self) -> None:
        self._stop()
        if self._owed:
            # A loop's clock is coarser than time.time and may ring early.
            delay = max(0.001, self._owed[0][0] - self._clock.now())
            self._timer = asyncio.get_running_loop().call_later(delay, self._ring)

    def _ring(self) -> None:
        self.catch_up()
        self._wind()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
