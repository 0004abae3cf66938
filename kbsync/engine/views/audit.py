"""What a target holds against what the state knows of it, one listed document at a time."""

from __future__ import annotations

import enum
import math
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol, TypeVar

from kbsync.contract.mirroring import DocState, DocStatus, Listed, Reads, Target
from kbsync.core.lifecycle import RETIRE_TRIES
from kbsync.core.model import SERVING, TAG, Upload, UploadState
from kbsync.core.planner import tells
from kbsync.engine.terms import Terms
from kbsync.errors import TargetError
from kbsync.state.entries import Entry
from kbsync.state.store import Tx

T = TypeVar("T")

PAGE = 200
_UNSAID = DocStatus(DocState.UNKNOWN)
UNSETTLED = (UploadState.SENDING, UploadState.UNSURE, UploadState.PRESUMED_LOST)


class Reader(Protocol):
    """Runs work on one consistent state: a command's glance, or the store of a daemon."""

    async def __call__(self, work: Callable[[Tx], T], /) -> T:
        """What `work` returns."""


class Proof(enum.Enum):
    """Why a document is ours; without one it is left alone."""

    ROW = "row"  # an upload of this state made it
    MARK = "mark"  # it carries the mark of an upload of this state that never got an answer
    BASE = "base"  # the whole base is ours
    NONE = "none"  # its marker names one of our paths, as another kbsync's might


@dataclass(frozen=True, slots=True)
class Stray:
    """A document at the target that serves nothing, though it is ours or may be.

    `reason`: the target's own words, where it refuses to delete it. `recipe` and `is_ready`: as in the list.
    """

    remote_id: str
    path: str
    name: str
    digest: str
    size: int
    proof: Proof
    row: Upload | None = None
    reason: str = ""
    recipe: str | None = None
    is_ready: bool = False


@dataclass(slots=True)
class Audit:
    """What a complete list showed. `seen`: ids of documents that the state counts on.

    At most `most` strays are kept, `beyond` counts the others.
    """

    most: int | None = None
    seen: set[str] = field(default_factory=set)
    strays: list[Stray] = field(default_factory=list)
    foreign: set[str] = field(default_factory=set)
    beyond: int = 0

    def add(self, stray: Stray) -> None:
        """One more stray."""
        if self.most is not None and len(self.strays) >= self.most:
            self.beyond += 1
        else:
            self.strays.append(stray)


class Auditor:
    """Sorts the documents of one base for one mirror."""

    def __init__(self, terms: Terms, target: Target, read: Reader) -> None:
        self._terms = terms
        self._target = target
        self._read = read

    async def read_list(self, most: int | None = None) -> Audit:
        """Go through the whole list; `most`: see `Audit`. Raises `TargetError` where it is not complete."""
        audit = Audit(most)
        async for page in self._pages():
            await self._read(partial(self._sort_in, audit, page))
        return audit

    async def _pages(self) -> AsyncIterator[list[Listed]]:
        page: list[Listed] = []
        async for listed in self._target.list():
            page.append(self._terms.read(listed))
            if len(page) == PAGE:
                yield page
                page = []
        yield page

    def _sort_in(self, audit: Audit, page: Sequence[Listed], tx: Tx) -> None:
        for listed in page:
            rows = self.rows(tx, listed.remote_id)
            if not rows:
                self._sort_unknown(tx, audit, listed)
            elif any(_counts(row) for row in rows):
                audit.seen.add(listed.remote_id)
            elif stray := self._left(rows, listed):
                audit.add(stray)

    def rows(self, tx: Tx, remote_id: str) -> list[Upload]:
        """Every upload of this base that has the id, newest first."""
        bindings = tx.mirrors.sharing(self._terms.binding)  # under other prefixes are other mirrors of ours
        return [row for binding in bindings for row in tx.uploads.by_remote(binding, remote_id)]

    def _left(self, rows: Sequence[Upload], listed: Listed) -> Stray | None:
        """A document whose upload came to an end; None where another mirror has to do with it."""
        row = next((row for row in rows if self._is_mine(row)), None)
        if row is None:
            return None
        is_ours = row.state is not UploadState.ADOPTING
        proof = Proof.ROW if is_ours else self._proof_of_base()
        reason = row.reason if row.state is UploadState.RETIRING else ""
        digest, size = row.digest or listed.digest or "", row.size or listed.size or 0
        path = row.path or row.label
        return Stray(listed.remote_id, path, listed.name, digest, size, proof, row, reason)

    def _is_mine(self, row: Upload) -> bool:
        return (row.mirror, row.binding) == (self._terms.mirror, self._terms.binding)

    def _proof_of_base(self) -> Proof:
        return Proof.BASE if self._terms.limits.embedded else Proof.NONE

    def _sort_unknown(self, tx: Tx, audit: Audit, listed: Listed) -> None:
        marked = self._marked(tx, listed)
        if marked is not None and marked.state in UNSETTLED[:2]:
            return  # it is being sent, or looked for
        if marked is None and self._is_awaited(tx, listed):
            return
        proof = Proof.MARK if marked is not None else self._proof_of_base()
        path = listed.path if marked is None else marked.path or marked.label
        if path is None or (proof is Proof.NONE and not self._is_twin(tx, listed)):
            audit.foreign.add(listed.remote_id)
            return
        audit.add(
            Stray(
                listed.remote_id,
                path,
                listed.name,
                listed.digest or "",
                listed.size or 0,
                proof,
                marked,
                recipe=listed.recipe,
                is_ready=listed.state is DocState.READY,
            )
        )

    def _is_twin(self, tx: Tx, listed: Listed) -> bool:
        """Its name says that it is a file of ours as it is now, or may be: a second document for it."""
        terms = self._terms
        if terms.limits.marks or listed.path is None:
            return False
        entry = tx.entries.get(terms.mirror, listed.path)
        if entry is None:
            return False
        may_be = not listed.digest and terms.abilities.reads and listed.size in (None, entry.stamp.size)
        return may_be or holds(entry, listed.digest or "", listed.size)

    def _marked(self, tx: Tx, listed: Listed) -> Upload | None:
        """The upload of this state whose mark the document carries: same id, same bytes."""
        row = None if listed.upload_id is None else tx.uploads.get(listed.upload_id)
        is_it = row is not None and self._is_mine(row) and row.digest == listed.digest
        return row if is_it else None

    def _is_awaited(self, tx: Tx, listed: Listed) -> bool:
        """Its name and length are those of an upload whose outcome is open."""
        terms = self._terms
        if terms.limits.marks:
            return False
        rows = tx.uploads.in_states(terms.mirror, terms.binding, UNSETTLED)
        naming = terms.naming
        return any(
            listed.size in (None, row.size) and naming.recognises(row.name, listed.name) for row in rows
        )

    # -- second looks ----------------------------------------------------------------------------------

    async def lost(self, audit: Audit) -> list[Upload]:
        """Serving uploads whose documents are neither in the list nor known to the target."""
        return [row async for page in self.unseen(audit) for row in await self.confirmed(page)]

    async def unseen(self, audit: Audit, before: float = math.inf) -> AsyncIterator[list[Upload]]:
        """Serving uploads that the list did not show, by pages; none made after `before`."""
        after = 0
        while rows := await self._serving(after):
            after = rows[-1].id
            unseen = [row for row in rows if row.remote_id not in audit.seen and _born(row) <= before]
            if unseen:
                yield unseen

    async def confirmed(self, rows: Sequence[Upload]) -> list[Upload]:
        """Those that the target says are missing and that still serve."""
        there = await self._there([row.remote_id or "" for row in rows])
        return [row for row in rows if row.remote_id not in there and await self._still_serves(row)]

    async def _serving(self, after: int) -> list[Upload]:
        terms = self._terms
        return await self._read(
            lambda tx: tx.uploads.in_states(terms.mirror, terms.binding, SERVING, after, PAGE)
        )

    async def _there(self, ids: Sequence[str]) -> set[str]:
        """Those that the target does not say are missing."""
        if not ids:
            return set()
        known = dict(await self._target.status(ids))
        unsaid = [one for one in ids if known.get(one, _UNSAID).state is DocState.UNKNOWN]
        if unsaid and len(unsaid) < len(ids):  # a target may leave a few for another request
            known |= await self._target.status(unsaid)
        return {one for one in ids if known.get(one, _UNSAID).state is not DocState.MISSING}

    async def _still_serves(self, row: Upload) -> bool:
        now = await self._read(lambda tx: tx.uploads.get(row.id))
        return now is not None and now.state.serves and now.remote_id == row.remote_id

    async def read_into(self, audit: Audit, strays: Sequence[Stray]) -> list[Stray]:
        """The strays with the digests of their bytes, where these can be had and no row of ours proves them.

        A name says what its giver wants: what no row knows and has other bytes after all is foreign.
        """
        read = [await self._read_into(stray) for stray in strays]
        other = {stray.remote_id for stray in read if await self._is_other(stray)}
        audit.foreign |= other
        return [stray for stray in read if stray.remote_id not in other]

    async def _is_other(self, stray: Stray) -> bool:
        if stray.row is not None or stray.proof is not Proof.NONE:
            return False
        entry = await self._read(lambda tx: tx.entries.get(self._terms.mirror, stray.path))
        return entry is None or not holds(entry, stray.digest, stray.size)

    async def _read_into(self, stray: Stray) -> Stray:
        is_known = stray.digest and not stray.digest.startswith(TAG)
        if is_known or stray.proof is not Proof.NONE or not isinstance(self._target, Reads):
            return stray
        try:
            return replace(stray, digest=await self._target.digest(stray.remote_id) or stray.digest)
        except TargetError:
            return stray

    async def still_stray(self, strays: Sequence[Stray]) -> list[Stray]:
        """Those that are there at a second look and that the state still does not count on."""
        left: list[Stray] = []
        for start in range(0, len(strays), PAGE):
            page = strays[start : start + PAGE]
            there = await self._there(list({stray.remote_id for stray in page}))
            left += [s for s in page if s.remote_id in there and not await self._is_counted_on(s)]
        return left

    async def _is_counted_on(self, stray: Stray) -> bool:
        rows = await self._read(lambda tx: self.rows(tx, stray.remote_id))
        return any(_counts(row) for row in rows)

    async def count_foreign(self, audit: Audit) -> int:
        """Listed documents that are still none of ours."""
        ids = list(audit.foreign)
        pages = [ids[start : start + PAGE] for start in range(0, len(ids), PAGE)]
        return sum([await self._read(partial(self._count_foreign, page)) for page in pages])

    def _count_foreign(self, ids: Sequence[str], tx: Tx) -> int:
        return sum(not self.rows(tx, one) for one in ids)


def holds(entry: Entry, digest: str, size: int | None) -> bool:
    """The file's bytes are, as far as is known, those of the document."""
    return entry.digest is not None and tells(digest, size, entry.digest, entry.stamp.size)


def _born(row: Upload) -> float:
    """When the target had it, as far as is known."""
    return max(row.created_at, row.accepted_at or 0.0)


def _counts(row: Upload) -> bool:
    """The row needs its document, or is about to be done with it."""
    match row.state:
        case UploadState.RETIRING:
            return row.attempts < RETIRE_TRIES
        case UploadState.ADOPTING | UploadState.TOMBSTONE | UploadState.PRESUMED_LOST:
            return False
        case _:
            return not row.state.is_final
