"""What the list told of documents: when they changed last, and by which recipe and update they were made.

Kept for documents at which nothing is under way, so that many updates cost one reading of the list.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass

from kbsync.targets.gptbots import marker
from kbsync.targets.gptbots.api import Api
from kbsync.targets.gptbots.formats import Kind, kind_of_recipe
from kbsync.targets.gptbots.paging import Sweep
from kbsync.targets.gptbots.wire import Row

KEPT = 20_000
"""Documents that are remembered."""


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
    """Reads the list for what is asked for and remembers the rest of it."""

    def __init__(self, api: Api, marker_base: str) -> None:
        self._api, self._base = api, marker_base
        self._kept: dict[str, Seen] = {}
        self._reading = asyncio.Lock()

    async def known(self, ids: Collection[str]) -> Mapping[str, Seen]:
        """What is known of documents at which nothing is under way; who is not in it is not listed."""
        async with self._reading:
            if any(one not in self._kept for one in ids):
                return await self.read(ids, whole=True)
        return {one: self._kept[one] for one in ids if one in self._kept}

    async def read(self, ids: Collection[str], *, whole: bool = False) -> Mapping[str, Seen]:
        """What the list says now of `ids`; who is not in it is not listed. `whole`: all of it is read."""
        found: dict[str, Seen] = {}
        wanted = frozenset(ids)
        async with aclosing(Sweep(self._api).rows()) as rows:
            async for row in rows:
                seen = self._note(row)
                if row.id in wanted:
                    found[row.id] = seen
                if not whole and len(found) == len(wanted):
                    break
        return found

    def forget(self, ids: Iterable[str]) -> None:
        """Something is under way at these: what was seen of them does not hold."""
        for one in ids:
            self._kept.pop(one, None)

    def _note(self, row: Row) -> Seen:
        told = marker.read(self._base, row.source_url)
        updated = None if row.updated is None else int(row.updated)
        seen = Seen(updated, told.was if told else None, told.recipe if told else None)
        if len(self._kept) < KEPT:
            self._kept[row.id] = seen
        return seen
