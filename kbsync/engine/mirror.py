"""One running mirror: how it starts and ends, and what `--once` and the daemon share.

`MirrorRun` is a mirror for as long as kbsync runs: its root, its halt, its counts. `BoundMirror` works on it.
It exists only within `bind`, while the mirror is bound to a knowledge base, and all code that needs the base
takes it. engine/loop.py (the daemon) and once.py (a pass) decide when each step is due.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from kbsync.contract.meter import Meter
from kbsync.contract.target import Target
from kbsync.core.model import RootIdentity
from kbsync.core.quiet import Settling
from kbsync.core.text import printable
from kbsync.engine import attach
from kbsync.engine.attach import RecipeChanges
from kbsync.engine.audit import BackgroundAudit
from kbsync.engine.clock import Clock
from kbsync.engine.deletions import Deletions
from kbsync.engine.halts import Halts
from kbsync.engine.inbox import Inbox
from kbsync.engine.journal import Happened, Journal
from kbsync.engine.reconcile import PAGE, PAGE_SECONDS, Reconciler
from kbsync.engine.settings import MirrorIdentity, MirrorSettings
from kbsync.engine.status import BAD_CONFIG
from kbsync.engine.worker import Bodies, Worker
from kbsync.errors import Halted, TargetError, UsageError
from kbsync.source.hints import Hint, HintKind
from kbsync.source.scan import ScanSummary
from kbsync.state.inbox import MirrorFact
from kbsync.state.mirrors import Halt, MirrorRecord
from kbsync.state.read_only import Tx
from kbsync.state.store import StateStore

ENTRIES = 2
"""How often a pass waits for one path: from its scan on, and again if the file changed meanwhile."""


class Snapshot:
    """The files of one pass that are still changing: the pass waits for those and for nothing later.

    Otherwise a pass would never end in a folder where files come and go. It waits for a path until its file
    is recorded, vanishes, or was read after the longest wait, and at most `ENTRIES` times. Then the path
    leaves for good: the next pass checks it again. So a pass checks any path a bounded number of times,
    whatever happens in the folder.
    """

    def __init__(self, settling: Settling, now: float) -> None:
        """`now`: the time when the scan ended, in steady seconds."""
        self._settling = settling
        self._entries = Counter[str]()
        self._waiting: dict[str, float | None] = {}
        self.unsettled: set[str] = set()
        """Paths that left while their files were still being written."""
        self.missed_until = now
        """Files that were missed later than this came and went during the pass."""
        self._enter(settling.paths())

    def __bool__(self) -> bool:
        """Whether files are waited for."""
        return bool(self._waiting)

    def inodes(self) -> set[int]:
        """The inodes of the files that are waited for."""
        stamps = (self._settling.stamp(path) for path in self._waiting)
        return {stamp.ino for stamp in stamps if stamp is not None}

    def admit(self, paths: Collection[str]) -> set[str]:
        """Those of the changed or returned files that this pass still checks."""
        admitted = {path for path in paths if self._entries[path] < ENTRIES}
        self._entries.update(admitted)
        self.unsettled |= set(paths) - admitted
        return admitted

    def looked_at(self, now: float) -> None:
        """Wait for the files at admitted paths that are being written."""
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
        """Drop the files that are no longer waited for, after a round of checks.

        `overdue`: those that were read because their longest wait was over.
        """
        if self._waiting:
            self.missed_until = now
        for path, since in list(self._waiting.items()):
            began = self._settling.since(path)
            if began is None:  # it was recorded, or it vanished
                del self._waiting[path]
                self.unsettled.discard(path)
            elif path in overdue or (began != since and self._entries[path] >= ENTRIES):
                del self._waiting[path]
                self._settling.forget(path)
                self.unsettled.add(path)
            elif began != since:  # it vanished and is back
                self._enter([path])


MOST_RECHECKS = 8


class Rechecks:
    """Paths to check again soon.

    A file with other bytes when sent than when read is checked again at once, and from the second time on
    after a pause that doubles: some files, on FUSE or mapped into memory, return different bytes at each read
    with the same timestamp. After `MOST_RECHECKS` times in a row it is left to the next scan (promise 9).
    """

    def __init__(self, settings: MirrorSettings) -> None:
        self._first, self._longest = settings.settle, settings.settle_longest
        self._due: dict[str, float] = {}
        self._queue: list[tuple[float, str]] = []  # a heap of the same, and of postponed entries
        self._times = Counter[str]()

    def __bool__(self) -> bool:
        return bool(self._due)

    def add(self, paths: Iterable[str], now: float) -> None:
        """Check these at `now`, in steady seconds."""
        for path in paths:
            self._put(path, now)

    def _put(self, path: str, at: float) -> None:
        self._due[path] = at
        heapq.heappush(self._queue, (at, path))

    def add_changed(self, path: str, now: float) -> int:
        """Note that the file changed between its read and its upload; returns how often in a row."""
        self._times[path] += 1
        times = self._times[path]
        pause = 0.0 if times == 1 else min(self._longest, self._first * 2.0 ** min(times - 2, 30))
        if times <= MOST_RECHECKS:
            self._put(path, now + pause)
        return times

    def forget(self, path: str) -> None:
        """Reset the count of a sent file."""
        self._times.pop(path, None)

    def take_page(self, now: float) -> list[str]:
        """Remove and return the first due paths, one batch."""
        page = list[str]()
        while len(page) < PAGE and (at := self.next_due()) is not None and at <= now:
            _, path = heapq.heappop(self._queue)
            del self._due[path]
            page.append(path)
        return page

    def take_all(self) -> Collection[str]:
        """Remove and return all paths, also those due later."""
        taken, self._due, self._queue = self._due.keys(), {}, []
        return taken

    def next_due(self) -> float | None:
        """When the next path is due, in steady seconds; None if there is none."""
        while self._queue and self._due.get(self._queue[0][1]) != self._queue[0][0]:
            heapq.heappop(self._queue)
        return self._queue[0][0] if self._queue else None


log = structlog.get_logger("kbsync")

ENDED_KEPT = 30 * 86400.0
"""Seconds to keep rows of finished uploads as a proof of what was ours."""

PATIENCE = 60.0
"""Seconds: a pass does not wait for work that pauses longer than this (promise 9 bounds it)."""


@dataclass(frozen=True, slots=True)
class RunContext:
    """The surroundings of a mirror: its spool folder, the config's mirrors, and how to write commands.

    `rename_base(old, new)` moves files kept on disk under the former name of a renamed mirror. It is called
    again after an interrupted start. `at_work`: the process stays, like a daemon.
    """

    spool_dir: Path
    configured: Sequence[MirrorIdentity]
    cure: Callable[[str], str] = lambda command: f"kbsync {command}"
    rename_base: Callable[[str, str], None] = lambda _old, _new: None
    at_work: bool = True


@dataclass(slots=True)
class PassCounts:
    """What was done since the run started."""

    uploaded: int = 0
    replaced: int = 0
    renamed: int = 0
    deleted: int = 0


class BoundMirror:
    """A running mirror, bound to its base; it exists within `MirrorRun.bind`.

    `snapshot`: the files that were being written when the last comparison ended.
    """

    def __init__(self, run: MirrorRun, target: Target, journal: Journal) -> None:
        self.run, self.target, self.journal = run, target, journal
        self.snapshot: Snapshot | None = None
        self.rechecks = Rechecks(run.settings)
        store, clock = run.store, run.clock
        self.bodies = Bodies(journal.binding)
        self.worker = Worker(
            store,
            journal,
            self.target,
            clock,
            self.bodies,
            run.halts,
            on_event=self._happened,
            on_changed=self._recheck_changed,
            on_back=self._recheck,
            trusted_identity=run.trusted_identity,
        )
        self.reconciler = Reconciler(
            store,
            journal,
            clock,
            on_work=self._rows_written,
            keep=self.bodies.keep,
            on_tree=run.on_news,
            page_seconds=math.inf if run.is_pass else PAGE_SECONDS,  # in a pass nobody waits for a turn
        )
        self.deletions = Deletions(store, journal, clock, run.trusted_identity, coming=self._coming)
        self.recipe_changes = RecipeChanges(store, journal, clock)
        configured = [each.name for each in run.context.configured]
        self.inbox = Inbox(store, journal, clock, configured)
        self.auditing = BackgroundAudit(
            store,
            journal,
            self.target,
            clock,
            may_work=lambda: run.has_compared and run.halt is None,
            is_idle=self.worker.is_idle,
            on_halt=run.halts.halt,
            on_work=self.worker.wake,
        )
        self.working = asyncio.create_task(self.worker.run())
        self._beside = set[asyncio.Task[None]]()

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do this beside the rest, at most until `stop`."""
        task = asyncio.create_task(work)
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)
        return task

    async def stop(self, grace: float = 0.5) -> None:
        """Stop the parts; the journal knows what was in flight. Repeatable."""
        self.reconciler.stop()
        beside = list(self._beside)
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        await self.worker.stop(grace)
        self.working.cancel()
        await asyncio.gather(self.working, return_exceptions=True)
        self.bodies.close()

    async def base_changed(self) -> bool:
        """Whether the base is not the one this run started with: it was deleted, or damaged and replaced."""
        try:
            base = await self.target.base()
        except Halted as error:
            await self.run.halts.halt(error)
            return False
        except TargetError:
            return False
        return base.id != self.journal.binding.base

    # -- the pass --------------------------------------------------------------------------------------

    async def compare(self, *, deep: bool = False) -> ScanSummary | None:
        """Compare the whole folder with the state; None if the root changed meanwhile."""
        run = self.run
        began = run.clock.steady()
        if await run.trusted_identity() is None:
            return None
        summary = await self.reconciler.scan(deep=deep)
        await self.reconciler.recheck_racy()
        if await run.trusted_identity() is None:
            return None
        run.pass_seconds = run.clock.steady() - began
        self.snapshot = Snapshot(self.reconciler.settling, run.clock.steady())
        return summary

    async def compared(self, *, deep: bool = False) -> None:
        """Record that the whole folder was compared."""
        run = self.run
        run.has_compared = True
        now = run.clock.wall()

        def record(tx: Tx) -> None:
            tx.mirrors.pass_ended(run.mirror, now, deep)
            tx.folders.remove_gone(run.mirror)
            tx.uploads.prune(now - ENDED_KEPT)

        await run.store.write(record)

    async def is_done(self) -> bool:
        """Whether the last comparison is done, except for work that pauses longer than `PATIENCE`."""
        if self.snapshot or self.rechecks:
            return False
        until = 0.0 if self.snapshot is None else self.snapshot.missed_until
        if await self.deletions.are_open(until) or await self.recipe_changes.is_due():
            return False
        return await self.worker.is_idle(PATIENCE)

    # -- what is due besides scanning ------------------------------------------------------------------

    async def do_due_work(self) -> None:
        """Do all due work except scanning: messages, unchanged files, second checks, deletions."""
        run = self.run
        snapshot = self.snapshot if run.is_pass else None
        answer = await self.inbox.carry_out()
        for dropped in answer.dropped:
            log.warning(
                "message.dropped",
                mirror=dropped.message.mirror or run.settings.name,
                verb=printable(dropped.message.verb),
                reason=dropped.reason,
                cure="run the command again",
            )
        self.rechecks.add(answer.look_at, run.clock.steady())
        if answer.resumed:
            await run.halts.end()
        if answer.audits:
            self.auditing.asked.set()
        if snapshot is None:
            paths = self.rechecks.take_page(run.clock.steady())
            left = await self.reconciler.take_hints([Hint(path, HintKind.FILE) for path in paths])
            self.rechecks.add((hint.path for hint in left), run.clock.steady())
        # A pass checks each path only a few times, so it does not wait for their pauses.
        elif admitted := snapshot.admit(self.rechecks.take_all()):
            await self.reconciler.look_at(admitted)
            snapshot.looked_at(run.clock.steady())
        overdue = await self.reconciler.settle_due()
        self.rechecks.add(await self.deletions.second_looks(), run.clock.steady())
        if snapshot is not None:
            snapshot.update(run.clock.steady(), overdue)
        # A pass weighs deletions as soon as nothing of its snapshot can still add to them: weighed one by
        # one they would slip below the limits (promise 5).
        have_all_gone = False
        if snapshot is not None and not snapshot and not self.rechecks:
            have_all_gone = not await self.deletions.are_missed(snapshot.missed_until)
        approve = run.context.cure(f"approve {run.settings.name}")
        held = await self.deletions.weigh(now=have_all_gone)
        if held:
            log.warning("deletions.held", mirror=run.settings.name, count=held, cure=approve)
        await self.deletions.run_approved()
        if (asked := await self.recipe_changes.weigh()) is not None:
            log.warning(
                "recipe.held", mirror=run.settings.name, count=asked.documents, bytes=asked.size, cure=approve
            )
        self.worker.wake()

    async def hurry(self, ids: Collection[str]) -> None:
        """Poll these documents soon: their target called back (ADR 21). Ignores others' ids."""
        if await self.run.store.write(lambda tx: self.journal.hurry(tx, ids)):
            self.worker.wake()

    async def is_due(self, now: float) -> bool:
        """Whether work other than scanning is due now, in steady seconds."""
        due = await self.next_due()
        return due is not None and due <= now

    async def next_due(self) -> float | None:
        """Steady time when a file, a second check or a weighing is due; None if nothing waits."""
        times = [
            self.rechecks.next_due(),
            await self.recipe_changes.next_due() if self.recipe_changes.may_wait else None,
            self.reconciler.settling.next_due(),
            await self.deletions.next_due() if self.deletions.may_wait else None,
        ]
        return min((time for time in times if time is not None), default=None)

    # -- what the parts tell ---------------------------------------------------------------------------

    def _recheck(self, path: str) -> None:
        self.rechecks.add([path], self.run.clock.steady())
        self.run.on_news()

    def _recheck_changed(self, path: str) -> None:
        times = self.rechecks.add_changed(path, self.run.clock.steady())
        if times == MOST_RECHECKS:
            log.warning(
                "file.unstable",
                mirror=self.run.settings.name,
                path=path,
                reason="its bytes differ each time it is read while its size and times stay the same",
            )
        self.run.on_news()

    def _coming(self) -> Collection[int]:
        """The inodes of files that are still changing."""
        if self.run.is_pass and self.snapshot is not None:
            return self.snapshot.inodes()
        return self.reconciler.coming()

    def _rows_written(self) -> None:
        self.deletions.may_wait = self.recipe_changes.may_wait = True
        self.worker.wake()

    def _happened(self, event: Happened) -> None:
        self.deletions.may_wait = self.recipe_changes.may_wait = True
        self.rechecks.forget(event.path)
        counts = self.run.counts
        match event.event:
            case "document.ready" if event.replaced:
                counts.replaced += 1
            case "document.ready":
                counts.uploaded += 1
            case "document.renamed":
                counts.renamed += 1
            case "document.deleted":
                counts.deleted += 1
        self.run.on_event(event)


@dataclass(slots=True, eq=False)
class MirrorRun:
    """A mirror for as long as kbsync runs: `bind` may be entered many times, one after the other.

    `open_target` returns a fresh target; `on_event` gets every finished document; `on_decided` is for tests,
    which check a path's rows in each transaction.
    """

    settings: MirrorSettings
    store: StateStore
    open_target: Callable[[], Awaitable[Target]]
    clock: Clock
    context: RunContext
    on_event: Callable[[Happened], None] = lambda _event: None
    on_decided: Callable[[Tx, str], None] | None = None
    mirror: int = 0
    halts: Halts = field(init=False)
    counts: PassCounts = field(default_factory=PassCounts)
    bound: BoundMirror | None = None
    identity: RootIdentity | None = None
    on_news: Callable[[], None] = lambda: None
    has_compared: bool = False
    counted: Meter = field(default_factory=Meter)
    """Requests of closed targets."""
    pass_seconds: float | None = None
    is_pass: bool = False
    """Whether the run ends with its first comparison, and handles only its snapshot."""
    _closing: set[asyncio.Future[None]] = field(default_factory=set)
    """Targets whose opening ended after nobody waited for them any more."""

    def __post_init__(self) -> None:
        """Its halts."""
        self.halts = Halts(run=self)

    @property
    def halt(self) -> Halt | None:
        """Why the mirror is halted."""
        return self.halts.shown

    # -- beginning and ending --------------------------------------------------------------------------

    @asynccontextmanager
    async def bind(self) -> AsyncIterator[BoundMirror | None]:
        """The mirror at work, bound to its base; None if it is halted or the target is down.

        Whatever ends this, the work stops and the target is closed: an embedded base that stays open is
        locked forever.
        """
        # In this mirror's own thread: on a dead mount it never ends, and all others continue.
        self.settings = await asyncio.to_thread(self.settings.resolved)
        # First, as `status` needs the mirror's row to show errors from below.
        await self._enroll()
        async with AsyncExitStack() as stack:
            try:
                self.bound = await self._begin(stack)
            except Halted as error:
                await self.halts.halt(error)
            except UsageError as error:
                await self.halts.halt(Halted(BAD_CONFIG, str(error)))
            except TargetError as error:
                await self.halts.begin_failed(error)
            try:
                yield self.bound
            finally:
                self.bound = None

    async def _begin(self, stack: AsyncExitStack) -> BoundMirror:
        """Check root and base and start the work; `stack` ends it."""
        store, settings, context = self.store, self.settings, self.context
        self.identity = await attach.find_root(store, settings, self.mirror)
        target = await self._open()
        stack.push_async_callback(self._close, target)
        record = await store.read(lambda tx: tx.mirrors.get(self.mirror))
        base, spool = await target.base(), context.spool_dir
        binding = await attach.bind(store, settings, record, target, base, spool, context.configured)
        journal = Journal(binding, self.clock, self.on_decided)
        await attach.prepare(store, journal, target, self.clock)
        await self.halts.end()
        bound = BoundMirror(self, target, journal)
        stack.push_async_callback(bound.stop)
        await bound.deletions.count_served()
        return bound

    async def _open(self) -> Target:
        """A fresh target, opened in a thread that continues if this is cancelled."""
        opening = asyncio.ensure_future(self.open_target())
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(self._close_late)
            raise

    def _close_late(self, opening: asyncio.Future[Target]) -> None:
        if not opening.cancelled() and opening.exception() is None:
            closing = asyncio.ensure_future(self._close(opening.result()))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def _close(self, target: Target) -> None:
        # Its requests still count: /metrics never decreases.
        if target.meter is not None:
            self.counted.add(target.meter)
        await target.aclose()

    async def _enroll(self) -> None:
        settings, configured = self.settings, self.context.configured
        record = await self.store.read(lambda tx: attach.find_record(tx, settings, configured))
        if record is not None:
            self.mirror, self.halts.shown = record.id, record.halt
            await self._rename_base(record)
        record = await self.store.write(lambda tx: attach.enroll(tx, settings, configured))
        self.mirror, self.halts.shown = record.id, record.halt

    async def _rename_base(self, record: MirrorRecord) -> None:
        """Give the embedded base the mirror's name in the config, before the state has that name.

        Stores the new name first: a run killed in between leaves the base under either name, and by the next
        run the config may have a third one.
        """
        mirror, old, new = record.id, record.name, self.settings.name
        interrupted = await self.store.read(lambda tx: tx.meta.get(MirrorFact.BASE_NAME, mirror))
        if interrupted not in ("", new):
            await asyncio.to_thread(self.context.rename_base, interrupted, old)
        if old != new:
            await self.store.write(lambda tx: tx.meta.set(MirrorFact.BASE_NAME, mirror, new))
            await asyncio.to_thread(self.context.rename_base, old, new)

    async def deep_is_due(self) -> tuple[bool, bool]:
        """(a deep pass is due, this is the first pass: it reads everything anyway)."""
        record = await self.store.read(lambda tx: tx.mirrors.get(self.mirror))
        if record.last_deep is None:
            return False, True
        age = self.clock.wall() - record.last_deep
        # A deep pass in the future comes from a clock that ran ahead: its real time is unknown.
        return not 0 <= age < self.settings.deep_rescan, False

    def requests(self) -> Meter:
        """All requests of this run, including those of earlier starts."""
        every = Meter()
        every.add(self.counted)
        if self.bound is not None and (meter := self.bound.target.meter) is not None:
            every.add(meter)
        return every

    async def first_pass_over(self) -> None:
        """All files missing at the first pass have been weighed: later deletions need not ask."""
        await self.store.write(lambda tx: tx.mirrors.set_hold_all(self.mirror, False))

    # -- the root --------------------------------------------------------------------------------------

    async def trusted_identity(self) -> RootIdentity | None:
        """The root's identity, if it is still the one this run started with; else None and a halt."""
        # Read before and after each check that may prove a file gone: a folder swapped or unmounted
        # meanwhile proves nothing (promise 1).
        try:
            return await attach.same_root(self.settings, self.identity)
        except Halted as error:
            await self.halts.halt(error)
            return None
