"""Reading the vendor's list of documents: pages that shift, repeat, are capped and count wrong.

The list has no order parameter and no cursor; `total` may be wrong, missing or text, a page beyond the end
may repeat the last one, and while others add and delete, rows move from page to page.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from kbsync.targets.zhipu.shapes import ZhipuDocument, ZhipuPage, created_of

SIZE = 100
SWEEPS = 3
_SMALLEST_CAP = 10  # the default page size; less is a page cut short for another reason
_WORTH_A_PAGE = 3  # fewer ids are asked for one by one

AskPage = Callable[[int, int], Awaitable[ZhipuPage]]
"""(page number from 1, size) → that page."""


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


def real_size(page: ZhipuPage, size: int) -> int:
    """The size the server really gives, shown by a first page that is shorter than asked and not all.

    To ask for no more from then on reads every row, whichever of the two sizes the server counts with.
    """
    count = len(page.rows)
    return size if count == page.total or not _SMALLEST_CAP <= count < size else count


class ZhipuSweep:
    """One reading of the whole list, as often as it takes to trust it, at most `SWEEPS` times.

    Memory: the ids. `shown` counts them.
    """

    def __init__(self, ask: AskPage) -> None:
        self._ask = ask
        self._size = SIZE
        self._seen: dict[str, int] = {}  # id → the last turn that showed it
        self._last = _Turn(0)
        self._is_vouched = False

    @property
    def shown(self) -> int:
        """How many documents were listed."""
        return len(self._seen)

    @property
    def is_doubtful(self) -> bool:
        """Less was listed than the count said all the time, or nothing and no count of 0 vouches for that."""
        claimed = min(self._last.totals, default=0)
        return self.shown < claimed or not (self._seen or self._is_vouched)

    async def rows(self) -> AsyncGenerator[ZhipuDocument, None]:
        """Every row once. Raises what asking for a page raises."""
        for turn in range(1, SWEEPS + 1):
            async with aclosing(self._turn(turn)) as rows:
                async for row in rows:
                    yield row
            if self._last.is_complete:
                return

    async def _turn(self, mark: int) -> AsyncGenerator[ZhipuDocument, None]:
        turn = _Turn(mark, size=_shifted(self._size, mark))
        while True:
            page = await self._ask(turn.number, turn.size)
            if turn.number == 1:
                self._is_vouched = page.total == 0 and not page.is_null
            for row in turn.take(page, self._seen):
                yield row
            self._size = min(self._size, turn.size) if mark == 1 else self._size
            if turn.is_over(page):
                break
            turn.number += 1
        self._last = turn


def _shifted(size: int, mark: int) -> int:
    """The size for one more way through the list: a row that slipped past the end of a page is now within."""
    return size - (mark - 1) * (size // 10)


@dataclass(slots=True)
class _Turn:
    """One way through the list. `gained`: rows of the last page that this turn had not shown."""

    mark: int
    number: int = 1
    size: int = SIZE
    distinct: int = 0
    gained: int = 0
    totals: set[int] = field(default_factory=set)

    def take(self, page: ZhipuPage, seen: dict[str, int]) -> list[ZhipuDocument]:
        """Count a page; the rows that no turn showed before."""
        if self.number == 1:
            self.size = real_size(page, self.size)
        if page.total is not None:
            self.totals.add(page.total)
        mine = {row.id: row for row in page.rows if seen.get(row.id) != self.mark}
        fresh = [row for remote_id, row in mine.items() if remote_id not in seen]
        seen.update(dict.fromkeys(mine, self.mark))
        self.gained = len(mine)
        self.distinct += len(mine)
        return fresh

    def is_over(self, page: ZhipuPage) -> bool:
        """The page was empty, brought nothing new, or is the last by its length and by the count.

        A count that is lower than what was seen is disproved, and says nothing of the end.
        """
        if not self.gained:
            return True
        return len(page.rows) < self.size and self.distinct == max(self.totals, default=0)

    @property
    def is_complete(self) -> bool:
        """As many documents as the count said, which stayed the same all the way."""
        return len(self.totals) < 2 and self.distinct >= max(self.totals, default=0)


@dataclass(slots=True)
class SeenOnPages:
    """What some pages of the list showed of the documents looked for. `requests`: pages asked for."""

    rows: dict[str, ZhipuDocument] = field(default_factory=dict)
    requests: int = 0


@dataclass(slots=True)
class _Course:
    """Where a look at the list goes: to the newest documents first, since those are waited for."""

    number: int = 1
    step: int = 1
    size: int = SIZE
    misses: int = 0
    shown: set[str] = field(default_factory=set)

    def next_after(self, page: ZhipuPage, missing: Collection[str]) -> bool:
        """Move on; False where no further page is worth a request."""
        order = order_of(page.rows)
        if self.number == 1 and self.step == 1:
            self.size = real_size(page, self.size)
            last = _last_page(page, self.size)
            if order is ListOrder.OLDEST_FIRST and last is not None and last > 1:
                self.number, self.step = last, -1
                return True
        if not self._is_worth_it(page, order, missing) or self._is_end(page):
            return False
        self.number += self.step
        return True

    def _is_worth_it(self, page: ZhipuPage, order: ListOrder, missing: Collection[str]) -> bool:
        expected = _older_than_all(page, missing) if order is not ListOrder.UNKNOWN else missing
        return len(expected) >= _WORTH_A_PAGE and self.misses * 10 <= len(expected)

    def _is_end(self, page: ZhipuPage) -> bool:
        ids = {row.id for row in page.rows}
        repeats = ids <= self.shown
        self.shown |= ids
        if self.step < 0:
            return repeats or self.number <= 2
        last = _last_page(page, self.size)
        return repeats or (last is not None and self.number >= last)


async def look_for(ask: AskPage, ids: Collection[str]) -> SeenOnPages:
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


def _last_page(page: ZhipuPage, size: int) -> int | None:
    """By `total`, where it is not disproved by the page itself."""
    if page.total is None or page.total < len(page.rows):
        return None
    return max(1, -(-page.total // size))


def _older_than_all(page: ZhipuPage, ids: Collection[str]) -> list[str]:
    """The ids that lie beyond this page: with the newest first, or walking back from the end."""
    oldest = min((created_of(row.id) or 0.0 for row in page.rows), default=0.0)
    return [one for one in ids if (created_of(one) or 0.0) <= oldest]
