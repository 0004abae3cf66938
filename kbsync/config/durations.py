"""Durations as people write them: `500ms`, `2s`, `15m`, `1h`, `1d`."""

from __future__ import annotations

import re

UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
FORMS = "a number and a unit, such as 500ms, 2s, 15m, 1h or 1d"
PATTERN = r"^([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)$"


def read_duration(text: str) -> float | None:
    """Seconds of `text`; None where it is no duration."""
    match = re.fullmatch(PATTERN, text)
    return float(match[1]) * UNITS[match[2]] if match else None


def parse_duration(text: str) -> float:
    """Seconds of `text`. Raises ValueError, with the forms there are, for anything else."""
    seconds = read_duration(text)
    if seconds is None:
        raise ValueError(f"{text!r} is not a duration; allowed: {FORMS}")
    return seconds


def write_duration(seconds: float) -> str:
    """The shortest form that `parse_duration` reads back, such as `15m` for 900.0."""
    for unit in ("d", "h", "m", "s"):
        if seconds and seconds % UNITS[unit] == 0:
            return f"{seconds / UNITS[unit]:.0f}{unit}"
    milliseconds = round(seconds * 1000)
    return f"{milliseconds}ms" if milliseconds else "0s"
