"""The daemon: every mirror is watched until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import structlog

from kbsync.assembly import opened
from kbsync.config.model import Config, MirrorConfig
from kbsync.config.rotation import with_secrets_of
from kbsync.contract.mirroring import Target
from kbsync.core.model import Status
from kbsync.engine.clock import SystemClock
from kbsync.engine.lasting import keep_up
from kbsync.engine.mending import Wish
from kbsync.engine.mirror import MirrorRun
from kbsync.engine.outcomes import Happened
from kbsync.engine.threads import Threads, apart
from kbsync.engine.watching import Watching
from kbsync.errors import KbsyncError, StateError, UsageError
from kbsync.installation import Installation
from kbsync.notify.teller import Teller
from kbsync.passes import heeding, mirror_run, note, tell_damage
from kbsync.sdnotify import Notifier
from kbsync.signals import ENDING, Signals
from kbsync.source.aside import aside
from kbsync.state.store import Store, Tx
from kbsync.supervised import Supervised
from kbsync.web.listening import Listening

log = structlog.get_logger("kbsync")

LOOK_AT_STATE = 5.0
"""Seconds between two looks at whether the state is still the file that was opened."""

STOP_SECONDS = 0.9
"""For a mirror to end by itself: half a second for what is being sent, and the rest to write it down."""

RELOAD_SECONDS = 5.0
"""For a config to be read."""

Reload = Callable[[], Installation]
"""Reads the config again; raises `UsageError` when it is no good."""


def _watched(installation: Installation) -> Config:
    """The config with the mirrors that are at work here only."""
    return replace(installation.config, mirrors=tuple(installation.mirrors))


COUNTED = (Status.READY, Status.INDEXING, Status.PENDING, Status.HELD)
"""Files that have a document, or will have one."""


def _documents(tx: Tx, mirror: int, quieting: Sequence[str]) -> int:
    """How many a mirror has, or will have as soon as the files that are `quieting` are quiet."""
    tally = tx.mirrors.tally(mirror)
    return sum(tally.get(status, 0) for status in COUNTED) + sum(
        tx.entries.get(mirror, path) is None for path in quieting
    )


@dataclass(frozen=True, slots=True)
class Kept:
    """A mirror that is watched: how to end it, and whether it has begun and looked, or said why not."""

    config: MirrorConfig
    stop: asyncio.Event
    begun: asyncio.Event
    compared: asyncio.Event
    task: asyncio.Task[None]


@dataclass(frozen=True, slots=True)
class Wished:
    """What a halted mirror wants to have read; `read` is set when it was."""

    mirror: str
    what: Wish
    read: asyncio.Event


class Daemon:
    """Watches every mirror until SIGTERM or SIGINT; SIGHUP reads the config again.

    So does what a person asks of a halted mirror. A mirror whose key was refused has its secrets read again
    whenever it looks whether that is over.
    """

    def __init__(
        self,
        installation: Installation,
        reload: Reload,
        signals: Signals | None = None,
        on_config: Callable[[Config], None] = lambda _config: None,
        notifier: Notifier | None = None,
    ) -> None:
        """`on_config` gets each new config that is taken; `notifier` tells the service manager."""
        self._installation = installation
        self._reload = reload
        self._signals = signals
        self._on_config = on_config
        self._supervised = Supervised(notifier or Notifier({}), SystemClock())
        self._stop = asyncio.Event()
        self._ended_by = ""
        self._hup = asyncio.Event()
        self._lost = asyncio.Event()
        self._wishes: list[Wished] = []
        self._wished = asyncio.Event()
        self._reading: asyncio.Task[Installation] | None = None
        self._kept: dict[str, Kept] = {}
        self._runs: dict[str, MirrorRun] = {}
        self._listening = Listening(
            self._runs, installation.state_file, installation.cure, self._opened_to_read
        )
        self._teller = Teller(self._runs)

    async def run(self) -> None:
        """Until told to stop. Raises `LockedError`, `UsageError` or `StateError` at the start only."""
        began = time.monotonic()
        asyncio.get_running_loop().set_default_executor(Threads())
        with heeding(self._signals, self._receive):
            await asyncio.sleep(0)  # what came before there was a loop is received here
            lasting = {"listener": self._listening.keep, "notify": self._teller.keep}
            keeping = [asyncio.create_task(keep_up(SystemClock(), lasting[name], name)) for name in lasting]
            try:
                if not self._stop.is_set():
                    await self._work(self._introduce)
                while not self._stop.is_set():
                    await self._work_again()
            finally:
                for task in keeping:
                    task.cancel()
                await asyncio.gather(*keeping, return_exceptions=True)
                await self._listening.end()
        log.info("daemon.stopped", signal=self._ended_by, seconds=round(time.monotonic() - began, 3))

    def _receive(self, number: int) -> None:
        if number in ENDING:
            self._supervised.stopping()
            self._ended_by = self._ended_by or signal.Signals(number).name
            self._stop.set()
        elif number == signal.SIGHUP:
            self._hup.set()

    def _introduce(self) -> None:
        """Name what is in use, once it is known to be ours."""
        config = self._installation.config
        source = {"config": str(config.path)} if config.path else {"folder": str(config.mirrors[0].folder)}
        log.info("daemon.started", **source, state_dir=str(self._installation.state_dir))

    async def _work(self, begun: Callable[[], None] = lambda: None) -> None:
        """On one state file, until told to stop or the file is of no use any more.

        `begun` is called when state and listener are had.
        """
        self._lost.clear()
        with opened(self._installation, tell_damage) as store:
            loop = asyncio.get_running_loop()
            store.when_damaged(lambda: loop.call_soon_threadsafe(self._lost.set))
            await self._listening.turn_to(_watched(self._installation))
            self._teller.turn_to(self._installation.config.notify)
            begun()
            async with self._supervised.over(store, lambda: list(self._kept)):
                await self._serve(store)

    async def _work_again(self) -> None:
        """With a new state, in which everything that is in the knowledge bases is taken over."""
        try:
            await self._work()
        except (KbsyncError, OSError) as error:
            log.error("state.failed", reason=str(error))
        self._supervised.alive()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), LOOK_AT_STATE)

    async def _serve(self, store: Store) -> None:
        self._adjust(store, self._installation.mirrors)
        begun = [kept.begun for kept in self._kept.values()]
        ready = asyncio.create_task(self._supervised.ready_after(begun))
        telling = asyncio.create_task(self._tell_what_is_watched(store))
        while not self._stop.is_set() and not self._lost.is_set():
            events = (self._stop, self._hup, self._wished, self._lost)
            waiting = [asyncio.create_task(event.wait()) for event in events]
            await asyncio.wait(waiting, timeout=LOOK_AT_STATE, return_when=asyncio.FIRST_COMPLETED)
            for task in waiting:
                task.cancel()
            self._look_at(store)
            if not self._stop.is_set():
                await self._read_what_is_wished(store)
        ready.cancel()
        telling.cancel()
        await self._end(list(self._kept))

    async def _tell_what_is_watched(self, store: Store) -> None:
        """Once everything has been seen: before that nobody knows how many documents there are."""
        for kept in list(self._kept.values()):
            await kept.compared.wait()
        http, runs = self._installation.config.http, list(self._runs.values())
        quieting = {run.mirror: run.parts.reconciler.settling.paths() if run.parts else [] for run in runs}
        with contextlib.suppress(StateError):
            counts = await store.read(lambda tx: [_documents(tx, *each) for each in quieting.items()])
            listen = "" if http is None else http.listen
            log.info("daemon.watching", folders=len(runs), documents=sum(counts), listen=listen)

    def _look_at(self, store: Store) -> None:
        """Somebody may have deleted the state, or put another one there."""
        if not store.is_there and not self._lost.is_set():
            log.error(
                "state.lost", detail=f"{store.path} is not the file any more that was opened; begun anew"
            )
            self._lost.set()

    def _adjust(self, store: Store, wanted: Sequence[MirrorConfig]) -> None:
        """Start what is wanted and does not run."""
        for mirror in wanted:
            if mirror.name not in self._kept:
                self._kept[mirror.name] = self._begun(mirror, store)

    def _begun(self, mirror: MirrorConfig, store: Store) -> Kept:
        run = mirror_run(self._installation, mirror, store, hears=True)
        run.on_event = partial(self._happened, mirror.name)
        self._listening.counting.attend(run)
        self._runs[mirror.name] = run
        watching = Watching(run, self._installation.state_dir, asyncio.Event())
        watching.on_wish = partial(self._wish, mirror.name)
        kept = keep_up(run.clock, watching.keep, "mirror", mirror=mirror.name)
        task = asyncio.create_task(apart(mirror.name, kept))
        return Kept(mirror, watching.stop, watching.begun, watching.compared, task)

    async def _opened_to_read(self, mirror: str) -> Target:
        config = self._kept[mirror].config
        return await asyncio.to_thread(self._installation.target, config, read_only=True)

    def _happened(self, mirror: str, event: Happened) -> None:
        note(mirror, event)
        self._teller.heard(mirror, event)
        self._supervised.nudge()

    def _wish(self, mirror: str, what: Wish, read: asyncio.Event) -> None:
        self._wishes.append(Wished(mirror, what, read))
        self._wished.set()

    async def _read_what_is_wished(self, store: Store) -> None:
        """By a signal, or by mirrors that are halted."""
        wishes, self._wishes = self._wishes, []
        self._wished.clear()
        if self._hup.is_set() or any(each.what is Wish.CONFIG for each in wishes):
            self._hup.clear()
            with self._supervised.reloading():
                await self._read_again(store)
        elif wishes:
            await self._read_secrets(store, [each.mirror for each in wishes])
        for each in wishes:
            each.read.set()

    async def _read_secrets(self, store: Store, names: Sequence[str]) -> None:
        """Of these mirrors, and nothing else of the config; what cannot be read leaves them as they are."""
        if self._reading is not None and not self._reading.done():
            return  # the thread of the last time still waits for a mount
        before = self._installation
        try:
            fresh = await self._read()
            new = replace(before, config=with_secrets_of(before.config, fresh.config, names))
            await self._listening.turn_to(_watched(new))
        except (UsageError, OSError):
            return
        if new == before:
            return
        for name in await self._take(store, new):
            log.info("secrets.read", mirror=name)

    async def _read(self) -> Installation:
        """Raises `UsageError` or `OSError`."""
        self._reading = asyncio.create_task(aside(self._reload))
        try:
            async with asyncio.timeout(RELOAD_SECONDS):
                return await asyncio.shield(self._reading)
        except TimeoutError as error:  # paths are resolved, and a mount may never answer
            why = f"not read within {RELOAD_SECONDS:g} s; a folder it names does not answer"
            raise UsageError(why) from error

    async def _read_again(self, store: Store) -> None:
        """Take the new config whole or not at all; mirrors that did not change go on undisturbed."""
        try:
            new = await self._read()
            if new.state_dir != self._installation.state_dir:
                raise UsageError("state_dir cannot change while kbsync runs; restart it")
            await self._listening.turn_to(_watched(new))
        except (UsageError, OSError) as error:
            self._refuse(str(error))
            return
        self._teller.turn_to(new.config.notify)
        before, wanted = set(self._kept), {mirror.name for mirror in new.mirrors}
        ended = await self._take(store, new)
        self._supervised.complaint = ""
        self._on_config(new.config)
        added, removed = len(wanted - before), len(before - wanted)
        counts = {"added": added, "removed": removed, "changed": len(ended) - removed}
        log.info("config.read", mirrors=len(wanted), **counts)

    async def _take(self, store: Store, new: Installation) -> Sequence[str]:
        """Work by it from now on; the names of the mirrors that were ended, since they changed or went."""
        wanted = {mirror.name: mirror for mirror in new.mirrors}
        ended = [name for name, kept in self._kept.items() if wanted.get(name) != kept.config]
        await self._end(ended)
        self._installation = new
        names = [mirror.name for mirror in new.config.mirrors]
        try:
            await store.write(lambda tx: tx.mirrors.detach_all_but(names))
        except StateError as error:  # the next start writes it
            log.error("state.failed", reason=str(error))
        self._adjust(store, list(wanted.values()))
        return ended

    def _refuse(self, reason: str) -> None:
        log.error("config.refused", reason="; ".join(reason.splitlines()))
        self._supervised.complaint = "the config was refused, the old one goes on"
        self._supervised.nudge()

    async def _end(self, names: Sequence[str]) -> None:
        ended = [self._kept.pop(name) for name in names]
        for name in names:
            self._runs.pop(name, None)
        for kept in ended:
            kept.stop.set()
        tasks = [kept.task for kept in ended]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=STOP_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
