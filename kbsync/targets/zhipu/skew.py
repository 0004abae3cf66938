"""How far the vendor's clock is from ours, learned from the answers."""

from __future__ import annotations

from collections.abc import Callable

ALARMING = 300.0
"""Seconds: signed keys are refused when clocks differ by more."""


class Skew:
    """The difference of the two clocks. `wall`: our clock, seconds since the epoch.

    `alarming`: seconds from which on a person should know of it.

    The vendor's `timestamp` was taken between sending and hearing; only what lies outside of that
    time shows a difference, so a slow upload never looks like one.
    """

    def __init__(self, wall: Callable[[], float], alarming: float = ALARMING) -> None:
        self._wall, self._alarming = wall, alarming
        self.seconds = 0.0
        """The vendor's clock minus ours."""

    def learn(self, at: float | None, sent_at: float) -> None:
        """An answer to a request of `sent_at` was stamped `at`, and arrived now."""
        if at is None:
            return
        heard_at = self._wall()
        self.seconds = max(0.0, at - heard_at) + min(0.0, at - sent_at)

    def ours(self, theirs: float | None) -> float | None:
        """A time of the vendor's by our clock; None where that is far off: ids may tell another time."""
        return None if theirs is None or abs(self.seconds) > ALARMING else theirs - self.seconds

    @property
    def sentence(self) -> str:
        """What a person should know when keys are refused; "" where the clocks agree."""
        if abs(self.seconds) <= self._alarming:
            return ""
        side = "behind" if self.seconds > 0 else "ahead of"
        return f"the clock of this machine is {_span(abs(self.seconds))} {side} the vendor's"


def _span(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
