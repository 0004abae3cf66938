"""Runs one mirror in the daemon: handles hints as they arrive, rescans from time to time, and retries failed
work.

`keep` starts the mirror, watches it, and restarts it after an error; `_turn` is one round of the loop. A
single event wakes the loop, whatever the reason. The state and the clock show what there is to do.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable
from dataclasses import field
from enum import Enum
from functools import partial
from pathlib import Path

import structlog

from kbsync.core.model import FileChoice
from kbsync.core.selection import Rules
from kbsync.dataclass import dataclass
from kbsync.engine.attach import EMPTIED
from kbsync.engine.clock import keep_running, log_bug, wait_for_any
from kbsync.engine.halts import Work
from kbsync.engine.mirror import PATIENCE, BoundMirror, Mirror
from kbsync.engine.status import CREDENTIALS, FAILING, FOLDER_MISSING, TARGET_DOWN
from kbsync.errors import StateError, TargetError, lacks_memory
from kbsync.source.hints import ancestors
from kbsync.source.wake import WakeFile
from kbsync.source.watch import Mode, Watcher
from kbsync.state.mirrors import MirrorFact


class ReloadScope(Enum):
    """What to reload for a halted mirror, because a user may have fixed the cause of the halt."""

    CONFIG = "config"
    """Reload the whole config: the user sent a request, and may have changed the config first."""
    SECRETS = "secrets"
    """Reload only this mirror's secrets: its key was refused, but a user may have changed the key since."""


@dataclass(frozen=True, slots=True)
class ReloadRequest:
    """One mirror's reload request. `done` is set once the daemon has reloaded or refused the config."""

    mirror: str
    scope: ReloadScope
    done: asyncio.Event = field(default_factory=asyncio.Event)


class ReloadQueue:
    """The reload requests of halted mirrors, which the daemon carries out. If a mirror's config changed, the
    daemon stops the mirror first.
    """

    def __init__(self) -> None:
        self._requests: list[ReloadRequest] = []
        self.has_requests = asyncio.Event()

    def request(self, mirror: str, scope: ReloadScope) -> asyncio.Event:
        """Request a reload. The returned event is set when the reload is done."""
        request = ReloadRequest(mirror, scope)
        self._requests.append(request)
        self.has_requests.set()
        return request.done

    def take(self) -> list[ReloadRequest]:
        """Remove and return all requests."""
        requests, self._requests = self._requests, []
        self.has_requests.clear()
        return requests


log = structlog.get_logger("kbsync")

CHECK_EVERY = 1.0
"""Seconds between checks of the root, the watcher and the target, which don't report changes themselves."""
FIRST_RETRY, MAX_RETRY_PAUSE = 2.0, 60.0
MAX_RELOAD_WAIT = 10.0
"""Maximum number of seconds that a halted mirror waits for a reload."""
HINTS_AT_ONCE = 256
HINT_PAUSE = 0.1
"""Seconds to collect hints before handling them, because a program may write a file hundreds of times a
second.
"""
ALL = "all"
"""Key for the scan of the whole folder."""


@dataclass
class MirrorLoop:
    """Keeps one mirror up to date until `stop` is set. Without `reloads`, it can't reload a config."""

    mirror: Mirror
    state_dir: Path
    stop: asyncio.Event
    make_watcher: Callable[..., Watcher] = Watcher
    reloads: ReloadQueue | None = None
    on_wake: Callable[[], None] = lambda: None
    """Called when a command has sent a message to any mirror."""
    grace: float = 0.5
    """Seconds to wait for requests in flight after `stop`."""
    started: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the folder is being watched, or the reason why it isn't has been logged."""
    compared: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the whole folder has been scanned once, or the reason why it hasn't has been logged."""
    _next_check: float = 0.0
    _was_woken: bool = True
    """Whether a command may have sent a message or started a pause since the last turn."""
    _directories: int = 0
    _must_restart: bool = False
    _mode: Mode | None = None
    _polling: str | None = None
    """The stored `MirrorFact.POLLING`, or None if it may come from an earlier process."""
    _wake_file: WakeFile = field(init=False)

    def __post_init__(self) -> None:
        self._wake_file = WakeFile(self.state_dir, self.on_wake)

    async def keep(self) -> None:
        """Run until `stop` is set.

        If there is a problem with the folder or the target, continue once it has been resolved.
        """
        try:
            await self._keep()
        finally:
            # Nobody waits for a mirror that was stopped before it started.
            self.started.set()
            self.compared.set()

    async def _keep(self) -> None:
        wait = FIRST_RETRY
        while not self.stop.is_set():
            try:
                # While the mirror is paused, don't read the folder or query the target.
                while not self.stop.is_set() and await self.mirror.find_pause() is not None:
                    self.started.set()
                    self.compared.set()
                    self.mirror.wake.clear()
                    await self._rest_unwatched(CHECK_EVERY)
            except StateError as error:
                await self._report_failure(error)
            if self.stop.is_set():
                return
            newest_message, began_at = await self._newest_message(), self.mirror.clock.steady()
            try:
                async with self.mirror.bind() as bound:
                    if bound is not None:
                        await self._watch(bound)
                        wait = FIRST_RETRY
                if bound is None and self.mirror.halts.down_reason:
                    await self.mirror.halts.show_problem(TARGET_DOWN, self.mirror.halts.down_reason)
            except Exception as error:
                # A mirror may fail soon after each start, even if its target responds.
                if self.mirror.clock.steady() - began_at > MAX_RETRY_PAUSE:
                    wait = FIRST_RETRY
                await self._report_failure(error)
            finally:
                self.started.set()
                self.compared.set()
            # Pause before the next start; a new message ends the pause.
            until = self.mirror.clock.steady() + wait
            while not self.stop.is_set() and (remaining := until - self.mirror.clock.steady()) > 0:
                self.mirror.wake.clear()  # set by a message or by the end of the last run
                await self._rest_unwatched(min(CHECK_EVERY / 2, remaining))
                if await self._newest_message() > newest_message:
                    break
            # A new message comes from a user, who may have fixed the config by now.
            if self.mirror.halt is not None and await self._newest_message() > newest_message:
                await self._reload(ReloadScope.CONFIG)
            elif self.mirror.halts.is_about(CREDENTIALS):
                await self._reload(ReloadScope.SECRETS)
            wait = min(MAX_RETRY_PAUSE, wait * 2)

    async def _settle_for_pause(self, bound: BoundMirror) -> None:
        """Wait for the outcome of requests sent before the pause.

        The worker starts nothing in the meantime.
        """
        while not self.stop.is_set() and await self.mirror.find_pause() is not None:
            bound.worker.wake()
            if await bound.worker.is_settled():
                return
            self.mirror.wake.clear()
            await self._rest(CHECK_EVERY)

    async def _report_failure(self, error: Exception) -> None:
        name = self.mirror.settings.name
        if isinstance(error, StateError):
            reason = str(error)
            log.error("state.failed", mirror=name, reason=reason)
        elif isinstance(error, OSError) and not lacks_memory(error):
            reason = str(error)
            log.error("mirror.failed", mirror=name, reason=reason)
        else:
            reason = log_bug("mirror.failed", error, mirror=name)
        with contextlib.suppress(StateError):  # if the state can't be written, `halts` keeps why
            await self.mirror.halts.show_problem(FAILING, reason)

    async def _reload(self, scope: ReloadScope) -> None:
        """Request a reload and wait for it. If the reload changes this mirror, `stop` is set while
        waiting.
        """
        if self.reloads is not None and not self.stop.is_set():
            done = self.reloads.request(self.mirror.settings.name, scope)
            await wait_for_any(self.mirror.clock, MAX_RELOAD_WAIT, done, self.stop)

    async def _newest_message(self) -> int:
        name = self.mirror.settings.name
        with contextlib.suppress(StateError):
            messages = await self.mirror.store.read(lambda tx: tx.inbox.waiting(name))
            return messages[-1].id if messages else 0
        return 0

    async def _watch(self, bound: BoundMirror) -> None:
        """Watch the folder until the daemon ends, or until the folder or the base is replaced."""
        settings = self.mirror.settings
        watcher = self.make_watcher(
            settings.root,
            self.state_dir,
            on_hint=self.mirror.wake.set,
            on_wake=partial(self._wake, bound),
            ignores=partial(_ignores, bound.journal.binding.rules),
            is_unreadable=bound.journal.unreadable.__contains__,
            observer=settings.observer,
            rescan=settings.rescan,
        )
        try:
            await watcher.start(self._directories)
            bound.start(keep_running(self.mirror.clock, bound.audits.keep, "audits", mirror=settings.name))
            self._log_mode("watch.started", watcher)
            await self._store_mode(watcher)
            self.started.set()
            self._next_check, self._must_restart, self._was_woken = 0.0, False, True
            halts = self.mirror.halts
            while not (self.stop.is_set() or self._must_restart or halts.is_about(FOLDER_MISSING, EMPTIED)):
                self.mirror.wake.clear()
                await self._rest(await self._turn(bound, watcher))
                if self.mirror.is_paused:
                    await self._settle_for_pause(bound)
                    if self.mirror.is_paused:
                        return
                    bound.request_turn()
        finally:
            # Meanwhile, requests in flight may finish.
            await asyncio.gather(bound.stop(self.grace), watcher.stop())

    def _wake(self, bound: BoundMirror) -> None:
        self._was_woken = True
        bound.request_turn()
        self.on_wake()

    def _log_mode(self, event: str, watcher: Watcher) -> None:
        report, name = watcher.report, self.mirror.settings.name
        self._mode = report.mode
        log.info(event, mirror=name, mode=str(report.mode), why=report.why, cure=report.fix)

    async def _store_mode(self, watcher: Watcher) -> None:
        """Store for `status` why the folder is polled and how often, or that it is watched."""
        report, mirror, polling = watcher.report, self.mirror.id, ""
        if report.mode is Mode.POLLING:
            fix = f"; fix: {report.fix}" if report.fix else ""
            polling = f"{report.why}; kbsync scans the folder every {watcher.rescan_every:g} s{fix}"
        if polling != self._polling:
            with contextlib.suppress(StateError):  # the next scan tries again
                await self.mirror.store.write(lambda tx: tx.meta.set(MirrorFact.POLLING, mirror, polling))
                self._polling = polling

    async def _turn(self, bound: BoundMirror, watcher: Watcher) -> float:
        """Check the root and the watch, start a scan if one is due, and do all work that is due.

        Return how many seconds to wait.
        """
        clock, name = self.mirror.clock, self.mirror.settings.name
        is_check_due = clock.steady() >= self._next_check
        if is_check_due:
            # Check all mirrors at the same time, so that an idle daemon wakes up only once.
            self._next_check = (clock.steady() // CHECK_EVERY + 1) * CHECK_EVERY
        # A command may have been killed before it could wake this process.
        may_pause = bound.worker.is_paused or self.mirror.quiet_period() is not None
        if self._was_woken or (is_check_due and may_pause):
            self._was_woken = False
            if await self.mirror.find_pause() is not None:
                return 0.0
        if is_check_due:
            await self._check(bound, watcher)
        if self.mirror.halts.is_about(FOLDER_MISSING):
            return 0.0
        is_due = bool(watcher.rescan_reason) or clock.steady() >= bound.next_scan
        if is_due and ALL not in bound.scanning:
            if watcher.rescan_reason:
                log.info("rescan.started", mirror=name, reason=watcher.rescan_reason)
            bound.next_scan = math.inf
            bound.scan(ALL, partial(self._scan_all, bound, watcher))

        async def reload_if_halted() -> bool:
            # A request to a halted mirror uses the current config; if that differs, the mirror restarts.
            if self.mirror.halt is not None:
                await self._reload(ReloadScope.CONFIG)
            return not self.stop.is_set()

        hints = watcher.hints.take(HINTS_AT_ONCE)
        remaining = await bound.turn(hints, reload_if_halted)
        for hint in remaining:
            watcher.hints.add(hint)
        if 0 < len(hints) < HINTS_AT_ONCE and not remaining:
            await wait_for_any(clock, min(HINT_PAUSE, await bound.next_due() - clock.steady()), self.stop)
        if hints or self.stop.is_set():
            return 0.0
        return max(0.0, min(await bound.next_due(), self._next_check, bound.next_scan) - clock.steady())

    async def _check(self, bound: BoundMirror, watcher: Watcher) -> None:
        settings, halts = self.mirror.settings, self.mirror.halts
        watcher.note_mounts(bound.mount_points)
        bound.mount_points.clear()
        for problem in await watcher.check():
            log.warning("watch.troubled", mirror=settings.name, reason=problem.text)
            await self.mirror.trusted_identity()
        if watcher.report.mode is not self._mode:
            self._log_mode("watch.changed", watcher)
            await self._store_mode(watcher)
        # Each component of a path without symlinks was just checked. A symlink may lead to a dead mount.
        is_checked = settings.given in (None, settings.root) and watcher.is_local
        resolved = settings
        with contextlib.suppress(TimeoutError):  # the watcher reports a root that isn't responding
            resolved = settings.resolved() if is_checked else await asyncio.to_thread(self.mirror.resolved)
        if resolved.root != settings.root:
            log.warning("folder.moved", mirror=settings.name, folder=str(settings.given))
            self._must_restart = True
        if halts.work is Work.TRYING and await bound.worker.is_idle(PATIENCE):
            halts.prove()
        await halts.refresh()
        if halts.take_probe():
            await (self._probe(bound) if halts.needs_person else self._check_base(bound))

    async def _check_base(self, bound: BoundMirror) -> None:
        if await bound.base_changed():
            log.warning("base.changed", mirror=self.mirror.settings.name)
            self._must_restart = True
            self.mirror.wake.set()

    async def _probe(self, bound: BoundMirror) -> None:
        """Ask the target whether the cause of the halt has been resolved."""
        if self.mirror.halts.is_about(CREDENTIALS):
            await self._reload(ReloadScope.SECRETS)
        if self.stop.is_set():
            return
        with contextlib.suppress(TargetError):
            await bound.target.base()
            self.mirror.halts.try_again()
            bound.worker.wake()

    async def _scan_all(self, bound: BoundMirror, watcher: Watcher) -> float:
        started = self.mirror.clock.steady()
        watcher.scan_started()
        await self._check_base(bound)
        summary = await bound.compare()
        if summary is not None:
            self._directories = summary.directories
            seconds = self.mirror.clock.steady() - started
            watcher.scan_ended(summary.directories, seconds, summary.changes, summary.mount_points)
            await bound.compared()
            await self._store_mode(watcher)  # a longer scan means longer pauses
            self.compared.set()
        return watcher.rescan_every

    async def _rest(self, seconds: float) -> None:
        """Wait until something happens, `stop` is set, or the time is up."""
        await wait_for_any(self.mirror.clock, seconds, self.mirror.wake, self.stop)

    async def _rest_unwatched(self, seconds: float) -> None:
        """Wait like `_rest`, then check for messages from commands, because no watcher reports those.

        The first check always reports a message.
        """
        await self._rest(seconds)
        self._wake_file.check()


def _ignores(rules: Rules, path: str) -> bool:
    """Return whether a path is below a directory that the rules in the config exclude.

    This is fast and doesn't read the disk.
    """
    return any(rules.enters(folder).choice is not FileChoice.SELECTED for folder in ancestors(path))
