"""Space for a document in the account, and the response to its upload.

The states of many documents are read at a time from pages of the list (ADR 15).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import field
from typing import Any

from kbsync.contract.target import Accepted, Capacity
from kbsync.core.text import sized
from kbsync.dataclass import dataclass
from kbsync.errors import Halted, Rejected, TargetError, Unavailable, Unsure
from kbsync.targets.http.reading import PAGE_SIZE, id_of, object_of, objects_in, real_size, text_of
from kbsync.targets.http.rules import ErrorCase
from kbsync.targets.zhipu import errors
from kbsync.targets.zhipu.errors import SPACE_ADVICE, NoRoom
from kbsync.targets.zhipu.shapes import FailInfo, ZhipuDocument, ZhipuPage, created_of, data_of

INTERVAL = 180.0
"""Minimum number of seconds between two requests for the account's capacity."""

FAILED_INFOS = "failedInfos"

_MOMENT = 5.0  # seconds until uploads under way may have ended
_SMALL = 0.05  # of the account's space: less than this is asked again, since others use it too


class AccountSpace:
    """The account's remaining space in bytes, as far as known, and whether any words are left.

    Only the vendor knows how many words a document has, so kbsync only checks that some are left. If `ask`
    raises `TargetError`, nothing is known and nothing is checked, unless the key was refused. `steady`: a
    monotonic clock in seconds.
    """

    def __init__(self, ask: Callable[[], Awaitable[Capacity | None]], steady: Callable[[], float]) -> None:
        self._ask, self._steady = ask, steady
        self._turn = asyncio.Lock()
        self._asked_at: float | None = None
        self._known: Capacity | None = None
        self._left = self._in_flight = 0

    @property
    def left(self) -> int | None:
        """Bytes; None if unknown."""
        return None if self._known is None else max(0, self._left)

    async def take(self, name: str, size: int) -> None:
        """Count `size` bytes as used before they are sent; call `ended` with the outcome.

        Raises `Halted("quota")` for too many, `Unavailable` if uploads in progress may leave enough.
        """
        async with self._turn:
            is_too_much = self._known is not None and size > self._left + self._in_flight
            if self._is_due(size) or is_too_much:
                await self._refresh()
            if _lacks_words(self._known):
                await self._refresh()  # before a person is called: others may have made room
            if self._known is not None and _lacks_words(self._known):
                reason = f"the account has none left of {self._known.total_words:,} words; {name} needs some"
                raise Halted("quota", f"{reason}; {SPACE_ADVICE}")
            if self._known is not None and size > self._left:
                left, total = sized(max(0, self._left)), sized(self._known.total)
                reason = f"the account has {left} left of {total}; {name} needs {sized(size)}"
                if size <= self._left + self._in_flight:
                    reason += "; it waits for the uploads under way"
                    raise Unavailable(reason, retry_after=_MOMENT, untried=True)
                self._asked_at = None  # before the next try somebody may have made room
                raise Halted("quota", f"{reason}; {SPACE_ADVICE}")
            self._left -= size
            self._in_flight += size

    def ended(self, size: int, *, stored: bool) -> None:
        """Record the end of an upload; `stored`: its bytes are, or may be, at the vendor."""
        self._in_flight -= size
        if not stored:
            self._left += size

    def record_deletion(self) -> None:
        """Record deletions: request the capacity before refusing the next upload for lack of space."""
        if self._known is not None and self._left < _SMALL * self._known.total:
            self._asked_at = None

    async def has_room(self, size: int = 1) -> bool:
        """Return whether `size` bytes, and any words, are left according to the vendor right now.

        An accepted document is already included in the used space, so for it any space is enough.
        """
        async with self._turn:
            await self._refresh()
        if self._known is None or _lacks_words(self._known):
            return False
        return self._left >= max(1, size)

    async def blame(self, error: NoRoom, size: int = 1) -> TargetError:
        """Return the meaning of a lack of space: if there is space (see `has_room`), the document is to
        blame.
        """
        if await self.has_room(size):
            return Rejected(error.reason_alone, code=error.code)
        return Halted(error.halt, error.reason, code=error.code)

    def _is_due(self, size: int) -> bool:
        if self._asked_at is None:
            return True
        if self._steady() - self._asked_at < INTERVAL:
            return False
        return self._known is None or self._left - size < _SMALL * self._known.total

    async def _refresh(self) -> None:
        self._known = self._asked_at = None
        try:
            self._known = await self._ask()
        except TargetError as error:
            if isinstance(error, Halted) and error.halt == "credentials":
                raise
        self._asked_at = self._steady()
        if self._known is not None:
            # what is under way may not be counted there yet
            self._left = max(0, self._known.total - self._known.used - self._in_flight)


def _lacks_words(room: Capacity | None) -> bool:
    """There may be bytes left, but no words."""
    return room is not None and room.used_words is not None and room.used_words >= (room.total_words or 0)


def read_receipt(body: Any, name: str, key: str = "fileName") -> Accepted:
    """Return what an upload's response says about its one document: code 200 alone isn't success (promise
    10).

    `name`: the value sent under `key`, the name of a file or the `url` of a page. Exactly one success counts,
    under whatever name. In both lists or in neither it is `Unsure`.
    """
    content = object_of(data_of(body))
    stored = {
        remote_id: text_of(one.get(key))
        for one in objects_in(content.get("successInfos"))
        if (remote_id := id_of(one.get("documentId"))) is not None
    }
    failed = [
        FailInfo(text_of(one.get("failReason")), name=text_of(one.get(key)))
        for one in objects_in(content.get(FAILED_INFOS))
    ]
    candidates = list(stored) if len(stored) == 1 else [one for one in stored if stored[one] == name]
    if len(candidates) == 1:
        told = stored[candidates[0]]
        is_of_others = told == name and all(one.name not in ("", name) for one in failed)
        if not failed or is_of_others:
            return Accepted(candidates[0], name="" if told in ("", name) else told)
    if stored:
        raise Unsure(f"the vendor's answer contradicts itself about {name}", code="contradiction")
    if failed:
        own = next((one for one in failed if one.name == name), failed[0])
        raise receipt_error(own, name)
    raise Unsure(f"the vendor's answer names {name} neither as stored nor as failed", code="no-receipt")


def receipt_error(failure: FailInfo, name: str) -> TargetError:
    """`failReason` is free text: its words, not those of the name, decide whether account or document is to
    blame."""
    message = errors.quote_message(failure.text)
    rule = errors.refusal(errors.RECEIPT, message, errors.without_names(failure.text, name, failure.name))
    sentence = rule.says or "the vendor refused the document"
    reason = f"{sentence} ({message or 'no reason is given'})"
    case = ErrorCase(errors.RECEIPT, code=FAILED_INFOS, message=message)
    return rule.error(case, reason) or Rejected(reason, code=FAILED_INFOS)


_WORTH_A_PAGE = 3  # fewer ids are asked for one by one


@dataclass(slots=True)
class SeenOnPages:
    """The documents seen on some pages of the list. `requests`: pages requested."""

    rows: dict[str, ZhipuDocument] = field(default_factory=dict)
    requests: int = 0


async def find_on_pages(ask: Callable[[int, int], Awaitable[ZhipuPage]], ids: Collection[str]) -> SeenOnPages:
    """Find `ids` on as few pages as possible; the caller handles those that don't appear soon.

    It continues from the newest, or backwards from the last page: the awaited documents are new ones. The
    list has no documented order, so the times in the ids of the pages read decide. Never requests more pages
    than ids. Nothing is remembered between calls.
    """
    seen, missing, shown = SeenOnPages(), set(ids), set[str]()
    number, step, size, misses = 1, 1, PAGE_SIZE, 0
    while seen.requests < len(ids):
        page = await ask(number, size)
        seen.requests += 1
        found = {row.id: row for row in page.rows if row.id in missing}
        seen.rows |= found
        missing -= found.keys()
        misses += not found
        times = [made for row in page.rows if (made := created_of(row.id)) is not None]
        is_timed = len(times) >= max(2, len(page.rows))
        is_oldest_first = is_timed and times == sorted(times) and times[0] < times[-1]
        is_newest_first = is_timed and times == sorted(times, reverse=True)
        if seen.requests == 1:
            size = real_size(page, size)
        # a total below what the page itself shows is disproved
        has_total = page.total is not None and page.total >= len(page.rows)
        last = max(1, -(-(page.total or 0) // size)) if has_total else None
        if missing and seen.requests == 1 and is_oldest_first and last is not None and last > 1:
            number, step = last, -1
            continue
        expected: Collection[str] = missing
        if is_oldest_first or is_newest_first:
            # further pages hold older documents, whichever way they are read
            expected = [one for one in missing if (created_of(one) or 0.0) <= min(times)]
        here = {row.id for row in page.rows}
        is_end = number <= 2 if step < 0 else last is not None and number >= last
        if len(expected) < _WORTH_A_PAGE or misses * 10 > len(expected) or here <= shown or is_end:
            break
        shown |= here
        number += step
    return seen
