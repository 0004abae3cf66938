"""The daemon, which watches every mirror until it is stopped."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from kbsync.config.folders import remove_mirror
from kbsync.config.model import Config, MirrorConfig
from kbsync.config.reader import with_secrets_of
from kbsync.core.model import Status
from kbsync.dataclass import dataclass
from kbsync.engine.clock import SystemClock, end_tasks, keep_running, log_bug, wait_for_any
from kbsync.engine.journal import DocumentEvent
from kbsync.engine.loop import MirrorLoop, ReloadQueue, ReloadScope
from kbsync.engine.mirror import Mirror
from kbsync.errors import Halted, KbsyncError, StateError, UsageError, describe_with_fix
from kbsync.forget import forget_mirror, read_holdings
from kbsync.installation import Installation
from kbsync.once import identities_of, log_damage, log_finished, make_mirror, open_state, receiving
from kbsync.server.listener import HttpListener
from kbsync.server.notify import Notifications
from kbsync.server.removals import RemovalQueue
from kbsync.signals import ENDING, Signals
from kbsync.source.watch import run_detached
from kbsync.state.inbox import Message
from kbsync.state.mirrors import DAEMON, DaemonFact
from kbsync.state.read_only import Tx
from kbsync.state.store import StateStore
from kbsync.systemd import ServiceManager, ServiceReports
from kbsync.threads import Threads, in_own_threads

if TYPE_CHECKING:
    from kbsync.server.app import MakeAssistants

log = structlog.get_logger("kbsync")

CHECK_STATE_EVERY = 5.0
"""Seconds between checks that the state file is still the one that was opened."""

STOP_SECONDS = 0.9
"""Seconds within which a mirror must stop: half a second for requests in flight, the rest to record them."""

REMOVAL_GRACE = 30.0
"""Seconds to wait for uploads in flight before a mirror's documents are deleted; otherwise, a document whose
id isn't known yet would remain.
"""

RELOAD_SECONDS = 5.0
"""Maximum number of seconds for reading a config: resolving its paths may hang on a network mount."""

HAS_DOCUMENT = (Status.READY, Status.INDEXING, Status.PENDING, Status.HELD, Status.KEPT)
"""Statuses of files that have, or will have, a document."""

Reload = Callable[[Installation], Installation]
"""Reloads the config of the current installation; raises `UsageError` if it is invalid."""


@dataclass(frozen=True, slots=True)
class WatchedMirror:
    """A watched mirror, with the config it was started with."""

    config: MirrorConfig
    loop: MirrorLoop
    task: asyncio.Task[None]


@dataclass(frozen=True, slots=True)
class RunningRemoval:
    """The removal of a mirror and its documents, while it is in progress.

    `config`: the mirror's config before the removal.
    """

    config: MirrorConfig
    task: asyncio.Task[None]


class Daemon:
    """Watches every mirror until one of the signals in `ending` arrives.

    SIGHUP reloads the config, unless SIGHUP is one of them. Retrying a halted mirror reloads the config, too.
    A mirror whose key was refused reloads its secrets whenever it checks whether the key works.
    """

    def __init__(
        self,
        installation: Installation,
        reload: Reload,
        signals: Signals | None = None,
        on_config: Callable[[Config], None] = lambda _config: None,
        manager: ServiceManager | None = None,
        *,
        ending: Sequence[int] = ENDING,
        assistants: MakeAssistants | None = None,
        prepare: Callable[[Installation], None] = lambda _installation: None,
    ) -> None:
        """Prepare the daemon.

        `on_config` is called with each new config that is accepted. `manager`: the service manager, if any.
        `assistants` creates the app that serves assistants on the listener, if any. `prepare` recreates the
        state directory if it was deleted.
        """
        self._installation = installation
        self._reload = reload
        self._signals = signals
        self._ending = ending
        self._on_config = on_config
        self._prepare = prepare
        self._reports = ServiceReports(manager or ServiceManager({}), SystemClock())
        self._stop = asyncio.Event()
        self._stopped_by = ""
        self._hangup = asyncio.Event()
        self._state_lost = asyncio.Event()
        self._woken = asyncio.Event()
        """Set when a command has sent a message."""
        self._reloads = ReloadQueue()
        self._removals = RemovalQueue()
        self._removing: dict[str, RunningRemoval] = {}
        self._switching = asyncio.Lock()
        """A lock held while the mirrors or the config change, so that nothing uses a config that is being
        replaced."""
        self._reading: asyncio.Task[Installation] | None = None
        self._mirrors: dict[str, WatchedMirror] = {}
        self._running: dict[str, Mirror] = {}
        self._listener = HttpListener(installation, self._running, assistants, self._removals)
        self._notifications = Notifications(self._running)

    async def run(self) -> None:
        """Run until stopped. Raises `LockedError`, `UsageError` or `StateError` only at startup."""
        started = time.monotonic()
        asyncio.get_running_loop().set_default_executor(Threads())
        with receiving(self._signals, self._receive):
            await asyncio.sleep(0)  # signals from before the loop arrive here
            work = {"listener": self._listener.keep, "notify": self._notifications.keep}
            tasks = [asyncio.create_task(keep_running(SystemClock(), work[name], name)) for name in work]
            try:
                if not self._stop.is_set():
                    await self._work(is_start=True)
                # The state was deleted or damaged: a new one adopts the documents in the knowledge bases.
                while not self._stop.is_set():
                    try:
                        self._prepare(self._installation)
                        await self._work()
                    except (KbsyncError, OSError) as error:
                        log.error("state.failed", reason=str(error))
                    self._reports.alive()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._stop.wait(), CHECK_STATE_EVERY)
            finally:
                await end_tasks(tasks)
                await self._listener.end()
        log.info("daemon.stopped", signal=self._stopped_by, seconds=round(time.monotonic() - started, 3))

    def stop(self) -> None:
        """End `run` as a signal does."""
        self._stop.set()

    def read_config(self) -> None:
        """Reload the config, as on SIGHUP."""
        self._hangup.set()

    def _receive(self, number: int) -> None:
        if number in self._ending:
            self._reports.stopping()
            self._stopped_by = self._stopped_by or signal.Signals(number).name
            self._stop.set()
        elif number == signal.SIGHUP:
            self._hangup.set()

    async def _work(self, *, is_start: bool = False) -> None:
        """Work on a state file until stopped, or until the file becomes unusable."""
        self._state_lost.clear()
        # At startup, a bad config is refused; a daemon that is already running continues with the old one.
        on_refused = None if is_start else lambda _error: self._hangup.set()  # the reload reports the error
        opened = open_state(self._installation, log_damage, keeps_running=True, on_refused=on_refused)
        with opened as (installation, store):
            is_changed = installation is not self._installation
            self._installation = installation
            loop = asyncio.get_running_loop()
            store.when_damaged(lambda: loop.call_soon_threadsafe(self._state_lost.set))
            await self._listen(self._installation)
            config = self._installation.config
            self._notifications.switch_to(config.notify)
            if is_changed:
                self._on_config(config)
            if is_start:  # logged once the state is locked and the listener is up
                folder = {"folder": str(config.mirrors[0].folder)}
                source = {"config": str(config.path)} if config.path else folder
                log.info("daemon.started", **source, state_dir=str(self._installation.state_dir))
            # The state has counts even of mirrors that haven't started yet.
            async with self._reports.over(store, lambda: [each.name for each in self._installation.mirrors]):
                await self._watch_mirrors(store)

    async def _watch_mirrors(self, store: StateStore) -> None:
        """Run the mirrors until stopped, or until the state is lost.

        However this ends, no mirror outlives it, because the state is closed next.
        """
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(lambda: self._end(list(self._mirrors)))
            await self._note_refusal(store, "")
            await self._forget_removals(store)
            self._start_missing(store, self._installation.mirrors)
            started = [watched.loop.started for watched in self._mirrors.values()]
            for work in (self._reports.ready_after(started), self._log_watching(store)):
                stack.push_async_callback(end_tasks, [asyncio.create_task(work)])
            stack.push_async_callback(
                lambda: self._cancel_removals(store, list(self._removing), "kbsync ended")
            )
            while not self._stop.is_set() and not self._state_lost.is_set():
                requests = (self._reloads.has_requests, self._removals.has_requests)
                events = (self._stop, self._hangup, self._state_lost, self._woken, *requests)
                await wait_for_any(SystemClock(), CHECK_STATE_EVERY, *events)
                self._woken.clear()
                # Someone may have deleted or replaced the state, so that writes to the old file would be
                # lost.
                if not store.is_there and not self._state_lost.is_set():
                    detail = (
                        f"{store.path} was removed or replaced; restarting with the file that is there now"
                    )
                    log.error("state.lost", detail=detail)
                    self._state_lost.set()
                if not self._stop.is_set():
                    await self._reload_requested(store)
                    await self._begin_removals(store)

    async def _log_watching(self, store: StateStore) -> None:
        """Log the watched folders once all of them have been compared, because documents are counted only
        then.
        """
        for mirror in list(self._mirrors.values()):
            await mirror.loop.compared.wait()
        http, mirrors = self._installation.config.http, list(self._running.values())
        quieting = {
            mirror.id: mirror.bound.reconciler.settling.paths() if mirror.bound else [] for mirror in mirrors
        }

        def count(tx: Tx) -> int:
            """Count documents, including new files that are still changing."""
            total = 0
            for mirror, paths in quieting.items():
                tally = tx.mirrors.tally(mirror)
                total += sum(tally.get(status, 0) for status in HAS_DOCUMENT)
                total += sum(tx.entries.get(mirror, path) is None for path in paths)
            return total

        with contextlib.suppress(StateError):
            documents = await store.read(count)
            listen = "" if http is None else http.listen
            log.info("daemon.watching", folders=len(mirrors), documents=documents, listen=listen)

    def _start_missing(self, store: StateStore, configs: Iterable[MirrorConfig]) -> None:
        for config in configs:
            name = config.name
            if name in self._mirrors or name in self._removing:
                continue
            mirror = make_mirror(self._installation, config, store, is_listening=True)
            mirror.on_event = partial(self._finished, name)
            self._listener.counters.attend(mirror)
            self._running[name] = mirror
            state_dir, stop = self._installation.state_dir, asyncio.Event()
            loop = MirrorLoop(mirror, state_dir, stop, reloads=self._reloads, on_wake=self._woken.set)
            # A mirror has its own threads: a hanging folder must not block other mirrors.
            work = in_own_threads(name, keep_running(mirror.clock, loop.keep, "mirror", mirror=name))
            self._mirrors[name] = WatchedMirror(config, loop, asyncio.create_task(work))

    async def _end(self, names: Sequence[str], grace: float | None = None) -> None:
        """Stop mirrors. `grace`: how many seconds to wait for requests in flight, or None for the default."""
        to_end = [self._mirrors.pop(name) for name in names]
        for name in names:
            self._running.pop(name, None)
        for watched in to_end:
            if grace is not None:
                watched.loop.grace = grace
            watched.loop.stop.set()
        tasks = [watched.task for watched in to_end]
        if tasks:
            try:
                await asyncio.wait(tasks, timeout=STOP_SECONDS + (grace or 0.0))
            finally:  # even if this call is canceled: the mirrors must not outlive it
                await end_tasks(tasks)

    def _finished(self, mirror: str, event: DocumentEvent) -> None:
        log_finished(mirror, event)
        self._notifications.record_document(mirror, event)
        self._reports.send_soon()

    async def _listen(self, installation: Installation) -> None:
        """Apply the listener's settings. If this raises `UsageError`, the listener stays unchanged."""
        mirrors = tuple(installation.mirrors)  # only those of --mirror
        await self._listener.switch_to(replace(installation.config, mirrors=mirrors))

    # -- the config and its secrets, read again ---------------------------------------------------------

    async def _reload_requested(self, store: StateStore) -> None:
        """Reload the config or only the secrets, as requested.

        Requests come from SIGHUP, from commands that changed the config, and from halted mirrors. Reloading
        the whole config includes the secrets.
        """
        messages = list[int]()
        with contextlib.suppress(StateError):
            messages = await store.read(lambda tx: tx.inbox.reloads())
        async with self._switching:
            requests = self._reloads.take()
            is_whole = any(request.scope is ReloadScope.CONFIG for request in requests)
            if messages or is_whole or self._hangup.is_set():
                self._hangup.clear()
                with self._reports.reloading():
                    await self._read_config(store)
            elif requests:
                await self._read_secrets(store, [request.mirror for request in requests])
            for request in requests:
                request.done.set()
        # Remove the messages only now. Until then, messages for mirrors that aren't in any config yet are
        # kept. A command that changes the config during the reload sends another message.
        if messages:
            with contextlib.suppress(StateError):
                await store.write(lambda tx: tx.inbox.done(*messages))

    async def _read_config(self, store: StateStore) -> None:
        """Accept the new config completely or not at all. Unchanged mirrors continue without interruption."""
        try:
            new = await self._read()
            if new.state_dir != self._installation.state_dir:
                raise UsageError("state_dir cannot be changed while kbsync is running; restart kbsync")
            await self._listen(new)
        except (UsageError, Halted, OSError) as error:
            reason = describe_with_fix(error)
            log.error("config.refused", reason=reason)
            self._reports.complain("the new config was refused; the old one stays in use")
            await self._note_refusal(store, reason)
            return
        self._notifications.switch_to(new.config.notify)
        before, names = set(self._mirrors), {mirror.name for mirror in new.mirrors}
        ended_names = await self._switch_to(store, new)
        self._reports.complain("")
        await self._note_refusal(store, "")
        self._on_config(new.config)
        added, removed = len(names - before), len(before - names)
        counts = {"added": added, "removed": removed, "changed": len(ended_names) - removed}
        log.info("config.read", mirrors=len(names), **counts)

    async def _note_refusal(self, store: StateStore, reason: str) -> None:
        """Record for `kbsync status` why the config was refused, or '' if it wasn't."""
        with contextlib.suppress(StateError):
            if await store.read(lambda tx: tx.meta.get(DaemonFact.REFUSED_CONFIG, DAEMON)) != reason:
                await store.write(lambda tx: tx.meta.set(DaemonFact.REFUSED_CONFIG, DAEMON, reason))

    async def _read_secrets(self, store: StateStore, names: Sequence[str]) -> None:
        """Reload only the secrets of these mirrors. After an error, the mirrors keep the old ones."""
        if self._reading is not None and not self._reading.done():
            return  # the thread of the last reload is still waiting for a mount
        before = self._installation
        try:
            reloaded = await self._read()
            new = replace(before, config=with_secrets_of(before.config, reloaded.config, names))
            await self._listen(new)
        except (UsageError, Halted, OSError):
            return
        if new != before:
            for name in await self._switch_to(store, new):
                log.info("secrets.read", mirror=name)
            self._on_config(new.config)

    async def _read(self) -> Installation:
        """Read the config. Raises `UsageError`, `Halted` after an upgrade, or `OSError`."""
        self._reading = asyncio.create_task(run_detached(partial(self._reload, self._installation)))
        try:
            async with asyncio.timeout(RELOAD_SECONDS):
                return await asyncio.shield(self._reading)
        except TimeoutError as error:
            why = f"could not be read, because a folder that it names isn't responding ({RELOAD_SECONDS:g} s)"
            raise UsageError(why) from error

    async def _switch_to(self, store: StateStore, new: Installation) -> Sequence[str]:
        """Switch to a new config. Return the mirrors that ended because they changed or were removed."""
        configs = {mirror.name: mirror for mirror in new.mirrors}
        ended_names = [name for name, watched in self._mirrors.items() if configs.get(name) != watched.config]
        removing = self._removing.items()
        changed = [name for name, removal in removing if configs.get(name) != removal.config]
        await self._cancel_removals(store, changed, "its config changed meanwhile")
        await self._end(ended_names)
        self._installation = new
        identities = identities_of(new.config)
        for mirror in self._running.values():
            mirror.context = replace(mirror.context, configured=identities)
        self._start_missing(store, configs.values())
        return ended_names

    # -- mirrors removed with their documents ------------------------------------------------------------

    async def _forget_removals(self, store: StateStore) -> None:
        """Forget the requests sent to an earlier process, because their senders no longer wait for it."""
        with contextlib.suppress(StateError):
            if old := await store.read(lambda tx: tx.inbox.removals()):
                await store.write(lambda tx: tx.inbox.done(*(message.id for message in old)))

    async def _begin_removals(self, store: StateStore) -> None:
        with contextlib.suppress(StateError):
            for message in await store.read(lambda tx: tx.inbox.removals()):
                if not message.args:
                    await self._request_removal(store, message)
        for name in self._removals.take():
            watched = self._mirrors.get(name)
            if watched is None:
                await self._removal_failed(store, name, "the mirror isn't running right now; try again")
                continue
            work = in_own_threads(f"removal-{name}", self._remove(store, watched.config))
            self._removing[name] = RunningRemoval(watched.config, asyncio.create_task(work))

    async def _request_removal(self, store: StateStore, message: Message) -> None:
        """Request the removal that a command asked for.

        Its message stays until the command has read the answer.
        """
        await store.write(lambda tx: tx.inbox.answer(message.id, {"begun": True}))
        try:
            self._removals.request(message.mirror or "", self._installation, message.id)
        except UsageError as error:
            await self._answer(store, message.id, {"problem": str(error)})

    async def _cancel_removals(self, store: StateStore, names: Sequence[str], reason: str) -> None:
        """Cancel removals. The mirrors involved are still in the config, and continue."""
        tasks = [self._removing[name].task for name in names]
        await end_tasks(tasks)
        for name in names:
            if self._removing.pop(name, None) is not None:
                await self._removal_failed(store, name, reason)

    async def _removal_failed(self, store: StateStore, name: str, reason: str) -> None:
        log.error("removal.failed", mirror=name, reason=reason)
        message = self._removals.fail(name, reason)
        await self._answer(store, message, {"problem": reason})

    async def _answer(self, store: StateStore, message: int, answer: Mapping[str, Any]) -> None:
        """Answer the command that requested a removal, if a command did."""
        if message:
            with contextlib.suppress(StateError):
                await store.write(lambda tx: tx.inbox.answer(message, answer))

    async def _remove(self, store: StateStore, config: MirrorConfig) -> None:
        """Remove a mirror with its documents. If the removal fails, the mirror continues."""
        name, started = config.name, time.monotonic()
        try:
            # Nothing may upload while its documents are deleted.
            await self._end([name], REMOVAL_GRACE)
            deleted = await self._delete_documents(store, name)
            async with self._switching:
                # Do this last. If the daemon is killed before, it restarts with the mirror, so the documents
                # always have an owner.
                await self._drop_from_config(name)
                del self._removing[name]
        except (KbsyncError, OSError) as error:
            reason = str(error)
        except Exception as error:
            reason = log_bug("mirror.failed", error, mirror=name)
        else:
            seconds = round(time.monotonic() - started, 3)
            log.info("mirror.removed", mirror=name, deleted=deleted, seconds=seconds)
            await self._answer(store, self._removals.end(name), {"deleted": deleted})
            return
        async with self._switching:
            del self._removing[name]
            await self._removal_failed(store, name, reason)
            self._start_missing(store, self._installation.mirrors)

    async def _delete_documents(self, store: StateStore, name: str) -> int:
        """Delete a mirror's documents and state. Return the number of deleted documents."""
        installation = self._installation
        holdings = await store.read(lambda tx: read_holdings(tx, installation, name))
        if holdings is None:
            return 0
        self._removals.begin(name, holdings.documents)
        report = partial(self._removals.report, name)
        return await forget_mirror(installation, store, holdings, lambda: installation, report)

    async def _drop_from_config(self, name: str) -> None:
        """Remove a mirror from the config file and from the current config. Raises `UsageError`."""
        installation = self._installation
        path, config = installation.config.path, installation.config
        assert path is not None
        try:
            await asyncio.to_thread(remove_mirror, path, os.environ, name, installation.command_line)
        finally:
            self._hangup.set()
        # This mirror must not start again, even if the reload refuses the rest of the file.
        mirrors = tuple(mirror for mirror in config.mirrors if mirror.name != name)
        without = replace(installation, config=replace(config, mirrors=mirrors))
        await self._listen(without)
        self._installation = without
