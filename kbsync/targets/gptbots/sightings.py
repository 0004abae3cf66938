"""What the list says of documents: when they changed last, and by which recipe and update they were made.

What is remembered is where a document was listed, and for a moment alone what was said of it: others change
documents, too, and a change that is judged by an older `update_time` would be called searchable too early
(promise 10).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass

from kbsync.targets.gptbots import marker
from kbsync.targets.gptbots.api import Api
from kbsync.targets.gptbots.formats import Kind, kind_of_recipe
from kbsync.targets.gptbots.lookup import Lookup, by_place
from kbsync.targets.gptbots.paging import Sweep, page_of
from kbsync.targets.gptbots.wire import Row

KEPT = 20_000
"""Documents whose page is remembered."""

FEW = 12
"""Pages that are read for one document in vain; then all of the list is."""

MOMENT = 1.0
"""Seconds in which one page serves several requests of a burst of changes: `update_time` tells no less."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One document of the list. `updated`, `was`, `recipe`: see `Marker`, whole seconds; None: not told."""

    updated: int | None
    was: int | None
    recipe: str | None

    @property
    def kind(self) -> Kind | None:
        """By its recipe."""
        return kind_of_recipe(self.recipe)

    @property
    def is_through(self) -> bool:
        """The version that wrote the marker is in: no update wrote it, or the document changed since."""
        return self.was is None or (self.updated is not None and self.updated != self.was)


class Sightings:
    """Reads the list for what is asked for, and remembers on which pages it was."""

    def __init__(self, api: Api, marker_base: str, steady: Callable[[], float]) -> None:
        self._api, self._base, self._steady = api, marker_base, steady
        self._places: dict[str, int] = {}
        self._fresh: dict[str, tuple[float, Row]] = {}
        self._turn = asyncio.Lock()

    async def rows(self) -> AsyncGenerator[Row, None]:
        """Every document of the base once. Raises `Unavailable` at the end where many are not shown."""
        sweep = Sweep(self._api)
        async with aclosing(sweep.rows()) as rows:
            async for row in rows:
                self._note(row.id, sweep.number)
                yield row

    async def known(self, ids: Collection[str]) -> Mapping[str, Seen]:
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

    async def read(self, ids: Collection[str]) -> Mapping[str, Seen]:
        """What the list says now of `ids`; who is not in it is not listed. That alone takes all of it."""
        async with self._turn:
            return await self._read(ids, Lookup(self._api.count))

    async def _read(self, ids: Collection[str], lookup: Lookup) -> dict[str, Seen]:
        found = await self._on_pages(ids, lookup)
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

    async def _on_pages(self, ids: Collection[str], lookup: Lookup) -> dict[str, Row]:
        """As many of `ids` as few pages show."""
        for one in by_place(list(ids), self._places):
            for _ in range(FEW):
                number = None if one in lookup.rows else lookup.next_page(one, self._places.get(one))
                if number is None:
                    break
                page = await page_of(self._api, number)
                lookup.take(number, page)
                for row in page.rows:
                    self._note(row.id, number)
        return {one: lookup.rows[one] for one in ids if one in lookup.rows}

    def _note(self, remote_id: str, page: int) -> None:
        if remote_id in self._places or len(self._places) < KEPT:
            self._places[remote_id] = page

    def _seen(self, row: Row) -> Seen:
        told = marker.read(self._base, row.source_url)
        updated = None if row.updated is None else int(row.updated)
        return Seen(updated, told.was if told else None, told.recipe if told else None)
