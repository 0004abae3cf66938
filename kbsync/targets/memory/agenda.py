"""What is to happen later, by a clock that is only looked at, never waited for."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from contextlib import suppress

from kbsync.errors import TargetError


class Agenda:
    """Work with due times. It is done when `advance` is called, in order of time, at its due time."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._entries: list[tuple[float, int, Callable[[], object]]] = []
        self._turn = itertools.count()
        self._moment: float | None = None

    @property
    def now(self) -> float:
        """The time: while work is done late, the time it was due."""
        return self._clock() if self._moment is None else self._moment

    @property
    def is_catching_up(self) -> bool:
        """Whether work that was due is being done just now."""
        return self._moment is not None

    def later(self, seconds: float, work: Callable[[], object]) -> None:
        """Do `work` when the clock has gone on by `seconds`; a `TargetError` of it reaches nobody."""
        heapq.heappush(self._entries, (self.now + seconds, next(self._turn), work))

    def advance(self) -> None:
        """Do what is due by now."""
        if self.is_catching_up:
            return
        now = self._clock()
        try:
            while self._entries and self._entries[0][0] <= now:
                self._moment, _, work = heapq.heappop(self._entries)
                with suppress(TargetError):
                    work()
        finally:
            self._moment = None

    def clear(self) -> None:
        """Nothing is to happen any more."""
        self._entries.clear()
