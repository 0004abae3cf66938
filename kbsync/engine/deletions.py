"""Handles missing files: checks them a second time, applies the limits beyond which deletions need approval,
and carries out approvals.

Nothing here deletes a document. An allowed deletion sets its upload to RETIRING. The worker deletes the
document after checking the file one last time (`find_returned`, `begin`), because days may pass in between.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Container, Iterable, Mapping, Sequence
from dataclasses import field, replace
from functools import partial

from kbsync.contract.target import DocState, DocStatus
from kbsync.core import lifecycle
from kbsync.core.model import Desired, FileKind, Presence, Purpose, RootIdentity, Upload, UploadState
from kbsync.core.planner import is_undecided, must_stay, removal_cause
from kbsync.dataclass import dataclass
from kbsync.engine.clock import Clock
from kbsync.engine.journal import Journal
from kbsync.engine.reconcile import recheck_mounts
from kbsync.engine.settings import DeletionLimits
from kbsync.engine.status import CAUSES, unapproved
from kbsync.source.stat import PathStat, stat_exactly
from kbsync.state.approvals import PENDING_APPROVAL, RELEASED, Hold
from kbsync.state.history import HistoryEvent
from kbsync.state.read_only import Tx
from kbsync.state.removals import Removal
from kbsync.state.store import StateStore

PAGE = 500
QUIET_LEAST = 3.0
"""Seconds without another deletion before kbsync decides on a batch, because `rm -r` takes a moment."""

ROUNDING = 1e-6
"""Tolerance for rounding, in seconds, so that anything that `next_due` reports as due is treated as due."""

APPROVAL_KEPT = 7 * 86400.0


def needs_approval(
    limits: DeletionLimits, *, deleted: int, executed: int, serving: int, all_documents: int
) -> bool:
    """Return whether `deleted` deletions, including those already waiting for approval, need approval
    (promise 5).

    `executed`: deletions within the window that needed no approval. `serving`: the number of documents that
    currently serve their paths. `all_documents`: how many deletions count as deleting everything.
    """
    if deleted >= all_documents:
        return True
    recent = deleted + executed
    return recent > limits.count and recent > limits.fraction * (serving + executed)


def has_open_deletions(tx: Tx, mirror: int, until: float = math.inf) -> bool:
    """Return whether any file that was first found missing by `until` (monotonic seconds) still needs a check
    or a decision.
    """
    missed = tx.entries.first_missed(mirror)
    return (missed is not None and missed <= until) or tx.removals.times(mirror)[0] > 0


@dataclass(slots=True, eq=False)
class Deletions:
    """The deletions of one mirror.

    `identity` returns the root's identity, or None while it can't be trusted. `changing_inodes` returns the
    inodes of files that are still changing.
    """

    store: StateStore
    journal: Journal
    clock: Clock
    identity: Callable[[], Awaitable[RootIdentity | None]]
    changing_inodes: Callable[[], Collection[int]]
    _served: deque[tuple[float, int]] = field(default_factory=deque)
    """Recent counts of serving documents, each with its monotonic time in seconds."""
    _may_have_moved: dict[str, float] = field(default_factory=dict)
    """Missing files that may have moved, each with the monotonic time, in seconds, of the check that first
    missed it."""

    @property
    def _mirror(self) -> int:
        return self.journal.binding.mirror

    async def check_again(self) -> list[str]:
        """Check again the files that a check found missing one `settle` period ago.

        Return the paths whose files are back.
        """
        settings = self.journal.binding.settings
        missed_by = self.clock.steady() - settings.settle + ROUNDING
        back: list[str] = []

        def record(
            checked: Iterable[tuple[str, PathStat]],
            first_checks: Mapping[str, float],
            missed: Mapping[str, float],
            tx: Tx,
        ) -> None:
            for path, stat in checked:
                if tx.entries.missed_at(self._mirror, path) != first_checks[path]:
                    continue  # a scan has found the file in the meantime
                if stat.lacks_file:  # absent at two checks below a verified root (promise 1)
                    self.journal.record_gone_file(tx, path)
                    tx.removals.missed_since(self._mirror, path, missed[path])
                elif stat.presence is Presence.PRESENT:
                    tx.entries.doubt(self._mirror, path)
                else:
                    tx.entries.set_presence(self._mirror, path, Presence.UNKNOWN)

        await self.count_served()
        while rows := await self.store.read(
            lambda tx: tx.entries.missed_before(self._mirror, missed_by, PAGE)
        ):
            # A moved file can be recognized by its inode once the changing files elsewhere have been read.
            # Limit the wait as for any changing file, because such a file may keep changing.
            now, changing_inodes = self.clock.steady(), self.changing_inodes()
            first_checks = {path: missed_at for path, _, missed_at in rows}
            missed = {path: self._may_have_moved.pop(path, at) for path, at in first_checks.items()}
            recent = now - settings.settle - settings.settle_longest
            may_have_moved = {
                path: missed[path]
                for path, ino, _ in rows
                if ino in changing_inodes and missed[path] > recent
            }

            def miss_from(tx: Tx, paths: Iterable[str] = may_have_moved, now: float = now) -> None:
                for path in paths:
                    tx.entries.miss_from(self._mirror, path, now)

            if may_have_moved:
                self._may_have_moved |= may_have_moved
                await self.store.write(miss_from)
            checked = await self._stat_paths(path for path in missed if path not in may_have_moved)
            if checked is None:
                self._may_have_moved |= missed
                break
            await self.store.write(partial(record, checked, first_checks, missed))
            back += [path for path, stat in checked if stat.kind not in (None, FileKind.FOLDER)]
        return back

    async def _stat_paths(self, paths: Iterable[str]) -> list[tuple[str, PathStat]] | None:
        """Stat the paths.

        Return None if the root changed in the meantime, which makes the results meaningless.
        """
        before = await self.identity()
        if before is None:
            return None
        root = self.journal.binding.settings.root
        stats = await asyncio.to_thread(stat_exactly, root, list(paths), before)
        stats = await recheck_mounts(self.store, self.journal.binding, stats)
        return stats if await self.identity() == before else None

    async def next_due(self) -> float | None:
        """Return the monotonic time when a second check or a decision is next due.

        It is infinite during a scan, and None if nothing is pending.
        """
        missed, is_missed_by_scan = await self.store.read(
            lambda tx: (tx.entries.first_missed(self._mirror), tx.entries.is_missed_by_scan(self._mirror))
        )
        times = [] if missed is None else [missed + self.journal.binding.settings.settle]
        n, first, last = await self.store.read(lambda tx: tx.removals.times(self._mirror))
        if n:
            # Files waiting for their second check may still join the batch, see `decide`.
            longest = first + self.journal.binding.settings.settle_longest
            wall = self.clock.wall()
            due_at = self._decide_at(first, last, wall) if missed is None else longest
            times.append(self.clock.steady() + due_at - wall)
        if is_missed_by_scan:
            times.append(math.inf)
        elif missed is None:
            self._may_have_moved.clear()
        await self.count_served()
        return min(times, default=None)

    async def count_served(self) -> None:
        """Record how many documents are serving now, as a baseline for the next batch of deletions."""
        binding, now = self.journal.binding, self.clock.steady()

        def count(tx: Tx) -> int | None:
            # Files that a running scan finds missing count from the scan's end, although they disappeared
            # earlier.
            if tx.entries.is_missed_by_scan(self._mirror):
                return None
            return self._count_served(tx)

        served = await self.store.read(count)
        if served is None:
            return
        if not self._served or self._served[-1][1] != served:
            self._served.append((now, served))
        seconds = binding.settings.settle + 2 * binding.settings.settle_longest
        while len(self._served) > 1 and self._served[1][0] < now - seconds:
            self._served.popleft()

    def _count_served(self, tx: Tx) -> int:
        binding = self.journal.binding
        serving = tx.uploads.serving_count(self._mirror, binding.id)
        # A document and its replacement count as one, because a renamed file isn't deleted.
        standing_in = tx.uploads.standing_in(self._mirror, binding.id) if binding.texts_once else 0
        return serving + standing_in

    def _decide_at(self, first: float, last: float, wall: float) -> float:
        """Return when to decide about deletions collected from `first` to `last`. `wall`: the time now."""
        settings = self.journal.binding.settings
        if last > wall:
            return wall  # the clock was set back: the age is unknown
        return min(last + max(settings.settle, QUIET_LEAST), first + settings.settle_longest)

    async def are_missed(self, until: float) -> bool:
        """Return whether any file that was first found missing by `until` (monotonic seconds) still needs its
        second check.
        """
        missed = await self.store.read(lambda tx: tx.entries.first_missed(self._mirror))
        return missed is not None and missed <= until

    async def decide(self, *, now: bool = False) -> int:
        """Allow or hold the collected deletions once no more of them are being added (`now`: at once).

        One short transaction decides all of the deletions, which then take effect in batches, even after a
        crash. Return how many newly need approval.
        """
        n, first, last = await self.store.read(lambda tx: tx.removals.times(self._mirror))
        # from an interrupted run, whose steady times can't be compared with ours
        if n and await self._carry_out_decided():
            n, first, last = await self.store.read(lambda tx: tx.removals.times(self._mirror))
        wall = self.clock.wall()
        if not n or not (now or wall >= self._decide_at(first, last, wall)):
            return 0
        longest = first + self.journal.binding.settings.settle_longest
        if not now and wall < longest and await self.are_missed(math.inf):
            return 0  # files wait for their second check: decide about related deletions together
        if await self.identity() is None:
            return 0

        def drop_others(removals: Sequence[Removal], tx: Tx) -> None:
            """Drop deletions that no longer qualify."""
            for removal in removals:
                self._find_deletable(tx, removal)

        for hold in await self.store.read(lambda tx: tx.holds.batches(self._mirror, decided=False)):
            after = ""
            while removals := await self.store.read(partial(self._read_removals, hold, after)):
                after = removals[-1].path
                await self.store.write(partial(drop_others, removals))
        held_count = await self.store.write(self._decide_all)
        await self._carry_out_decided()
        return held_count

    def _read_removals(self, hold: Hold, after: str, tx: Tx, *, held: bool = False) -> list[Removal]:
        return tx.removals.page(hold, after, PAGE, held=held)

    def _decide_all(self, tx: Tx) -> int:
        """Allow or hold all waiting deletions at once. Return how many newly need approval."""
        binding, now = self.journal.binding, self.clock.wall()
        for hold in tx.holds.batches(self._mirror, decided=False):
            batch, serving = tx.removals.count(hold, held=False), self._count_served(tx)
            # Bursts of deletions count together: otherwise a folder could be emptied a few files at a time.
            window_start = now - binding.settings.deletions.window
            executed = tx.removals.logged_since(self._mirror, window_start)
            held = sum(
                tx.removals.count(waiting, held=True)
                for waiting in unapproved(tx, self._mirror)
                if waiting.made_at >= window_start
            )
            # How many documents served when the first file of the batch went missing: later uploads must not
            # hide that all earlier documents would be deleted.
            first_missed = tx.removals.began(hold, now - self.clock.steady())
            counts = [count for since, count in self._served if since < first_missed]
            before = counts[-1] if counts else next((count for _, count in self._served), 0)
            asks = tx.mirrors.get(self._mirror).hold_all
            if asks or needs_approval(
                binding.settings.deletions,
                deleted=batch + held,
                executed=executed,
                serving=serving,
                all_documents=min(serving, before or serving),
            ):
                tx.holds.decide(hold.id, PENDING_APPROVAL, now)
                return batch
            tx.holds.decide(hold.id, RELEASED, now)
            tx.removals.log(self._mirror, now, batch)
        return 0

    async def _carry_out_decided(self) -> bool:
        """Mark documents for deletion if they may be deleted, and hold all others for approval.

        Return whether any documents were marked.
        """

        def carry_out(hold: Hold, tx: Tx) -> bool:
            removals = self._read_removals(hold, "", tx)
            for removal in removals:
                if (upload := self._find_deletable(tx, removal)) is None:
                    continue
                if hold.state != PENDING_APPROVAL:
                    self._release(tx, removal, upload)
                    continue
                tx.removals.hold(self._mirror, removal.path)
                tx.uploads.save(lifecycle.hold(upload))
                self.journal.decide(tx, removal.path)
                reason = CAUSES.get(removal.cause, "")
                self.journal.add_to_history(tx, HistoryEvent.HELD, removal.path, upload, reason=reason)
            return bool(removals)

        decided = await self.store.read(lambda tx: tx.holds.batches(self._mirror, decided=True))
        for hold in decided:
            while await self.store.write(partial(carry_out, hold)):
                pass
        return bool(decided)

    def _find_deletable(self, tx: Tx, removal: Removal) -> Upload | None:
        """Return the upload if it still serves its path and must be deleted. Otherwise, cancel the pending
        removal.
        """
        entry = tx.entries.get(self._mirror, removal.path)
        upload = tx.uploads.get(removal.upload, UploadState.SERVING)
        if (
            entry is not None
            and upload is not None
            and upload.path == removal.path
            and removal_cause(desired := self.journal.desired(entry))
            and not desired.keeps
        ):
            return upload
        tx.removals.drop(self._mirror, removal.path)
        self.journal.decide(tx, removal.path)  # shown as held
        return None

    def _release(self, tx: Tx, removal: Removal, upload: Upload) -> None:
        tx.removals.drop(self._mirror, removal.path)
        tx.uploads.save(lifecycle.retire(upload, self.journal.timing))
        self.journal.decide(tx, removal.path)

    async def run_approved(self) -> None:
        """Delete the documents whose deletion a user has approved, unless they have changed since then."""

        def approved(tx: Tx) -> list[Hold]:
            return [hold for hold in tx.holds.current(self._mirror) if hold.approved_at is not None]

        def release(removals: Sequence[Removal], paths_without_file: Collection[str], tx: Tx) -> None:
            for removal in removals:
                path = removal.path
                entry, upload = (
                    tx.entries.get(self._mirror, path),
                    tx.uploads.get(removal.upload, UploadState.HELD),
                )
                # An approval covers exactly this document: another one that serves now needs a new decision.
                if upload is None or upload.path != path or entry is None:
                    tx.removals.release(removal.upload)
                    continue
                desired = self.journal.desired(entry)
                if desired.presence is Presence.GONE and path not in paths_without_file:
                    desired = replace(desired, presence=Presence.PRESENT)  # it is back or inaccessible
                if removal_cause(desired) and not desired.keeps:
                    self._release(tx, removal, upload)
                elif desired.presence is not Presence.MISSING:  # the second check is pending
                    tx.entries.doubt(self._mirror, path)  # the next scan checks it again

        if not await self.store.read(approved):
            return
        # After a week, an unused approval no longer applies to the current folder.
        old = self.clock.wall() - APPROVAL_KEPT
        await self.store.write(lambda tx: tx.holds.unapprove_before(self._mirror, old))
        for hold in await self.store.read(approved):
            after = ""
            while removals := await self.store.read(partial(self._read_removals, hold, after, held=True)):
                after = removals[-1].path
                checked = await self._stat_paths([removal.path for removal in removals])
                if checked is None:
                    return
                paths_without_file = {path for path, stat in checked if stat.lacks_file}
                await self.store.write(partial(release, removals, paths_without_file))


async def find_returned(
    store: StateStore, journal: Journal, rows: Sequence[Upload], identity: RootIdentity | None
) -> Mapping[int, bool]:
    """Return the ids of the rows whose missing file is back (True) or may be back (False).

    Days may pass between the decision and the deletion, while the target is down or kbsync isn't running.
    `identity`: the root's identity. If another folder is now at the root's path, no file counts as missing
    (promise 1).
    """

    def read_paths(tx: Tx) -> dict[int, str]:
        """Return, by row, the paths of documents to be deleted only because their file is missing."""
        desired_states = {row.id: _desired(journal, tx, row) for row in rows}
        return {
            number: desired.path
            for number, desired in desired_states.items()
            if desired is not None
            and desired.presence is Presence.GONE
            and not removal_cause(replace(desired, presence=Presence.PRESENT))
        }

    paths = await store.read(read_paths)
    if not paths:
        return {}
    root = journal.binding.settings.root
    stats = await asyncio.to_thread(stat_exactly, root, set(paths.values()), identity)
    stat_of = dict(await recheck_mounts(store, journal.binding, stats))
    return {
        number: stat_of[path].presence is Presence.PRESENT
        for number, path in paths.items()
        if not stat_of[path].lacks_file
    }


def begin(
    journal: Journal,
    tx: Tx,
    numbers: Sequence[int],
    postponed: Container[int],
    statuses: Mapping[str, DocStatus],
    *,
    is_full: bool,
) -> list[Upload]:
    """Count an attempt for each upload that is still retiring. Only these may be deleted.

    A document whose path is selected again continues to serve. A document that another row also needs (after
    an in-place update) stays. `postponed`: ids not to delete now. `is_full`: don't wait for a successor,
    which may need the space. `statuses`: the target's results, by remote id, for the documents that
    `is_to_keep` selects.
    """
    started = []
    for number in numbers:
        before = tx.uploads.get(number)
        if before is not None:
            journal.decide(tx, before.path)  # the decision may have changed
        if (upload := tx.uploads.get(number, UploadState.RETIRING)) is None:
            continue
        # An update in place leaves two rows with one document: it is deleted only if neither needs it.
        remote_id = upload.remote_id or ""
        rows = tx.uploads.by_remote(journal.binding.id, remote_id)
        state = DocState.MISSING
        if is_to_keep(journal, tx, upload):
            state = statuses.get(remote_id, DocStatus(DocState.UNKNOWN)).state
        if any(row.id != number and (row.state.serves or row.state.in_flight) for row in rows):
            tx.uploads.save(lifecycle.mark_gone(upload, journal.timing))
        elif number in postponed:
            tx.uploads.save(lifecycle.await_file(upload, journal.timing))
        elif state is DocState.READY:
            tx.uploads.save(lifecycle.serve(upload, attempts=0, postponed=0))
            journal.decide(tx, upload.path)
        elif state is not DocState.MISSING:
            tx.uploads.save(lifecycle.await_file(upload, journal.timing))
        elif (waiting := _put_off(journal, tx, upload, is_full=is_full)) is not None:
            tx.uploads.save(waiting)
        else:
            started.append(lifecycle.begin_delete(upload))
            tx.uploads.save(started[-1])
    return started


def _put_off(journal: Journal, tx: Tx, upload: Upload, *, is_full: bool) -> Upload | None:
    """Return the row with its deletion postponed, or None if its document may be deleted.

    The deletion is postponed until the file has been read or its text is searchable in another document.
    """
    binding = journal.binding
    # The text may have moved to another file: by a copy and a deletion, by swapping two files, or by a rename
    # while the state was lost. But if the target stores each text once, it refuses the new document until
    # this one is deleted.
    may_have_moved = upload.purpose is Purpose.SERVE and not binding.texts_once
    if not is_full and may_have_moved and tx.uploads.is_on_the_way(binding.mirror, binding.id, upload.digest):
        return lifecycle.await_same_text(upload, journal.timing)
    desired = _desired(journal, tx, upload)
    rows = [] if desired is None else journal.uploads(tx, desired.path)
    if desired is None or any(row.state.serves for row in rows):
        return None
    if is_undecided(desired):
        return lifecycle.await_file(upload, journal.timing)
    blocks_successor = binding.texts_once and upload.digest == desired.digest
    if not is_full and not blocks_successor and must_stay(upload, desired, rows):
        return lifecycle.await_successor(upload, journal.timing)
    return None


def is_to_keep(journal: Journal, tx: Tx, upload: Upload) -> bool:
    """Return whether to keep a document whose deletion was requested but not confirmed.

    Only a check at the target shows whether the document still exists.
    """
    desired = _desired(journal, tx, upload)
    if desired is None or not desired.keeps or not removal_cause(desired) or upload.attempts == 0:
        return False
    return not any(row.state.serves for row in journal.uploads(tx, desired.path))


def _desired(journal: Journal, tx: Tx, upload: Upload) -> Desired | None:
    """Return the desired state of the path that a document served, or None if the document never served a
    path.
    """
    if upload.purpose is not Purpose.SERVE:
        return None
    entry = tx.entries.get(journal.binding.mirror, upload.path)
    return None if entry is None else journal.desired(entry)
