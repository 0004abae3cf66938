"""A clock that stands still until it is told to go on."""

from __future__ import annotations


class ManualClock:
    """Called, it gives seconds since the epoch; only `advance` moves it."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """Seconds since the epoch."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass; negative steps the clock back, as people and time servers do."""
        self.now += seconds
