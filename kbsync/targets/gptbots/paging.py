"""Going through the list of documents: nothing is told of its order, and pages shift while others work."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from kbsync.errors import Rejected, Unavailable
from kbsync.targets.gptbots.api import Api
from kbsync.targets.gptbots.wire import Page, Row

PAGE = 100
"""Rows of a page; the vendor takes 10 to 100, and may give fewer than were asked for."""

_SWEEPS = 2
_ENOUGH = 0.8
"""Of the documents that the base counts: counts may be a little off."""


class Sweep:
    """One way through the list. `total`: what it says of its length, None where that does not count."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._seen: set[str] = set()
        self._total: int | None = None

    async def rows(self) -> AsyncGenerator[Row, None]:
        """Every document of the base once. Raises `Unavailable` at the end where many are not shown."""
        for _ in range(_SWEEPS):
            async with aclosing(self._once()) as rows:
                async for row in rows:
                    yield row
            if self._total is None or len(self._seen) >= self._total:
                break
        await self._vouch()

    async def _once(self) -> AsyncGenerator[Row, None]:
        number, gone_through = 1, set[str]()
        while True:
            page = await self._page(number)
            ids = {row.id for row in page.rows}
            for row in self._fresh(page.rows):
                yield row
            if ids <= gone_through or self._is_end(page):
                return
            number += 1
            gone_through |= ids

    def _fresh(self, rows: Sequence[Row]) -> list[Row]:
        fresh = {row.id: row for row in rows if row.id not in self._seen}
        self._seen |= fresh.keys()
        return list(fresh.values())

    def _is_end(self, page: Page) -> bool:
        """A short page is the last one if all that is counted was seen; pages may be cut shorter."""
        self._total = page.total
        return len(page.rows) < PAGE and 0 < (page.total or 0) <= len(self._seen)

    async def _page(self, number: int) -> Page:
        try:
            return await self._api.page(number, PAGE)
        except Rejected as error:
            await self._api.base()
            raise Unavailable(f"the list cannot be had: {error.reason}", code=error.code) from error

    async def _vouch(self) -> None:
        """A list that is far shorter than the base says would make documents look gone."""
        shown = len(self._seen)
        if shown and shown >= (self._total or 0) > 0:
            return
        base = await self._api.base()
        if base.documents is not None and shown < base.documents * _ENOUGH:
            raise Unavailable(
                f"the list shows {shown} of {base.documents} documents of knowledge base {base.id}"
            )
