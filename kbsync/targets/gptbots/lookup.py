"""Finding single documents on few pages of a list that has no filter: where they were listed before, else by
the order of their ids. Pure.

Ids of the vendor look as Mongo makes them: the second in which they were made, in eight hex digits, and a
counter in the last six. It is not documented, so it only chooses which page is asked for next, as long as the
pages read so far are in that order: who is not found that way is looked for in the whole list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from kbsync.targets.gptbots.wire import Page, Row

PAGE = 100
"""Rows of a page; the vendor takes 10 to 100, and may give fewer than were asked for."""


def _digits(text: str) -> int:
    """Hex digits as a number; of any other text one that sorts as it does."""
    try:
        return int(text, 16)
    except ValueError:
        return int.from_bytes(text.encode("utf-8", "replace").ljust(40, b"\0")[:40], "big")


_AGES: Sequence[Callable[[str], int]] = (
    _digits,
    lambda remote_id: _digits(remote_id[:8]),
    lambda remote_id: _digits(remote_id[-6:]),
)
"""What may tell older ids from younger ones; only which is the greater counts."""

_Order = Callable[[str], int]


@dataclass(slots=True)
class Lookup:
    """The pages that one look has read so far. `count`: documents of the list, None: not known yet."""

    count: int | None = None
    rows: dict[str, Row] = field(default_factory=dict)
    _pages: dict[int, Sequence[Row]] = field(default_factory=dict)

    def take(self, number: int, page: Page) -> None:
        """A page was read."""
        self.count = self.count if page.total is None else page.total
        self._pages[number] = page.rows
        self.rows |= {row.id: row for row in page.rows}

    def next_page(self, remote_id: str, known: int | None) -> int | None:
        """The page to read next for a document that is on none so far; None: no page is likelier than others.

        `known`: the page it was on before. Of fifty pages, halving asks for five in vain at most.
        """
        if known is not None and known not in self._pages:
            return known
        if self.count is None:
            return 1 if not self._pages else None
        order = self._order()
        if order is None:
            return None
        low, high, near = 1, -(-self.count // self._size), {known}
        mine = order(remote_id)
        for number, rows in self._pages.items():
            ages = [order(row.id) for row in rows]
            if not ages or mine < ages[0]:
                high = min(high, number - 1)
            elif mine > ages[-1]:
                low = max(low, number + 1)
            elif mine not in (ages[0], ages[-1]):
                return None
            else:
                near.add(number)  # of one second with what is at its edge
        still = [number for number in range(low, high + 1) if number not in self._pages]
        beside = [number for number in still if not near.isdisjoint({number - 1, number + 1})]
        return beside[0] if beside else still[len(still) // 2] if still else None

    @property
    def _size(self) -> int:
        """Rows of a page as the server gives them."""
        return max(map(len, self._pages.values()), default=0) or PAGE

    def _order(self) -> _Order | None:
        """What grows with the list, and tells most documents apart; None: nothing that shows does."""
        ids = [row.id for _, rows in sorted(self._pages.items()) for row in rows]
        fits: list[tuple[int, _Order]] = []
        for age in _AGES:
            for order in (age, lambda one, age=age: -age(one)):
                ages = [order(one) for one in ids]
                if ages == sorted(ages):
                    fits.append((len(set(ages)), order))
        return max(fits, key=lambda fit: fit[0])[1] if fits else None


def by_place(ids: Sequence[str], places: Mapping[str, int]) -> list[str]:
    """Those whose page is known first: these pages show where others are."""
    return sorted(ids, key=lambda one: (one not in places, places.get(one, 0)))
