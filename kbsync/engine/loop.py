"""The daemon's loop for one mirror: hints as they come, a rescan now and then, retries in between.

`keep` starts the mirror, watches it, and starts it again after an error; `_turn` is one round of the loop.
One event wakes it for any reason; the state and the clock then tell what to do.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from pathlib import Path

import structlog

from kbsync.core.model import FileChoice
from kbsync.core.selection import Rules
from kbsync.engine.attach import EMPTIED
from kbsync.engine.clock import bug_in_words, keep_running, rest
from kbsync.engine.halts import Work
from kbsync.engine.mirror import PATIENCE, BoundMirror, MirrorRun
from kbsync.engine.status import CREDENTIALS, FAILING, FOLDER_MISSING, TARGET_DOWN
from kbsync.errors import StateError, TargetError
from kbsync.source.watch import Mode, Watcher, WatchReport


class Reread(Enum):
    """What a halted mirror reloads, since somebody may have fixed the cause of the halt there."""

    CONFIG = "config"
    """The whole config: a person sent a request, so may have changed it."""
    SECRETS = "secrets"
    """Only this mirror's secrets: its key was refused, and may have been rotated since."""


AskReread = Callable[[Reread, asyncio.Event], None]
"""Requests the reload, and sets the event when it is done. It first stops a mirror whose config changed."""


def nothing_to_read(_wish: Reread, read: asyncio.Event) -> None:
    """For a mirror without a config."""
    read.set()


log = structlog.get_logger("kbsync")

CHECK_EVERY = 1.0
"""Seconds between two checks of what sends no events: root, watcher, target."""
FIRST_RETRY, LONGEST_RETRY = 2.0, 60.0
LONGEST_READING = 10.0
"""Seconds a halted mirror waits for a reload."""
HINTS_AT_ONCE = 256


@dataclass
class MirrorLoop:
    """Keeps one mirror up to date until `stop` is set."""

    run: MirrorRun
    state_dir: Path
    stop: asyncio.Event
    on_pass: Callable[[], None] = lambda: None
    make_watcher: Callable[..., Watcher] = Watcher
    on_wish: AskReread = nothing_to_read
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the folder is watched, or the reason why not is logged."""
    compared: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the whole folder was scanned once, or the reason why not is logged."""
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _asked: bool = True
    _scan: asyncio.Task[None] | None = None
    _tree_scan: asyncio.Task[None] | None = None
    _next_scan: float = 0.0
    _next_check: float = 0.0
    _first_pass_open: bool = True
    _is_compared: bool = False
    _directories: int = 0
    _begin_anew: bool = False
    _mode: Mode | None = None

    async def keep(self) -> None:
        """Run until `stop`. After any problem of folder or target, continue when it is over."""
        self.run.on_news = self._wake.set
        wait = FIRST_RETRY
        while not self.stop.is_set():
            known = await self._newest_message()
            try:
                async with self.run.bind() as bound:
                    if bound is not None:
                        wait = FIRST_RETRY
                        await self._watch(bound)
                if bound is None and self.run.halts.trouble:
                    await self.run.halts.show_trouble(TARGET_DOWN, self.run.halts.trouble)
            except Exception as error:
                await self._tell_failed(error)
            finally:
                self.begun.set()
                self.compared.set()
            # Before the next start; a new message ends the pause.
            until = self.run.clock.steady() + wait
            while not self.stop.is_set() and (left := until - self.run.clock.steady()) > 0:
                self._wake.clear()  # woken by a message, or by the run that just ended: the state tells which
                await self._rest(min(CHECK_EVERY / 2, left))
                if await self._newest_message() > known:
                    break
            # The config may be fixed by now; a new message comes from a person.
            if self.run.halt is not None and await self._newest_message() > known:
                await self._have_read(Reread.CONFIG)
            elif self.run.halts.is_about(CREDENTIALS):
                await self._have_read(Reread.SECRETS)
            wait = min(LONGEST_RETRY, wait * 2)

    async def _tell_failed(self, error: Exception) -> None:
        name = self.run.settings.name
        if isinstance(error, StateError):
            reason = str(error)
            log.error("state.failed", mirror=name, reason=reason)
        else:
            reason = bug_in_words(error)
            log.exception("mirror.failed", mirror=name)
        with contextlib.suppress(StateError):  # for `status`, if the state can still be written
            await self.run.halts.show_trouble(FAILING, reason)

    async def _have_read(self, wish: Reread) -> None:
        """Request a reload. If it changes this mirror, `stop` is set meanwhile."""
        if not self.stop.is_set():
            read = asyncio.Event()
            self.on_wish(wish, read)
            await rest(self.run.clock, LONGEST_READING, read, self.stop)

    async def _newest_message(self) -> int:
        name = self.run.settings.name
        with contextlib.suppress(StateError):
            messages = await self.run.store.read(lambda tx: tx.inbox.waiting(name))
            return messages[-1].id if messages else 0
        return 0

    async def _watch(self, bound: BoundMirror) -> None:
        """Follow the folder until it or the base is replaced, or the daemon ends."""
        settings = self.run.settings
        watcher = self.make_watcher(
            settings.root,
            self.state_dir,
            on_hint=self._wake.set,
            on_wake=self.wake,
            ignores=partial(_ignores, bound.journal.binding.rules),
            observer=settings.observer,
            rescan=settings.rescan,
        )
        try:
            report = await watcher.start(self._directories)
            bound.start(keep_running(self.run.clock, bound.auditing.keep, "audits", mirror=settings.name))
            self._tell_how("watch.started", report)
            self.begun.set()
            self._next_scan = self._next_check = 0.0
            self._begin_anew = self._is_compared = False
            self._first_pass_open = True
            self._asked = True
            halts = self.run.halts
            while not (self.stop.is_set() or self._begin_anew or halts.is_about(FOLDER_MISSING, EMPTIED)):
                self._wake.clear()
                await self._turn(bound, watcher)
                await self._rest(await self._until_next(bound))
        finally:
            await asyncio.gather(bound.stop(), watcher.stop())  # requests in flight get their time meanwhile

    def _tell_how(self, event: str, report: WatchReport) -> None:
        self._mode = report.mode
        log.info(
            event,
            mirror=self.run.settings.name,
            mode=str(report.mode),
            why=report.why,
            cure=report.cure,
        )

    def wake(self) -> None:
        """A command left a message."""
        self._asked = True
        self._wake.set()

    async def _turn(self, bound: BoundMirror, watcher: Watcher) -> None:
        """Everything that is due now."""
        now = self.run.clock.steady()
        if now >= self._next_check:
            self._next_check = now + CHECK_EVERY
            await self._check(bound, watcher)
        if self.run.halts.is_about(FOLDER_MISSING):
            return
        if self._scan is None and (watcher.rescan_wanted or now >= self._next_scan):
            if watcher.rescan_wanted:
                log.info("rescan.started", mirror=self.run.settings.name, reason=watcher.rescan_reason)
            self._scan = bound.start(self._scan_all(bound, watcher))
            self._scan.add_done_callback(lambda ended: self._scan_ended(ended, watcher))
        hints = watcher.hints.take(HINTS_AT_ONCE)
        for left in await bound.reconciler.take_hints(hints):
            watcher.hints.add(left)
        if hints:
            self._wake.set()
        if bound.reconciler.has_trees and self._tree_scan is None:
            self._tree_scan = bound.start(bound.reconciler.scan_trees())
            self._tree_scan.add_done_callback(self._tree_scan_ended)
        if hints or self._asked or await bound.is_due(now):
            self._asked = False
            # A request to a halted mirror uses the current config.
            if self.run.halt is not None and await self._newest_message():
                await self._have_read(Reread.CONFIG)
            if not self.stop.is_set():
                await bound.do_due_work()

    async def _check(self, bound: BoundMirror, watcher: Watcher) -> None:
        for trouble in await watcher.check():
            log.warning("watch.troubled", mirror=self.run.settings.name, reason=trouble.text)
            await self.run.trusted_identity()
        if watcher.report.mode is not self._mode:
            self._tell_how("watch.changed", watcher.report)
        if (await asyncio.to_thread(self.run.settings.resolved)).root != self.run.settings.root:
            log.warning("folder.moved", mirror=self.run.settings.name, folder=str(self.run.settings.given))
            self._begin_anew = True
        halts = self.run.halts
        if halts.work is Work.TRYING and await bound.worker.is_idle(PATIENCE):
            halts.prove()
        await halts.refresh()
        if halts.take_probe():
            await (self._probe(bound) if halts.needs_person else self._check_base(bound))

    async def _check_base(self, bound: BoundMirror) -> None:
        if await bound.base_changed():
            log.warning("base.changed", mirror=self.run.settings.name)
            self._begin_anew = True
            self._wake.set()

    async def _probe(self, bound: BoundMirror) -> None:
        """Ask the target whether the cause of the halt is gone."""
        if self.run.halts.is_about(CREDENTIALS):
            await self._have_read(Reread.SECRETS)
        if self.stop.is_set():
            return
        with contextlib.suppress(TargetError):
            await bound.target.base()
            self.run.halts.try_again()
            bound.worker.wake()

    async def _until_next(self, bound: BoundMirror) -> float:
        due = await bound.next_due()
        times = [self._next_check] if due is None else [self._next_check, due]
        if self._scan is None:
            times.append(self._next_scan)
            # After a pass that weighed all missing files, few deletions need no approval again.
            if self._first_pass_open and self._is_compared and not bound.deletions.may_wait:
                self._first_pass_open = False
                await self.run.first_pass_over()
        return max(0.0, min(times) - self.run.clock.steady())

    # -- scanning --------------------------------------------------------------------------------------

    async def _scan_all(self, bound: BoundMirror, watcher: Watcher) -> None:
        began = self.run.clock.steady()
        watcher.scan_started()
        await self._check_base(bound)
        deep, first = await self.run.deep_is_due()
        summary = await bound.compare(deep=deep)
        if summary is not None:
            self._directories = summary.directories
            seconds = self.run.clock.steady() - began
            watcher.scan_ended(summary.directories, seconds, summary.changes)
            await bound.compared(deep=deep or first)
            self._is_compared = True
            self.compared.set()
            self.on_pass()

    def _scan_ended(self, task: asyncio.Task[None], watcher: Watcher) -> None:
        self._scan = None
        self._next_scan = self.run.clock.steady() + watcher.rescan_every
        self._asked = True
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("scan.failed", mirror=self.run.settings.name, reason=str(error))
            self._next_scan = self.run.clock.steady() + LONGEST_RETRY
        self._wake.set()

    def _tree_scan_ended(self, task: asyncio.Task[None]) -> None:
        self._tree_scan = None
        self._asked = True
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("scan.failed", mirror=self.run.settings.name, reason=str(error))
            self._next_scan = min(self._next_scan, self.run.clock.steady() + LONGEST_RETRY)
        self._wake.set()

    async def _rest(self, seconds: float) -> None:
        """Wait until something happens, `stop` is set, or time is up."""
        await rest(self.run.clock, seconds, self._wake, self.stop)


def _ignores(rules: Rules, path: str) -> bool:
    """Whether a path is below a directory that the config's rules exclude. Cheap, reads nothing."""
    folder = path.rpartition("/")[0]
    while folder:
        if rules.enters(folder).choice is not FileChoice.SELECTED:
            return True
        folder = folder.rpartition("/")[0]
    return False
