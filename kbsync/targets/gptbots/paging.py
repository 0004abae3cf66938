"""Going through the list of documents: nothing is told of its order, and pages shift while others work."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from kbsync.errors import Rejected, Unavailable
from kbsync.targets.gptbots.api import Api
from kbsync.targets.gptbots.lookup import PAGE
from kbsync.targets.gptbots.wire import Page, Row

_SWEEPS = 2
_ENOUGH = 0.8
"""Of the documents that the base counts: counts may be a little off."""


async def page_of(api: Api, number: int) -> Page:
    """One page. Raises `TargetError`: a refused list is no document's fault, while the base is there."""
    try:
        return await api.page(number, PAGE)
    except Rejected as error:
        await api.base()
        raise Unavailable(f"the list cannot be had: {error.reason}", code=error.code) from error


class Sweep:
    """One way through the list. `number`: of the page whose rows come now."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self.number = 1
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
        self.number, gone_through = 1, set[str]()
        while True:
            page = await page_of(self._api, self.number)
            ids = {row.id for row in page.rows}
            for row in self._fresh(page.rows):
                yield row
            if ids <= gone_through or self._is_end(page):
                return
            self.number += 1
            gone_through |= ids

    def _fresh(self, rows: Sequence[Row]) -> list[Row]:
        fresh = {row.id: row for row in rows if row.id not in self._seen}
        self._seen |= fresh.keys()
        return list(fresh.values())

    def _is_end(self, page: Page) -> bool:
        """A short page is the last one if all that is counted was seen; pages may be cut shorter."""
        self._total = page.total
        return len(page.rows) < PAGE and 0 < (page.total or 0) <= len(self._seen)

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
