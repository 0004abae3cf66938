"""Makes the pages of a vendor's list: which rows it has at a time, and in which order."""

from __future__ import annotations

import hashlib
import heapq
import itertools
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar


class HasId(Protocol):
    """What can stand in a list."""

    id: str


class HasAge(HasId, Protocol):
    """The same, with a number that grows from one to the next."""

    ordinal: int


R = TypeVar("R", bound=HasId)
D = TypeVar("D", bound=HasAge)


class Listing(Generic[D]):
    """What is shown at a moment: a list that lags shows and hides a document later than it comes and goes."""

    def __init__(self) -> None:
        self._shown: dict[str, D] = {}  # the oldest first
        self._newest = -1
        self._due: list[tuple[float, int, D, bool]] = []
        self._turn = itertools.count()
        self._never: set[str] = set()
        self._rows: Sequence[D] = ()
        self._order = ""

    def show(self, document: D, at: float) -> None:
        """Show the row from `at` on."""
        heapq.heappush(self._due, (at, next(self._turn), document, True))

    def hide(self, document: D, at: float) -> None:
        """Show the row until `at`."""
        heapq.heappush(self._due, (at, next(self._turn), document, False))

    def rows(self, now: float, order: str) -> Sequence[D]:
        """What is shown, in one of the orders of `in_order`."""
        while self._due and self._due[0][0] <= now:
            _, _, document, is_coming = heapq.heappop(self._due)
            self._order = ""
            if not is_coming and self._shown.pop(document.id, None) is None:
                self._never.add(document.id)  # gone before it was ever shown
            elif is_coming and document.id not in self._never:
                self._shown[document.id] = document
                if document.ordinal < self._newest:  # the lag became shorter meanwhile
                    self._shown = dict(sorted(self._shown.items(), key=lambda item: item[1].ordinal))
                self._newest = max(self._newest, document.ordinal)
        # A list of 100,000 is read in a thousand pages: it is put in order only when something changed.
        if order != self._order:
            self._rows, self._order = in_order(list(self._shown.values()), order), order
        return self._rows


def in_order(rows: Sequence[R], order: str) -> Sequence[R]:
    """Rows that come oldest first, as `oldest`, `newest`, or `shuffled` the same way every time."""
    match order:
        case "newest":
            return rows[::-1]
        case "shuffled":
            return sorted(rows, key=lambda one: hashlib.sha256(one.id.encode()).digest())
        case _:
            return rows


T = TypeVar("T")


def page_of(
    rows: Sequence[T], number: int, size: int, *, repeats: bool = False, shift: int = 0
) -> Sequence[T]:
    """The page `number`, from 1 on. Beyond the last there is nothing, or with `repeats` the last again.

    `shift`: so many rows further on pages after the first, as if others came and went.
    """
    if repeats:
        number = min(number, max(1, -(-len(rows) // size)))
    start = max(0, (number - 1) * size + (shift if number > 1 else 0))
    return rows[start : start + size]
