"""What a target holds against what the state knows of it, one listed document at a time.

Mends what an audit found, within one transaction, and only what is proven ours.

What is wrong, and what a document that serves nothing is beside the file it belongs to.

The audit that a daemon makes by itself, about once in every `deep_rescan`, slowly.

It goes through four states, none of which is on disk: only the end of an audit is (`engine.findings`).

- *resting* until `deep_rescan` after the last audit ended, or until a person asks for one. A restart changes
  nothing about the first and forgets the second.
- *reading* the whole list, each request after a rest (`Limits.unhurried`) and behind fresh work.
- *asking* about what looked wrong, once more and a horizon later: documents that the list lacks, and those
  that it shows and nothing needs.
- *mending*, a transaction for each page or document: documents the target says are missing are sent again,
  deleted ones that are back and twins of which this state made both are retired. Anything else is told.

Cut anywhere (kill -9, a halt, a target that does not answer) it is as if it had not begun, but for what it
mended; the next one begins anew. What it mends are rows, each true by itself: the worker does the rest.
Many documents missing at once are a person's business: the mirror halts and nothing is sent.

Memory: the ids of the listed documents, and `MOST_STRAYS` strays. Each read of the state is of one page.
"""

from __future__ import annotations

import asyncio
import enum
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol, TypeVar

import structlog

from kbsync.contract.target import DocState, DocStatus, Listed, Reads, Target
from kbsync.core import lifecycle
from kbsync.core.lifecycle import RETIRE_TRIES
from kbsync.core.model import SERVING, TAG, UNREADABLE, Choice, Presence, Purpose, Status, Upload, UploadState
from kbsync.core.planner import tells
from kbsync.engine import status
from kbsync.engine.attach import adopting, is_emptied
from kbsync.engine.clock import Clock, rest
from kbsync.engine.journal import Journal
from kbsync.engine.terms import Terms
from kbsync.errors import Halted, StateError, TargetError
from kbsync.source.look import look
from kbsync.state.files import Entry
from kbsync.state.glance import Tx
from kbsync.state.store import Store

T = TypeVar("T")

PAGE = 200
_UNSAID = DocStatus(DocState.UNKNOWN)
UNSETTLED = (UploadState.SENDING, UploadState.UNSURE, UploadState.PRESUMED_LOST)


class ReadsState(Protocol):
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
class Inventory:
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

    def __init__(self, terms: Terms, target: Target, read: ReadsState) -> None:
        self._terms = terms
        self._target = target
        self._read = read

    async def read_list(self, most: int | None = None) -> Inventory:
        """Go through the whole list; `most`: see `Audit`. Raises `TargetError` where it is not complete."""
        audit = Inventory(most)
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

    def _sort_in(self, audit: Inventory, page: Sequence[Listed], tx: Tx) -> None:
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

    def _sort_unknown(self, tx: Tx, audit: Inventory, listed: Listed) -> None:
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

    async def lost(self, audit: Inventory) -> list[Upload]:
        """Serving uploads whose documents are neither in the list nor known to the target."""
        return [row async for page in self.unseen(audit) for row in await self.confirmed(page)]

    async def unseen(self, audit: Inventory, before: float = math.inf) -> AsyncIterator[list[Upload]]:
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

    async def read_into(self, audit: Inventory, strays: Sequence[Stray]) -> list[Stray]:
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

    async def count_foreign(self, audit: Inventory) -> int:
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


class Repairs:
    """Of the documents of one mirror."""

    def __init__(self, ledger: Journal) -> None:
        self._ledger = ledger

    def send_again(self, tx: Tx, remote_id: str) -> bool:
        """The document is no longer at the target: its file wants another. False where none served."""
        rows = tx.uploads.by_remote(self._ledger.terms.binding, remote_id)
        serving = [row for row in rows if row.state.serves]
        for row in serving:
            tx.uploads.save(lifecycle.gone(row))
            tx.holds.release(row.id)
            tx.renewals.drop(row.id)
            self._ledger.settle(tx, row.path or "", fresh=True)
        tx.holds.end_empty(self._ledger.terms.mirror, self._ledger.rhythm.now)
        return bool(serving)

    def adopt(self, tx: Tx, stray: Mapping[str, Any], missing: Collection[str]) -> bool:
        """A twin of a document that is `missing` (remote ids) takes its place, rather than a new one.

        To be told before `send_again`: the planner takes a document that is proven by its bytes.
        """
        terms, path = self._ledger.terms, str(stray["path"])
        server = next((row for row in self._ledger.uploads(tx, path) if row.state.serves), None)
        if server is None or server.remote_id not in missing or not self._is_twin(tx, stray):
            return False
        if tx.uploads.by_remote(terms.binding, str(stray["remote_id"])):
            return False
        listed = Listed(
            str(stray["remote_id"]),
            str(stray["name"]),
            size=stray["size"],
            state=DocState.READY if stray.get("is_ready") else DocState.UNKNOWN,
            digest=str(stray["digest"]),
            recipe=stray.get("recipe"),
        )
        tx.uploads.add(adopting(terms, listed, path, self._ledger.rhythm.now))
        return True

    def retire_surplus(self, tx: Tx, remote_id: str) -> bool:
        """A document proven ours that nothing needs: it never serves, so no path loses anything."""
        rows = tx.uploads.by_remote(self._ledger.terms.binding, remote_id)
        if any(row.state.serves or row.state.in_flight for row in rows) or not rows:
            return False
        if rows[0].state is not UploadState.RETIRING:
            tx.uploads.save(lifecycle.retire(rows[0], self._ledger.rhythm))
        return True

    def retire_stray(self, tx: Tx, stray: Mapping[str, Any]) -> bool:
        """A document no row holds: its row gets the id back; where it is proven ours it gets a row."""
        remote_id = str(stray["remote_id"])
        if tx.uploads.by_remote(self._ledger.terms.binding, remote_id):
            return self.retire_surplus(tx, remote_id)
        row = tx.uploads.get(int(stray["upload"])) if stray.get("upload") is not None else None
        if row is not None and row.remote_id is None and row.digest == stray["digest"]:
            found = replace(row, remote_id=remote_id)
            tx.uploads.save(lifecycle.retire(found, self._ledger.rhythm))
            return True
        if self._ledger.terms.limits.embedded or self._is_twin(tx, stray):
            tx.uploads.add(self._stray_row(remote_id, stray))
            return True
        return False

    def _is_twin(self, tx: Tx, stray: Mapping[str, Any]) -> bool:
        """Another document serves the file at this path, and this one has the file's own bytes."""
        terms, path = self._ledger.terms, str(stray["path"])
        entry = tx.entries.get(terms.mirror, path)
        is_served = any(row.state.serves for row in self._ledger.uploads(tx, path))
        if entry is None or entry.digest is None or not is_served:
            return False
        return tells(str(stray["digest"]), stray["size"], entry.digest, entry.stamp.size)

    def _stray_row(self, remote_id: str, stray: Mapping[str, Any]) -> Upload:
        terms, now = self._ledger.terms, self._ledger.rhythm.now
        path = str(stray["path"] or stray["name"])
        return Upload(
            id=0,
            mirror=terms.mirror,
            binding=terms.binding,
            path=path,
            label=path,
            name=str(stray["name"]),
            digest=str(stray["digest"] or ""),
            size=int(stray["size"] or 0),
            recipe="",
            state=UploadState.RETIRING,
            purpose=Purpose.RETIRE,
            remote_id=remote_id,
            created_at=now,
            next_look_at=now,
        )


def stray_json(stray: Stray) -> dict[str, Any]:
    """As `Repairs` takes it."""
    return {
        "remote_id": stray.remote_id,
        "path": stray.path,
        "name": stray.name,
        "digest": stray.digest,
        "size": stray.size,
        "upload": None if stray.row is None else stray.row.id,
        "recipe": stray.recipe,
        "is_ready": stray.is_ready,
    }


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """One thing that is wrong. `remote_id` is None where there is no document. `why` is a sentence.

    `proof` matters for what a repair would delete: without one it is left alone.
    """

    path: str
    remote_id: str | None
    why: str
    proof: Proof = Proof.ROW
    stray: Stray | None = None


@dataclass(frozen=True, slots=True)
class Placed:
    """Strays by what is wrong with them."""

    orphaned: list[Discrepancy]
    duplicate: list[Discrepancy]


class Placing:
    """Says what each stray document is beside the file it belongs to."""

    def __init__(self, tx: Tx, terms: Terms, is_compared: bool) -> None:
        self._tx = tx
        self._terms = terms
        self._is_compared = is_compared

    def sorted(self, strays: Sequence[Stray]) -> Placed:
        """Orphaned ones and duplicates; what may yet be adopted is neither."""
        placed = Placed([], [])
        for stray in strays:
            entry = self._tx.entries.get(self._terms.mirror, stray.path)
            rows = self._tx.uploads.at(self._terms.mirror, self._terms.binding, stray.path)
            server = next((row for row in rows if row.state.serves), None)
            if server is not None:
                placed.duplicate.append(self._finding(stray, entry, self._twin(stray, server)))
            elif self._has_no_file(stray, entry):
                placed.orphaned.append(self._finding(stray, entry, _no_file(stray, entry)))
            elif self._will_have_another(stray, entry):
                why = f"document {stray.remote_id} is not the one that will serve the file"
                placed.duplicate.append(self._finding(stray, entry, why))
        return placed

    def _has_no_file(self, stray: Stray, entry: Entry | None) -> bool:
        if entry is not None and entry.presence is not Presence.GONE:
            return entry.verdict.choice is Choice.EXCLUDED
        found = look(self._terms.plan.root, stray.path)
        return self._is_compared and found.lacks_file

    def _will_have_another(self, stray: Stray, entry: Entry | None) -> bool:
        """The state has settled on the file and did not take this document for it."""
        return (
            entry is not None
            and entry.status in (Status.PENDING, Status.INDEXING, Status.FAILED)
            and (stray.row is None or not holds(entry, stray.digest, stray.size))
        )

    def _twin(self, stray: Stray, server: Upload) -> str:
        if stray.digest in ("", UNREADABLE):
            return (
                f"document {stray.remote_id} has the name of this file and its bytes could not be read; "
                f"{server.remote_id} serves the file"
            )
        is_same = tells(stray.digest, stray.size, server.digest, server.size)
        same = "the same bytes" if is_same else "other bytes"
        return (
            f"document {stray.remote_id} has {same} under this path, and {server.remote_id} serves the file"
        )

    def _finding(self, stray: Stray, entry: Entry | None, why: str) -> Discrepancy:
        proof = self._proof(stray, entry)
        if stray.reason:
            why += f"; the target refused to delete it: {stray.reason}"
        if proof is Proof.NONE:
            why += "; nothing proves that it is ours, so it is left alone"
        return Discrepancy(stray.path, stray.remote_id, why, proof, stray)

    def _proof(self, stray: Stray, entry: Entry | None) -> Proof:
        """Equal bytes under a path of ours prove a document ours, as does its name where that is enough."""
        if stray.proof is not Proof.NONE:
            return stray.proof
        by_name = self._terms.abilities.adopt == "name"
        by_content = entry is not None and holds(entry, stray.digest, stray.size)
        return Proof.ROW if by_name or by_content else Proof.NONE


def _no_file(stray: Stray, entry: Entry | None) -> str:
    gone = entry is None or entry.presence is Presence.GONE
    return f"{'the file is gone' if gone else 'the file is not selected'}, document {stray.remote_id} is left"


log = structlog.get_logger("kbsync")

LONGEST_REST = 3600.0
PUT_OFF = 1800.0
"""Seconds until an audit that was cut short begins anew."""

PATIENCE, LOOK_EVERY = 60.0, 1.0
"""Seconds that a request waits for fresh work to end at most, and between two looks whether it did."""

MOST_STRAYS, MOST_TOLD = 200, 20
SAMPLE = 20
"""So many of very many missing documents are asked for before the mirror halts."""


class PutOffError(Exception):
    """The audit cannot go on now."""


@dataclass(slots=True)
class AuditResult:
    """What one audit came to: documents by what is wrong; `mended` counts those among them it saw to.

    `beyond`: documents that serve nothing and were too many to look at; the next audit sees to them.
    """

    missing: int = 0
    duplicate: int = 0
    orphaned: int = 0
    foreign: int = 0
    beyond: int = 0
    mended: int = 0
    left: dict[str, int] = field(default_factory=lambda: {"duplicate": 0, "orphaned": 0})
    told: int = 0


@dataclass(slots=True)
class BackgroundAudit:
    """The audits of one mirror.

    `may_work`: the mirror is not halted and the folder was compared once. `is_idle`: no fresh work is due.
    `on_halt` is told when the base lost many documents, `on_work` that there is something to do.
    """

    store: Store
    ledger: Journal
    target: Target
    clock: Clock
    may_work: Callable[[], bool]
    is_idle: Callable[[], Awaitable[bool]]
    on_halt: Callable[[Halted], Awaitable[None]]
    on_work: Callable[[], None]
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def keep(self) -> None:
        """Audit whenever it is time, until cancelled."""
        while True:
            await rest(self.clock, await self._step(), self._asked)
            if self._asked.is_set():
                await self._answer()

    def ask(self) -> None:
        """A person wants one now."""
        self._asked.set()

    async def _answer(self) -> None:
        """Audit now; a mirror that cannot be audited now is audited when it is time."""
        self._asked.clear()
        if self.may_work():
            await self._try()

    async def _step(self) -> float:
        """Audit if it is time; seconds until the next step."""
        try:
            left = await self._until_due()
        except StateError:  # whoever works on the state says so
            return LONGEST_REST
        if left > 0:
            return min(LONGEST_REST, left)
        if not self.may_work():
            return PATIENCE
        return 0.0 if await self._try() else PUT_OFF

    async def _until_due(self) -> float:
        """Seconds. After a clock was set back it is counted from now: one period late, and no more."""
        terms = self.ledger.terms
        period, now = terms.plan.deep_rescan, self.clock.wall()
        known = await self.store.read(lambda tx: status.last_audit(tx, terms.mirror))
        if known is None or known.binding != terms.binding:
            known = status.LastAudit(terms.binding, now)  # as good as audited: it is well known
            await self.store.write(partial(_kept, terms.mirror, known))
        elif known.ended > now:
            known = replace(known, ended=now)
            await self.store.write(partial(_kept, terms.mirror, known))
        return known.ended + period - now

    async def _try(self) -> bool:
        """One audit; False where it was cut short."""
        try:
            await self.audit()
        except (PutOffError, TargetError, StateError) as error:
            self._put_off(str(error))
        except Exception as error:
            log.exception("audit.failed", mirror=self.ledger.terms.plan.name)
            self._put_off(type(error).__name__)
        else:
            return True
        return False

    def _put_off(self, reason: str) -> None:
        log.info("audit.put_off", mirror=self.ledger.terms.plan.name, reason=reason)

    # -- one audit -------------------------------------------------------------------------------------

    async def audit(self) -> AuditResult:
        """Go through all of it. Raises `TargetError`, `StateError` or `PutOffError`: nothing is recorded."""
        began, outcome = self.clock.wall(), AuditResult()
        auditor = Auditor(self.ledger.terms, self._slow(), self.store.read)
        audit = await auditor.read_list(MOST_STRAYS)
        await self._rest_for_horizon()
        await self._weigh(auditor, audit, began)
        async for page in auditor.unseen(audit, began):
            lost = await auditor.confirmed(page)
            await self._mend_missing(lost, await self._twins(auditor, audit, lost), outcome)
        await self._see_to_strays(auditor, audit, outcome)
        outcome.foreign, outcome.beyond = await auditor.count_foreign(audit), audit.beyond
        await self._end(outcome, began)
        return outcome

    def _slow(self) -> Target:
        return self.target.unhurried(self.pace)

    async def pace(self) -> None:
        """Returns when one more request may be made, one caller after the other.

        Fresh work goes first, yet not for ever: a mirror that never rests would never be audited.
        """
        async with self._turn:
            await self.clock.sleep(self.ledger.terms.limits.unhurried)
            latest = self.clock.steady() + PATIENCE
            while not await self.is_idle() and self.clock.steady() < latest:
                await self.clock.sleep(LOOK_EVERY)
            self._go_on()

    def _go_on(self) -> None:
        if not self.may_work():
            raise PutOffError("the mirror is halted")

    async def _rest_for_horizon(self) -> None:
        await self.clock.sleep(self.ledger.rhythm.horizon)
        self._go_on()

    async def _weigh(self, auditor: Auditor, audit: Inventory, began: float) -> None:
        """Halts over a base that lost many documents; a list is believed when single looks agree."""
        terms = self.ledger.terms
        first, count = await _counted(auditor.unseen(audit, began))
        serving = await self.store.read(lambda tx: tx.uploads.serving_count(terms.mirror, terms.binding))
        if not is_emptied(serving, serving - count):
            return
        if len(await auditor.confirmed(first)) == len(first):
            await self.on_halt(_emptied(terms.plan.name, count, serving))
            raise PutOffError(f"{count} of {serving} documents are missing")

    async def _twins(self, auditor: Auditor, audit: Inventory, lost: Sequence[Upload]) -> list[Stray]:
        """Documents that may take the place of lost ones; each is there at a second look."""
        paths = {row.path for row in lost}
        twins = [stray for stray in audit.strays if stray.path in paths and stray.row is None]
        return await auditor.read_into(audit, await auditor.still_stray(twins)) if twins else []

    async def _mend_missing(
        self, lost: Sequence[Upload], twins: Sequence[Stray], outcome: AuditResult
    ) -> None:
        self._go_on()
        sent = await self.store.write(partial(self._send_again, lost, twins))
        outcome.missing += len(lost)
        outcome.mended += sent
        for row in lost:
            why = "a twin takes its place, or it is sent again"
            self._tell(outcome, "missing", row.path or row.label, row.remote_id, why)
        if lost:
            self.on_work()

    def _send_again(self, lost: Sequence[Upload], twins: Sequence[Stray], tx: Tx) -> int:
        repairs, missing = Repairs(self.ledger), {row.remote_id or "" for row in lost}
        for twin in twins:
            repairs.adopt(tx, stray_json(twin), missing)
        return sum(repairs.send_again(tx, row.remote_id or "") for row in lost)

    # -- documents that serve nothing ------------------------------------------------------------------

    async def _see_to_strays(self, auditor: Auditor, audit: Inventory, outcome: AuditResult) -> None:
        strays = await auditor.read_into(audit, await auditor.still_stray(audit.strays))
        placed = await self.store.read(partial(self._placed, strays))
        self._go_on()
        for finding in placed.duplicate:
            outcome.duplicate += 1
            await self._see_to(outcome, "duplicate", finding)
        for finding in placed.orphaned:
            outcome.orphaned += 1
            await self._see_to(outcome, "orphaned", finding)

    def _placed(self, strays: Sequence[Stray], tx: Tx) -> Placed:
        return Placing(tx, self.ledger.terms, is_compared=True).sorted(strays)

    async def _see_to(self, outcome: AuditResult, kind: str, finding: Discrepancy) -> None:
        if await self.store.write(partial(self._retire, kind, finding)):
            outcome.mended += 1
            self.on_work()
            self._tell(outcome, kind, finding.path, finding.remote_id, f"{finding.why}; it is deleted")
        else:
            outcome.left[kind] += 1
            self._tell(outcome, kind, finding.path, finding.remote_id, finding.why)

    def _retire(self, kind: str, finding: Discrepancy, tx: Tx) -> bool:
        """Only what an upload of this state made: what looks like ours is left to a person."""
        stray = finding.stray
        if stray is None or stray.row is None or stray.proof not in (Proof.ROW, Proof.MARK):
            return False
        row = tx.uploads.get(stray.row.id)
        if row is not None and row.state is UploadState.TOMBSTONE:
            again = lifecycle.still_there(row, self.ledger.rhythm)
            tx.uploads.save(again)
            return again.state is UploadState.RETIRING
        return kind == "duplicate" and Repairs(self.ledger).retire_stray(tx, stray_json(stray))

    # -- the end ---------------------------------------------------------------------------------------

    def _tell(self, outcome: AuditResult, kind: str, path: str, remote_id: str | None, why: str) -> None:
        outcome.told += 1
        if outcome.told <= MOST_TOLD:
            name = self.ledger.terms.plan.name
            log.warning("audit.found", mirror=name, kind=kind, path=path, document_id=remote_id, reason=why)

    async def _end(self, outcome: AuditResult, began: float) -> None:
        terms, now = self.ledger.terms, self.clock.wall()
        kept = status.LastAudit(terms.binding, now, **outcome.left, mended=outcome.mended, is_audit=True)
        await self.store.write(partial(_kept, terms.mirror, kept))
        log.info(
            "audit.ended",
            mirror=terms.plan.name,
            missing=outcome.missing,
            duplicate=outcome.duplicate,
            orphaned=outcome.orphaned,
            foreign=outcome.foreign,
            beyond=outcome.beyond,
            mended=outcome.mended,
            seconds=round(now - began, 1),
        )


def _kept(mirror: int, known: status.LastAudit, tx: Tx) -> None:
    status.keep_last_audit(tx, mirror, known)


async def _counted(pages: AsyncIterator[list[Upload]]) -> tuple[list[Upload], int]:
    """The first few rows, and how many there are."""
    first: list[Upload] = []
    count = 0
    async for page in pages:
        count += len(page)
        first += page[: SAMPLE - len(first)]
    return first, count


def _emptied(name: str, missing: int, serving: int) -> Halted:
    return Halted(
        "knowledge-base-emptied",
        f"{missing} of {serving} documents are no longer in the knowledge base",
        cure=f"kbsync verify --repair --mirror {name}",
    )
