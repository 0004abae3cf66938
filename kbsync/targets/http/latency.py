"""Tells whether answers take ever longer because so many are asked for at a time."""

from __future__ import annotations

from collections.abc import Callable

SLOWER, LATER = 2.0, 0.5
"""An answer is slow that takes so many times, and so many seconds more than, the quickest of its kind."""

FORGET = 300.0
"""Seconds after which the quickest counts twice: a service may have become another one."""

SAMPLES, ROUNDS = 8, 2
"""Answers of one look, at least; and looks in a row that have to agree."""


class Latency:
    """Compares answers with the quickest of their kind. `steady`: seconds that never go back.

    One slow answer, or a service that is always slow, shows nothing; more than half of the answers to
    comparable requests, in two looks in a row, do.
    """

    def __init__(self, steady: Callable[[], float]) -> None:
        self._steady = steady
        self._quickest: dict[str, tuple[float, float]] = {}
        self._slow = self._all = self._looks = 0

    @property
    def is_rising(self) -> bool:
        """The last look found answers slow."""
        return self._looks > 0

    def saw(self, kind: str, seconds: float, at_once: int) -> bool:
        """An answer took so long while `at_once` requests might be under way; True: fewer should be."""
        quickest = self._learn(kind, seconds)
        self._all += 1
        self._slow += seconds > max(quickest * SLOWER, quickest + LATER)
        if self._all < max(SAMPLES, 2 * at_once):
            return False
        self._looks = self._looks + 1 if self._slow * 2 > self._all else 0
        self._slow = self._all = 0
        return self._looks >= ROUNDS

    def learn(self, kind: str, seconds: float) -> None:
        """An answer that came while little was asked: it shows how quick the service can be."""
        self._learn(kind, seconds)

    def begin_anew(self) -> None:
        """The number of requests has changed: what was counted so far is of another time."""
        self._slow = self._all = self._looks = 0

    def _learn(self, kind: str, seconds: float) -> float:
        now = self._steady()
        known, at = self._quickest.get(kind, (seconds, now))
        quickest = min(seconds, known * 2 ** min((now - at) / FORGET, 10.0))
        self._quickest[kind] = quickest, now
        return quickest
