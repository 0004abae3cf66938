"""What a halted mirror has read again, since a person may have mended there what halts it.

The daemon's loop for one mirror: hints as they come, a rescan now and then, and patience with trouble.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import structlog

from kbsync.core.model import Choice
from kbsync.engine.attach import EMPTIED
from kbsync.engine.clock import keep_up, rest, told
from kbsync.engine.halts import CREDENTIALS, FOLDER_MISSING
from kbsync.engine.mirror import MirrorRun
from kbsync.errors import StateError, TargetError
from kbsync.source.watch import Mode, Watcher, WatchReport


class Reread(Enum):
    """What is to be read again."""

    CONFIG = "config"
    """All of it: a person asked for something, and believes that the cause is gone."""
    SECRETS = "secrets"
    """What of this mirror is secret, and nothing else: its key was refused, and nobody asked."""


AskReread = Callable[[Reread, asyncio.Event], None]
"""Has it read, and sets the event when that is done. A mirror that changed is told to stop before."""


def nothing_to_read(_wish: Reread, read: asyncio.Event) -> None:
    """Where no config stands behind a mirror."""
    read.set()


log = structlog.get_logger("kbsync")

CHECK_EVERY = 1.0
PROBE_EVERY, LONGEST_PROBE = 30.0, 900.0
DOWN_AFTER = 10.0
FIRST_RETRY, LONGEST_RETRY = 2.0, 60.0
LONGEST_READING = 10.0
"""Seconds that a halted mirror waits for what it has read again."""
HINTS_AT_ONCE = 1000


@dataclass
class MirrorLoop:
    """Keeps one mirror true until `stop` is set."""

    run: MirrorRun
    state_dir: Path
    stop: asyncio.Event
    on_pass: Callable[[], None] = lambda: None
    make_watcher: Callable[..., Watcher] = Watcher
    on_wish: AskReread = nothing_to_read
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the folder is watched, or it was said why it is not."""
    compared: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when all that is in the folder has been seen once, or it was said why it cannot be."""
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _asked: bool = True
    _scan: asyncio.Task[None] | None = None
    _next_scan: float = 0.0
    _next_check: float = 0.0
    _next_probe: float = 0.0
    _probe_wait: float = PROBE_EVERY
    _first_pass_open: bool = True
    _is_compared: bool = False
    _directories: int = 0
    _begin_anew: bool = False
    _mode: Mode | None = None

    async def keep(self) -> None:
        """Run until `stop`; whatever happens to folder or target, go on when it is over."""
        self.run.on_doubt = self._wake.set
        wait = FIRST_RETRY
        while not self.stop.is_set():
            known = await self._newest_message()
            try:
                if await self.run.begin():
                    wait = FIRST_RETRY
                    await self._watch()
                elif self.run.trouble:
                    await self.run.tell_down(self.run.trouble)
            except StateError as error:
                log.error("state.failed", mirror=self.run.plan.name, reason=str(error))
                await self._tell(str(error))
            except Exception as error:
                log.exception("mirror.failed", mirror=self.run.plan.name)
                await self._tell(told(error))
            finally:
                self.begun.set()
                self.compared.set()
                await self.run.end()
            await self._rest_until_asked(wait, known)
            await self._read_what_was_mended(known)
            wait = min(LONGEST_RETRY, wait * 2)

    async def _tell(self, reason: str) -> None:
        """For `status`, where the state can still be written."""
        with contextlib.suppress(StateError):
            await self.run.tell_failing(reason)

    async def _rest_until_asked(self, seconds: float, known: int) -> None:
        """Before the next beginning; a message that is newer than `known` ends the rest."""
        until = self.run.clock.steady() + seconds
        while not self.stop.is_set() and (left := until - self.run.clock.steady()) > 0:
            await self._rest(min(CHECK_EVERY / 2, left))
            if await self._newest_message() > known:
                return

    async def _read_what_was_mended(self, known: int) -> None:
        """Before a halted mirror begins anew; a message newer than `known` is a person's."""
        if self.run.halt is not None and await self._newest_message() > known:
            await self._have_read(Reread.CONFIG)
        elif self._is_refused():
            await self._have_read(Reread.SECRETS)

    def _is_refused(self) -> bool:
        return self.run.halt is not None and self.run.halt.reason == CREDENTIALS

    async def _have_read(self, wish: Reread) -> None:
        """Where that changes this mirror, `stop` is set meanwhile."""
        if not self.stop.is_set():
            read = asyncio.Event()
            self.on_wish(wish, read)
            await rest(self.run.clock, LONGEST_READING, read, self.stop)

    async def _newest_message(self) -> int:
        name = self.run.plan.name
        with contextlib.suppress(StateError):
            messages = await self.run.store.read(lambda tx: tx.inbox.waiting(name))
            return messages[-1].id if messages else 0
        return 0

    async def _watch(self) -> None:
        assert self.run.parts is not None
        audits, name = self.run.parts.auditing, self.run.plan.name
        auditing = asyncio.create_task(keep_up(self.run.clock, audits.keep, "audits", mirror=name))
        try:
            await self._watch_folder()
        finally:
            auditing.cancel()
            with contextlib.suppress(asyncio.CancelledError, StateError):
                await auditing

    async def _watch_folder(self) -> None:
        watcher = self._watcher()
        try:
            report = await watcher.start(self._directories)
            self._tell_how("watch.started", report)
            self.begun.set()
            self._next_scan = self._next_check = 0.0
            self._begin_anew = self._is_compared = False
            self._first_pass_open = True
            self._asked = True
            while not (self.stop.is_set() or self._root_lost() or self._emptied() or self._begin_anew):
                self._wake.clear()
                await self._turn(watcher)
                await self._rest(await self._until_next())
        finally:
            await self._end_scan()
            await asyncio.gather(watcher.stop(), self._send_no_more())

    async def _send_no_more(self) -> None:
        """At the end of the daemon; what is on its way gets its time while the watches are taken down."""
        if self.stop.is_set() and self.run.parts is not None:
            await self.run.parts.worker.stop()

    def _tell_how(self, event: str, report: WatchReport) -> None:
        self._mode = report.mode
        log.info(
            event,
            mirror=self.run.plan.name,
            mode=str(report.mode),
            why=report.why,
            cure=report.cure,
        )

    def _watcher(self) -> Watcher:
        plan = self.run.plan
        return self.make_watcher(
            plan.root,
            self.state_dir,
            on_hint=self._wake.set,
            on_wake=self.wake,
            ignores=self._ignores,
            observer=plan.observer,
            rescan=plan.rescan,
        )

    def wake(self) -> None:
        """A command left a message."""
        self._asked = True
        self._wake.set()

    def _ignores(self, path: str) -> bool:
        """Cheap: below a directory that the config's own rules do not enter."""
        rules = self.run.rules()
        folder = path.rpartition("/")[0]
        while rules is not None and folder:
            if rules.enters(folder).choice is not Choice.SELECTED:
                return True
            folder = folder.rpartition("/")[0]
        return False

    def _root_lost(self) -> bool:
        return self.run.halt is not None and self.run.halt.reason == FOLDER_MISSING

    def _emptied(self) -> bool:
        """The beginning of a run halts over it, and finds out when it is over."""
        return self.run.halt is not None and self.run.halt.reason == EMPTIED

    async def _turn(self, watcher: Watcher) -> None:
        """Everything that is due now."""
        now = self.run.clock.steady()
        if now >= self._next_check:
            self._next_check = now + CHECK_EVERY
            await self._check(watcher)
        if self._root_lost():
            return
        self._start_scan(watcher, now)
        hints = watcher.hints.take(HINTS_AT_ONCE)
        assert self.run.parts is not None
        if hints:
            await self.run.parts.reconciler.heed(hints)
            self._wake.set()
        if hints or self._asked or await self._is_due(now):
            self._asked = False
            await self._tend()

    async def _tend(self) -> None:
        """What a person asks of a halted mirror is done by the config as it is now."""
        if self.run.halt is not None and await self._newest_message():
            await self._have_read(Reread.CONFIG)
        if not self.stop.is_set():
            await self.run.tend()

    async def _check(self, watcher: Watcher) -> None:
        for trouble in await watcher.check():
            log.warning("watch.troubled", mirror=self.run.plan.name, reason=trouble.text)
            await self.run.trusted_identity()
        if watcher.mode is not self._mode:
            self._tell_how("watch.changed", watcher.report)
        if (await asyncio.to_thread(self.run.plan.resolved)).root != self.run.plan.root:
            log.warning("folder.moved", mirror=self.run.plan.name, folder=str(self.run.plan.given))
            self._begin_anew = True
        now = self.run.clock.steady()
        await self.run.end_halt_if_proven()
        await self._tell_whether_down()
        if self.run.halt is None:
            self._probe_wait = PROBE_EVERY
        if self.run.waits_for_person and not self._root_lost() and now >= self._next_probe:
            await self._probe()
        elif self._is_down() and now >= self._next_probe:
            self._next_probe = now + PROBE_EVERY
            await self._check_base()

    def _is_down(self) -> bool:
        return self.run.parts is not None and self.run.parts.worker.pulse.down_since is not None

    async def _tell_whether_down(self) -> None:
        """A target that has been down for a while is a halt like any other, and ends by itself.

        So does an error of ours that comes again and again.
        """
        assert self.run.parts is not None
        pulse = self.run.parts.worker.pulse
        if pulse.failures.lasting:
            await self.run.tell_failing(pulse.failures.lasting)
        elif pulse.down_since is None:
            await self.run.tell_up()
        elif self.run.clock.steady() - pulse.down_since >= DOWN_AFTER:
            await self.run.tell_down(pulse.trouble)

    async def _check_base(self) -> None:
        if self.run.parts is not None and await self.run.base_changed():
            log.warning("base.changed", mirror=self.run.plan.name)
            self._begin_anew = True
            self._wake.set()

    async def _probe(self) -> None:
        """Is the cause of the halt gone? Asked ever more seldom, as long as it is not."""
        assert self.run.parts is not None
        self._next_probe = self.run.clock.steady() + self._probe_wait
        self._probe_wait = min(LONGEST_PROBE, self._probe_wait * 2)
        if self._is_refused():
            await self._have_read(Reread.SECRETS)
        if self.stop.is_set():
            return
        with contextlib.suppress(TargetError):
            await self.run.parts.target.base()
            await self.run.try_again()

    async def _is_due(self, now: float) -> bool:
        due = await self._next_work()
        return bool(self.run.doubted) or (due is not None and due <= now)

    async def _next_work(self) -> float | None:
        """Steady time when a quiet file, a second look or the brake is due; None while nothing waits."""
        assert self.run.parts is not None
        deletions, renewals = self.run.parts.deletions, self.run.parts.renewals
        times = [
            await renewals.next_due() if renewals.may_wait else None,
            self.run.parts.reconciler.settling.next_due(),
            await deletions.next_due() if deletions.may_wait else None,
        ]
        return min((time for time in times if time is not None), default=None)

    async def _until_next(self) -> float:
        parts = self.run.parts
        if parts is None or self.run.doubted:
            return 0.0
        due = await self._next_work()
        times = [self._next_check] if due is None else [self._next_check, due]
        if self._scan is None:
            times.append(self._next_scan)
            await self._end_first_pass(parts.deletions.may_wait)
        return max(0.0, min(times) - self.run.clock.steady())

    async def _end_first_pass(self, may_wait: bool) -> None:
        if self._first_pass_open and self._is_compared and not may_wait:
            self._first_pass_open = False
            await self.run.first_pass_over()

    # -- scanning --------------------------------------------------------------------------------------

    def _start_scan(self, watcher: Watcher, now: float) -> None:
        if self._scan is None and (watcher.rescan_wanted or now >= self._next_scan):
            if watcher.rescan_wanted:
                log.info("rescan.started", mirror=self.run.plan.name, reason=watcher.rescan_reason)
            self._scan = asyncio.create_task(self._scan_all(watcher))
            self._scan.add_done_callback(lambda ended: self._scan_ended(ended, watcher))

    async def _scan_all(self, watcher: Watcher) -> None:
        began = self.run.clock.steady()
        watcher.scan_started()
        await self._check_base()
        deep, first = await self.run.deep_is_due()
        summary = await self.run.compare(deep=deep)
        if summary is not None:
            self._directories = summary.directories
            seconds = self.run.clock.steady() - began
            watcher.scan_ended(summary.directories, seconds, summary.changes)
            await self.run.compared(deep=deep or first)
            self._is_compared = True
            self.compared.set()
            self.on_pass()

    def _scan_ended(self, task: asyncio.Task[None], watcher: Watcher) -> None:
        self._scan = None
        self._next_scan = self.run.clock.steady() + watcher.rescan_every
        self._asked = True
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("scan.failed", mirror=self.run.plan.name, reason=str(error))
            self._next_scan = self.run.clock.steady() + LONGEST_RETRY
        self._wake.set()

    async def _end_scan(self) -> None:
        if self._scan is not None:
            if self.run.parts is not None:
                self.run.parts.reconciler.stop()
            self._scan.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await self._scan

    async def _rest(self, seconds: float) -> None:
        """Until something happens, `stop` is set, or time is up."""
        await rest(self.run.clock, seconds, self._wake, self.stop)
