"""Numbers that strangers write in digits. Pure."""

from __future__ import annotations

_LONGEST = 20


def number_in(text: str) -> int | None:
    """The number; None for what is none, and for more digits than anything that is counted has."""
    return int(text) if text.isdecimal() and len(text) <= _LONGEST else None
