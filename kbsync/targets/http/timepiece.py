"""How far a target's clock is from ours, by the `Date` of its answers."""

from __future__ import annotations

from dataclasses import dataclass

SECOND = 1.0
"""What a `Date` (RFC 9110, 6.6.1) leaves out."""


@dataclass(slots=True)
class Timepiece:
    """`apart`: seconds by which the target was ahead at its last dated answer; None before one."""

    apart: float | None = None

    def learn(self, date: float | None, sent_at: float, heard_at: float) -> None:
        """An answer was made at `date`, between sending and hearing: only what lies outside counts.

        All in seconds since the epoch.
        """
        if date is not None:
            self.apart = max(0.0, date - heard_at) + min(0.0, date + SECOND - sent_at)
