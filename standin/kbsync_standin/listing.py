"""The pages of a service's list, and the order of its rows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol, TypeVar


class HasId(Protocol):
    """A row that a list can show."""

    @property
    def id(self) -> str:
        """Its id."""


R = TypeVar("R", bound=HasId)
T = TypeVar("T")


def in_order(rows: Sequence[R], order: str) -> Sequence[R]:
    """Order rows that come oldest first: `oldest`, `newest`, or `shuffled`, the same way every time."""
    match order:
        case "newest":
            return rows[::-1]
        case "shuffled":
            return sorted(rows, key=lambda row: hashlib.sha256(row.id.encode()).digest())
        case _:
            return rows


def page_of(
    rows: Sequence[T], number: int, size: int, *, repeats: bool = False, shift: int = 0
) -> Sequence[T]:
    """Return the page `number`, counted from 1. After the last it is empty, or the last again with `repeats`.

    `shift`: pages after the first begin this many rows later, as if others had added or deleted rows.
    """
    if repeats:
        number = min(number, max(1, -(-len(rows) // size)))
    start = max(0, (number - 1) * size + (shift if number > 1 else 0))
    return rows[start : start + size]
