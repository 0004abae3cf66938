"""The pages of a service's list: its rows at a given time, and their order."""

from __future__ import annotations

import hashlib
import heapq
import itertools
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar


class HasId(Protocol):
    """A row that a list can show."""

    @property
    def id(self) -> str:
        """Its id."""


class HasAge(HasId, Protocol):
    """A row with a number that grows from one row to the next."""

    ordinal: int


R = TypeVar("R", bound=HasId)
D = TypeVar("D", bound=HasAge)


class Listing(Generic[D]):
    """The rows of a list that lags: it shows and hides a document some time after the change."""

    def __init__(self) -> None:
        self._visible: dict[str, D] = {}  # oldest first
        self._newest = -1
        self._due: list[tuple[float, int, D, bool]] = []
        self._turn = itertools.count()
        self._hidden: set[str] = set()
        self._rows: Sequence[D] = ()
        self._order = ""

    def show(self, document: D, time: float) -> None:
        """Show the row from `time` on."""
        heapq.heappush(self._due, (time, next(self._turn), document, True))

    def hide(self, document: D, time: float) -> None:
        """Show the row until `time`."""
        heapq.heappush(self._due, (time, next(self._turn), document, False))

    def rows(self, now: float, order: str) -> Sequence[D]:
        """Return the rows at a time, in one of the orders of `in_order`."""
        while self._due and self._due[0][0] <= now:
            _, _, document, is_coming = heapq.heappop(self._due)
            self._order = ""
            if not is_coming and self._visible.pop(document.id, None) is None:
                self._hidden.add(document.id)  # deleted before it was shown
            elif is_coming and document.id not in self._hidden:
                self._visible[document.id] = document
                if document.ordinal < self._newest:  # the lag became shorter meanwhile
                    self._visible = dict(sorted(self._visible.items(), key=lambda item: item[1].ordinal))
                self._newest = max(self._newest, document.ordinal)
        # Clients read 100,000 rows in a thousand pages, so sort only after a change.
        if order != self._order:
            self._rows, self._order = in_order(list(self._visible.values()), order), order
        return self._rows


def in_order(rows: Sequence[R], order: str) -> Sequence[R]:
    """Order rows that come oldest first: `oldest`, `newest`, or `shuffled`, the same way every time."""
    match order:
        case "newest":
            return rows[::-1]
        case "shuffled":
            return sorted(rows, key=lambda row: hashlib.sha256(row.id.encode()).digest())
        case _:
            return rows


T = TypeVar("T")


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
