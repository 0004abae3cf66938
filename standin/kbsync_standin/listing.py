"""What a vendor's list shows, in which order, and the pages that are cut from it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar


class HasId(Protocol):
    """What can stand in a list."""

    id: str


D = TypeVar("D", bound=HasId)


class Listing(Generic[D]):
    """What is shown at a moment: a list that lags shows and hides a document later than it comes and goes."""

    def __init__(self) -> None:
        self._spans: dict[str, tuple[D, float, float]] = {}  # shown from, and until
        self._rows: Sequence[D] = ()
        self._order = ""
        self._since = self._until = 0.0

    def show(self, document: D, at: float) -> None:
        """It is shown from `at` on."""
        self._spans[document.id] = (document, at, math.inf)
        self._order = ""

    def hide(self, document: D, at: float) -> None:
        """It is shown until `at`."""
        _, since, _ = self._spans[document.id]
        self._spans[document.id] = (document, since, at)
        self._order = ""

    def rows(self, now: float, order: str) -> Sequence[D]:
        """What is shown, in one of the orders of `in_order`."""
        # A list of 100,000 is read in a thousand pages: it is made again only when something changed.
        if order != self._order or not self._since <= now < self._until:
            self._spans = {key: span for key, span in self._spans.items() if now < span[2]}
            spans = self._spans.values()
            self._rows = in_order([one for one, since, _ in spans if since <= now], order)
            self._order, self._since = order, now
            self._until = min((at for _, *ends in spans for at in ends if at > now), default=math.inf)
        return self._rows


def in_order(rows: Sequence[D], order: str) -> Sequence[D]:
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
