"""Carries out the journal's decisions: sends, lists, polls, renames and deletes.

The worker makes no decisions itself. It takes due rows by rank, records the next request, sends it, and
records the response. It can be killed at any point: the next start finds every announced request in the
journal (promise 3).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

import structlog

from kbsync.contract.target import Accepted, DocStatus, Outgoing, PutOutcome, SupportsRename, Target
from kbsync.core.backoff import check_pause
from kbsync.core.fairness import SENDS, FairTurns, Lane
from kbsync.core.links import NoLink, address_from, is_link
from kbsync.core.model import AWAITING, Phase, Upload
from kbsync.dataclass import dataclass
from kbsync.engine import deletions, lost_uploads
from kbsync.engine.clock import end_tasks, log_bug, wait_for_any
from kbsync.engine.halts import STATE_PAUSE
from kbsync.engine.journal import DocumentEvent, Journal, ReportEvents
from kbsync.engine.polling import Poller
from kbsync.engine.settings import Binding
from kbsync.errors import NO_RESULT, Halted, Rejected, StateError, TargetError, Unavailable, Unsure
from kbsync.source.read import Spooled, copy_stable
from kbsync.state.mirrors import BindingFact, MirrorFact
from kbsync.state.read_only import Tx
from kbsync.state.uploads import DueWork

if TYPE_CHECKING:
    from kbsync.engine.mirror import Mirror, Rechecks

MAX_KEPT_BODIES = 64
"""Maximum number of bodies kept for files that keep changing; each may hold a file descriptor."""

MAX_REST = 30.0
BUSY_REST = 1.0
MAX_LIST_REST = 15.0
SUSPECT_AFTER = 2
"""Number of lost responses in a row after which a document is sent alone."""
CLOCK_STEP = 30.0
"""If the clock is set back by more than this many seconds, due times are corrected; otherwise, rows would
become due too late.
"""

log = structlog.get_logger("kbsync")


@dataclass(frozen=True, slots=True)
class Batch:
    """Opened bodies by upload id, and the uploads whose files no longer have the intended bytes.

    `addresses`: the addresses of web pages, from link files, if the target lists pages by address.
    """

    bodies: Mapping[int, Spooled]
    unsendable: Sequence[int]
    addresses: Mapping[int, str]


class Bodies:
    """Opens the bytes of one mirror's uploads.

    For a file that keeps changing, the bytes on which the decision was based are kept until they are sent,
    because a later read would return different bytes. The reconciler adds bodies and sending removes them,
    each in its own thread, while the event loop may close all of them.
    """

    def __init__(self, binding: Binding) -> None:
        self._binding = binding
        self._bodies_by_path: OrderedDict[str, Spooled] = OrderedDict()
        self._lock = threading.Lock()
        self._is_closed = False

    def keep(self, path: str, body: Spooled) -> None:
        """Keep these bytes, to be sent for this path. If there are too many, drop the oldest ones."""
        with self._lock:
            dropped = [self._bodies_by_path.pop(path, None)]
            self._bodies_by_path[path] = body
            while len(self._bodies_by_path) > (0 if self._is_closed else MAX_KEPT_BODIES):
                dropped.append(self._bodies_by_path.popitem(last=False)[1])
        for old in dropped:
            if old is not None:
                old.close()

    def close(self) -> None:
        """Drop all kept bytes, including any that an abandoned thread is still trying to keep."""
        with self._lock:
            dropped, self._is_closed = list(self._bodies_by_path.values()), True
            self._bodies_by_path.clear()
        for body in dropped:
            body.close()

    @asynccontextmanager
    async def open_bodies(self, rows: Sequence[Upload]) -> AsyncIterator[Batch]:
        """Read the bytes of each row's file, and release them at the end.

        Raises `StateError` if the spool's disk is full.
        """
        stack = ExitStack()
        reading = asyncio.ensure_future(asyncio.to_thread(self._read, rows, stack))
        try:
            yield await asyncio.shield(reading)
        finally:
            if reading.done():
                stack.close()
            else:

                def release(_: asyncio.Future[Batch]) -> None:
                    stack.close()
                    if not _.cancelled():
                        _.exception()  # nothing waits for it anymore

                # This task is canceled, but the thread continues. The files that it opens are closed when it
                # ends.
                reading.add_done_callback(release)

    def _read(self, rows: Sequence[Upload], stack: ExitStack) -> Batch:
        bodies: dict[int, Spooled] = {}
        unsendable = []
        for row in rows:
            body = self._take(row)
            if body is None:
                unsendable.append(row.id)
            else:
                bodies[row.id] = stack.enter_context(body)
        addresses: dict[int, str] = {}
        if self._binding.limits.links and not self._binding.limits.marks:
            for row in rows:
                if row.id in bodies and is_link(row.path):
                    # A file without an address is sent unchanged; the target reports the error.
                    with suppress(NoLink), bodies[row.id].open() as stream:
                        addresses[row.id] = address_from(row.path, stream)
        return Batch(bodies, unsendable, addresses)

    def _take(self, row: Upload) -> Spooled | None:
        with self._lock:
            body = self._bodies_by_path.pop(row.path, None)
        if body is not None:
            if body.digest == row.digest:
                return body
            body.close()
        copied = copy_stable(self._binding.settings.root, row.path, self._binding.spool_dir, row.digest)
        return copied if isinstance(copied, Spooled) else None


class Worker:
    """The worker of a mirror. The mirror's `halts` decide whether anything may be sent.

    `rechecks` receives files that no longer have the bytes to send, and missing files that are back. `report`
    receives the finished work.
    """

    def __init__(
        self,
        mirror: Mirror,
        journal: Journal,
        target: Target,
        bodies: Bodies,
        rechecks: Rechecks,
        *,
        report: ReportEvents,
    ) -> None:
        self._mirror = mirror
        self._store = store = mirror.store
        self._journal = journal
        self._target = target
        self._clock = clock = mirror.clock
        self._halts = mirror.halts
        self._report = report
        self._rechecks = rechecks
        self._bodies = bodies
        self._poller = Poller(store, journal, target)
        self.is_paused = False
        """Whether the mirror was paused in the last round."""
        self._turns = FairTurns()
        self._next_poll = self._next_list = 0.0
        self._is_listing = False
        self._polling = 0
        self._note: str | None = None  # the target's note, as recorded in the state
        self._revision = target.revision  # as recorded in the state
        self._ahead = clock.wall() - clock.steady()
        self._started = 0  # tasks
        self._lost = self._recovered = 0  # tasks that couldn't record their outcomes
        self._wake = asyncio.Event()
        self._busy: set[int] = set()
        self._tasks: set[asyncio.Task[bool]] = set()
        self._stopping = False
        self._has_read = False
        self.rested = asyncio.Event()
        """Set whenever a round or a task ends and no other task is running."""

    def wake(self) -> None:
        """Wake the worker, because there might be work."""
        self._wake.set()

    async def run(self) -> None:
        """Work until `stop` is set. After a failed round, wait and retry, regardless of the error."""
        while not self._stopping:
            self._wake.clear()
            try:
                seconds = await self._round()
                if not self._tasks:
                    self.rested.set()
            except StateError as error:
                self._state_failed(error)
                seconds = STATE_PAUSE
            except Exception as error:
                seconds = self._failed(error, of_round=True)
            await wait_for_any(self._clock, seconds, self._wake)

    async def stop(self, grace: float = 0.5) -> None:
        """Stop starting requests. Requests in flight get `grace` seconds and are then canceled."""
        self._stopping = True
        self.wake()
        try:
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=grace)
        finally:  # even if this call is canceled: no request may outlive its target
            cut = list(self._tasks)
            await end_tasks(cut)
        if cut:
            # Rows without this mark were interrupted by a kill, which their document may have caused.
            with contextlib.suppress(StateError):
                await self._store.write(partial(self._journal.recover, spent=False))

    async def is_idle(self, patience: float = 0.0) -> bool:
        """Return whether nothing is running and nothing is due within `patience` seconds."""
        started_tasks = self._started
        if not self._has_read or self._busy or self._tasks or self._lost != self._recovered:
            return False
        due = await self._read_next()
        if started_tasks != self._started:
            return False  # while the state was read; running work is not due
        return due is None or due > self._clock.wall() + patience

    async def is_settled(self) -> bool:
        """Return whether a paused mirror has nothing left to wait for.

        That is, nothing is running, and every upload that was sent is either searchable in place of its
        predecessor, or has failed and may be retried later.
        """
        if self._busy or self._tasks or self._lost != self._recovered:
            return False
        if self._halts.halted is not None:
            return True
        binding = self._journal.binding

        def find(tx: Tx) -> bool:
            is_sent = tx.uploads.unanswered(binding.mirror, binding.id)
            return bool(is_sent - self._poller.paused_failures or self._replaced(tx, 1))

        return not await self._store.read(find) and not self._tasks

    def _replaced(self, tx: Tx, limit: int) -> list[Upload]:
        binding = self._journal.binding
        return tx.uploads.replaced(binding.mirror, binding.id, self._clock.wall(), limit)

    async def _read_next(self, listing: float = -math.inf, poll: float = -math.inf) -> float | None:
        binding = self._journal.binding
        return await self._store.read(
            lambda tx: tx.uploads.next_due(binding.mirror, binding.id, listing, poll)
        )

    async def _round(self) -> float:
        """Start as much due work as possible. Return the time until more is due."""
        if self._halts.halted is not None:
            return MAX_REST
        now = self._clock.steady()
        if now < self._halts.not_before:
            return self._halts.not_before - now
        await self._catch_up()
        binding, limits = self._journal.binding, self._journal.binding.limits
        # With several slots, polls leave one free: a file just saved must not wait for them.
        most_polls = max(1, limits.concurrency - 1)
        may_poll = self._slots > 0 and self._polling < most_polls and now >= self._next_poll
        # Use the current time: other tasks continue while the state is read in its thread.
        wall, busy, requests = self._clock.wall(), frozenset(self._busy), limits.batch * self._slots
        may_list = not self._is_listing and now >= self._next_list

        def find(tx: Tx) -> tuple[DueWork, bool]:
            due = tx.uploads.find_due(
                binding.mirror,
                binding.id,
                wall,
                requests=requests,
                polls=limits.poll_first if may_poll else None,
                lists=may_list,
                busy=busy,
            )
            is_paused = self._journal.is_paused(tx)
            if is_paused:
                replaced = self._replaced(tx, requests + len(busy))
                due = due.of_sent(
                    self._poller.paused_failures, [row for row in replaced if row.id not in busy]
                )
            return due, is_paused

        due, self.is_paused = await self._store.read(find)
        if not self.is_paused:
            self._poller.paused_failures.clear()
        # How many documents may check whether the target can index again; None if it can.
        tries = None
        if self._halts.awaited or not self._has_read:  # it may be unable since an earlier run
            found, is_trying = await self._store.read(
                lambda tx: tx.uploads.awaited(binding.mirror, binding.id)
            )
            self._halts.awaited = self._halts.awaited or found
            tries = (0 if is_trying else 1) if self._halts.awaited else None
        self._has_read = True
        # Read one list at a time. Uploads lost in the meantime share the next one.
        is_listing = self._start(due.unsure, self._list_lost)
        self._is_listing = self._is_listing or is_listing
        is_polling = may_poll and self._slots > 0 and self._start(due.polls, partial(self._poll, tries=tries))
        if is_polling:
            self._polling += 1
            self._next_poll = self._clock.steady() + limits.poll_first
        waiting = {**due.sends, Lane.PROVE: due.proofs}
        if isinstance(self._target, SupportsRename):
            waiting[Lane.RENAME] = due.renames
        # The root is checked before every delete, because a missing folder isn't an empty one (promise 1).
        if due.deletes and await self._mirror.trusted_identity() is not None:
            waiting[Lane.DELETE] = due.deletes
        is_working = self._start_turns(waiting, tries)
        is_started = is_listing or is_polling or is_working
        seconds = 0.0 if is_started else await self._until_next(held_back=tries is not None)
        self._halts.rounds = 0
        return seconds

    async def _catch_up(self) -> None:
        """Deal with rows that a failed task left behind, and with a clock that was set back."""
        ahead, lost = self._clock.wall() - self._clock.steady(), self._lost
        if lost != self._recovered or ahead < self._ahead - CLOCK_STEP:
            busy = frozenset(self._busy)
            await self._store.write(lambda tx: self._journal.recover(tx, busy, spent=False))
        self._recovered, self._ahead = lost, ahead

    async def _until_next(self, *, held_back: bool) -> float:
        if not self._slots:
            return MAX_REST  # a task wakes the worker at its end
        if self.is_paused:
            return BUSY_REST
        ahead = self._clock.wall() - self._clock.steady()
        due = await self._read_next(self._next_list + ahead, self._next_poll + ahead)
        if not self._busy and (due is None or due > self._clock.wall() + MAX_REST):
            self._halts.record_recovery()  # no work is left that could fail
        if due is None:
            return MAX_REST
        # a busy row may be due, but its task wakes the worker; a row held back may always be due
        least = BUSY_REST if self._busy or held_back else 0.02
        return min(MAX_REST, max(least, due - self._clock.wall()))

    @property
    def _slots(self) -> int:
        limits = self._journal.binding.limits
        return max(0, limits.concurrency + limits.ahead - len(self._tasks))

    def _start(self, rows: Sequence[Upload], work: Callable[[Sequence[Upload]], Awaitable[None]]) -> bool:
        """Run `work` on rows in a separate task. The rows are busy until it ends."""
        if not rows or self._stopping:
            return False
        numbers = {row.id for row in rows}

        def finish(task: asyncio.Task[bool]) -> None:
            is_over = not task.cancelled() and task.exception() is None  # a BaseException ends the program
            self._lost += is_over and not task.result()
            self._tasks.discard(task)
            self._busy -= numbers
            if not self._tasks:
                self.rested.set()
            self.wake()

        self._busy |= numbers
        self._started += 1
        task = asyncio.create_task(self._run_guarded(work, rows))
        self._tasks.add(task)
        task.add_done_callback(finish)
        return True

    async def _run_guarded(
        self, work: Callable[[Sequence[Upload]], Awaitable[None]], rows: Sequence[Upload]
    ) -> bool:
        """Run the work. Return False if the outcomes couldn't be recorded."""
        try:
            try:
                await work(rows)
            except TargetError as error:
                await self._note_errors([error], 1)
            self._halts.record_recovery()
            return True
        except StateError as error:
            self._state_failed(error)
        except Exception as error:
            self._failed(error, of_round=False)
        return False

    def _failed(self, error: Exception, *, of_round: bool) -> float:
        """Handle one of kbsync's internal errors by pausing, for longer each time.

        Return the length of the pause in seconds.
        """
        seconds = self._halts.record_failure(error, self._clock.steady(), of_round=of_round)
        log_bug("worker.failed", error, mirror=self._journal.binding.settings.name, again_in=seconds)
        return seconds

    def _state_failed(self, error: StateError) -> None:
        """Send nothing until the journal is writable. Log this once, not at every attempt."""
        if self._halts.record_state_error(error, self._clock.steady()):
            log.error("state.failed", mirror=self._journal.binding.settings.name, reason=str(error))

    # -- turns -----------------------------------------------------------------------------------------

    def _start_turns(self, waiting: Mapping[Lane, Sequence[Upload]], tries: int | None) -> bool:
        """Start one piece of work from each lane in turn while slots are free, sending at most `tries` (None:
        all).

        Nothing bypasses the lanes, so even 400 deletions can't keep a file that was just saved from getting a
        slot.
        """
        remaining = {lane: list(rows) for lane, rows in waiting.items()}
        shares = {lane: self._share(lane, remaining) for lane in remaining}
        started, limits = False, self._journal.binding.limits
        while self._slots:
            able = [lane for lane, rows in remaining.items() if rows and (tries != 0 or lane not in SENDS)]
            lane = self._turns.next(able, limits.concurrency)
            if lane is None:
                break
            share = shares[lane]
            if lane in SENDS and tries is not None:
                share = min(share, tries)
                tries -= share
            rows = remaining[lane][:share]
            # A document that was sent several times without a response is sent alone, because it may make the
            # others fail.
            suspect = next((i for i, row in enumerate(rows) if row.losses >= SUSPECT_AFTER), len(rows))
            rows = rows[: max(1, suspect)]
            if limits.batch_bytes is not None:  # as much as fits into one request, but at least one document
                sums = itertools.accumulate(row.size for row in rows)
                rows = rows[: max(1, sum(total <= limits.batch_bytes for total in sums))]
            remaining[lane] = remaining[lane][len(rows) :]
            started = self._start(rows, partial(self._take_turn, lane, self._turns.begin(lane))) or started
        return started

    def _share(self, lane: Lane, waiting: Mapping[Lane, Sequence[Upload]]) -> int:
        """Return how many documents a turn may include: as many as fit into one request."""
        limits = self._journal.binding.limits
        if lane in (Lane.RENAME, Lane.PROVE) and not limits.embedded:
            return 1
        lanes = SENDS if lane in SENDS else (lane,)
        rows = sum(len(waiting.get(send_lane, ())) for send_lane in lanes)
        return max(1, min(limits.batch, -(-rows // max(1, self._slots))))

    async def _take_turn(self, lane: Lane, charge: float, rows: Sequence[Upload]) -> None:
        started = self._clock.steady()
        work = {Lane.DELETE: self._delete, Lane.RENAME: self._rename, Lane.PROVE: self._poller.prove}
        try:
            await work.get(lane, self._send)(rows)
        finally:
            self._turns.end(lane, charge, self._clock.steady() - started)

    # -- sending ---------------------------------------------------------------------------------------

    async def _send(self, rows: Sequence[Upload]) -> None:
        journal, binding = self._journal, self._journal.binding
        async with self._bodies.open_bodies(rows) as batch:

            def announce(tx: Tx) -> list[tuple[Upload, str | None]]:
                """Record the documents to send, each with the remote id that it replaces, before the first
                byte is sent.
                """
                if self._journal.is_paused(tx):
                    return []
                for number in batch.unsendable:
                    journal.record_unsendable(tx, number)
                claimed = []
                for upload in journal.claim(tx, list(batch.bodies), batch.addresses):
                    # If the target updates in place, the request changes the serving document.
                    needs_old = binding.abilities.updates or binding.texts_once
                    is_update = needs_old and upload.predecessor is not None
                    rows_there = journal.uploads(tx, upload.path) if is_update else []
                    replaced = next((row.remote_id for row in rows_there if row.state.serves), None)
                    claimed.append((upload, replaced))
                return claimed

            claimed = await self._store.write(announce)
            for row in rows:
                if row.id in batch.unsendable:
                    self._rechecks.add_changed(row.path)
            if not claimed:
                return
            documents = []
            for upload, replaces in claimed:
                path, body = upload.path, batch.bodies[upload.id]
                documents.append(
                    Outgoing(
                        upload_id=upload.id,
                        path=path,
                        name=upload.name,
                        digest=upload.digest,
                        size=upload.size,
                        mtime=body.stamp.mtime_ns / 1e9,
                        recipe=upload.recipe,
                        body=body,
                        replaces=replaces,
                        settings=binding.settings.document_settings(path),
                        is_retry=upload.repairs > 0,
                    )
                )
            outcomes: Sequence[PutOutcome]
            try:
                outcomes = await self._target.put(documents)
            except TargetError as error:
                outcomes = [error] * len(documents)
            except Exception as error:
                # A bug in a target: bytes may have been sent, so search for the document before sending it
                # again.
                log_bug("target.failed", error, mirror=binding.settings.name)
                outcomes = [Unsure(f"unexpected {type(error).__name__}: {error}")] * len(documents)
        await self._record_puts([upload for upload, _ in claimed], outcomes)

    async def _record_puts(self, claimed: Sequence[Upload], outcomes: Sequence[PutOutcome]) -> None:
        pairs = list(zip(claimed, outcomes, strict=True))
        binding = self._journal.binding
        blame = None if binding.limits.embedded else self._halts.blame(pairs)
        if blame is not None:
            labels, code, reason = tuple(self._halts.refused_labels), blame.code, blame.reason
            await self._store.write(lambda tx: self._journal.release_blamed(tx, labels, code, reason))
            await self._halt(blame)
        halted, may_be_spent = self._halts.halted, not self._halts.note_losses(pairs)

        note = self._target.note

        def record(tx: Tx) -> list[DocumentEvent | None]:
            self._note_revision(tx)
            if note != self._note:
                tx.meta.set(MirrorFact.NOTE, binding.mirror, note)
            # While the target is to blame, no document is at fault for a rejection.
            return [
                self._journal.record_put(
                    tx,
                    upload.id,
                    halted if halted and isinstance(outcome, Rejected) else outcome,
                    spent=may_be_spent and not (isinstance(outcome, Unsure) and outcome.is_answer),
                )
                for upload, outcome in pairs
            ]

        events = await self._store.write(record)
        self._note = note
        if any(isinstance(outcome, Accepted) for outcome in outcomes):
            self._halts.record_acceptance()
        await self._report_progress(events)
        await self._note_errors([a for a in outcomes if isinstance(a, TargetError)], len(outcomes))

    # -- searching for lost uploads, polling, deleting, renaming -----------------------------------------

    async def _list_lost(self, rows: Sequence[Upload]) -> None:
        started, started_at = self._clock.steady(), self._clock.wall()
        try:
            matches = await lost_uploads.find_uploads(
                self._store, self._journal.binding, self._target, rows, self._halts.record_response
            )
        finally:
            # Pause for about the duration of the list: a list of thousands takes minutes.
            now, self._is_listing = self._clock.steady(), False
            least = check_pause(0) if self._journal.binding.limits.list_lag > 0 else 0.0
            self._next_list = now + max(least, min(MAX_LIST_REST, now - started))
        self._halts.record_response()

        def record(tx: Tx) -> list[DocumentEvent | None]:
            return [self._journal.record_search(tx, s.row.id, s.listed, started_at, s.doubt) for s in matches]

        self._report(await self._store.write(record))

    async def _poll(self, rows: Sequence[Upload], tries: int | None) -> None:
        started = self._clock.steady()
        try:
            events, halted = await self._poller.poll(rows, tries)
            if self._target.revision != self._revision:  # scanned pages were read
                await self._store.write(self._note_revision)
            self._halts.record_response()
            await self._report_progress(events)
            if halted is not None:
                self._halts.awaited = halted.halt if halted.halt in AWAITING else ""
                await self._halt(halted)
        finally:
            self._polling -= 1
            # Leave the slot free for the duration of the poll: a single slot must also serve saved files.
            now = self._clock.steady()
            pause = min(now - started, self._journal.binding.limits.poll_first)
            self._next_poll = max(self._next_poll, now + pause)

    async def _delete(self, rows: Sequence[Upload]) -> None:
        identity = self._mirror.identity
        postponed = await deletions.find_returned(self._store, self._journal, rows, identity)
        for row in rows:
            if postponed.get(row.id):
                self._rechecks.add([row.path])

        def find_to_keep(tx: Tx) -> list[str]:
            return [row.remote_id or "" for row in rows if deletions.is_to_keep(self._journal, tx, row)]

        statuses: Mapping[str, DocStatus] = {}
        if ids := await self._store.read(find_to_keep):
            try:
                statuses = await self._target.status(ids)
                self._halts.record_response()
            except TargetError as error:
                await self._note_errors([error], 1)
        numbers, is_full = [row.id for row in rows], self._halts.awaited == Phase.NO_ROOM

        def begin(tx: Tx) -> list[Upload]:
            may_go = numbers
            if self._journal.is_paused(tx):
                replaced = {row.id for row in self._replaced(tx, -1)}
                may_go = [number for number in numbers if number in replaced]
            return deletions.begin(self._journal, tx, may_go, postponed, statuses, is_full=is_full)

        started = await self._store.write(begin)
        ids = [row.remote_id for row in started if row.remote_id is not None]
        if not ids:
            return
        try:
            outcomes = dict(await self._target.delete(ids))
        except TargetError as error:
            outcomes = dict.fromkeys(ids, error)

        def record(tx: Tx) -> list[DocumentEvent | None]:
            self._note_revision(tx)
            return [
                self._journal.record_delete(tx, row.id, outcomes.get(row.remote_id or "", NO_RESULT))
                for row in started
            ]

        self._report(await self._store.write(record))
        await self._note_errors([a for a in outcomes.values() if a is not None], len(outcomes))

    async def _rename(self, rows: Sequence[Upload]) -> None:
        """Rename documents and record that at the end, because repeating a rename is harmless."""
        assert isinstance(self._target, SupportsRename)
        journal = self._journal
        paths = [row.path for row in rows]
        entries, is_paused = await self._store.read(
            lambda tx: (
                [tx.entries.get(journal.binding.mirror, path) for path in paths],
                journal.is_paused(tx),
            )
        )
        if is_paused:
            return
        done = list[tuple[int, str]]()
        for row, path, entry in zip(rows, paths, entries, strict=True):
            mtime = self._clock.wall() if entry is None else entry.stamp.mtime_ns / 1e9
            try:
                name = journal.binding.naming.name(path, row.digest)
                await self._target.rename(row.remote_id or "", path, name, mtime)
            except Rejected as error:
                about = {"mirror": journal.binding.settings.name, "path": path, "document_id": row.remote_id}
                log.info("rename.refused", **about, reason=error.reason)
                await self._store.write(partial(journal.record_refused_rename, number=row.id))
            except TargetError as error:
                wait = error.retry_after if isinstance(error, Unavailable) else None
                await self._store.write(
                    partial(journal.record_rename_failure, number=row.id, reason=error.reason, wait=wait)
                )
                await self._note_errors([error], 1)
            else:
                self._halts.record_response()
                done.append((row.id, path))

        def record(tx: Tx) -> list[DocumentEvent | None]:
            self._note_revision(tx)
            return [journal.record_rename(tx, number, path) for number, path in done]

        self._report(await self._store.write(record))

    def _note_revision(self, tx: Tx) -> None:
        """Record the base's revision, along with the changes that it includes."""
        revision = self._target.revision
        if revision is not None and (self._revision is None or revision > self._revision):
            tx.meta.set(BindingFact.REVISION, self._journal.binding.id, str(revision))
            self._revision = revision

    # -- errors ----------------------------------------------------------------------------------------

    async def _note_errors(self, errors: Sequence[TargetError], requested: int) -> None:
        """Record what the responses show about the target's state."""
        halted = self._halts.record_errors(errors, requested, self._clock.steady())
        if halted is not None:
            await self._halt(halted)

    async def _halt(self, error: Halted) -> None:
        if self._halts.halted is None:
            await self._halts.halt(error)

    async def _report_progress(self, events: Sequence[DocumentEvent | None]) -> None:
        """Record that the target works, because puts or polls made documents searchable.

        A rename doesn't show that.
        """
        self._report(events)
        self._halts.record_progress(events)
        await self._halts.end_if_over()
