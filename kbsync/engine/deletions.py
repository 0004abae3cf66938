"""Files that are gone: the second check, the limits beyond which a batch needs approval, and approvals.

Nothing here deletes a document. An allowed deletion sets its upload to RETIRING; the worker sends it after a
last check of the file (`returned`, `begin`), because days may pass in between.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Container, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from kbsync.contract.target import DocState, DocStatus
from kbsync.core import lifecycle
from kbsync.core.model import FileKind, Presence, Purpose, RootIdentity, Upload, UploadState, Wish
from kbsync.core.planner import is_undecided, must_stay, parting_cause
from kbsync.engine.clock import Clock
from kbsync.engine.journal import Journal
from kbsync.engine.reconcile import look_in_lost_mounts
from kbsync.engine.settings import DeletionLimits
from kbsync.source.look import Look, look_exactly
from kbsync.state.approvals import Candidate, HoldItem
from kbsync.state.read_only import Tx
from kbsync.state.store import StateStore

PAGE = 500
QUIET_LEAST = 3.0
"""Seconds without another deletion before a batch is weighed: `rm -r` takes a moment, and is one batch."""

ROUNDING = 1e-6
"""Seconds of tolerance: what `next_due` reports as due now is due, despite rounding."""

APPROVAL_KEPT = 7 * 86400.0


def must_hold(
    batch: int, executed: int, serving: int, limits: DeletionLimits, before: int | None = None
) -> bool:
    """Whether `batch` deletions need approval (promise 5).

    `executed`: deletions allowed without asking within the window. `serving`: documents that serve now,
    including the batch. `before`: how many served when the first file went missing.
    """
    if batch == 0:
        return False
    # Later uploads must not hide that all earlier documents would be deleted.
    if batch >= min(serving, before or serving):
        return True
    gone = batch + executed
    return gone > limits.count and gone > limits.fraction * (serving + executed)


class Deletions:
    """The deletions of one mirror.

    `identity` returns the root's identity, None while it cannot be trusted; `coming` the inodes of files that
    are still changing.
    """

    def __init__(
        self,
        store: StateStore,
        journal: Journal,
        clock: Clock,
        identity: Callable[[], Awaitable[RootIdentity | None]],
        coming: Callable[[], Collection[int]],
    ) -> None:
        self._store = store
        self._journal = journal
        self._clock = clock
        self._identity = identity
        self._coming = coming
        self.may_wait = True
        """Whether a file may wait for its second check or to be weighed; False only if none does."""
        self._served = deque[tuple[float, int]]()
        """How many documents served recently, and since when, in steady seconds."""
        self._missed: dict[str, float] = {}
        """Missing files that are not weighed yet: when a check missed them, in steady seconds."""
        self._waiting: dict[str, float] = {}
        """Missed files that may have moved: since when they wait to be recognized, in steady seconds."""

    @property
    def _mirror(self) -> int:
        return self._journal.binding.mirror

    async def second_looks(self) -> list[str]:
        """Check again the files that a check, one `settle` ago, missed. Returns paths that are back."""
        then = self._clock.steady() - self._journal.binding.settings.settle + ROUNDING
        back: list[str] = []
        await self.count_served()
        while rows := await self._store.read(lambda tx: tx.entries.missed_before(self._mirror, then, PAGE)):
            for path, _, missed in rows:
                self._missed.setdefault(path, missed)
            # A file may be recognized by its inode, once changing files elsewhere are read. The wait is
            # at most that for a changing file: it may change again and again.
            now, longest = self._clock.steady(), self._journal.binding.settings.settle_longest
            coming = self._coming()
            may_have_moved = [path for path, inode, _ in rows if inode in coming]
            since = {path: self._waiting.setdefault(path, now) for path in may_have_moved}
            moving = {path for path in since if now - since[path] < longest}
            for path in since.keys() - moving:
                del self._waiting[path]

            def miss_from(tx: Tx, paths: Iterable[str] = moving) -> None:
                for path in paths:
                    tx.entries.miss_from(self._mirror, path, self._clock.steady())

            if moving:
                await self._store.write(miss_from)
            looked = await self._looks(path for path, *_ in rows if path not in moving)
            if looked is None:
                break
            await self._store.write(partial(self._record_looks, looked))
            back += [path for path, found in looked if found.kind not in (None, FileKind.FOLDER)]
        return back

    async def _looks(self, paths: Iterable[str]) -> list[tuple[str, Look]] | None:
        """Checks that count: the root was the same before and after. None if it was not."""
        before = await self._identity()
        if before is None:
            return None
        root = self._journal.binding.settings.root
        found = await asyncio.to_thread(look_exactly, root, list(paths), before)
        found = await look_in_lost_mounts(self._store, self._journal.binding, found)
        return found if await self._identity() == before else None

    def _record_looks(self, looked: Iterable[tuple[str, Look]], tx: Tx) -> None:
        for path, found in looked:
            match found.presence:
                case _ if found.lacks_file:  # absent at two checks below a verified root (promise 1)
                    self._journal.gone(tx, path)
                case Presence.PRESENT:
                    tx.entries.doubt(self._mirror, path)
                case _:
                    tx.entries.set_presence(self._mirror, path, Presence.UNKNOWN)

    async def next_due(self) -> float | None:
        """Steady time of the next second check or weighing; None if nothing waits."""
        missed, is_missed_by_scan = await self._store.read(
            lambda tx: (tx.entries.first_missed(self._mirror), tx.entries.is_missed_by_scan(self._mirror))
        )
        times = [] if missed is None else [missed + self._journal.binding.settings.settle]
        n, first, last = await self._store.read(lambda tx: tx.holds.candidate_times(self._mirror))
        if n:
            # Files waiting for their second check may still join the batch, see `weigh`.
            longest = first + self._journal.binding.settings.settle_longest
            at = self._weigh_at(first, last) if missed is None else longest
            times.append(self._clock.steady() + at - self._clock.wall())
        if missed is None and not is_missed_by_scan:
            self._waiting.clear()
        if not times and not is_missed_by_scan:
            self.may_wait = False
        await self.count_served()
        return min(times, default=None)

    async def count_served(self) -> None:
        """Record how many documents serve now: a batch that starts now is compared with that."""
        binding, now = self._journal.binding, self._clock.steady()

        def count(tx: Tx) -> int | None:
            # Files that a running scan misses count from its end, but went missing before.
            if tx.entries.is_missed_by_scan(self._mirror):
                return None
            return self._count_served(tx)

        served = await self._store.read(count)
        if served is None:
            return
        if not self._served or self._served[-1][1] != served:
            self._served.append((now, served))
        kept = binding.settings.settle + 2 * binding.settings.settle_longest
        while len(self._served) > 1 and self._served[1][0] < now - kept:
            self._served.popleft()

    def _count_served(self, tx: Tx) -> int:
        binding = self._journal.binding
        serving = tx.uploads.serving_count(self._mirror, binding.id)
        # A document and its replacement count as one: a renamed file is not gone.
        standing_in = tx.uploads.standing_in(self._mirror, binding.id) if binding.abilities.texts_once else 0
        return serving + standing_in

    def _weigh_at(self, first: float, last: float) -> float:
        settings, now = self._journal.binding.settings, self._clock.wall()
        if last > now:
            return now  # the clock was set back: the age is unknown
        return min(last + max(settings.settle, QUIET_LEAST), first + settings.settle_longest)

    async def are_open(self, until: float) -> bool:
        """Whether a file missed by `until` (steady seconds) waits for its second check, or to be weighed."""
        n, _, _ = await self._store.read(lambda tx: tx.holds.candidate_times(self._mirror))
        return n > 0 or await self.are_missed(until)

    async def are_missed(self, until: float) -> bool:
        """Whether a file missed by `until` (steady seconds) waits for its second check."""
        missed = await self._store.read(lambda tx: tx.entries.first_missed(self._mirror))
        return missed is not None and missed <= until

    async def weigh(self, *, now: bool = False) -> int:
        """Weigh the collected deletions once none came for a while (`now`: the collection is complete).

        One short transaction decides about all of them, and the rest follows in batches, also after a crash.
        Returns how many of them newly need approval.
        """
        n, first, last = await self._store.read(lambda tx: tx.holds.candidate_times(self._mirror))
        held = 0
        if n and await self._carry_out_weighed():  # of an interrupted run, whose times are not the others'
            n, first, last = await self._store.read(lambda tx: tx.holds.candidate_times(self._mirror))
        if n:
            if not (now or self._clock.wall() >= self._weigh_at(first, last)):
                return 0
            longest = first + self._journal.binding.settings.settle_longest
            if not now and self._clock.wall() < longest and await self.are_missed(math.inf):
                return 0  # files wait for their second check: weigh related deletions together
            if await self._identity() is None:
                return 0
            began = await self._withdraw_others()
            held = await self._store.write(partial(self._weigh, began))
            await self._carry_out_weighed()
        # Nothing is left to weigh; only files that may have moved still wait.
        self._missed = {path: at for path, at in self._missed.items() if path in self._waiting}
        return held

    async def _withdraw_others(self) -> float:
        """Withdraw candidates that no longer qualify; returns when the others' first file went missing."""
        ahead = self._clock.wall() - self._clock.steady()
        began, after = math.inf, None

        def withdraw(page: Sequence[Candidate], tx: Tx) -> list[Candidate]:
            return [one for one in page if self._is_still_to_go(tx, one)]

        def candidates(tx: Tx) -> list[Candidate]:
            return tx.holds.candidates(self._mirror, after=after, limit=PAGE)

        while page := await self._store.read(candidates):
            after = page[-1].path
            left = await self._store.write(partial(withdraw, page))
            began = min([began, *(self._missed.get(one.path, one.at - ahead) for one in left)])
        return began

    def _weigh(self, began: float, tx: Tx) -> int:
        """Decide about all at once. `began`: when their first file went missing, in steady seconds."""
        binding, now = self._journal.binding, self._clock.wall()
        batch = tx.holds.count_batch(self._mirror)
        serving = self._count_served(tx)
        # Bursts of deletions count as one: otherwise a folder could be emptied a few files at a time.
        executed = tx.holds.logged_since(self._mirror, now - binding.settings.deletions.window)
        # How many documents served when the first file of the batch went missing.
        counts = [count for at, count in self._served if at < began]
        before = counts[-1] if counts else next((count for _, count in self._served), None)
        asks = tx.mirrors.get(self._mirror).hold_all
        if batch and (asks or must_hold(batch, executed, serving, binding.settings.deletions, before)):
            tx.holds.hold_batch(self._mirror, now)
            return batch
        if batch:
            tx.holds.let_batch_go(self._mirror)
            tx.holds.log(self._mirror, now, batch)
        return 0

    async def _carry_out_weighed(self) -> bool:
        """Mark allowed documents for deletion, and held ones for approval; returns whether there were any."""

        def carry_out(tx: Tx) -> int:
            page = tx.holds.weighed(self._mirror, PAGE)
            for candidate, hold in page:
                if not self._is_still_to_go(tx, candidate):
                    continue
                if hold is None:
                    self._release(tx, candidate.upload)
                else:
                    self._hold(tx, candidate, hold)
            tx.holds.end_empty(self._mirror, self._clock.wall())
            return len(page)

        is_any = False
        while await self._store.write(carry_out):
            is_any = True
        return is_any

    def _hold(self, tx: Tx, candidate: Candidate, hold: int) -> None:
        tx.holds.withdraw(self._mirror, candidate.path)
        upload = tx.uploads.get(candidate.upload)
        assert upload is not None
        tx.holds.add_item(hold, HoldItem(candidate.path, upload.id, upload.digest, candidate.cause))
        tx.uploads.save(lifecycle.hold(upload))
        self._journal.decide(tx, candidate.path)

    def _is_still_to_go(self, tx: Tx, candidate: Candidate) -> bool:
        """Whether exactly this upload of the path must still be deleted; else the candidate is withdrawn."""
        entry = tx.entries.get(self._mirror, candidate.path)
        upload = tx.uploads.get(candidate.upload)
        if (
            entry is not None
            and upload is not None
            and upload.state is UploadState.SERVING
            and upload.path == candidate.path
            and parting_cause(wish := self._journal.wish(entry))
            and not wish.keeps
        ):
            return True
        tx.holds.withdraw(self._mirror, candidate.path)
        self._journal.decide(tx, candidate.path)  # shown as held
        return False

    def _release(self, tx: Tx, number: int) -> None:
        upload = tx.uploads.get(number)
        if upload is None or not upload.state.serves or upload.path is None:
            return
        tx.holds.withdraw(self._mirror, upload.path)
        tx.uploads.save(lifecycle.retire(upload, self._journal.timing))
        self._journal.decide(tx, upload.path)

    async def run_approved(self) -> int:
        """Delete what was approved and has not changed since; returns how many deletions."""

        def approved(tx: Tx) -> list[int]:
            return [hold.id for hold in tx.holds.current(self._mirror) if hold.approved_at is not None]

        if not await self._store.read(approved):
            return 0
        # An approval that could not be used for a week says nothing about today's folder.
        old, done = self._clock.wall() - APPROVAL_KEPT, 0
        await self._store.write(lambda tx: tx.holds.unapprove_before(self._mirror, old))
        for hold in await self._store.read(approved):
            done += await self._run(hold)
        return done

    async def _run(self, hold: int) -> int:
        done, after = 0, 0

        def run(page: Sequence[HoldItem], lacking: Collection[str], tx: Tx) -> int:
            return sum(self._run_item(tx, item, is_lacking=item.path in lacking) for item in page)

        def items(tx: Tx) -> list[HoldItem]:
            return tx.holds.items_after(hold, after, PAGE)

        while page := await self._store.read(items):
            after = page[-1].upload
            looked = await self._looks([item.path for item in page])
            if looked is None:
                return done
            lacking = {path for path, found in looked if found.lacks_file}
            done += await self._store.write(partial(run, page, lacking))
        await self._store.write(lambda tx: tx.holds.end_empty(self._mirror, self._clock.wall()))
        return done

    def _run_item(self, tx: Tx, item: HoldItem, *, is_lacking: bool) -> bool:
        entry, upload = tx.entries.get(self._mirror, item.path), tx.uploads.get(item.upload)
        held = upload is not None and upload.state is UploadState.HELD and upload.path == item.path
        # An approval is for exactly this document: another one that serves now is weighed again.
        if not held or entry is None:
            tx.holds.release(item.upload)
            return False
        wish = self._journal.wish(entry)
        if wish.presence is Presence.GONE and not is_lacking:
            wish = replace(wish, presence=Presence.PRESENT)  # it is back, or cannot be accessed
        if not parting_cause(wish) or wish.keeps:
            if wish.presence is not Presence.MISSING:  # its second check is pending
                tx.entries.doubt(self._mirror, item.path)  # the next scan checks it again
            return False
        self._release(tx, item.upload)
        tx.holds.release(item.upload)
        return True


async def returned(store: StateStore, journal: Journal, rows: Sequence[Upload]) -> Mapping[int, bool]:
    """Those whose file was gone and is not now, by id; False if that is unknown.

    Days may pass between the decision and the delete: the target was down, or kbsync did not run.
    """

    def find_gone(tx: Tx) -> dict[int, str]:
        """The paths, by row, of documents to delete only because their file is gone."""
        wishes = {row.id: _wish(journal, tx, row) for row in rows}
        return {
            number: wish.path
            for number, wish in wishes.items()
            if wish is not None
            and wish.presence is Presence.GONE
            and not parting_cause(replace(wish, presence=Presence.PRESENT))
        }

    paths = await store.read(find_gone)
    if not paths:
        return {}
    root = journal.binding.settings.root
    found = await asyncio.to_thread(look_exactly, root, set(paths.values()))
    seen = dict(await look_in_lost_mounts(store, journal.binding, found))
    return {
        number: seen[path].presence is Presence.PRESENT
        for number, path in paths.items()
        if not seen[path].lacks_file
    }


async def spared(store: StateStore, journal: Journal, rows: Sequence[Upload]) -> list[Upload]:
    """Those whose delete was sent without a success, but whose documents are now kept.

    Only a check at the target shows whether the document still exists.
    """
    return await store.read(lambda tx: [row for row in rows if _is_spared(journal, tx, row)])


def begin(
    journal: Journal,
    tx: Tx,
    numbers: Sequence[int],
    kept: Container[int],
    known: Mapping[str, DocStatus],
    *,
    is_full: bool,
) -> list[Upload]:
    """Count the attempt of those still retiring; only they may be deleted.

    A document whose path is selected again continues to serve, and one that another row needs (an update in
    place shares it) is left alone. `kept`: not now. `is_full`: wait for no successor, since it may
    need the space. `known`: what the target says about the `spared` ones, by remote id.
    """
    begun = []
    for number in numbers:
        before = tx.uploads.get(number)
        if before is not None and before.path is not None:
            journal.decide(tx, before.path)  # the decision may have changed
        upload = tx.uploads.get(number)
        if upload is None or upload.state is not UploadState.RETIRING:
            continue
        # An update in place leaves two rows with one document: it is deleted only if neither needs it.
        rows = tx.uploads.by_remote(journal.binding.id, upload.remote_id or "")
        if any(row.id != number and (row.state.serves or row.state.in_flight) for row in rows):
            tx.uploads.save(lifecycle.gone(upload))
        elif number in kept:
            tx.uploads.save(lifecycle.await_file(upload, journal.timing))
        elif (state := _state_of_spared(journal, tx, upload, known)) is DocState.READY:
            tx.uploads.save(lifecycle.serve(upload, attempts=0, postponed=0))
            journal.decide(tx, upload.path or "")
        elif state not in (None, DocState.MISSING):
            tx.uploads.save(lifecycle.await_file(upload, journal.timing))
        elif (waiting := _put_off(journal, tx, upload, is_full=is_full)) is not None:
            tx.uploads.save(waiting)
        else:
            begun.append(lifecycle.begin_delete(upload))
            tx.uploads.save(begun[-1])
    return begun


def _put_off(journal: Journal, tx: Tx, upload: Upload, *, is_full: bool) -> Upload | None:
    """The row, waiting for its file to be read or for a successor. None: its document may be deleted."""
    if not is_full and _may_be_renamed(journal, tx, upload):
        return lifecycle.await_successor(upload, journal.timing)
    wish = _wish(journal, tx, upload)
    others = [] if wish is None else journal.uploads(tx, wish.path)
    if wish is None or any(other.state.serves for other in others):
        return None
    if is_undecided(wish):
        return lifecycle.await_file(upload, journal.timing)
    if not is_full and must_stay(upload, wish, others):
        return lifecycle.await_successor(upload, journal.timing)
    return None


def _may_be_renamed(journal: Journal, tx: Tx, upload: Upload) -> bool:
    """Whether the state was lost and the renamed file may not be searchable by its new name yet."""
    binding = journal.binding
    # If each text is stored once, the other is refused until this one is deleted.
    if upload.sent_at is not None or upload.purpose is not Purpose.SERVE or binding.abilities.texts_once:
        return False
    return tx.uploads.is_on_the_way(binding.mirror, binding.id, upload.digest)


def _state_of_spared(
    journal: Journal, tx: Tx, upload: Upload, known: Mapping[str, DocStatus]
) -> DocState | None:
    """The state of a kept document; None for one that may be deleted."""
    if not _is_spared(journal, tx, upload):
        return None
    status = known.get(upload.remote_id or "")
    return DocState.UNKNOWN if status is None else status.state


def _is_spared(journal: Journal, tx: Tx, upload: Upload) -> bool:
    wish = _wish(journal, tx, upload)
    if wish is None or not wish.keeps or not parting_cause(wish) or upload.attempts == 0:
        return False
    return not any(other.state.serves for other in journal.uploads(tx, wish.path))


def _wish(journal: Journal, tx: Tx, upload: Upload) -> Wish | None:
    """What the folder needs at the path that a document served; None if it never served one."""
    if upload.path is None or upload.purpose is not Purpose.SERVE:
        return None
    entry = tx.entries.get(journal.binding.mirror, upload.path)
    return None if entry is None else journal.wish(entry)
