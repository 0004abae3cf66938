"""The audit: compares the target's own list with the state, and repairs differences.

`Audit` has two callers. `kbsync verify` (engine/verify.py) adds the folder and changes nothing. A daemon
audits by itself, slowly and about once per `deep_rescan` (`BackgroundAudit`, ADR 18). The target changes
meanwhile, so anything that seems wrong is checked a second time before it counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import math
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import structlog

from kbsync.contract.target import DocState, DocStatus, Listed, Reads, Target
from kbsync.core import lifecycle
from kbsync.core.lifecycle import RETIRE_TRIES
from kbsync.core.model import (
    OUTCOME_OPEN,
    SERVING,
    TAG,
    UNANSWERED,
    UNREADABLE,
    FileChoice,
    Presence,
    Status,
    Upload,
    UploadState,
    by_tag,
    serving,
)
from kbsync.core.names import tag_of
from kbsync.core.planner import tells
from kbsync.engine.attach import adopting, is_emptied
from kbsync.engine.clock import Clock, rest
from kbsync.engine.journal import Journal
from kbsync.engine.settings import Binding
from kbsync.engine.status import LastAudit, keep_last_audit, last_audit
from kbsync.errors import Halted, StateError, TargetError
from kbsync.source.look import look_exactly
from kbsync.state.files import FileRow
from kbsync.state.read_only import ReadsState, Tx
from kbsync.state.store import StateStore

log = structlog.get_logger("kbsync")

PAGE = 200
UNKNOWN = DocStatus(DocState.UNKNOWN)


class Proof(enum.Enum):
    """Why a document is ours; without a proof it is left alone (promise 6)."""

    ROW = "row"  # an upload of this state made it
    MARK = "mark"  # it has the mark of an upload of this state that never got an answer
    BASE = "base"  # the whole base is ours
    FILE = "file"  # it has the bytes of our file or, with `adopt: name`, its name
    NONE = "none"  # its marker names one of our paths, as another kbsync's might


@dataclass(frozen=True, slots=True)
class Stray:
    """A document at the target that is or may be ours but serves nothing, and its path.

    `listed`: the list entry, with the digest and size of its upload's `row` if there is one. `reason`: the
    target's own words if it refuses to delete it.
    """

    listed: Listed
    path: str
    proof: Proof
    row: Upload | None = None
    reason: str = ""

    @property
    def remote_id(self) -> str:
        """Its id at the target."""
        return self.listed.remote_id

    @property
    def digest(self) -> str:
        """What is known about its bytes, as in `Upload`."""
        return self.listed.digest or ""

    def to_json(self) -> dict[str, Any]:
        """The form in the inbox message `repair`."""
        return {
            "remote_id": self.remote_id,
            "path": self.path,
            "name": self.listed.name,
            "digest": self.digest,
            "size": self.listed.size,
            "upload": None if self.row is None else self.row.id,
            "recipe": self.listed.recipe,
            "is_ready": self.listed.state is DocState.READY,
        }

    @staticmethod
    def problem_of_json(fields: Mapping[str, Any]) -> str:
        """Why `to_json` cannot have written these fields; '' if it can."""
        texts = ("remote_id", "name", "digest", "path")
        wrong = [name for name in texts if not isinstance(fields.get(name), str)]
        wrong += [name for name in ("size", "upload") if not _is_number(fields.get(name))]
        wrong += [] if isinstance(fields.get("recipe"), str | None) else ["recipe"]
        return f"a document to be deleted has no usable {' and no '.join(wrong)}" if wrong else ""

    @staticmethod
    def from_json(tx: Tx, fields: Mapping[str, Any]) -> Stray:
        """The stray of a `repair` message, with its current row; `verify --repair` had a proof."""
        number = fields.get("upload")
        listed = Listed(
            fields["remote_id"],
            fields["name"],
            fields.get("size"),
            state=DocState.READY if fields.get("is_ready") else DocState.UNKNOWN,
            digest=fields["digest"],
            recipe=fields.get("recipe"),
        )
        row = None if number is None else tx.uploads.get(number)
        return Stray(listed, fields["path"], Proof.NONE, row)


def _is_number(value: object) -> bool:
    """Whether it is None or a whole number that SQLite can store."""
    return value is None or (type(value) is int and abs(value) < 2**63)


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """One problem. `remote_id` is None if there is no document. `why` is a sentence."""

    path: str
    remote_id: str | None
    why: str
    stray: Stray | None = None

    @property
    def is_deleted(self) -> bool:
        """Whether a delete of its document is done or under way, but the list still has it."""
        row = None if self.stray is None else self.stray.row
        return row is not None and row.state in (UploadState.TOMBSTONE, UploadState.RETIRING)


class Audit:
    """One audit of one mirror's documents; call `read_list` first.

    `seen`: ids of listed documents that the state counts on; `others` counts, by mirror, those that only
    other mirrors of this state count on. At most `most` strays of ours and `most` others are kept, and
    `beyond` counts the rest, so that memory is bounded by the ids.
    """

    def __init__(self, binding: Binding, target: Target, read: ReadsState, most: int | None = None) -> None:
        self._binding = binding
        self._target = target
        self._read = read
        self._most = most
        # An embedded base lists only this mirror's documents, even if it is shared.
        self._unproven = Proof.BASE if binding.limits.embedded else Proof.NONE
        self.seen: set[str] = set()
        self.strays: list[Stray] = []
        self.foreign: set[str] = set()
        self.others = Counter[int]()
        self.beyond = 0
        self._kept = Counter[bool]()  # strays that are proven ours, and others
        self._tags: dict[str, str] = {}  # of strays with names that only kbsync gives: the digest in the name

    # -- the list --------------------------------------------------------------------------------------

    async def read_list(self) -> None:
        """Read the whole list. Raises `TargetError` if it is not complete."""
        page: list[Listed] = []
        async for listed in self._target.list():
            page.append(self._binding.read(listed))
            if len(page) == PAGE:
                await self._read(partial(self._sort_in, page))
                page = []
        await self._read(partial(self._sort_in, page))

    def _sort_in(self, page: Sequence[Listed], tx: Tx) -> None:
        for listed in page:
            rows = self._rows(tx, listed.remote_id)
            if counting := [row for row in rows if _counts_on_document(row)]:
                self.seen.add(listed.remote_id)
                if not any(self._is_mine(row) for row in counting):
                    self.others[counting[0].mirror] += 1
                continue
            # Documents that no row proves ours are never touched (promise 6), at most reported.
            stray = self._ended(rows, listed) if rows else self._without_row(tx, listed)
            if stray is None:
                continue
            # Documents that may be another kbsync's take no room from ours: nothing is done about them.
            is_ours = stray.proof is not Proof.NONE
            if self._most is not None and self._kept[is_ours] >= self._most:
                self.beyond += 1
            else:
                self._kept[is_ours] += 1
                self.strays.append(stray)

    def _rows(self, tx: Tx, remote_id: str) -> list[Upload]:
        """Every upload of this base that has the id, newest first."""
        bindings = tx.mirrors.sharing(self._binding.id)  # other prefixes belong to other mirrors of ours
        return [row for binding in bindings for row in tx.uploads.by_remote(binding, remote_id)]

    def _is_mine(self, row: Upload) -> bool:
        return (row.mirror, row.binding) == (self._binding.mirror, self._binding.id)

    def _ended(self, rows: Sequence[Upload], listed: Listed) -> Stray | None:
        """A document whose upload has ended; None if it belongs to another mirror."""
        row = next((row for row in rows if self._is_mine(row)), None)
        if row is None:
            return None
        is_found = row.state is UploadState.ADOPTING and not row.is_marked
        proof = self._unproven if is_found else Proof.ROW
        listed = replace(
            listed, digest=row.digest or listed.digest, size=row.size or listed.size or 0, recipe=None
        )
        reason = row.reason if row.state is UploadState.RETIRING else ""
        return Stray(listed, row.path or row.label, proof, row, reason)

    def _without_row(self, tx: Tx, listed: Listed) -> Stray | None:
        """A document whose id no row has; None if it is foreign, or an open upload waits for it."""
        binding, proof, path = self._binding, self._unproven, listed.path
        # The upload of this state whose mark the document has: same id, same bytes.
        marked = None if listed.upload_id is None else tx.uploads.get(listed.upload_id)
        if marked is not None and self._is_mine(marked) and marked.digest == listed.digest:
            if marked.state in UNANSWERED:
                return None
            proof, path = Proof.MARK, marked.path or marked.label
        else:
            marked = None
            open_rows = (
                [] if binding.limits.marks else tx.uploads.in_states(binding.mirror, binding.id, OUTCOME_OPEN)
            )
            # Its name and length are those of an upload whose outcome is open.
            fitting = (row for row in open_rows if listed.size in (None, row.size))
            if any(binding.naming.recognises(row.name, listed.name) for row in fitting):
                return None
        may_be_copy = _has_mark(binding, listed)
        if path is not None and listed.digest is not None and listed.digest.startswith(TAG):
            may_be_copy = True
            self._tags[listed.remote_id] = listed.digest
        elif proof is Proof.NONE and path is not None and not binding.limits.marks:
            # Its name says that it has, or may have, our file's current bytes: a second document for it.
            entry = tx.entries.get(binding.mirror, path)
            if entry is not None:
                can_be_read = not listed.digest and binding.abilities.reads
                may_be_copy = _has_bytes(entry, listed) or (
                    can_be_read and listed.size in (None, entry.stamp.size)
                )
        if path is None or (proof is Proof.NONE and not may_be_copy):
            self.foreign.add(listed.remote_id)
            return None
        # Without a length a tag alone proves nothing.
        return Stray(replace(listed, size=listed.size or 0), path, proof, marked)

    async def count_foreign(self) -> int:
        """How many listed documents are still not ours."""
        ids, count = list(self.foreign), 0
        for start in range(0, len(ids), PAGE):
            page = ids[start : start + PAGE]
            count += await self._read(lambda tx, page=page: sum(not self._rows(tx, one) for one in page))  # type: ignore[misc]
        return count

    # -- documents that the list lacks -------------------------------------------------------------------

    async def unseen(self, before: float = math.inf) -> AsyncIterator[list[Upload]]:
        """Serving uploads that the list lacked, in batches; none made after `before`."""
        binding, after = self._binding, 0
        while rows := await self._read(
            lambda tx, after=after: tx.uploads.in_states(binding.mirror, binding.id, SERVING, after, PAGE)  # type: ignore[misc]
        ):
            after = rows[-1].id
            # Documents made while the list was read may be missing from it.
            unseen = [
                row
                for row in rows
                if row.remote_id not in self.seen and max(row.created_at, row.accepted_at or 0.0) <= before
            ]
            if unseen:
                yield unseen

    async def confirmed(self, rows: Sequence[Upload]) -> list[Upload]:
        """Those that the target reports missing and that still serve."""
        there = await self._there([row.remote_id or "" for row in rows])
        missing = [row for row in rows if row.remote_id not in there]

        def serves(tx: Tx, row: Upload) -> bool:
            now = tx.uploads.get(row.id)
            return now is not None and now.state.serves and now.remote_id == row.remote_id

        return await self._read(lambda tx: [row for row in missing if serves(tx, row)])

    async def _there(self, ids: Sequence[str]) -> set[str]:
        """Those that the target does not report missing."""
        if not ids:
            return set()
        known = dict(await self._target.status(ids))
        unsaid = [one for one in ids if known.get(one, UNKNOWN).state is DocState.UNKNOWN]
        # A target may leave a few for another request. Silence about all of them is no answer and counts
        # as present: only a clear answer makes a document missing.
        if unsaid and len(unsaid) < len(ids):
            known |= await self._target.status(unsaid)
        return {one for one in ids if known.get(one, UNKNOWN).state is not DocState.MISSING}

    # -- documents that serve nothing --------------------------------------------------------------------

    async def still_strays(self, strays: Sequence[Stray]) -> list[Stray]:
        """Those that exist at a second check, and that the state still does not need.

        If only a name says that one is ours, its bytes are read, if the target returns them.
        """
        left: list[Stray] = []
        for start in range(0, len(strays), PAGE):
            page = strays[start : start + PAGE]
            there = await self._there(list({stray.remote_id for stray in page}))
            page = [await self._read_into(stray) for stray in page if stray.remote_id in there]
            left += await self._read(partial(self._without_claimed, page))
        return left

    async def _read_into(self, stray: Stray) -> Stray:
        is_known = stray.digest and not stray.digest.startswith(TAG)
        if not is_known and stray.proof is Proof.NONE and isinstance(self._target, Reads):
            with contextlib.suppress(TargetError):
                digest = await self._target.digest(stray.remote_id) or stray.digest
                return replace(stray, listed=replace(stray.listed, digest=digest))
        return stray

    def _without_claimed(self, strays: Sequence[Stray], tx: Tx) -> list[Stray]:
        """Those that neither the state needs by now nor, by their bytes, anybody else."""
        left = []
        for stray in strays:
            if any(_counts_on_document(row) for row in self._rows(tx, stray.remote_id)):
                continue
            if stray.row is None and stray.proof is Proof.NONE:
                # Anyone may give a document any name: with other bytes it is foreign (promise 6, ADR 12). A
                # person is told of it where another state marked it, or where it has a tag of ours and the
                # bytes of that tag.
                entry = tx.entries.get(self._binding.mirror, stray.path)
                is_copy = entry is not None and _has_bytes(entry, stray.listed)
                is_told = _has_mark(self._binding, stray.listed) or self._fits_its_tag(stray)
                if not is_copy and not is_told:
                    self.foreign.add(stray.remote_id)
                    continue
            left.append(stray)
        return left

    def _fits_its_tag(self, stray: Stray) -> bool:
        tag = self._tags.get(stray.remote_id)
        if tag is None or stray.digest == UNREADABLE:
            return False
        return stray.digest in ("", tag) or by_tag(tag_of(stray.digest)) == tag

    async def compare(
        self, strays: Sequence[Stray], *, with_folder: bool = True
    ) -> tuple[list[Discrepancy], list[Discrepancy]]:
        """Orphaned documents and duplicates; documents that may yet be adopted are neither.

        Without the folder it reports nothing about files that the state does not have.
        """
        orphaned, duplicate = list[Discrepancy](), list[Discrepancy]()
        for start in range(0, len(strays), PAGE):
            page = strays[start : start + PAGE]
            # Outside the transaction: a dead mount may block it while other mirrors need the state.
            without_file = await asyncio.to_thread(self._without_file, page) if with_folder else set[str]()
            found = await self._read(partial(self._compare, page, without_file))
            orphaned += found[0]
            duplicate += found[1]
        return orphaned, duplicate

    def _without_file(self, strays: Sequence[Stray]) -> set[str]:
        """Paths of strays that certainly have no file. Blocks."""
        looked = look_exactly(self._binding.settings.root, {stray.path for stray in strays})
        return {path for path, seen in looked if seen.lacks_file}

    def _compare(
        self, strays: Sequence[Stray], without_file: Collection[str], tx: Tx
    ) -> tuple[list[Discrepancy], list[Discrepancy]]:
        binding, orphaned, duplicate = self._binding, list[Discrepancy](), list[Discrepancy]()
        for stray in strays:
            document = f"document {stray.remote_id}"
            entry = tx.entries.get(binding.mirror, stray.path)
            server = serving(tx.uploads.at(binding.mirror, binding.id, stray.path))
            is_gone = entry is None or entry.presence is Presence.GONE
            if server is not None:
                why = f"{document} has the name of this file, but its bytes could not be read"
                if stray.digest not in ("", UNREADABLE):
                    is_same = tells(stray.digest, stray.listed.size, server.digest, server.size)
                    why = f"{document} has {'the same' if is_same else 'different'} bytes under this path"
                duplicate.append(
                    self._discrepancy(stray, entry, f"{why}; {server.remote_id} serves the file")
                )
            elif is_gone and stray.path in without_file:
                orphaned.append(self._discrepancy(stray, entry, f"the file is gone, but {document} remains"))
            elif entry is not None and not is_gone and entry.verdict.choice is FileChoice.EXCLUDED:
                why = f"the file is not selected, but {document} remains"
                orphaned.append(self._discrepancy(stray, entry, why))
            elif (
                # The state has decided about the file and did not choose this document.
                entry is not None
                and entry.status in (Status.PENDING, Status.INDEXING, Status.FAILED)
                and (stray.row is None or not _has_bytes(entry, stray.listed))
            ):
                why = f"{document} is not the one that will serve the file"
                duplicate.append(self._discrepancy(stray, entry, why))
        return orphaned, duplicate

    def _discrepancy(self, stray: Stray, entry: FileRow | None, why: str) -> Discrepancy:
        if stray.proof is Proof.NONE:
            by_name = self._binding.abilities.adopt == "name"
            by_content = entry is not None and _has_bytes(entry, stray.listed)
            stray = replace(stray, proof=Proof.FILE if by_name or by_content else Proof.NONE)
        if stray.reason:
            why += f"; the target refused to delete it: {stray.reason}"
        if stray.proof is Proof.NONE:
            why += "; nothing proves it is ours, so kbsync leaves it alone"
        return Discrepancy(stray.path, stray.remote_id, why, stray)


def _has_mark(binding: Binding, listed: Listed) -> bool:
    """Whether it has the mark of a kbsync's upload, and is for a path of ours."""
    return binding.limits.marks and listed.upload_id is not None and listed.path is not None


def _has_bytes(entry: FileRow, listed: Listed) -> bool:
    """Whether the file's bytes are, as far as known, those of the document."""
    return entry.digest is not None and tells(
        listed.digest or "", listed.size, entry.digest, entry.stamp.size
    )


def _counts_on_document(row: Upload) -> bool:
    """Whether the row needs its document, or is about to finish with it."""
    match row.state:
        case UploadState.RETIRING:
            return row.attempts < RETIRE_TRIES
        case UploadState.ADOPTING | UploadState.TOMBSTONE | UploadState.PRESUMED_LOST:
            return False
        case _:
            return not row.state.is_final


# -- the repair ----------------------------------------------------------------------------------------


class Repairs:
    """Repairs documents of one mirror in one transaction, and only proven ones (promise 6)."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def send_again(self, tx: Tx, remote_id: str) -> bool:
        """Replace a document that is no longer at the target. False if none served."""
        rows = tx.uploads.by_remote(self._journal.binding.id, remote_id)
        served = [row for row in rows if row.state.serves]
        for row in served:
            tx.uploads.save(lifecycle.gone(row))
            tx.holds.release(row.id)
            self._journal.decide(tx, row.path or "", fresh=True)
        tx.holds.end_empty(self._journal.binding.mirror, self._journal.timing.now)
        return bool(served)

    def adopt(self, tx: Tx, stray: Stray, missing: Collection[str]) -> None:
        """Let a copy replace a document that is `missing` (remote ids), so that none is sent.

        Call it before `send_again`: the planner uses a document that its bytes prove.
        """
        binding = self._journal.binding
        server = serving(self._journal.uploads(tx, stray.path))
        if server is None or server.remote_id not in missing or not self._is_copy(tx, stray):
            return
        if tx.uploads.by_remote(binding.id, stray.remote_id):
            return
        tx.uploads.add(adopting(binding, stray.listed, stray.path, self._journal.timing.now))

    def retire_stray(self, tx: Tx, stray: Stray) -> bool:
        """Delete a document that nothing needs, by a row that has its id, gets it back, or is created for it.

        A row is created only for a document proven ours.
        """
        binding, timing = self._journal.binding, self._journal.timing
        if rows := tx.uploads.by_remote(binding.id, stray.remote_id):
            # Work continued since it was listed: it may serve by now (promise 2).
            if any(row.state.serves or row.state.in_flight for row in rows):
                return False
            if rows[0].state is not UploadState.RETIRING:
                tx.uploads.save(lifecycle.retire(rows[0], timing))
            return True
        row = None if stray.row is None else tx.uploads.get(stray.row.id)
        is_marked = row is not None and row.digest == stray.digest
        if row is not None and is_marked and row.remote_id is None:
            tx.uploads.save(lifecycle.retire(replace(row, remote_id=stray.remote_id), timing))
            return True
        # Somebody copied the marked document, and the file is gone.
        is_left = is_marked and self._is_gone(tx, stray.path)
        if not (binding.limits.embedded or is_left or self._is_copy(tx, stray)):
            return False
        # It has no recipe, so nothing mistakes it for a document that a file needs.
        found = adopting(binding, replace(stray.listed, recipe=""), stray.path, timing.now)
        tx.uploads.add(lifecycle.retire(found, timing))
        return True

    def _is_gone(self, tx: Tx, path: str) -> bool:
        entry = tx.entries.get(self._journal.binding.mirror, path)
        return entry is None or entry.presence is Presence.GONE

    def _is_copy(self, tx: Tx, stray: Stray) -> bool:
        """Whether another document serves the file at this path, and this one has the file's bytes."""
        entry = tx.entries.get(self._journal.binding.mirror, stray.path)
        server = serving(self._journal.uploads(tx, stray.path))
        return entry is not None and server is not None and _has_bytes(entry, stray.listed)


# -- the audit of a daemon -----------------------------------------------------------------------------

LONGEST_REST = 3600.0
PUT_OFF = 1800.0
"""Seconds until an interrupted audit starts again."""

PATIENCE, LOOK_EVERY = 60.0, 1.0
"""The most seconds a request waits for fresh work to end, and the seconds between two checks."""

MOST_STRAYS, MOST_TOLD = 200, 20
SAMPLE = 20
"""How many of very many missing documents to query before the mirror halts."""


class PutOffError(Exception):
    """The audit cannot go on now."""


@dataclass(slots=True)
class AuditResult:
    """The result of one audit: documents by problem; `mended` counts those that it repaired.

    `beyond`: documents that serve nothing and were too many to check; the next audit handles them. `left`:
    those that it left alone, by problem.
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
    """The audits of one mirror in a daemon.

    Each goes through four steps. Only its end is recorded (`status.LastAudit`).

    - It rests until `deep_rescan` after the last audit ended, or until a person asks for one. A restart
      changes nothing about the first and forgets the second.
    - It reads the whole list, each request after a pause (`Limits.unhurried`) and behind fresh work.
    - It asks a second time, a horizon later, about documents that the list lacks and about those that it
      shows and nothing needs.
    - It repairs, a transaction for each page or document: documents that the target says are missing are sent
      again; deleted ones that are back are retired, as are copies where this state made both. Anything else
      is logged.

    An audit that is cut anywhere (kill -9, a halt, a target that does not answer) leaves nothing behind but
    the rows it has repaired, and the worker carries those out. Where many documents are missing at once
    nothing is sent: the mirror halts for a person (ADR 14).

    `may_work`: the mirror is not halted and the folder was compared once. `is_idle`: no fresh work is due.
    `on_halt` is told when the base lost many documents, `on_work` that there is something to do.
    """

    store: StateStore
    journal: Journal
    target: Target
    clock: Clock
    may_work: Callable[[], bool]
    is_idle: Callable[[], Awaitable[bool]]
    on_halt: Callable[[Halted], Awaitable[None]]
    on_work: Callable[[], None]
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when an audit is requested now."""
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def keep(self) -> None:
        """Audit whenever an audit is due, until cancelled."""
        while True:
            try:
                left = await self._until_due()
            except StateError:  # the mirror's loop reports it
                left = LONGEST_REST
            if left <= 0:
                left = PATIENCE if not self.may_work() else 0.0 if await self.try_once() else PUT_OFF
            await rest(self.clock, min(LONGEST_REST, left), self.asked)
            if self.asked.is_set():
                self.asked.clear()
                if self.may_work():  # otherwise the next audit is due later
                    await self.try_once()

    async def _until_due(self) -> float:
        """Seconds until the next audit."""
        binding, now = self.journal.binding, self.clock.wall()
        known = await self.store.read(lambda tx: last_audit(tx, binding.mirror))
        if known is None or known.binding != binding.id:
            # As good as audited: everything known about a new base was read just now.
            last = LastAudit(binding.id, now)
        else:
            # After a clock was set back the period starts now: an audit is late only once.
            last = replace(known, ended=min(known.ended, now))
        if last != known:
            await self.store.write(lambda tx: keep_last_audit(tx, binding.mirror, last))
        return last.ended + binding.settings.deep_rescan - now

    async def try_once(self) -> bool:
        """Run one audit; False if it was interrupted."""
        name = self.journal.binding.settings.name
        try:
            await self.audit()
        except (PutOffError, TargetError, StateError) as error:
            log.info("audit.put_off", mirror=name, reason=str(error))
        except Exception:  # an error of ours ends this audit, not the mirror
            log.exception("audit.failed", mirror=name)
        else:
            return True
        return False

    # -- one audit -------------------------------------------------------------------------------------

    async def audit(self) -> AuditResult:
        """Run the audit. Raises `TargetError`, `StateError` or `PutOffError`, and then records nothing."""
        began, result, binding = self.clock.wall(), AuditResult(), self.journal.binding
        target = self.target.unhurried(self.pace)
        audit = Audit(binding, target, self.store.read, MOST_STRAYS)
        await audit.read_list()
        # The list may lag: documents it lacks are queried by id, after it had time to show them.
        await self.clock.sleep(self.journal.timing.horizon)
        self._go_on()
        await self._refuse_emptied(audit, began)
        async for page in audit.unseen(began):
            await self._mend_missing(audit, await audit.confirmed(page), result)
        orphaned, duplicate = await audit.compare(await audit.still_strays(audit.strays))
        if binding.abilities.keeps:  # documents that a lost state left behind are kept like the rest
            orphaned = [one for one in orphaned if one.is_deleted]
        self._go_on()
        result.orphaned, result.duplicate = len(orphaned), len(duplicate)
        for kind, found in (("duplicate", duplicate), ("orphaned", orphaned)):
            for one in found:
                why = one.why
                if await self.store.write(partial(self._retire, kind, one.stray)):
                    result.mended += 1
                    self.on_work()
                    why += "; it is deleted"
                else:
                    result.left[kind] += 1
                self._tell(result, kind, one.path, one.remote_id, why)
        result.foreign, result.beyond = await audit.count_foreign(), audit.beyond
        now = self.clock.wall()
        last = LastAudit(binding.id, now, **result.left, mended=result.mended, is_audit=True)
        await self.store.write(lambda tx: keep_last_audit(tx, binding.mirror, last))
        log.info(
            "audit.ended",
            mirror=binding.settings.name,
            missing=result.missing,
            duplicate=result.duplicate,
            orphaned=result.orphaned,
            foreign=result.foreign,
            beyond=result.beyond,
            mended=result.mended,
            seconds=round(now - began, 1),
        )
        return result

    async def pace(self) -> None:
        """Wait until one more request is allowed, one caller at a time."""
        async with self._turn:
            await self.clock.sleep(self.journal.binding.limits.unhurried)
            # Fresh work goes first, but not forever: a mirror that is always busy would never be audited.
            latest = self.clock.steady() + PATIENCE
            while not await self.is_idle() and self.clock.steady() < latest:
                await self.clock.sleep(LOOK_EVERY)
            self._go_on()

    def _go_on(self) -> None:
        if not self.may_work():
            raise PutOffError("the mirror is halted")

    async def _refuse_emptied(self, audit: Audit, began: float) -> None:
        """Halt over a base that lost many documents. A sample must confirm the list."""
        binding = self.journal.binding
        sample: list[Upload] = []
        missing = 0
        async for page in audit.unseen(began):
            missing += len(page)
            sample += page[: SAMPLE - len(sample)]
        serving = await self.store.read(lambda tx: tx.uploads.serving_count(binding.mirror, binding.id))
        if not is_emptied(serving, serving - missing) or len(await audit.confirmed(sample)) < len(sample):
            return
        detail = f"{missing} of {serving} documents are no longer in the knowledge base"
        cure = f"kbsync verify --repair --mirror {binding.settings.name}"
        await self.on_halt(Halted("knowledge-base-emptied", detail, cure=cure))
        raise PutOffError(f"{missing} of {serving} documents are missing")

    async def _mend_missing(self, audit: Audit, lost: Sequence[Upload], result: AuditResult) -> None:
        """Replace lost documents by copies where possible, and send the others again."""
        paths = {row.path for row in lost}
        copies = [stray for stray in audit.strays if stray.path in paths and stray.row is None]
        copies = await audit.still_strays(copies)
        self._go_on()

        def send_again(tx: Tx) -> int:
            repairs, missing = Repairs(self.journal), {row.remote_id or "" for row in lost}
            for copy in copies:
                repairs.adopt(tx, copy, missing)
            return sum(repairs.send_again(tx, row.remote_id or "") for row in lost)

        result.missing += len(lost)
        result.mended += await self.store.write(send_again)
        for row in lost:
            why = "a copy takes its place, or it is sent again"
            self._tell(result, "missing", row.path or row.label, row.remote_id, why)
        if lost:
            self.on_work()

    def _retire(self, kind: str, stray: Stray | None, tx: Tx) -> bool:
        # Only documents that this state uploaded: a person decides about lookalikes (promise 6).
        if stray is None or stray.row is None or stray.proof not in (Proof.ROW, Proof.MARK):
            return False
        row = tx.uploads.get(stray.row.id)
        if row is not None and row.state is UploadState.TOMBSTONE and row.remote_id == stray.remote_id:
            again = lifecycle.still_there(row, self.journal.timing)
            tx.uploads.save(again)
            return again.state is UploadState.RETIRING
        return kind == "duplicate" and Repairs(self.journal).retire_stray(tx, stray)

    def _tell(self, result: AuditResult, kind: str, path: str, remote_id: str | None, why: str) -> None:
        result.told += 1
        if result.told <= MOST_TOLD:
            name = self.journal.binding.settings.name
            log.warning("audit.found", mirror=name, kind=kind, path=path, document_id=remote_id, reason=why)
