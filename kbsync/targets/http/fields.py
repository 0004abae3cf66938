"""Fields of an answer, read without trust: what is missing or of another type is None, "" or empty. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kbsync.core.text import number_in

_LARGEST = 1e9  # neither NaN nor infinity is below it


def text_of(value: object) -> str:
    """A text; "" for everything else."""
    return value if isinstance(value, str) else ""


def id_of(value: object) -> str | None:
    """An id as a string, from JSON text or a JSON integer; None for everything else.

    A float is none: what has more than 53 bits has lost digits already.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return text_of(value).strip() or None


def integer(value: object) -> int | None:
    """A number that is none of a bool or a fraction: an integer, or a string of digits."""
    if isinstance(value, str):
        return number_in(value.strip())
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def count_of(value: object) -> int | None:
    """A number of things: an integer as above, and not below 0."""
    count = integer(value)
    return count if count is not None and count >= 0 else None


def number(value: object) -> float | None:
    """A number such as a score; None for everything else, and for what is absurdly large."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < _LARGEST else None


def flag_of(value: object) -> bool | None:
    """0, 1, false or true; None for everything else."""
    return bool(value) if isinstance(value, int) and value in (0, 1) else None


def object_of(value: object) -> Mapping[str, Any]:
    """An object; an empty one for everything else."""
    return value if isinstance(value, dict) else {}


def objects_in(value: object) -> Iterator[dict[str, Any]]:
    """The objects of a list, whatever else is in it."""
    return (item for item in value if isinstance(item, dict)) if isinstance(value, list) else iter(())
