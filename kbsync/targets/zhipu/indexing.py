"""Whether documents became searchable, and the calls that make the vendor index one again.

Many are found on few pages of the list, the newest first, since those are waited for. The list has no order
that is documented; as far as its ids show one, that tells which page is next.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from kbsync.contract.target import DocState, DocStatus
from kbsync.errors import NotOffered, Rejected, Unavailable
from kbsync.targets.http.reading import PAGE_SIZE, real_size
from kbsync.targets.zhipu import errors
from kbsync.targets.zhipu.api import ZhipuApi
from kbsync.targets.zhipu.config import Slicing
from kbsync.targets.zhipu.errors import SPACE_ADVICE, NoRoom, NotFound, ZhipuCall, is_gone
from kbsync.targets.zhipu.shapes import FailInfo, ZhipuDocument, ZhipuPage, created_of
from kbsync.targets.zhipu.upload import AccountSpace

FEW = 2
"""So many are asked for one by one from the start."""

_FULL = "the account has no room left to make documents searchable"
_STATES = {0: DocState.INDEXING, 1: DocState.READY, 2: DocState.FAILED}
_MEANINGS = {
    "10001": "the knowledge base is full, or the document is damaged",
    "10002": "the knowledge base is full",
}
"""As the manual has them; said only where the vendor adds no words."""


def status_of(document: ZhipuDocument, *, has_room: bool = False) -> DocStatus:
    """`embedding_stat` as an integer 0, 1 or 2 counts; all else (text, fraction, null, 3) is UNKNOWN.

    `failInfo` counts only with 2: it stays from before after a new start. `has_room`: the account has room
    left, so that words about space and length are about the document alone.
    """
    # Read strictly: a text "1" or an unknown number is never taken for ready (promise 10).
    stat = document.stat
    state = _STATES.get(stat, DocState.UNKNOWN) if type(stat) is int else DocState.UNKNOWN
    if state is not DocState.FAILED:
        return DocStatus(state)
    failure = document.failure or FailInfo("")
    reason = errors.quoted(failure.text) or _MEANINGS.get(failure.code, "the vendor gives no reason")
    text = errors.without_names(failure.text, document.name)
    # 10001 was seen with "document damaged": where there are words, they decide
    is_full = errors.says_full(text) if failure.text.strip() else failure.code == "10002"
    if is_full and (errors.says_money(text) or not has_room):
        return DocStatus(DocState.FAILED, f"{_FULL} ({reason}); {SPACE_ADVICE}", failure.code, "quota")
    return DocStatus(DocState.FAILED, reason, failure.code)


class Indexing:
    """Looks at documents that are being indexed, and starts it again. Nothing is remembered between looks."""

    def __init__(self, api: ZhipuApi, space: AccountSpace) -> None:
        self._api, self._space = api, space

    async def states(self, ids: Sequence[str]) -> Mapping[str, DocStatus]:
        """The state of each of `ids` (no id twice); UNKNOWN where it could not be had.

        By pages of the list, else one by one, in no more looks than there are ids. Absence from the list
        proves nothing; MISSING is what a detail says while the base answers. Raises `Halted`, and
        `Unavailable` where nothing could be seen at all.
        """
        lookup = SeenOnPages()
        if len(ids) > FEW:
            try:
                lookup = await look_for(self._api.page, ids)
            except Rejected:  # the base is there, and the list is not to be had
                lookup.requests = 1
        seen = dict(lookup.rows)
        # Many by pages, few by themselves (ADR 15). The oldest first: the newest can wait for the next look.
        rest = sorted((one for one in ids if one not in seen), key=lambda one: created_of(one) or 0.0)
        answers = await self._api.documents(rest[: len(ids) - lookup.requests])
        if answers.halted is not None:
            raise answers.halted
        away = [error for error in answers.refused.values() if isinstance(error, Unavailable)]
        if away and len(away) == len(answers.refused) and not seen and not answers.given:
            raise away[0]  # nobody answered at all: the target's trouble and not the documents'
        states = dict.fromkeys(ids, DocStatus(DocState.UNKNOWN))
        for one, error in answers.refused.items():
            states[one] = DocStatus(DocState.UNKNOWN, error.reason, error.code)
        for one, document in answers.given.items():
            if document is None:
                states[one] = DocStatus(DocState.MISSING)
            else:
                seen[one] = document
        states |= {one: status_of(document) for one, document in seen.items()}
        full = [one for one, state in states.items() if state.halt]
        if full and await self._space.has_room():  # then the documents are to blame, which halts nobody
            states |= {one: status_of(seen[one], has_room=True) for one in full}
        return states

    async def reembed(self, remote_id: str) -> None:
        """Accepted is not done. Raises `NotOffered`, `NotFound` for a document that is gone, and the like."""
        self._api.missing.check(ZhipuCall.REEMBED)
        try:
            await self._api.reembed(remote_id)
        except (NotFound, NotOffered) as error:
            raise await self._blamed(ZhipuCall.REEMBED, remote_id, error) from error
        except NoRoom as error:
            raise await self._space.blamed(error) from error

    async def reslice(self, remote_id: str, slicing: Slicing) -> None:
        """Cut a document that failed again. It cannot change whether images are read; errors as above."""
        self._api.missing.check(ZhipuCall.RESLICE)
        document = await self._document(remote_id)
        if document is None:
            raise _gone()
        if (document.parse_image or False) != slicing.parse_image:
            raise NotOffered("whether images are read cannot be changed by slicing again")
        try:
            await self._api.reslice(remote_id, slicing)
        except (NotFound, NotOffered) as error:
            raise await self._blamed(ZhipuCall.RESLICE, remote_id, error) from error
        except NoRoom as error:
            raise await self._space.blamed(error) from error

    async def _blamed(self, op: ZhipuCall, remote_id: str, error: Rejected) -> Rejected:
        """A 404 is either the call's or the document's: the document's own page tells. The base is there."""
        if is_gone(error) and (error.code != "404" or await self._document(remote_id) is None):
            return _gone()
        reason = f"{op}: the vendor has no such call here: {error.reason}"
        return self._api.missing.note(op, NotOffered(reason, code=error.code))

    async def _document(self, remote_id: str) -> ZhipuDocument | None:
        """None for one that is gone, the base still being there."""
        answers = await self._api.documents([remote_id])
        for error in answers.refused.values():
            raise error
        return answers.given[remote_id]


def _gone() -> NotFound:
    return NotFound("the document is no longer in the knowledge base")


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
        if len(expected) < _WORTH_A_PAGE or self.misses * 10 > len(expected):
            return False
        ids, last = {row.id for row in page.rows}, self._last_page(page)
        is_end = self.number <= 2 if self.step < 0 else last is not None and self.number >= last
        if ids <= self.shown or is_end:
            return False
        self.shown |= ids
        self.number += self.step
        return True

    def _last_page(self, page: ZhipuPage) -> int | None:
        """By `total`, where it is not disproved by the page itself."""
        if page.total is None or page.total < len(page.rows):
            return None
        return max(1, -(-page.total // self.size))
