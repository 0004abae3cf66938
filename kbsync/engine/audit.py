"""Compares the target's own list of documents with the state, and repairs the differences.

`Audit` has two callers. `kbsync verify` (engine/verify.py) also compares the folder, and changes nothing. A
daemon or pass runs an audit about once per `deep_rescan` (`RegularAudit`, ADR 18). Because the target changes
in the meantime, an audit checks each suspected problem a second time before counting it.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import Counter
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import field, replace
from functools import partial
from typing import TYPE_CHECKING

import structlog

from kbsync.contract.target import SupportsDigest, Target
from kbsync.core import lifecycle
from kbsync.core.model import TAG, UNREADABLE, FileChoice, Presence, Status, Upload, UploadState, serving
from kbsync.core.planner import digests_match
from kbsync.dataclass import dataclass
from kbsync.engine.attach import adopting, base_emptied, is_emptied
from kbsync.engine.clock import log_bug, wait_for_any
from kbsync.engine.journal import Journal
from kbsync.engine.listing import (
    Claim,
    Whose,
    find_missing,
    find_present,
    has_bytes,
    identify_all,
    read_list,
    sent_by_other,
    unlisted,
    was_sent_by_kbsync,
)
from kbsync.engine.settings import Binding
from kbsync.engine.status import LastAudit, keep_last_audit, last_audit
from kbsync.errors import StateError, TargetError
from kbsync.source.stat import RulesUnknown, rules_at, stat_exactly
from kbsync.state.files import FileRow, split
from kbsync.state.mirrors import MirrorFact
from kbsync.state.read_only import SnapshotReader, Tx

if TYPE_CHECKING:
    from kbsync.engine.mirror import Mirror
    from kbsync.engine.worker import Worker

log = structlog.get_logger("kbsync")

PAGE = 200


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """A problem that an audit found.

    `remote_id` is None if there is no document. `why` is a sentence. `claim`: the document's owner, if the
    document is a stray. `is_ours`: whether the document is ours, which allows kbsync to delete it.
    """

    path: str
    remote_id: str | None
    why: str
    claim: Claim | None = None
    is_ours: bool = False

    @property
    def is_deleted(self) -> bool:
        """Whether the list still has a document that kbsync has deleted or is deleting."""
        row = None if self.claim is None else self.claim.row
        return row is not None and row.state in (UploadState.TOMBSTONE, UploadState.RETIRING)


class Audit:
    """An audit of one mirror's documents; call `read_list` first.

    `listed`: ids of all documents in the base. `others` counts the documents of this state's other mirrors,
    by mirror; `foreign` counts everyone else's. `strays`: documents that are or may be ours, but that
    aren't the current document of any file. To bound memory, the audit keeps at most `limit` proven ones and
    `limit` others, and counts the rest in `unchecked`.
    """

    def __init__(
        self, binding: Binding, target: Target, read: SnapshotReader, limit: float = math.inf
    ) -> None:
        self._binding = binding
        self._target = target
        self._read = read
        self._limit = limit
        self.listed: set[str] = set()
        self.strays: list[Claim] = []
        self.foreign = 0
        self.others = Counter[int]()
        self.unchecked = 0
        self._counts = Counter[bool]()  # strays that are proven ours, and others

    # -- the list --------------------------------------------------------------------------------------

    async def read_list(self) -> None:
        """Read the whole list. Raises `TargetError` if it is incomplete."""

        def add(claims: Sequence[Claim], tx: Tx) -> None:
            for claim in claims:
                if claim.whose is Whose.OTHERS and claim.row is not None:
                    self.others[claim.row.mirror] += 1
                if not self._is_stray(claim, tx):
                    continue
                # Only count documents that may belong to another kbsync, so that they don't displace ours.
                is_ours = claim.whose is not Whose.PATH
                if self._counts[is_ours] >= self._limit:
                    self.unchecked += 1
                else:
                    self._counts[is_ours] += 1
                    self.strays.append(claim)

        async for claims in read_list(self._binding, self._target, self._read):
            self.listed.update(claim.remote_id for claim in claims)
            await self._read(partial(add, claims))

    def _is_stray(self, claim: Claim, tx: Tx, *, is_read: bool = False) -> bool:
        """Return whether the document is or may be ours but isn't the current document of any file.

        `is_read`: whether its bytes were read, if the target returns them.
        """
        binding, listed = self._binding, claim.listed
        if claim.whose not in (Whose.PATH, Whose.FOREIGN):
            return claim.whose is Whose.OURS_UNNEEDED
        entry = tx.entries.get(binding.mirror, claim.path)
        has_same_bytes = entry is not None and has_bytes(entry, listed)
        # A copy of one of our files may have the name of another mirror's upload that got no response.
        if not has_same_bytes and (upload := sent_by_other(binding, listed, tx)) is not None:
            self.others[upload.mirror] += 1
            return False
        if claim.whose is Whose.FOREIGN:
            is_stray = False
        elif claim.row is not None:
            # A document without a mark was in the base before the first pass: kbsync marks its own (promise
            # 6).
            is_unmarked = binding.limits.marks and listed.upload_id is None
            is_stray = has_same_bytes or not is_unmarked or binding.abilities.adopt == "name"
        # Anyone may give a document any name: with other bytes it is foreign (promise 6, ADR 12). It is
        # reported if another state marked it, or if it has one of our tags and the bytes of that tag.
        elif was_sent_by_kbsync(binding, listed) or entry is None:
            is_stray = was_sent_by_kbsync(binding, listed)
        elif is_read:
            is_stray = has_same_bytes
        else:
            can_be_read = binding.abilities.reads and not binding.limits.marks
            is_stray = can_be_read and listed.size in (None, entry.stamp.size)
        # The web page may belong to a link file that is being sent.
        self.foreign += not is_stray and not claim.doubts
        return is_stray

    # -- documents that the list lacks -------------------------------------------------------------------

    def find_unlisted(self, before: float = math.inf) -> AsyncIterator[list[Upload]]:
        """Yield the serving uploads that are missing from the list, in batches, except for those created
        after `before`.
        """
        return unlisted(self._binding, self._read, self.listed, before)

    async def has_doubts(self, before: float) -> bool:
        """Return whether the list lacks one of our documents or contains strays."""
        async for _ in self.find_unlisted(before):
            return True
        return bool(self.strays)

    async def confirm_missing(self, rows: Sequence[Upload]) -> list[Upload]:
        """Return the uploads that are searchable according to our state but missing according to the
        target.
        """
        return await find_missing(self._target, self._read, rows)

    # -- documents that aren't the current document of any file ------------------------------------------

    async def recheck_strays(self, strays: Sequence[Claim]) -> list[Claim]:
        """Return the strays that still exist at a second check and that no row needs.

        If only a document's name says that it is ours, this also reads its bytes where the target can return
        them.
        """

        def select(strays: Sequence[Claim], tx: Tx) -> list[Claim]:
            """Return the strays that no file needs, judging by the current state and their bytes."""
            claims = identify_all(self._binding, [stray.listed for stray in strays], tx)
            latest_claims = [
                claim if claim.whose is Whose.OPEN or claim.row is not None else stray
                for claim, stray in zip(claims, strays, strict=True)
            ]
            return [claim for claim in latest_claims if self._is_stray(claim, tx, is_read=True)]

        remaining: list[Claim] = []
        for start in range(0, len(strays), PAGE):
            batch = strays[start : start + PAGE]
            present_ids = await find_present(self._target, list({stray.remote_id for stray in batch}))
            present = [stray for stray in batch if stray.remote_id in present_ids]
            for index, stray in enumerate(present):
                is_known = stray.digest and not stray.digest.startswith(TAG)
                if not is_known and stray.whose is Whose.PATH and isinstance(self._target, SupportsDigest):
                    with contextlib.suppress(TargetError):
                        digest = await self._target.digest(stray.remote_id) or stray.digest
                        present[index] = replace(stray, listed=replace(stray.listed, digest=digest))
            remaining += await self._read(partial(select, present))
        return remaining

    async def compare(
        self, strays: Sequence[Claim], *, with_folder: bool = True
    ) -> tuple[list[Discrepancy], list[Discrepancy]]:
        """Return orphaned documents and duplicates, except for those that may still be adopted.

        While the folder is missing, this omits documents whose files are missing.
        """
        orphaned, duplicate = list[Discrepancy](), list[Discrepancy]()
        for start in range(0, len(strays), PAGE):
            batch = strays[start : start + PAGE]
            without_file, below_excluded = set[str](), set[str]()
            if with_folder:
                # Outside the transaction: a dead mount may block it while other mirrors need the state.
                paths = {stray.path for stray in batch}
                without_file, below_excluded = await asyncio.to_thread(self._check_files, paths)
            discrepancies = await self._read(partial(self._compare, batch, without_file, below_excluded))
            orphaned += discrepancies[0]
            duplicate += discrepancies[1]
        return orphaned, duplicate

    def _check_files(self, paths: set[str]) -> tuple[set[str], set[str]]:
        """Return the paths that have no file, and those of files below an excluded directory."""
        root, rules = self._binding.settings.root, self._binding.rules
        stats = stat_exactly(root, paths)
        without_file, below_excluded = {path for path, stat in stats if stat.lacks_file}, set[str]()
        for path in paths - without_file:
            with contextlib.suppress(RulesUnknown, OSError):
                if rules_at(root, rules, split(path)[0])[1].choice is FileChoice.EXCLUDED:
                    below_excluded.add(path)
        return without_file, below_excluded

    def _compare(
        self,
        strays: Sequence[Claim],
        without_file: Collection[str],
        below_excluded: Collection[str],
        tx: Tx,
    ) -> tuple[list[Discrepancy], list[Discrepancy]]:
        binding, orphaned, duplicate = self._binding, list[Discrepancy](), list[Discrepancy]()
        for stray in strays:
            document = f"document {stray.remote_id}"
            entry = tx.entries.get(binding.mirror, stray.path)
            server = serving(tx.uploads.at_path(binding.mirror, binding.id, stray.path))
            is_gone = entry is None or entry.presence is Presence.GONE
            if server is not None:
                why = f"{document} has this file's name, but the document's bytes could not be read"
                if stray.digest not in ("", UNREADABLE):
                    is_same = digests_match(stray.digest, stray.listed.size or 0, server.digest, server.size)
                    why = f"{document} has this path and {'the same' if is_same else 'different'} bytes"
                why += f"; {server.remote_id} serves the file"
                duplicate.append(self._discrepancy(stray, entry, why))
            elif is_gone and stray.path in without_file:
                orphaned.append(self._discrepancy(stray, entry, f"the file is gone, but {document} remains"))
            elif (is_gone and stray.path in below_excluded) or (
                entry is not None and not is_gone and entry.verdict.choice is FileChoice.EXCLUDED
            ):
                why = f"the file is not selected, but {document} remains"
                orphaned.append(self._discrepancy(stray, entry, why))
            elif entry is not None and not is_gone and entry.status is Status.SKIPPED:
                why = f"the file is skipped, but {document} remains"
                orphaned.append(self._discrepancy(stray, entry, why))
            elif (
                # The planner has decided about the file and didn't choose this document.
                entry is not None
                and entry.status in (Status.PENDING, Status.INDEXING, Status.FAILED)
                and (
                    stray.row is None
                    or stray.row.state is UploadState.TOMBSTONE
                    or not has_bytes(entry, stray.listed)
                )
            ):
                why = f"{document} isn't the document that kbsync chose for the file"
                duplicate.append(self._discrepancy(stray, entry, why))
        return orphaned, duplicate

    def _discrepancy(self, stray: Claim, entry: FileRow | None, why: str) -> Discrepancy:
        by_name = self._binding.abilities.adopt == "name"
        by_content = entry is not None and has_bytes(entry, stray.listed)
        is_ours = stray.whose is not Whose.PATH or by_name or by_content
        if stray.row is not None and stray.row.state is UploadState.RETIRING and stray.row.reason:
            why = f"{why}; the target refused to delete it: {stray.row.reason}"
        if not is_ours:
            why = f"{why}; nothing proves that it belongs to kbsync, so kbsync leaves it alone"
        return Discrepancy(stray.path, stray.remote_id, why, stray, is_ours)


# -- the repair ----------------------------------------------------------------------------------------


class Repairs:
    """Repairs a mirror's documents in a single transaction, but only those that are proven to be ours
    (promise 6).
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def send_again(self, tx: Tx, remote_id: str) -> bool:
        """If a document is no longer on the target, send it again. Return False if no file needs the
        document.
        """
        rows = tx.uploads.by_remote(self._journal.binding.id, remote_id)
        serving_rows = [row for row in rows if row.state.serves]
        for row in serving_rows:
            tx.uploads.save(lifecycle.mark_gone(row, self._journal.timing))
            tx.removals.release(row.id)
            self._journal.decide(tx, row.path, fresh=True)
        return bool(serving_rows)

    def adopt(self, tx: Tx, stray: Claim, missing: Collection[str]) -> None:
        """Use this copy in place of a document whose remote id is in `missing`, so that nothing has to be
        sent.

        Call this before `send_again`, because the planner uses any document whose bytes are proven.
        """
        binding, server = self._journal.binding, self._original(tx, stray)
        if server is None or server.remote_id not in missing:
            return
        rows = tx.uploads.by_remote(binding.id, stray.remote_id)
        if not rows:
            tx.uploads.add(adopting(binding, stray, self._journal.timing.now))
        elif rows[0].state is UploadState.ADOPTING and not rows[0].digest:
            tx.uploads.set_content(rows[0].id, digest=stray.digest)  # the audit has read its bytes

    def retire_stray(self, tx: Tx, stray: Claim) -> bool:
        """Delete a document that no file needs.

        This uses the row that has the document's id, a row that gets the id back, or a new row. Only a
        document proven to be ours gets a new row.
        """
        binding, timing = self._journal.binding, self._journal.timing
        if rows := tx.uploads.by_remote(binding.id, stray.remote_id):
            # Work has continued since the document was listed, so the document may serve its path by now
            # (promise 2).
            if any(row.state.serves or row.state.in_flight for row in rows):
                return False
            if rows[0].state is not UploadState.RETIRING:
                tx.uploads.save(lifecycle.retire(rows[0], timing))
            return True
        row = None if stray.row is None else tx.uploads.get(stray.row.id)
        size = stray.listed.size or 0
        is_marked = row is not None and digests_match(stray.digest, size, row.digest, row.size)
        if row is not None and is_marked and row.remote_id is None:
            tx.uploads.save(lifecycle.retire(replace(row, remote_id=stray.remote_id), timing))
            return True
        # Somebody copied the marked document, or another state uploaded it under a name that proves it is
        # ours.
        entry, by_name = tx.entries.get(binding.mirror, stray.path), binding.abilities.adopt == "name"
        is_orphan = (is_marked or by_name) and (entry is None or entry.presence is Presence.GONE)
        is_replaced = by_name and serving(self._journal.uploads(tx, stray.path)) is not None
        if not (binding.limits.embedded or is_orphan or is_replaced or self._original(tx, stray)):
            return False
        # Without a recipe, this row can't be mistaken for the row of a document that a file needs.
        adopted = adopting(binding, replace(stray, listed=replace(stray.listed, recipe="")), timing.now)
        tx.uploads.add(lifecycle.retire(adopted, timing))
        tx.forgotten.claim(binding.id, stray.remote_id)
        return True

    def _original(self, tx: Tx, stray: Claim) -> Upload | None:
        """Return the current document of the file at this path if the stray has the same bytes as the
        file.
        """
        entry = tx.entries.get(self._journal.binding.mirror, stray.path)
        is_copy = entry is not None and has_bytes(entry, stray.listed)
        return serving(self._journal.uploads(tx, stray.path)) if is_copy else None


# -- the regular audit ---------------------------------------------------------------------------------

MAX_REST = 3600.0
PUT_OFF = 1800.0
"""Seconds before an interrupted audit is restarted."""

PATIENCE, CHECK_EVERY = 60.0, 1.0
"""Maximum seconds that a request waits for new work to finish, and the seconds between checks."""

MAX_STRAYS, MAX_REPORTED = 200, 20
SAMPLE = 20
"""Number of documents to query before halting the mirror because too many are missing."""


class PutOffError(Exception):
    """Raised if the audit can't continue now. kbsync retries it later."""


@dataclass(slots=True)
class AuditResult:
    """The result of an audit, which counts documents by problem.

    `repaired`: how many of them were repaired. `unchecked`: strays that exceed the number that one audit
    checks; the next audit handles them. `left_alone`: documents that weren't repaired, by problem.
    """

    missing: int = 0
    duplicate: int = 0
    orphaned: int = 0
    foreign: int = 0
    unchecked: int = 0
    repaired: int = 0
    left_alone: dict[str, int] = field(default_factory=lambda: {"duplicate": 0, "orphaned": 0})
    reported: int = 0


_COUNTS = ("missing", "duplicate", "orphaned", "foreign", "unchecked", "repaired")


class RegularAudit:
    """The audits of one mirror, in a daemon (`keep`) or in a pass (`run_due`).

    Each audit has four steps. Only its end is recorded (`status.LastAudit`), so an interrupted audit stays
    due.

    - It is due `deep_rescan` after the last audit ended, or when a user requests one. Both survive a restart.
    - It reads the whole list. In a daemon, each request comes after a pause (`Limits.unhurried`) and lets new
      work go first; a pass has no other work left.
    - Once the list can no longer be lagging, it rechecks the documents missing from the list, and the listed
      ones that no file needs. If there are none, it ends at once.
    - It makes repairs, with one transaction for each batch or document: it resends documents that the target
      reports missing, and deletes documents that reappeared and duplicates that this state created. Anything
      else is only logged.

    An audit interrupted at any point (kill -9, a halt, an unresponsive target) leaves only repaired rows,
    which the worker then acts on. If many documents are missing at once, it sends nothing and halts the
    mirror until a user decides (ADR 14).

    It waits until the `worker` is idle, and wakes it for repairs.
    """

    def __init__(self, mirror: Mirror, journal: Journal, target: Target, worker: Worker) -> None:
        self._mirror, self._journal, self._target, self._worker = mirror, journal, target, worker
        self._store, self._clock = mirror.store, mirror.clock
        self._wake = asyncio.Event()
        self._turn = asyncio.Lock()

    def wake(self) -> None:
        """Check right away whether an audit is due, because a user requested one."""
        self._wake.set()

    @property
    def _may_work(self) -> bool:
        """Whether the folder has been compared once and the mirror is neither halted nor paused."""
        mirror = self._mirror
        return mirror.has_compared and mirror.halt is None and not mirror.is_paused

    async def keep(self) -> None:
        """Run an audit whenever one is due, until canceled."""
        while True:
            try:
                seconds = await self._until_due()
            except StateError:  # the mirror's loop reports it
                seconds = MAX_REST
            if seconds <= 0:
                seconds = PATIENCE if not self._may_work else 0.0 if await self.try_once() else PUT_OFF
            await wait_for_any(self._clock, min(MAX_REST, seconds), self._wake)
            self._wake.clear()

    async def run_due(self) -> None:
        """Run an audit during a pass, if one is due. If it fails, the next pass tries again."""
        if await self._until_due() <= 0:
            await self.try_once()

    async def _until_due(self) -> float:
        """Return the seconds until the next audit."""
        binding, now = self._journal.binding, self._clock.wall()
        recorded, request = await self._store.read(
            lambda tx: (last_audit(tx, binding.mirror), self._read_request(tx))
        )
        if recorded is None or recorded.binding != binding.id:
            # A new base needs no audit yet: everything known about it was just read.
            last = LastAudit(binding.id, now)
        else:
            # If the clock was set back, the period starts now, so only one audit is late.
            last = replace(recorded, ended=min(recorded.ended, now))
        if last != recorded:
            await self._store.write(lambda tx: keep_last_audit(tx, binding.mirror, last))
        return 0.0 if request else last.ended + binding.settings.deep_rescan - now

    def _read_request(self, tx: Tx) -> str:
        return tx.meta.get(MirrorFact.AUDIT_REQUEST, self._journal.binding.mirror)

    async def try_once(self) -> bool:
        """Run one audit. Return False if it was interrupted."""
        name = self._journal.binding.settings.name
        try:
            await self.audit()
        except (PutOffError, TargetError, StateError) as error:
            log.info("audit.put_off", mirror=name, reason=str(error))
        except Exception as error:  # a bug ends this audit, not the mirror
            log_bug("audit.failed", error, mirror=name)
        else:
            return True
        return False

    # -- one audit -------------------------------------------------------------------------------------

    async def audit(self) -> AuditResult:
        """Run the audit. If it raises `TargetError`, `StateError` or `PutOffError`, nothing is recorded."""
        started, result, binding = self._clock.wall(), AuditResult(), self._journal.binding
        request = await self._store.read(self._read_request)
        target = self._target if self._mirror.is_pass else self._target.unhurried(self._pace)
        audit = Audit(binding, target, self._store.read, MAX_STRAYS)
        await audit.read_list()
        if await audit.has_doubts(started):
            # The list may lag, so wait that long, then query the missing documents by their ids.
            await self._clock.sleep(self._journal.timing.horizon)
        self._check_halt()
        await self._refuse_emptied(audit, started)
        async for batch in audit.find_unlisted(started):
            await self._repair_missing(audit, await audit.confirm_missing(batch), result)
        orphaned, duplicate = await audit.compare(await audit.recheck_strays(audit.strays))
        if binding.abilities.keeps:  # documents left behind by a lost state are kept, too
            orphaned = [discrepancy for discrepancy in orphaned if discrepancy.is_deleted]
        self._check_halt()
        result.orphaned, result.duplicate = len(orphaned), len(duplicate)

        def retire(kind: str, stray: Claim | None, tx: Tx) -> bool:
            # Delete only documents that this state uploaded. A user decides about lookalikes (promise 6).
            if stray is None or stray.row is None or stray.whose is not Whose.OURS_UNNEEDED:
                return False
            row = tx.uploads.get(stray.row.id, UploadState.TOMBSTONE)
            if row is not None and row.remote_id == stray.remote_id:
                retired = lifecycle.still_there(row, self._journal.timing)
                tx.uploads.save(retired)
                return retired.state is UploadState.RETIRING
            return kind == "duplicate" and Repairs(self._journal).retire_stray(tx, stray)

        for kind, discrepancies in (("duplicate", duplicate), ("orphaned", orphaned)):
            for discrepancy in discrepancies:
                why = discrepancy.why
                if await self._store.write(partial(retire, kind, discrepancy.claim)):
                    result.repaired += 1
                    self._worker.wake()
                    why += "; it will be deleted"
                else:
                    result.left_alone[kind] += 1
                self._report(result, kind, discrepancy.path, discrepancy.remote_id, why)
        result.foreign, result.unchecked = audit.foreign, audit.unchecked
        now = self._clock.wall()
        last = LastAudit(binding.id, now, **result.left_alone, repaired=result.repaired, is_audit=True)

        def record(tx: Tx) -> None:
            keep_last_audit(tx, binding.mirror, last)
            if self._read_request(tx) == request:
                tx.meta.set(MirrorFact.AUDIT_REQUEST, binding.mirror, "")

        await self._store.write(record)
        counts = {name: getattr(result, name) for name in _COUNTS}
        log.info("audit.ended", mirror=binding.settings.name, **counts, seconds=round(now - started, 1))
        return result

    async def _pace(self) -> None:
        """Wait until another request is allowed. Only one caller may wait at a time."""
        async with self._turn:
            await self._clock.sleep(self._journal.binding.limits.unhurried)
            # New work goes first, but not forever: otherwise a mirror that is always busy would never be
            # audited.
            latest = self._clock.steady() + PATIENCE
            while not await self._worker.is_idle() and self._clock.steady() < latest:
                await self._clock.sleep(CHECK_EVERY)
            self._check_halt()

    def _check_halt(self) -> None:
        if not self._may_work:
            raise PutOffError("the mirror is halted")

    async def _refuse_emptied(self, audit: Audit, started: float) -> None:
        """Halt if the base has lost many documents.

        To confirm the loss, query the target for a sample of them.
        """
        binding = self._journal.binding
        sample: list[Upload] = []
        missing = 0
        async for batch in audit.find_unlisted(started):
            missing += len(batch)
            sample += batch[: SAMPLE - len(sample)]
        serving = await self._store.read(lambda tx: tx.uploads.serving_count(binding.mirror, binding.id))
        if not is_emptied(serving, serving - missing):
            return
        if len(await audit.confirm_missing(sample)) < len(sample):
            return
        await self._mirror.halts.halt(base_emptied(binding.settings.name, serving, missing))
        raise PutOffError(f"{missing} of {serving} documents are missing")

    async def _repair_missing(self, audit: Audit, rows: Sequence[Upload], result: AuditResult) -> None:
        """Replace missing documents with copies where possible, and send the remaining documents again."""
        paths = {row.path for row in rows}
        copies = [stray for stray in audit.strays if stray.path in paths and stray.row is None]
        copies = await audit.recheck_strays(copies)
        self._check_halt()

        def send_again(tx: Tx) -> int:
            repairs, missing = Repairs(self._journal), {row.remote_id or "" for row in rows}
            for copy in copies:
                repairs.adopt(tx, copy, missing)
            return sum(repairs.send_again(tx, row.remote_id or "") for row in rows)

        result.missing += len(rows)
        result.repaired += await self._store.write(send_again)
        for row in rows:
            why = "replaced with a copy or scheduled to be sent again"
            self._report(result, "missing", row.path, row.remote_id, why)
        if rows:
            self._worker.wake()

    def _report(self, result: AuditResult, kind: str, path: str, remote_id: str | None, why: str) -> None:
        result.reported += 1
        if result.reported <= MAX_REPORTED:
            name = self._journal.binding.settings.name
            log.warning("audit.found", mirror=name, kind=kind, path=path, document_id=remote_id, reason=why)
