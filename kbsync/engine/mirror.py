"""What one pass waits for: the files that were being written when its scan ended, and nothing later.

Without it files that come and go would be waited for in turns, without end, since each of them is a new one
whenever it comes back.

One mirror at work: its parts, how they begin and end, and what `--once` and the daemon share.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import structlog

from kbsync.contract.target import Target
from kbsync.core.meter import Meter
from kbsync.core.quiet import Settling
from kbsync.core.selection import Rules
from kbsync.engine import attach
from kbsync.engine.attach import EMPTIED
from kbsync.engine.audit import BackgroundAudit
from kbsync.engine.clock import Clock
from kbsync.engine.deletions import Deletions
from kbsync.engine.halts import BAD_CONFIG, FAILING, PASSING, TARGET_DOWN, going_on
from kbsync.engine.inbox import Inbox
from kbsync.engine.journal import Happened, Journal
from kbsync.engine.recipe_changes import RecipeChanges
from kbsync.engine.reconcile import Reconciler
from kbsync.engine.sending import Bodies
from kbsync.engine.terms import Plan, as_halt
from kbsync.engine.worker import Worker
from kbsync.errors import Halted, ShortageError, TargetError, UsageError
from kbsync.source.hints import Hint, HintKind
from kbsync.source.roots import RootIdentity, RootTrouble, compare, identify
from kbsync.source.scan import ScanSummary
from kbsync.state.glance import Tx
from kbsync.state.mirrors import Halt
from kbsync.state.store import Store


class Snapshot:
    """The files of one pass that are not quiet yet.

    A file is waited for once: until it is taken, vanishes, or was being written for the longest wait. One
    that changed behind the pass's back is waited for a second time, and then belongs to the next pass.
    """

    def __init__(self, settling: Settling, now: float) -> None:
        """`now`: the moment when the scan ended, steady seconds."""
        self._settling = settling
        self._since = {path: settling.since(path) for path in settling.paths()}
        self._second_time: set[str] = set()
        self.missed_until = now
        """What was missed later than this came and went while the pass was under way."""

    def __bool__(self) -> bool:
        """Files are waited for."""
        return bool(self._since)

    def inodes(self) -> set[int]:
        """Of the files that are waited for."""
        stamps = (self._settling.stamp(path) for path in self._since)
        return {stamp.ino for stamp in stamps if stamp is not None}

    def admit(self, paths: Iterable[str]) -> set[str]:
        """Of files that changed, or are back, those that this pass still takes care of."""
        admitted = set(paths) - self._second_time
        self._second_time |= admitted
        return admitted

    def looked_at(self, paths: Iterable[str], now: float) -> None:
        """What `admit` gave was looked at: wait for what is being written, and be sure of what is missed."""
        self._since |= {path: self._settling.since(path) for path in paths if path in self._settling}
        self.missed_until = now

    def update(self, now: float) -> None:
        """A round of looks at quiet files ended.

        Another start of the wait than ours means that the file was taken, vanished and came back, or was
        found being written when the longest wait was over.
        """
        if self._since:
            self.missed_until = now
        self._since = {
            path: since for path, since in self._since.items() if self._settling.since(path) == since
        }


log = structlog.get_logger("kbsync")

SHOWN_BY_BASE = ("knowledge-base-missing", EMPTIED)
"""Halts whose cause is surely gone when the base answers; what the work ran into the work has to prove."""

PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class RunContext:
    """Where a mirror runs: its place for spooled bytes, the config's names, and how cures are written.

    `renamed(old, new)` is told before the target is opened that a mirror has another name now. `at_work`: it
    stays, as a daemon does.
    """

    spool_dir: Path
    configured: Sequence[str]
    cure: Callable[[str], str] = lambda command: f"kbsync {command}"
    renamed: Callable[[str, str], None] = lambda _old, _new: None
    at_work: bool = True


@dataclass(slots=True)
class PassCounts:
    """What was done since the run began."""

    uploaded: int = 0
    replaced: int = 0
    renamed: int = 0
    deleted: int = 0


@dataclass(slots=True)
class Parts:
    """What exists only while the mirror is bound to its base."""

    target: Target
    journal: Journal
    bodies: Bodies
    worker: Worker
    reconciler: Reconciler
    deletions: Deletions
    renewals: RecipeChanges
    inbox: Inbox
    auditing: BackgroundAudit
    working: asyncio.Task[None]


@dataclass(slots=True, eq=False)
class MirrorRun:
    """A mirror from `begin` to `end`; `begin` may be called again after it failed.

    `open_target` gives a fresh target. `on_event` gets a line for every finished document. `halt` is what the
    state says, `told` what this run has said of it in the log. `counted`: requests of targets that were let
    go. `pass_seconds`: how long the last whole comparison took. `snapshot`: what was being written then.
    `is_pass`: the run ends with its first comparison, and takes care of its snapshot only.
    """

    plan: Plan
    store: Store
    open_target: Callable[[], Awaitable[Target]]
    clock: Clock
    site: RunContext
    on_event: Callable[[Happened], None] = lambda _event: None
    on_settled: Callable[[Tx, str], None] | None = None
    mirror: int = 0
    halt: Halt | None = None
    told: Halt | None = None
    trouble: str = ""
    counts: PassCounts = field(default_factory=PassCounts)
    proving: bool = False
    doubted: set[str] = field(default_factory=set)
    parts: Parts | None = None
    identity: RootIdentity | None = None
    on_doubt: Callable[[], None] = lambda: None
    has_compared: bool = False
    told_requests: int = 0
    counted: Meter = field(default_factory=Meter)
    pass_seconds: float | None = None
    snapshot: Snapshot | None = None
    is_pass: bool = False

    # -- beginning and ending --------------------------------------------------------------------------

    async def begin(self) -> bool:
        """Look at root and base and set the parts to work; False with `halt` or `trouble` set."""
        # In a thread of this mirror's own: on a dead mount it never ends, and all others go on.
        self.plan = await asyncio.to_thread(self.plan.resolved)
        if not await self._find_root():
            return False
        target = None
        try:
            target = await self.open_target()
            await self._bind(target)
        except Halted as error:
            await self._give_up(target)
            await self.set_halt(self._halt_of(error))
            return False
        except UsageError as error:
            await self._give_up(target)
            await self.set_halt(Halt(BAD_CONFIG, str(error), self._retry()))
            return False
        except TargetError as error:
            await self._give_up(target)
            self.trouble = error.reason
            return False
        self.trouble = ""
        await self.set_halt(None)
        return True

    async def _give_up(self, target: Target | None) -> None:
        if target is not None:
            await self._let_go(target)

    async def _let_go(self, target: Target) -> None:
        """Its counts stay."""
        if target.meter is not None:
            self.counted.add(target.meter)
        await target.aclose()

    async def _find_root(self) -> bool:
        try:
            self.identity = await asyncio.to_thread(identify, self.plan.root)
        except ShortageError:
            await self._enroll()  # `status` has no place yet for what is said of it
            raise
        except RootTrouble as error:
            await self._enroll()
            await self.set_halt(attach.root_missing(self.plan, str(error), self.site.cure))
            return False
        await self._enroll()
        difference = await self.store.write(self._check_root)
        if difference:
            await self.set_halt(attach.root_differs(self.plan, difference, self.site.cure))
        return not difference

    async def _enroll(self) -> None:
        enrolled = await self.store.write(lambda tx: attach.enroll(tx, self.plan, self.site.configured))
        record, before = enrolled
        if before != record.name:
            await asyncio.to_thread(self.site.renamed, before, record.name)
        self.mirror, self.halt = record.id, record.halt

    def _check_root(self, tx: Tx) -> str:
        assert self.identity is not None
        waiting = tx.inbox.waiting(self.plan.name)
        accepted = any(m.verb == "approve" and m.args.get("root") for m in waiting)
        return attach.check_root(tx, tx.mirrors.get(self.mirror), self.identity, accepted=accepted)

    async def _bind(self, target: Target) -> None:
        record = await self.store.read(lambda tx: tx.mirrors.get(self.mirror))
        base = await target.base()
        spool_dir, cure = self.site.spool_dir, self.site.cure
        terms = await attach.bind(self.store, self.plan, record, target, base, spool_dir, cure)
        journal = Journal(terms, self.clock, self.on_settled)
        await attach.prepare(self.store, journal, target, self.clock)
        self.parts = self._build(target, journal)
        await self.parts.deletions.count_served()

    def _build(self, target: Target, journal: Journal) -> Parts:
        bodies = Bodies(journal.terms)
        worker = Worker(
            self.store,
            journal,
            target,
            self.clock,
            bodies,
            on_halt=self._worker_halted,
            on_event=self._happened,
            on_doubt=self._doubt,
            may_delete=self._may_delete,
            on_proof=self.end_halt_if_proven,
        )
        reconciler = Reconciler(self.store, journal, self.clock, on_work=self._rows_written, keep=bodies.keep)
        deletions = Deletions(self.store, journal, self.clock, self.trusted_identity, coming=self._coming)
        renewals = RecipeChanges(self.store, journal, self.clock)
        inbox = Inbox(self.store, journal, self.clock)
        auditing = self._auditing(target, journal, worker)
        working = asyncio.create_task(worker.run())
        return Parts(
            target, journal, bodies, worker, reconciler, deletions, renewals, inbox, auditing, working
        )

    def _auditing(self, target: Target, journal: Journal, worker: Worker) -> BackgroundAudit:
        return BackgroundAudit(
            self.store,
            journal,
            target,
            self.clock,
            may_work=lambda: self.has_compared and self.halt is None,
            is_idle=worker.is_idle,
            on_halt=self._audit_halted,
            on_work=worker.wake,
        )

    async def base_changed(self) -> bool:
        """The base is not the one this run began with: it was deleted, or found damaged and made anew."""
        assert self.parts is not None
        try:
            base = await self.parts.target.base()
        except Halted as error:
            await self._worker_halted(error)
            return False
        except TargetError:
            return False
        return base.id != self.parts.journal.terms.base

    async def end(self, grace: float = 0.5) -> None:
        """Stop the parts; the journal knows what was in flight. Repeatable."""
        self.tell_requests()
        self.told_requests = 0
        parts, self.parts, self.snapshot = self.parts, None, None
        if parts is None:
            return
        parts.reconciler.stop()
        await parts.worker.stop(grace)
        parts.working.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await parts.working
        parts.bodies.close()
        await self._let_go(parts.target)

    # -- the pass --------------------------------------------------------------------------------------

    async def compare(self, *, deep: bool = False) -> ScanSummary | None:
        """Compare the whole folder with the state; None when the root changed under it."""
        assert self.parts is not None
        began = self.clock.steady()
        before = await self.trusted_identity()
        if before is None:
            return None
        summary = await self.parts.reconciler.scan(deep=deep)
        await self.parts.reconciler.recheck_racy()
        if await self.trusted_identity() is None:
            return None
        self.pass_seconds = self.clock.steady() - began
        self.snapshot = Snapshot(self.parts.reconciler.settling, self.clock.steady())
        return summary

    async def deep_is_due(self) -> tuple[bool, bool]:
        """(a deep pass is due, this is the first pass: it reads everything anyway)."""
        record = await self.store.read(lambda tx: tx.mirrors.get(self.mirror))
        if record.last_deep is None:
            return False, True
        return self.clock.wall() - record.last_deep >= self.plan.deep_rescan, False

    def requests(self) -> Meter:
        """All requests of this run, those of earlier beginnings too."""
        every = Meter()
        every.add(self.counted)
        if self.parts is not None and (meter := self.parts.target.meter) is not None:
            every.add(meter)
        return every

    def tell_requests(self) -> None:
        """How many requests there were, by kind and outcome, where there are any to count."""
        meter = self.parts.target.meter if self.parts else None
        if meter is not None and meter.total > self.told_requests:
            self.told_requests = meter.total
            counts = {f"{op} {outcome}": n for (op, outcome), n in sorted(meter.requests.items())}
            log.info(
                "requests.counted",
                mirror=self.plan.name,
                total=meter.total,
                sent_bytes=meter.sent_bytes,
                requests=counts,
            )

    async def compared(self, *, deep: bool = False) -> None:
        """The folder was compared as a whole."""
        self.has_compared = True
        self.tell_requests()
        now = self.clock.wall()
        await self.store.write(lambda tx: tx.mirrors.pass_ended(self.mirror, now, deep))
        await self.store.write(lambda tx: tx.folders.remove_gone(self.mirror))

    async def first_pass_over(self) -> None:
        """Everything that was gone at the first pass has been weighed: later deletions need not ask."""
        await self.store.write(lambda tx: tx.mirrors.set_hold_all(self.mirror, False))

    async def tend(self) -> None:
        """Everything that is due besides scanning: messages, quiet files, second looks, the brake.

        In a pass deletions are weighed as soon as nothing of its snapshot may add to them.
        """
        parts = self.parts
        assert parts is not None
        await self._read_inbox()
        await self._look_again(self.snapshot if self.is_pass else None)
        await parts.reconciler.settle_due()
        self.doubted.update(await parts.deletions.second_looks())
        if self.snapshot is not None:
            self.snapshot.update(self.clock.steady())
        approve = self.site.cure(f"approve {self.plan.name}")
        weighed = await parts.deletions.weigh(now=self.is_pass and await self._have_all_gone())
        if weighed.held:
            log.warning("deletions.held", mirror=self.plan.name, count=weighed.held, cure=approve)
        await parts.deletions.run_approved()
        if (asked := await parts.renewals.weigh()) is not None:
            log.warning(
                "recipe.held", mirror=self.plan.name, count=asked.documents, bytes=asked.size, cure=approve
            )
        parts.worker.wake()

    async def _read_inbox(self) -> None:
        assert self.parts is not None
        answer = await self.parts.inbox.carry_out()
        self.doubted.update(answer.look_at)
        if answer.resumed:
            await self.resume()
        if answer.audits:
            self.parts.auditing.ask()

    async def _have_all_gone(self) -> bool:
        """Nothing that was found changing or missing by the last comparison can still turn out to be gone."""
        assert self.parts is not None
        if self.snapshot is None or self.snapshot or self.doubted:
            return False
        return not await self.parts.deletions.are_missed(self.snapshot.missed_until)

    async def _look_again(self, snapshot: Snapshot | None) -> None:
        """At what is in doubt, as far as it belongs to the snapshot; the next scan looks at all of it."""
        assert self.parts is not None
        paths, self.doubted = self.doubted, set()
        if snapshot is not None:
            paths = snapshot.admit(paths)
        if paths:
            await self.parts.reconciler.heed([Hint(path, HintKind.FILE) for path in sorted(paths)])
            if snapshot is not None:
                snapshot.looked_at(paths, self.clock.steady())

    async def hurry(self, ids: Collection[str]) -> None:
        """There may be news of these documents; those that are not ours, or wait for none, are ignored."""
        parts = self.parts
        if parts is not None and await self.store.write(lambda tx: parts.journal.hurry(tx, ids)):
            parts.worker.wake()

    async def resume(self) -> None:
        """The cause of a halt is gone."""
        await self.set_halt(None)
        if self.parts is not None:
            self.parts.worker.resume()

    @property
    def waits_for_person(self) -> bool:
        """It halted over something that does not pass by itself."""
        return self.halt is not None and self.halt.reason not in PASSING

    async def tell_down(self, reason: str) -> None:
        """The target does not answer: for people to see, unless they have to see something else."""
        if self._may_tell_passing():
            await self.set_halt(
                Halt(TARGET_DOWN, f"{reason}; the work goes on by itself when it answers", "")
            )

    async def tell_failing(self, reason: str) -> None:
        """The mirror could not be worked on, and no target is to blame."""
        if self._may_tell_passing():
            await self.set_halt(Halt(FAILING, f"{reason}; it is tried again within a minute", self._retry()))

    def _may_tell_passing(self) -> bool:
        """Nothing worse is known, and this run has not told it yet."""
        return self.halt is None or (self.halt.reason in PASSING and self.told is None)

    async def leave_word(self, reason: str, trouble: str) -> None:
        """For `status`, until the next beginning: a pass could not end. Who ran it is told anyway."""
        if self.halt is None:
            cure = self.site.cure(f"--once --mirror {self.plan.name}")
            self.halt = halt = Halt(reason, f"{trouble}; the next pass goes on from there", cure)
            await self.store.write(lambda tx: tx.mirrors.set_halt(self.mirror, halt))

    async def tell_up(self) -> None:
        """The target answers again."""
        if self.halt is not None and self.halt.reason in PASSING:
            await self.set_halt(None)

    async def try_again(self) -> None:
        """The base answers. Where that is what was wrong the halt is over; else the work has to prove it.

        A halt that somebody else ended while the base was asked stays ended.
        """
        if self.halt is None:
            return
        if self.halt.reason in SHOWN_BY_BASE or self.parts is None or self.parts.worker.pulse.halted is None:
            await self.resume()
        else:
            self.proving = True
            self.parts.worker.try_again()

    async def end_halt_if_proven(self) -> None:
        """What the work was taken up for again went well, or nothing of it is left."""
        if self.halt is None or self.parts is None or not self.proving:
            return
        pulse = self.parts.worker.pulse
        if pulse.halted is None and (pulse.is_proven or await self.parts.worker.is_idle(PATIENCE)):
            await self.set_halt(None)

    # -- the root --------------------------------------------------------------------------------------

    async def trusted_identity(self) -> RootIdentity | None:
        """The root's identity if it is still the one this run began with; else the mirror halts and None."""
        try:
            now = await asyncio.to_thread(identify, self.plan.root)
        except RootTrouble as error:
            await self.set_halt(attach.root_missing(self.plan, str(error), self.site.cure))
            return None
        assert self.identity is not None
        difference = compare(self.identity, now, within_run=True)
        if difference:
            await self.set_halt(attach.root_differs(self.plan, difference, self.site.cure))
            return None
        return now

    async def _may_delete(self) -> bool:
        return await self.trusted_identity() is not None

    # -- halts and events ------------------------------------------------------------------------------

    async def set_halt(self, halt: Halt | None) -> None:
        """Say, on disk and in the log, that the mirror waits for a person, or no longer does."""
        if halt is not None:
            halt = going_on(halt, self.plan.name, self.site.cure, at_work=self.site.at_work)
        if halt == self.halt == self.told:
            return
        before, self.halt, self.told, self.proving = self.halt, halt, halt, False
        await self.store.write(lambda tx: tx.mirrors.set_halt(self.mirror, halt))
        if halt is not None:
            log.error(
                "mirror.halted",
                mirror=self.plan.name,
                folder=str(self.plan.root),
                reason=halt.reason,
                detail=halt.detail,
                cure=halt.cure,
            )
        elif before is not None:
            log.info("mirror.resumed", mirror=self.plan.name, reason=before.reason)

    def _halt_of(self, error: Halted) -> Halt:
        halt = as_halt(error, self.site.cure)
        return halt if halt.cure else replace(halt, cure=self._retry())

    def _retry(self) -> str:
        """What to run once the cause of a halt is gone."""
        return self.site.cure(f"retry --mirror {self.plan.name}")

    async def _worker_halted(self, error: Halted) -> None:
        await self.set_halt(self._halt_of(error))

    async def _audit_halted(self, error: Halted) -> None:
        """The base is another one than it was: the run has to begin anew, which looks at it again."""
        if self.parts is not None:
            self.parts.worker.pulse.halted = error
        await self.set_halt(self._halt_of(error))
        self.on_doubt()

    def _doubt(self, path: str) -> None:
        self.doubted.add(path)
        self.on_doubt()

    def _coming(self) -> Collection[int]:
        """The inodes of files that will be taken when they are quiet."""
        if self.is_pass and self.snapshot is not None:
            return self.snapshot.inodes()
        return () if self.parts is None else self.parts.reconciler.coming()

    def _rows_written(self) -> None:
        if self.parts is not None:
            self.parts.deletions.may_wait = self.parts.renewals.may_wait = True
            self.parts.worker.wake()

    def _happened(self, event: Happened) -> None:
        if self.parts is not None:
            self.parts.deletions.may_wait = self.parts.renewals.may_wait = True
        match event.event:
            case "document.ready" if event.replaced:
                self.counts.replaced += 1
            case "document.ready":
                self.counts.uploaded += 1
            case "document.renamed":
                self.counts.renamed += 1
            case "document.deleted":
                self.counts.deleted += 1
        self.on_event(event)

    def rules(self) -> Rules | None:
        """The selection rules at work."""
        return None if self.parts is None else self.parts.journal.terms.rules
