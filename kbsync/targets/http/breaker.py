"""Leaves a target that is down alone, for longer each time; one call then probes it."""

from __future__ import annotations

from collections.abc import Callable

IN_A_ROW = 5
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
PROBE_PATIENCE = 10.0
"""Seconds: a probe that takes longer, a large upload or one that hangs, keeps nobody else from probing."""


class Breaker:
    """Opens after `IN_A_ROW` failures in a row, for 1 s, doubled with each probe that fails, up to 60 s.

    `steady`: a clock in seconds that never steps back. Nothing is awaited in here.
    """

    def __init__(self, steady: Callable[[], float]) -> None:
        self._steady = steady
        self._failures = 0
        self._pause = FIRST_PAUSE
        self._until: float | None = None
        self._is_probing = False
        self._probed_at = 0.0
        self.cause = ""

    @property
    def rest(self) -> float | None:
        """Seconds the target is still left alone; None where a call may go."""
        if self._until is None:
            return None
        rest = self._until - self._steady()
        if rest > 0:
            return rest
        is_awaited = self._is_probing and self._steady() - self._probed_at < PROBE_PATIENCE
        return FIRST_PAUSE if is_awaited else None

    def admit(self) -> float | None:
        """As `rest`; where it gives None the caller goes, and says how it went or calls `withdraw`."""
        rest = self.rest
        if rest is None and self._until is not None:
            self._is_probing, self._probed_at = True, self._steady()
        return rest

    def succeeded(self) -> None:
        """The target answers: everything may go."""
        self._failures, self._pause = 0, FIRST_PAUSE
        self._until, self._is_probing = None, False

    def failed(self, cause: str, wish: float | None = None) -> None:
        """The target is down, as far as a call could tell; `cause` in words, `wish` its Retry-After.

        Calls that began before it opened say nothing new and do not make the pause longer.
        """
        self.cause = cause
        self._failures += 1
        if self._is_probing:
            self._pause = min(self._pause * 2, LONGEST_PAUSE)
            self._open(wish)
        elif self._until is None and self._failures >= IN_A_ROW:
            self._open(wish)

    def withdraw(self) -> None:
        """A call ended without a word about the target; if it was the probe, the next one is."""
        self._is_probing = False

    def _open(self, wish: float | None) -> None:
        self._until = self._steady() + max(self._pause, wish or 0.0)
        self._is_probing = False
