"""Runs one mirror: starts and stops it, with the code shared by `--once` and the daemon.

`Mirror` has what lasts as long as kbsync runs: the root, the halt, the counts. `BoundMirror` does the work.
It exists only within `bind`, while the mirror is bound to a knowledge base, and all code that needs the base
takes it as an argument. `BoundMirror.turn` decides the next step. engine/loop.py (the daemon) and once.py (a
pass) call it repeatedly; a pass stops once no file of its scan is left to wait for.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import field, replace
from pathlib import Path
from typing import Any

import structlog

from kbsync.contract.meter import Meter
from kbsync.contract.target import Target
from kbsync.core.model import RootIdentity
from kbsync.core.quiet import Settling
from kbsync.core.quiet_hours import current_period
from kbsync.core.text import printable
from kbsync.dataclass import dataclass
from kbsync.engine import attach
from kbsync.engine.attach import RecipeChanges
from kbsync.engine.audit import RegularAudit
from kbsync.engine.clock import Clock, end_tasks, log_bug, wait_until_open
from kbsync.engine.deletions import Deletions, has_open_deletions
from kbsync.engine.halts import Halts
from kbsync.engine.inbox import Inbox
from kbsync.engine.journal import DocumentEvent, Journal
from kbsync.engine.reconcile import PAGE, PAGE_SECONDS, Reconciler
from kbsync.engine.settings import MirrorIdentity, MirrorSettings
from kbsync.engine.status import BAD_CONFIG, pause_json, with_approve_command
from kbsync.engine.worker import Bodies, Worker
from kbsync.errors import Halted, KbsyncError, StateError, TargetError, UsageError
from kbsync.file_systems import access_within
from kbsync.source.hints import Hint, HintKind
from kbsync.source.roots import MAX_CHECK_SECONDS, unreadable
from kbsync.source.scan import ScanSummary
from kbsync.state import history
from kbsync.state.mirrors import Halt, MirrorFact, Pause
from kbsync.state.read_only import Tx
from kbsync.state.store import StateStore

log = structlog.get_logger("kbsync")

MAX_WAITS = 2
"""How many times a pass waits for one path: once after its scan, and again if the file has changed since
then.
"""


class AwaitedFiles:
    """The files that were being written during a scan: a pass is done once it waits for none of them.

    Without a bound, a pass would never end in a folder where files come and go. A path enters with the scan
    and, in a pass, again if its file changes in the meantime, at most `MAX_WAITS` times. It leaves
    permanently once its file has been recorded, has vanished, or has been read after the longest wait; the
    next pass checks it again. So a pass checks each path a bounded number of times, whatever happens in the
    folder.
    """

    def __init__(self, settling: Settling, now: float, *, is_pass: bool) -> None:
        """Start with no files. `now`: the monotonic time when the scan ended."""
        self._settling = settling
        self._is_pass = is_pass
        self._entries = Counter[str]()
        self._waiting: dict[str, float | None] = {}
        self.unsettled: set[str] = set()
        """Paths that disappeared while their files were still being written."""
        self.missed_until = now
        """A file that was first missed after this time appeared and disappeared during the pass."""
        self._enter(settling.paths())

    def __bool__(self) -> bool:
        """Whether the pass waits for any file."""
        return bool(self._waiting)

    def inodes(self) -> set[int]:
        """Return the inodes of the files that the pass waits for."""
        stamps = (self._settling.stamp(path) for path in self._waiting)
        return {stamp.ino for stamp in stamps if stamp is not None}

    def admit(self, paths: Collection[str]) -> Collection[str]:
        """Return which of the changed files this pass may check again. In a daemon, this is all of them."""
        if not self._is_pass:
            return paths
        admitted = {path for path in paths if self._entries[path] < MAX_WAITS}
        self._entries.update(admitted)
        self.unsettled |= set(paths) - admitted
        return admitted

    def extend(self, now: float) -> None:
        """In a pass, also wait for the files that are currently being written."""
        if self._is_pass:
            for path in self._settling.paths():
                if path not in self._waiting:
                    self._entries[path] = max(1, self._entries[path])
                    self._waiting[path] = self._settling.since(path)
            self.missed_until = now

    def _enter(self, paths: Iterable[str]) -> None:
        for path in paths:
            self._entries[path] += 1
            self._waiting[path] = self._settling.since(path)

    def update(self, now: float, overdue: Collection[str]) -> None:
        """Drop the files that a round of checks has dealt with.

        `overdue`: files that were read because their maximum wait was over.
        """
        if self._waiting:
            self.missed_until = now
        for path, since in list(self._waiting.items()):
            waiting_since = self._settling.since(path)
            if waiting_since is None:  # the file was recorded, or it vanished
                del self._waiting[path]
                self.unsettled.discard(path)
            elif path in overdue or (waiting_since != since and self._entries[path] >= MAX_WAITS):
                del self._waiting[path]
                self.unsettled.add(path)
                if self._is_pass:
                    self._settling.forget(path)
            elif waiting_since != since:  # the file vanished and is back
                self._enter([path])


MAX_RECHECKS = 8

MAX_COUNTED = 10_000
"""Maximum number of files whose rechecks are counted, because the counts of deleted files stay."""


class Rechecks:
    """Paths to check again soon.

    If a file's bytes changed between reading and sending, it is checked again: at once the first time, then
    after a pause that doubles each time. Some files, on FUSE or mapped into memory, return different bytes on
    each read but keep the same timestamp. After `MAX_RECHECKS` times in a row, a file is left to the next
    scan (promise 9).
    """

    def __init__(self, settings: MirrorSettings, clock: Clock, wake: asyncio.Event) -> None:
        """Create an empty list. `wake`: the event that the mirror waits for."""
        self._settings, self._clock, self._wake = settings, clock, wake
        self._due: dict[str, float] = {}
        self._queue: list[tuple[float, str]] = []  # a heap of these entries, and of postponed ones
        self._times = Counter[str]()

    def __bool__(self) -> bool:
        return bool(self._due)

    def add(self, paths: Iterable[str]) -> None:
        """Check these paths now."""
        for path in paths:
            self._put(path, self._clock.steady())

    def _put(self, path: str, due_at: float) -> None:
        self._due[path] = due_at
        heapq.heappush(self._queue, (due_at, path))
        self._wake.set()

    def add_changed(self, path: str) -> None:
        """Check a file again, because it changed between being read and being uploaded."""
        self._times[path] += 1
        if len(self._times) > MAX_COUNTED:
            del self._times[next(iter(self._times))]
        times, settings = self._times[path], self._settings
        longer = settings.settle * 2.0 ** min(times - 2, 30)
        pause = 0.0 if times == 1 else min(settings.settle_longest, longer)
        if times <= MAX_RECHECKS:
            self._put(path, self._clock.steady() + pause)
        if times == MAX_RECHECKS:
            log.warning(
                "file.unstable",
                mirror=settings.name,
                path=path,
                reason="the file's bytes differ on every read, although its size and times stay the same",
            )

    def forget(self, path: str) -> None:
        """Reset the recheck count of a sent file."""
        self._times.pop(path, None)

    def take_due(self) -> list[str]:
        """Remove and return the first batch of due paths."""
        paths, now = list[str](), self._clock.steady()
        while len(paths) < PAGE and (due_at := self.next_due()) is not None and due_at <= now:
            _, path = heapq.heappop(self._queue)
            del self._due[path]
            paths.append(path)
        return paths

    def next_due(self) -> float | None:
        """Return the monotonic time when the next path is due, or None if there is none."""
        while self._queue and self._due.get(self._queue[0][1]) != self._queue[0][0]:
            heapq.heappop(self._queue)
        return self._queue[0][0] if self._queue else None


SCAN_AGAIN = 60.0
"""Seconds to wait after a failed scan."""

ENDED_KEPT = 30 * 86400.0
"""Seconds to keep the rows of finished uploads, which prove that documents were ours."""

PATIENCE = 60.0
"""A pass doesn't wait for work that pauses for longer than this many seconds (promise 9 bounds the
pauses)."""


@dataclass(frozen=True, slots=True)
class RunContext:
    """A mirror's environment: its spool folder, the mirrors in the config, and how to write commands.

    `rename_base(old, new)` moves files that are kept on disk under the old name of a renamed mirror. It is
    called again after an interrupted start.
    """

    spool_dir: Path
    configured: Sequence[MirrorIdentity]
    command_line: Callable[[str], str] = lambda command: f"kbsync {command}"
    rename_base: Callable[[str, str], None] = lambda _old, _new: None


COUNTED = {"document.ready": "uploaded", "document.renamed": "renamed", "document.deleted": "deleted"}


class BoundMirror:
    """A running mirror, bound to its base. It exists only within `Mirror.bind`.

    Only `turn` decides the next step; scans run at the same time. `awaited`: files of the last scan that are
    still being written.
    """

    def __init__(self, mirror: Mirror, target: Target, journal: Journal) -> None:
        self.mirror, self.target, self.journal = mirror, target, journal
        self.rechecks = Rechecks(mirror.settings, mirror.clock, mirror.wake)
        store, clock = mirror.store, mirror.clock
        self.bodies = Bodies(journal.binding)
        self.worker = Worker(mirror, journal, target, self.bodies, self.rechecks, report=self._count_events)
        self.reconciler = Reconciler(
            store,
            journal,
            clock,
            on_work=self._rows_written,
            keep=self.bodies.keep,
            report=self._count_events,
            page_seconds=math.inf if mirror.is_pass else PAGE_SECONDS,  # in a daemon, turns wait for a batch
        )
        self.awaited = AwaitedFiles(self.reconciler.settling, 0.0, is_pass=mirror.is_pass)
        self.may_wait = True
        """Whether rows may be waiting for a decision; False only if none are."""
        self.deletions = Deletions(
            store,
            journal,
            clock,
            mirror.trusted_identity,
            # In a pass, only the files that it waits for count.
            lambda: self.awaited.inodes() if mirror.is_pass else self.reconciler.changing_inodes(),
        )
        self.recipe_changes = RecipeChanges(store, journal, clock)
        self.inbox = Inbox(
            store, journal, clock, lambda: [identity.name for identity in mirror.context.configured]
        )
        self.audits = RegularAudit(mirror, journal, target, self.worker)
        self.is_turn_requested = True
        """Whether something may be due that `next_due` doesn't cover."""
        self.next_scan = 0.0
        self.scanning = set[str]()
        self._must_scan_again = False
        self._scan_error: Exception | None = None
        self._is_compared = self._is_deep = False
        self._may_hold_all = True
        self.mount_points = set[str]()
        """The mount points that scans of trees have found, relative to the root, for the watcher's next
        check."""
        self.working = asyncio.create_task(self.worker.run())
        self._tasks = set[asyncio.Task[None]]()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` in a task until it ends or `stop` cancels it."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self, grace: float = 0.5) -> None:
        """Stop the parts, even if this call is canceled. Safe to call more than once.

        Requests in flight are in the journal.
        """
        self.reconciler.stop()
        async with AsyncExitStack() as stack:
            stack.callback(self.bodies.close)
            stack.push_async_callback(end_tasks, [self.working])
            stack.push_async_callback(self.worker.stop, grace)
            await end_tasks(list(self._tasks))

    async def base_changed(self) -> bool:
        """Return whether the base is no longer the one that this run started with.

        It may have been deleted, damaged and replaced, or replaced by an older copy of itself.
        """
        binding = self.journal.binding
        recorded = await self.mirror.store.read(lambda tx: attach.recorded_revision(tx, binding.id))
        try:
            base = await self.target.base()
        except Halted as error:
            await self.mirror.halts.halt(error)
            return False
        except TargetError:
            return False
        if await self.worker.is_idle(math.inf):  # otherwise, the work shows whether the target responds
            self.mirror.halts.record_response()
        return base.id != binding.base or attach.is_older_copy(base, recorded)

    # -- the pass --------------------------------------------------------------------------------------

    async def compare(self) -> ScanSummary | None:
        """Compare the whole folder with the state. Return None if the root changed in the meantime."""
        mirror = self.mirror
        started = mirror.clock.steady()
        deep, first = await mirror.deep_is_due()
        self._is_deep = deep or first
        if await mirror.trusted_identity() is None:
            return None
        summary = await self.reconciler.scan(deep=deep)
        await self.reconciler.recheck_racy()
        if await mirror.trusted_identity() is None:
            return None
        mirror.pass_seconds = mirror.clock.steady() - started
        self.awaited = AwaitedFiles(self.reconciler.settling, mirror.clock.steady(), is_pass=mirror.is_pass)
        return summary

    async def compared(self) -> None:
        """Record that the whole folder has been compared."""
        mirror = self.mirror
        mirror.has_compared = self._is_compared = True
        now = mirror.clock.wall()

        def record(tx: Tx) -> None:
            tx.mirrors.pass_ended(mirror.id, now, self._is_deep)
            tx.folders.remove_gone(mirror.id)
            tx.uploads.prune(now - ENDED_KEPT)
            tx.history.prune(now - history.RETENTION)

        await mirror.store.write(record)

    async def is_done(self) -> bool:
        """Return whether no work is left from the last scan, apart from work that pauses for longer than
        `PATIENCE`.
        """
        if self.awaited or self.rechecks or self.reconciler.has_trees:
            return False
        mirror, until = self.mirror.id, self.awaited.missed_until
        if await self.mirror.store.read(lambda tx: has_open_deletions(tx, mirror, until)):
            return False
        if await self.recipe_changes.is_due():
            return False
        return await self.worker.is_idle(PATIENCE)

    # -- scans, in parallel with the turns ------------------------------------------------------------

    def request_turn(self) -> None:
        """Have the daemon take a turn now."""
        self.is_turn_requested = True
        self.mirror.wake.set()

    def scan(self, name: str, scan: Callable[[], Awaitable[float]]) -> None:
        """Start a scan unless one with this `name` is already running.

        `scan` returns how many seconds remain until the next scan of the whole folder.
        """
        if name not in self.scanning:
            self.scanning.add(name)
            self.start(self._scan(name, scan))

    def request_rescan(self) -> None:
        """Compare the whole folder now.

        If a scan is running, compare again after it ends, because it may have missed a change.
        """
        log.info("rescan.started", mirror=self.mirror.settings.name, reason="requested")
        self._must_scan_again = bool(self.scanning)
        if not self.scanning:
            self.next_scan = self.mirror.clock.steady()
            self.request_turn()

    async def _scan(self, name: str, scan: Callable[[], Awaitable[float]]) -> None:
        pause = SCAN_AGAIN
        try:
            pause = await scan()
        except Exception as error:
            if isinstance(error, KbsyncError) or self.mirror.is_pass:  # a pass raises it in its next turn
                log.error("scan.failed", mirror=self.mirror.settings.name, reason=str(error))
            else:
                log_bug("scan.failed", error, mirror=self.mirror.settings.name)
            self._scan_error = error
        finally:
            self.scanning.remove(name)
            self._may_hold_all = True  # the scan may have found that a disk was mounted or unmounted
            if self._must_scan_again and not self.scanning:
                pause, self._must_scan_again = 0.0, False
            self.next_scan = min(self.next_scan, self.mirror.clock.steady() + pause)
            self.request_turn()

    # -- work other than scanning -----------------------------------------------------------------------

    async def turn(
        self, hints: Sequence[Hint] = (), may_carry_out: Callable[[], Awaitable[bool]] | None = None
    ) -> list[Hint]:
        """Do all work that is due now. Return the hints left for the next turn.

        This does nothing unless a turn was requested or work is known to be due, so that an idle mirror reads
        less. `may_carry_out`: see `Inbox.carry_out`.
        """
        error = self._scan_error
        if error is not None and (self.mirror.is_pass or isinstance(error, StateError)):
            raise error  # after other errors a daemon scans again
        remaining = await self.reconciler.take_hints(hints) if hints else []
        if hints or self.is_turn_requested or await self.next_due() <= self.mirror.clock.steady():
            self.is_turn_requested = False
            await self._do_due_work(may_carry_out)

        async def scan_trees() -> float:
            self.mount_points |= await self.reconciler.scan_trees()
            self.awaited.extend(self.mirror.clock.steady())
            return math.inf

        if self.reconciler.has_trees:
            self.scan("trees", scan_trees)
        # Once all missing files have been decided on, small deletions need no approval again.
        if self._is_compared and self._may_hold_all and not (self.scanning or self.may_wait):
            await self.mirror.first_pass_over()
            self._may_hold_all = False
        return remaining

    async def _do_due_work(self, may_carry_out: Callable[[], Awaitable[bool]] | None) -> None:
        """Do the work that is due: messages, unchanged files, second checks, deletions."""
        mirror, awaited, name = self.mirror, self.awaited, self.mirror.settings.name
        result = await self.inbox.carry_out(may_carry_out)
        for message, reason in result.dropped:
            log.warning(
                "message.dropped",
                mirror=message.mirror or name,
                verb=printable(message.verb),
                reason=reason,
                cure="run the command again",
            )
        self.rechecks.add(result.recheck)
        if result.resumed:
            await mirror.halts.end()
        if result.audits:
            self.audits.wake()
        if result.rescans:
            self.request_rescan()
        if paths := awaited.admit(self.rechecks.take_due()):
            hints = [Hint(path, HintKind.FILE) for path in paths]
            while (hints := await self.reconciler.take_hints(hints)) and mirror.is_pass:
                pass
            self.rechecks.add(hint.path for hint in hints)
            awaited.extend(mirror.clock.steady())
        overdue = await self.reconciler.settle_due()
        self.rechecks.add(await self.deletions.check_again())
        awaited.update(mirror.clock.steady(), overdue)
        # A pass decides about deletions as soon as no file that it waits for can add to them: one by one they
        # would stay below the limits (promise 5).
        is_batch_complete = False
        if mirror.is_pass and not (awaited or self.rechecks or self.reconciler.has_trees):
            is_batch_complete = not await self.deletions.are_missed(awaited.missed_until)
        held_count = await self.deletions.decide(now=is_batch_complete)
        if held_count:
            approve = mirror.context.command_line(f"approve {name}")
            log.warning("deletions.held", mirror=name, count=held_count, cure=approve)
        await self.deletions.run_approved()
        if (extent := await self.recipe_changes.decide()) is not None:
            count, size = extent.documents, extent.size
            approve = mirror.context.command_line(f"approve {name}")
            log.warning("recipe.held", mirror=name, count=count, bytes=size, cure=approve)
        self.worker.wake()

    async def hurry(self, ids: Collection[str]) -> None:
        """Poll these documents soon, because the service sent a callback (ADR 21).

        Ids that aren't ours are ignored.
        """
        if await self.mirror.store.write(lambda tx: self.journal.hurry(tx, ids)):
            self.worker.wake()

    async def next_due(self) -> float:
        """Return the monotonic time when a file, a second check or a decision on deletions is due.

        It is infinite if nothing is pending.
        """
        times = [self.rechecks.next_due(), self.reconciler.settling.next_due()]
        if self.may_wait:
            self.may_wait = False  # rows may change during these reads
            waiting = [await self.recipe_changes.next_due(), await self.deletions.next_due()]
            self.may_wait |= waiting != [None, None]
            times += waiting
        return min((time for time in times if time is not None), default=math.inf)

    # -- reports of the parts ---------------------------------------------------------------------------

    def _rows_written(self) -> None:
        self.may_wait = True
        self.worker.wake()

    def _count_events(self, events: Iterable[DocumentEvent | None]) -> None:
        name, command_line = self.mirror.settings.name, self.mirror.context.command_line
        for event in filter(None, events):
            self.may_wait = True
            self.rechecks.forget(event.path)
            is_replaced = event.event == "document.ready" and event.replaced
            if counter := "replaced" if is_replaced else COUNTED.get(event.event):
                self.mirror.counts[counter] += 1
            reason = with_approve_command(event.upload.reason, name, command_line)
            if reason != event.upload.reason:
                event = replace(event, upload=replace(event.upload, reason=reason))
            self.mirror.on_event(event)


MAX_PASS_CHECK_SECONDS = 30.0
"""Time limit for checking a root in a single pass. A sleeping disk needs several seconds, and a pass doesn't
check again.
"""


@dataclass(slots=True, eq=False)
class Mirror:
    """A mirror, for as long as kbsync runs. `bind` may be entered repeatedly, but only once at a time.

    `open_target` returns a new target. `on_event` is called with every finished document. `on_decided` is for
    tests, which check the rows of a path in each transaction.
    """

    settings: MirrorSettings
    store: StateStore
    open_target: Callable[[], Awaitable[Target]]
    clock: Clock
    context: RunContext
    on_event: Callable[[DocumentEvent], None] = lambda _event: None
    on_decided: Callable[[Tx, str], None] | None = None
    id: int = 0
    halts: Halts = field(init=False)
    counts: Counter[str] = field(default_factory=Counter)
    """How many documents the mirror has uploaded, replaced, renamed and deleted."""
    bound: BoundMirror | None = None
    identity: RootIdentity | None = None
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when something may be due, to wake the daemon's loop."""
    has_compared: bool = False
    closed_requests: Meter = field(default_factory=Meter)
    """Requests of closed targets."""
    pass_seconds: float | None = None
    is_paused: bool = False
    """Whether the mirror is paused, as of the last time its loop read the state."""
    is_pass: bool = False
    """Whether the run is a single pass, which compares the folder once and handles only the files found
    then."""

    def __post_init__(self) -> None:
        """Prepare the mirror, without a base yet."""
        self.halts = Halts(mirror=self)

    @property
    def halt(self) -> Halt | None:
        """Why the mirror is halted."""
        return self.halts.stored

    # -- start and end --------------------------------------------------------------------------

    @asynccontextmanager
    async def bind(self) -> AsyncIterator[BoundMirror | None]:
        """Yield the running mirror, bound to its base, or None if it is halted or the target is down.

        At the end, the work is stopped and the target is closed in any case, because an embedded base that
        stays open would stay locked.
        """
        async with AsyncExitStack() as stack:
            try:
                # Do this first, because `status` needs the mirror's row to show later errors.
                await self._enroll()
                self.bound = await self._begin(stack)
            except Halted as error:
                await self.halts.halt(error)
            except UsageError as error:
                await self.halts.halt(Halted(BAD_CONFIG, str(error)))
            except TargetError as error:
                await self.halts.record_failed_start(error)
            try:
                yield self.bound
            finally:
                self.bound = None

    async def _begin(self, stack: AsyncExitStack) -> BoundMirror:
        """Check the root and the base, and start the work. Closing `stack` ends it."""
        store, settings, context = self.store, self.settings, self.context
        self.identity = await attach.find_root(store, settings, self.id)
        target = await wait_until_open(self.open_target(), self._close)
        stack.push_async_callback(self._close, target)
        record = await store.read(lambda tx: tx.mirrors.get(self.id))
        base, spool = await target.base(), context.spool_dir
        binding = await attach.bind(store, settings, record, target, base, spool, context.configured)
        journal = Journal(binding, self.clock, self.on_decided)
        await attach.prepare(store, journal, target, self.clock, context.configured)
        await self.halts.end()
        bound = BoundMirror(self, target, journal)
        stack.push_async_callback(bound.stop)
        await bound.deletions.count_served()
        return bound

    async def _close(self, target: Target) -> None:
        # The target's requests still count, because counters in /metrics never decrease.
        if target.meter is not None:
            self.closed_requests.add(target.meter)
        await target.aclose()

    async def _enroll(self) -> None:
        """Find or add the mirror's row. Raises `Halted` if the folder's real path can't be determined."""
        try:
            self.settings = await asyncio.to_thread(self.resolved)
        except TimeoutError as error:
            # Without the real path, a renamed mirror would look like a new one, and a known one like a moved
            # one.
            record = await self.store.read(lambda tx: tx.mirrors.named(self.settings.name))
            if record is not None:
                self.id, self.halts.stored = record.id, record.halt
            raise attach.root_missing(unreadable(self.settings.root, error)) from error
        settings, configured = self.settings, self.context.configured
        record = await self.store.read(lambda tx: attach.find_record(tx, settings, configured))
        if record is not None:
            self.id, self.halts.stored = record.id, record.halt
            # Rename the embedded base to the mirror's name in the config before the state gets that name. The
            # new name is stored first: if the run is killed in between, the base may have either name, and by
            # the next run the config may have a third one.
            mirror, old, new = record.id, record.name, settings.name
            interrupted = await self.store.read(lambda tx: tx.meta.get(MirrorFact.BASE_NAME, mirror))
            if interrupted not in ("", new):
                await asyncio.to_thread(self.context.rename_base, interrupted, old)
            if old != new:
                await self.store.write(lambda tx: tx.meta.set(MirrorFact.BASE_NAME, mirror, new))
                await asyncio.to_thread(self.context.rename_base, old, new)
        record = await self.store.write(lambda tx: attach.enroll(tx, settings, configured))
        self.id, self.halts.stored = record.id, record.halt

    def resolved(self) -> MirrorSettings:
        """Return the settings with the folder's current real path.

        Raises TimeoutError if its file system isn't responding.
        """
        settings, limit = self.settings, MAX_PASS_CHECK_SECONDS if self.is_pass else MAX_CHECK_SECONDS
        return access_within(settings.given or settings.root, settings.resolved, limit)

    def quiet_period(self) -> tuple[float, float] | None:
        """Return the start and end of the current quiet hours, in epoch seconds, or None outside quiet hours.

        A pass has no quiet hours, because a user or a timer started it.
        """
        return None if self.is_pass else current_period(self.settings.quiet_hours, self.clock.wall())

    async def find_pause(self) -> Pause | None:
        """Return the current pause, even before the mirror's first run.

        This also begins and ends quiet hours.
        """
        settings, configured, now = self.settings, self.context.configured, self.clock.wall()
        period = self.quiet_period()
        quiet = None if period is None else Pause(*period, is_quiet=True)

        def find(tx: Tx) -> tuple[Pause | None, bool]:
            record = attach.find_record(tx, settings, configured)
            if record is None:
                return quiet, quiet is not None
            pause = tx.pauses.due(record.id, quiet, now)
            # `status` looks for the pause under the mirror's name.
            is_renamed = pause is not None and record.name != settings.name
            return pause, is_renamed or pause != tx.pauses.stored(record.id)

        pause, must_write = await self.store.read(find)
        if must_write:
            with suppress(Halted):  # `bind` reports it
                await self._enroll()
            if self.id:
                await self.store.write(lambda tx: tx.pauses.follow(self.id, quiet, now))
        if pause is not None and not self.is_paused:
            log.info("mirror.paused", mirror=settings.name, **pause_json(pause))
        elif pause is None and self.is_paused:
            log.info("mirror.resumed", mirror=settings.name, reason="paused")
        self.is_paused = pause is not None
        return pause

    async def deep_is_due(self) -> tuple[bool, bool]:
        """Return whether a deep pass is due, and whether this is the first pass, which reads everything
        anyway.
        """
        record = await self.store.read(lambda tx: tx.mirrors.get(self.id))
        if record.last_deep is None:
            return False, True
        age = self.clock.wall() - record.last_deep
        # The time of a deep pass in the future comes from a clock that ran ahead, so the real time is
        # unknown.
        return not 0 <= age < self.settings.deep_rescan, False

    def requests(self) -> Meter:
        """Return the number of requests of this run, including those from earlier starts."""
        every = Meter()
        every.add(self.closed_requests)
        if self.bound is not None and (meter := self.bound.target.meter) is not None:
            every.add(meter)
        return every

    async def first_pass_over(self) -> None:
        """Record that every missing file has been decided on: those missing in the first pass, or since a
        disk was mounted or unmounted.

        From then on, small deletions need no approval.
        """
        if await self.store.read(lambda tx: tx.mirrors.get(self.id).hold_all):
            await self.store.write(lambda tx: tx.mirrors.set_hold_all(self.id, False))

    # -- the root --------------------------------------------------------------------------------------

    async def trusted_identity(self) -> RootIdentity | None:
        """Return the root's identity if it is still the same as at the start of this run.

        Otherwise, halt and return None.
        """
        # Called before and after each check that may prove a file missing, because a folder that was replaced
        # or unmounted in the meantime proves nothing (promise 1).
        try:
            return await attach.same_root(self.settings, self.identity)
        except Halted as error:
            await self.halts.halt(error)
            return None
