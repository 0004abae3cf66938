"""Finding many documents on few pages of the vendor's list: the newest first, since those are waited for.

The list has no order that is documented; as far as its ids show one, that tells which page is next.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field

from kbsync.targets.http.listing import PAGE_SIZE, real_size
from kbsync.targets.zhipu.shapes import ZhipuDocument, ZhipuPage, created_of

_WORTH_A_PAGE = 3  # fewer ids are asked for one by one


class ListOrder(enum.Enum):
    """How a list is sorted, as far as its ids show."""

    NEWEST_FIRST = "newest first"
    OLDEST_FIRST = "oldest first"
    UNKNOWN = "unknown"


def order_of(rows: Sequence[ZhipuDocument]) -> ListOrder:
    """The order in which the ids of one page were made."""
    times = [made for row in rows if (made := created_of(row.id)) is not None]
    if len(times) < max(2, len(rows)):
        return ListOrder.UNKNOWN
    if times == sorted(times, reverse=True):
        return ListOrder.NEWEST_FIRST
    return ListOrder.OLDEST_FIRST if times == sorted(times) else ListOrder.UNKNOWN


@dataclass(slots=True)
class SeenOnPages:
    """What some pages of the list showed of the documents looked for. `requests`: pages asked for."""

    rows: dict[str, ZhipuDocument] = field(default_factory=dict)
    requests: int = 0


async def look_for(ask: Callable[[int, int], Awaitable[ZhipuPage]], ids: Collection[str]) -> SeenOnPages:
    """Find `ids` on as few pages as can be; those that the list does not show soon are left to the caller.

    Never more pages than ids. Nothing is remembered from one look to the next.
    """
    seen, missing, course = SeenOnPages(), set(ids), _Course()
    while seen.requests < len(ids):
        page = await ask(course.number, course.size)
        seen.requests += 1
        found = {row.id: row for row in page.rows if row.id in missing}
        seen.rows |= found
        missing -= found.keys()
        course.misses += not found
        if not missing or not course.next_after(page, missing):
            break
    return seen


@dataclass(slots=True)
class _Course:
    """Where a look at the list goes next: onward from the newest, or back from the last page to them."""

    number: int = 1
    step: int = 1
    size: int = PAGE_SIZE
    misses: int = 0
    shown: set[str] = field(default_factory=set)

    def next_after(self, page: ZhipuPage, missing: Collection[str]) -> bool:
        """Move on; False where no further page is worth a request."""
        order = order_of(page.rows)
        if self.number == 1 and self.step == 1:
            self.size = real_size(page, self.size)
            last = self._last_page(page)
            if order is ListOrder.OLDEST_FIRST and last is not None and last > 1:
                self.number, self.step = last, -1
                return True
        expected = missing
        if order is not ListOrder.UNKNOWN:
            # beyond this page are older ones: with the newest first, or walking back from the end
            oldest = min((created_of(row.id) or 0.0 for row in page.rows), default=0.0)
            expected = [one for one in missing if (created_of(one) or 0.0) <= oldest]
        if len(expected) < _WORTH_A_PAGE or self.misses * 10 > len(expected) or self._is_end(page):
            return False
        self.number += self.step
        return True

    def _is_end(self, page: ZhipuPage) -> bool:
        ids = {row.id for row in page.rows}
        repeats = ids <= self.shown
        self.shown |= ids
        if self.step < 0:
            return repeats or self.number <= 2
        last = self._last_page(page)
        return repeats or (last is not None and self.number >= last)

    def _last_page(self, page: ZhipuPage) -> int | None:
        """By `total`, where it is not disproved by the page itself."""
        if page.total is None or page.total < len(page.rows):
            return None
        return max(1, -(-page.total // self.size))
