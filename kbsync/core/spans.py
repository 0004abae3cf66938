"""Spans of time, told to people."""

from __future__ import annotations


def lasting(seconds: float) -> str:
    """A span of time for people: `0.4 s`, `12 s`, `3 min`, `5 h`, `2 d`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    for limit, unit, name in ((90, 1, "s"), (5400, 60, "min"), (129600, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / 86400:.0f} d"
