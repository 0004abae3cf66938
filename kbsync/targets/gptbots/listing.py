"""Finding single documents on few pages of a list that has no filter: where they were listed before, else by
the order of their ids. Pure.

Ids of the vendor look as Mongo makes them: the second in which they were made, in eight hex digits, and a
counter in the last six. It is not documented, so it only chooses which page is asked for next, as long as the
pages read so far are in that order: who is not found that way is looked for in the whole list.

What the list says of documents: when they changed last, and by which recipe and update they were made.

What is remembered is where a document was listed, and for a moment alone what was said of it: others change
documents, too, and a change that is judged by an older `update_time` would be called searchable too early
(promise 10).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from kbsync.errors import Rejected, Unavailable
from kbsync.targets.gptbots import shapes
from kbsync.targets.gptbots.api import GptbotsApi
from kbsync.targets.gptbots.shapes import DocumentRow
from kbsync.targets.http.reading import PAGE_SIZE, ListPage, ListSweep

SMALLEST_PAGE = 10
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
    rows: dict[str, DocumentRow] = field(default_factory=dict)
    _pages: dict[int, Sequence[DocumentRow]] = field(default_factory=dict)

    def take(self, number: int, page: ListPage[DocumentRow]) -> None:
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
        return max(map(len, self._pages.values()), default=0) or PAGE_SIZE

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


KEPT = 20_000
"""Documents whose page is remembered."""

FEW = 12
"""Pages that are read for one document in vain; then all of the list is."""

MOMENT = 1.0
"""Seconds in which one page serves several requests of a burst of changes: `update_time` tells no less."""


@dataclass(frozen=True, slots=True)
class ListedVersion:
    """One document of the list. `updated`, `was`, `recipe`: see `Marker`, whole seconds; None: not told."""

    updated: int | None
    was: int | None
    recipe: str | None

    @property
    def is_through(self) -> bool:
        """The version that wrote the marker is in: no update wrote it, or the document changed since."""
        return self.was is None or (self.updated is not None and self.updated != self.was)


class DocumentList:
    """Reads the list for what is asked for, and remembers on which pages it was."""

    def __init__(self, api: GptbotsApi, marker_base: str, steady: Callable[[], float]) -> None:
        self._api, self._base, self._steady = api, marker_base, steady
        self._places: dict[str, int] = {}
        self._fresh: dict[str, tuple[float, DocumentRow]] = {}
        self._turn = asyncio.Lock()

    async def rows(self) -> AsyncGenerator[DocumentRow, None]:
        """Every document of the base once. Raises `Unavailable` at the end where many are not shown."""
        sweep = ListSweep(self._page)
        async with aclosing(sweep.rows()) as rows:
            async for row in rows:
                yield row
        # A list that is far shorter than the base says would make documents look gone (promise 1).
        if not 0 < sweep.claimed <= sweep.shown:
            base = await self._api.base()
            sweep.check(base.documents, base.id)

    async def _page(self, number: int, size: int = PAGE_SIZE) -> ListPage[DocumentRow]:
        """One page. Raises `TargetError`: a refused list is no document's fault, while the base is there."""
        try:
            page = await self._api.page(number, max(size, SMALLEST_PAGE))
        except Rejected as error:
            await self._api.base()
            raise Unavailable(f"the list cannot be had: {error.reason}", code=error.code) from error
        for row in page.rows:
            if row.id in self._places or len(self._places) < KEPT:
                self._places[row.id] = number
        return page

    async def known(self, ids: Collection[str]) -> Mapping[str, ListedVersion]:
        """As `read`, of documents at which nothing is under way: what was said a moment ago is as good."""
        async with self._turn:  # whoever waited knows what the one before him read
            now, lookup = self._steady(), Lookup(self._api.count)
            self._fresh = {one: told for one, told in self._fresh.items() if told[0] > now - MOMENT}
            fresh = {one: self._seen(self._fresh[one][1]) for one in ids if one in self._fresh}
            found = await self._read([one for one in ids if one not in fresh], lookup)
            self._fresh |= {row.id: (now, row) for row in lookup.rows.values()}
            return fresh | found

    def changing(self, ids: Iterable[str]) -> None:
        """What was said of these may not hold any more."""
        for one in ids:
            self._fresh.pop(one, None)

    async def read(self, ids: Collection[str]) -> Mapping[str, ListedVersion]:
        """What the list says now of `ids`; who is not in it is not listed. That alone takes all of it."""
        async with self._turn:
            return await self._read(ids, Lookup(self._api.count))

    async def _read(self, ids: Collection[str], lookup: Lookup) -> dict[str, ListedVersion]:
        # Those whose page is known come first: these pages show where others are.
        for one in sorted(ids, key=lambda one: (one not in self._places, self._places.get(one, 0))):
            for _ in range(FEW):
                number = None if one in lookup.rows else lookup.next_page(one, self._places.get(one))
                if number is None:
                    break
                lookup.take(number, await self._page(number))
        found = {one: lookup.rows[one] for one in ids if one in lookup.rows}
        missing = set(ids) - found.keys()
        if missing:
            async with aclosing(self.rows()) as rows:
                async for row in rows:
                    if row.id in missing:
                        found[row.id] = row
                        missing.discard(row.id)
                    if not missing:
                        break
        return {one: self._seen(row) for one, row in found.items()}

    def _seen(self, row: DocumentRow) -> ListedVersion:
        told = shapes.read_marker(self._base, row.source_url)
        updated = None if row.updated is None else int(row.updated)
        return ListedVersion(updated, told.was if told else None, told.recipe if told else None)
