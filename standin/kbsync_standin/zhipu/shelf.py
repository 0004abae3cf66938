"""The documents of one base as its list shows them: in order, some not yet, some still."""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kbsync_standin.zhipu.documents import Document

Order = Callable[["Document"], int]

_FEW = 50  # more than so many are sorted in together


def _age(document: Document) -> int:
    return document.ordinal


def _shuffle(document: Document) -> int:
    return document.lot


class Shelf:
    """What the list shows. Kept in both orders, so that a page is a slice and never a sort."""

    def __init__(self) -> None:
        self._by_age: list[Document] = []
        self._shuffled: list[Document] = []
        self._coming: list[tuple[float, int, Document]] = []
        self._going: list[tuple[float, int, Document]] = []

    def add(self, document: Document, at: float) -> None:
        """It is shown from `at` on."""
        heapq.heappush(self._coming, (at, document.ordinal, document))

    def remove(self, document: Document, at: float) -> None:
        """It is shown until `at`."""
        heapq.heappush(self._going, (at, document.ordinal, document))

    def settle(self, now: float) -> None:
        """Show and hide what is due at `now`."""
        _put_in(self._by_age, due := _due(self._coming, now), _age)
        _put_in(self._shuffled, due, _shuffle)
        for document in _due(self._going, now):
            self._take_out(document)

    def _take_out(self, document: Document) -> None:
        if _out(self._by_age, document, _age):
            _out(self._shuffled, document, _shuffle)
        else:  # gone before it was ever shown
            self._coming = [entry for entry in self._coming if entry[2] is not document]
            heapq.heapify(self._coming)

    def rows(self, order: str) -> Rows:
        """What is shown, in the order of the switch `order`. `settle` comes first."""
        return Rows(self._shuffled if order == "shuffled" else self._by_age, order == "newest")


def _due(entries: list[tuple[float, int, Document]], now: float) -> list[Document]:
    """Take from the heap `entries` what is due at `now`."""
    due: list[Document] = []
    while entries and entries[0][0] <= now:
        due.append(heapq.heappop(entries)[2])
    return due


def _put_in(documents: list[Document], more: list[Document], order: Order) -> None:
    if len(more) <= _FEW:
        for document in more:
            bisect.insort(documents, document, key=order)
    else:
        documents.extend(more)
        documents.sort(key=order)


def _out(documents: list[Document], document: Document, order: Order) -> bool:
    at = bisect.bisect_left(documents, order(document), key=order)
    found = at < len(documents) and documents[at] is document
    if found:
        del documents[at]
    return found


class Rows:
    """Documents in order, of which slices are cut without copying the rest."""

    def __init__(self, documents: list[Document], is_backwards: bool = False) -> None:
        self._documents = documents
        self._is_backwards = is_backwards

    def __len__(self) -> int:
        return len(self._documents)

    def cut(self, start: int, count: int) -> list[Document]:
        """`count` documents from position `start` (0-based), fewer at the end."""
        start = max(0, start)
        if not self._is_backwards:
            return self._documents[start : start + count]
        end = len(self._documents) - start
        return self._documents[max(0, end - count) : max(0, end)][::-1]

    def where(self, condition: Callable[[Document], bool]) -> Rows:
        """Those that fulfil `condition`, in the same order."""
        return Rows([document for document in self._documents if condition(document)], self._is_backwards)
