"""A knowledge base at a service, from the few calls that a vendor gives.

What the contract promises of every service is decided here: what is not worth sending, what a refusal of one
document says of others, that a list counts only when it is whole, and that gone is gone only at a base that
is there.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Collection, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import ClassVar, Generic, TypeVar

from kbsync.contract.searching import Hit, Passage, Query
from kbsync.contract.target import Accepted, DeleteOutcome, DocState, DocStatus, Listed, Outgoing, PutOutcome
from kbsync.errors import Halted, NotOffered, Rejected, TargetError, Unavailable, untried
from kbsync.targets.http.reading import PAGE_SIZE, DocumentRow, ListPage, batches
from kbsync.targets.http.rules import GONE
from kbsync.targets.http.target import RemoteTarget, hits_for, refusal_of

MISSING, UNKNOWN = DocStatus(DocState.MISSING), DocStatus(DocState.UNKNOWN)


_STILL_THERE = "the service says that it is deleted, and still has it"

P = TypeVar("P")
Row = TypeVar("Row", bound=DocumentRow)


class ServiceTarget(RemoteTarget, Generic[Row]):
    """A vendor gives `base`, `takes` and the calls up to "what follows"; the rest is made of these.

    Its calls raise `TargetError`, with code `GONE` where there is no such document.
    """

    refuses_alike: ClassVar[bool] = False
    """A refusal of a document may be one of the base, which is looked at before a document is blamed."""

    most_ids: ClassVar[int] = 0
    """Documents that one request deletes; 0: each has a request of its own."""

    shortest_query: ClassVar[int] = 1
    """Characters of a search, those beyond ASCII counted twice."""

    # -- what a vendor gives

    async def upload(self, document: Outgoing) -> Accepted:
        """Send one document, once. Raises `Unsure` where the answer does not prove what became of it.

        Needed unless `put` is another.
        """
        raise NotImplementedError

    async def page(self, number: int, size: int) -> ListPage[Row]:
        """A page of the list, from 1; the newest first where `row` is given.

        Needed unless `rows` is another.
        """
        raise NotImplementedError

    async def row(self, remote_id: str) -> Row | None:
        """One document; None where the answer is of another shape. Needed unless `_states` is another."""
        raise NotImplementedError

    async def remove(self, remote_id: str) -> None:
        """Delete one document. Needed unless `delete` is another, or `most_ids` go at a time."""
        raise NotImplementedError

    async def remove_several(self, ids: Sequence[str]) -> bool:
        """Delete `most_ids` at most; True: the answer proves it of each. Needed where these go at a time."""
        raise NotImplementedError

    async def still_there(self, ids: Sequence[str]) -> Collection[str]:
        """Those of `ids` that the base, which is there, has. Needed with `remove_several`."""
        raise NotImplementedError

    @abstractmethod
    async def matches(self, query: Query) -> Iterable[tuple[str, Passage]]:
        """Passages that a search finds, each with the id of its document. The query has a text."""

    def uncalled(self, error: Rejected) -> TargetError:
        """The error of an upload for which the service, whose base is there, has no call."""
        return Unavailable(error.reason, code=error.code)

    # -- what follows

    async def put(self, documents: Sequence[Outgoing]) -> Sequence[PutOutcome]:
        """Send each in a request of its own, once; outcomes in the order given.

        After one that has to wait for the service or for a person, the others are not sent.
        """
        outcomes: list[PutOutcome] = []
        down: TargetError | None = None
        for document in documents:
            outcome = await self._put(document) if down is None else untried(down)
            down = outcome if isinstance(outcome, Unavailable | Halted) else None
            if isinstance(outcome, TargetError):  # which may be made of the service's words
                outcome.reason = self._client.redacted(outcome.reason)
            outcomes.append(outcome)
        return outcomes

    async def _put(self, document: Outgoing) -> PutOutcome:
        if refusal := refusal_of(document, self.limits, self._most_bytes):
            return refusal
        try:
            return await self.upload(document)
        except Rejected as error:
            if isinstance(error, NotOffered) or error.code == GONE:
                return await self._unless_missing(self.uncalled(error))
            return await self._unless_missing(error) if self.refuses_alike else error
        except TargetError as error:
            return error

    async def status(self, ids: Sequence[str]) -> Mapping[str, DocStatus]:
        """The state of each remote id."""
        return self._redacted(await self._states(tuple(dict.fromkeys(ids))))

    async def _states(self, ids: Sequence[str]) -> Mapping[str, DocStatus]:
        """Of what was sent last by the first pages of the list, of others one by one."""
        found: dict[str, DocStatus] = {}
        number, is_more = 1, True
        # A page is worth as many requests as it spares.
        while is_more and len(ids) - len(found) > number:
            page = await self._whole_page(number, PAGE_SIZE)
            found |= {row.id: row.status for row in page.rows if row.id in ids}
            number, is_more = number + 1, bool(page.rows)
        rest = [one for one in ids if one not in found]
        return found | dict(zip(rest, await asyncio.gather(*map(self._state, rest)), strict=True))

    async def _state(self, remote_id: str) -> DocStatus:
        try:
            row = await self.row(remote_id)
        except Rejected as error:  # of this one document, which keeps nobody from hearing of the others
            return MISSING if error.code == GONE else UNKNOWN
        return row.status if row is not None and row.id == remote_id else UNKNOWN

    async def delete(self, ids: Sequence[str]) -> Mapping[str, DeleteOutcome]:
        """Remove each remote id; what is not there counts as done. After a `Halted` no batch is sent."""
        ids = tuple(dict.fromkeys(ids))
        if not self.most_ids:
            return dict(zip(ids, await asyncio.gather(*map(self._remove, ids)), strict=True))
        outcomes: dict[str, DeleteOutcome] = {}
        halted: Halted | None = None
        for part in batches(ids, self.most_ids):
            try:
                outcomes |= dict.fromkeys(part, halted) if halted else await self._remove_batch(part)
            except TargetError as error:
                halted = error if isinstance(error, Halted) else None
                outcomes |= dict.fromkeys(part, error)
        return outcomes

    async def _remove_batch(self, ids: Sequence[str]) -> Mapping[str, DeleteOutcome]:
        """One id that is not there may have all of them refused, so what is left is looked for."""
        failure: TargetError = Unavailable(_STILL_THERE, code="still-there")
        is_refused = False
        try:
            if await self.remove_several(ids):
                return dict.fromkeys(ids)
        except Rejected as error:
            failure, is_refused = error, True
        there = await self.still_there(ids)
        left = [one for one in ids if one in there]
        outcomes: dict[str, DeleteOutcome] = dict.fromkeys(ids)
        if not is_refused or len(ids) == 1:
            return outcomes | dict.fromkeys(left, failure)
        for part in [left] if 0 < len(left) < len(ids) else [[one] for one in left]:
            outcomes |= await self._remove_batch(part)
        return outcomes

    async def _remove(self, remote_id: str) -> DeleteOutcome:
        try:
            await self.remove(remote_id)
        except TargetError as error:
            return None if isinstance(error, Rejected) and error.code == GONE else error
        return None

    async def list(self) -> AsyncIterator[Listed]:
        """Every document of the base once. Raises `Unavailable` at the end where many are not shown."""
        async with aclosing(self.rows()) as rows:
            async for row in rows:
                yield row.listed

    async def rows(self) -> AsyncGenerator[Row, None]:
        """The rows of the list, each once."""
        async with aclosing(self._swept(self._whole_page)) as rows:
            async for row in rows:
                yield row

    async def _whole_page(self, number: int, size: int) -> ListPage[Row]:
        return await self._unrefused(self.page(number, size))

    async def _unrefused(self, page: Awaitable[P]) -> P:
        """A page of the list. Raises `Unavailable` for every refusal while the base is there."""
        try:
            return await page
        except Rejected as error:
            later = Unavailable(f"the list cannot be had: {error.reason}", code=error.code)
            raise await self._unless_missing(later) from error

    async def search(self, query: Query) -> Sequence[Hit]:
        """Best first. Services know no paths, types and dates: with them, everything that was found."""
        width = sum(1 if character.isascii() else 2 for character in query.text.strip())
        return hits_for(await self.matches(query), query) if width >= self.shortest_query else ()
