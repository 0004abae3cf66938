"""What the service manager is told of a daemon: ready, reloading, stopping, its state, signs of life.

The daemon: every mirror is watched until it is told to stop.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import structlog

from kbsync.config.model import Config, MirrorConfig
from kbsync.config.reader import with_secrets_of
from kbsync.contract.target import Target
from kbsync.core.model import Status
from kbsync.engine.clock import Clock, SystemClock, Threads, apart, keep_up, rest
from kbsync.engine.journal import Happened
from kbsync.engine.loop import MirrorLoop, Reread
from kbsync.engine.mirror import MirrorRun
from kbsync.engine.status import SHOWN, MirrorStatus, mirror_status
from kbsync.errors import KbsyncError, StateError, UsageError
from kbsync.installation import Installation
from kbsync.once import log_finished, mirror_run, open_state, receiving, tell_damage
from kbsync.server.listener import HttpListener
from kbsync.server.notify import Notifications
from kbsync.signals import ENDING, Signals
from kbsync.source.blocking import run_detached
from kbsync.state.glance import Tx
from kbsync.state.store import Store
from kbsync.systemd import ServiceManager

READY_LATEST = 30.0
"""Seconds after which a mirror that still begins, such as one whose service is slow, holds nobody back."""

CALM, LONGEST_SILENCE = 1.0, 10.0
"""Seconds at least and at most between two looks at the counts."""


@dataclass
class ServiceReports:
    """Speaks for one daemon. What it says is lost where no manager listens."""

    notifier: ServiceManager
    clock: Clock
    is_ready: bool = False
    is_stopping: bool = False
    complaint: str = ""
    """Put before the counts, until it is taken away."""

    def __post_init__(self) -> None:
        self._news = asyncio.Event()
        self._said = ""

    def nudge(self) -> None:
        """Something happened that the counts tell of."""
        self._news.set()

    async def ready_after(self, begun: Collection[asyncio.Event]) -> None:
        """READY, once, when all of these are set, or after `READY_LATEST` seconds."""
        all_begun = asyncio.Event()
        waiting = asyncio.create_task(_all_set(begun))
        waiting.add_done_callback(lambda _: all_begun.set())
        try:
            await rest(self.clock, READY_LATEST, all_begun)
        finally:
            waiting.cancel()
        if not self.is_stopping:
            self.is_ready = True
            self.notifier.tell("READY=1")

    @contextlib.contextmanager
    def reloading(self) -> Iterator[None]:
        """Around the reading of a new config; before READY there is nothing to tell."""
        if not self.is_ready:
            yield
            return
        self.notifier.tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            yield
        finally:
            if not self.is_stopping:
                self.notifier.tell("READY=1")

    def stopping(self) -> None:
        """STOPPING; nothing is told after it."""
        if not self.is_stopping:
            self.is_stopping = True
            self.notifier.tell("STOPPING=1", "STATUS=stopping")

    @contextlib.asynccontextmanager
    async def over(self, store: Store, names: Callable[[], Sequence[str]]) -> AsyncIterator[None]:
        """While the state is open: signs of life, and the counts of the mirrors called `names`."""
        tasks = []
        if self.notifier.is_heard:
            tasks.append(self._kept("counts", partial(self._report, store, names)))
        if self.notifier.watchdog is not None:
            tasks.append(self._kept("watchdog", partial(self._feed, store, self.notifier.watchdog / 2)))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _kept(self, name: str, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        return asyncio.create_task(keep_up(self.clock, work, name))

    def alive(self) -> None:
        """A sign of life of the loop."""
        if self.notifier.watchdog is not None:
            self.notifier.tell("WATCHDOG=1", patience=0.0)

    async def _feed(self, store: Store, every: float) -> None:
        """The loop turns, since this runs; the writer lives when it answers, be it that the disk is full."""
        while True:
            began = self.clock.steady()
            with contextlib.suppress(StateError):
                await store.write(lambda _tx: None)
            self.alive()
            await self.clock.sleep(max(0.0, began + every - self.clock.steady()))

    async def _report(self, store: Store, names: Callable[[], Sequence[str]]) -> None:
        while True:
            self._news.clear()
            with contextlib.suppress(StateError):
                self._say(await store.read(lambda tx: status_sentence(_statuses(tx, names()))))
            await self.clock.sleep(CALM)
            await rest(self.clock, LONGEST_SILENCE - CALM, self._news)

    def _say(self, counts: str) -> None:
        text = "; ".join(filter(None, (self.complaint, counts)))
        if text != self._said and not self.is_stopping:
            self._said = text
            self.notifier.tell(f"STATUS={text}", patience=0.0)


async def _all_set(events: Collection[asyncio.Event]) -> None:
    for event in events:
        await event.wait()


def _statuses(tx: Tx, names: Collection[str]) -> list[MirrorStatus]:
    found = [tx.mirrors.named(name) for name in names]
    return [mirror_status(tx, record, now=0.0, cure=str) for record in found if record is not None]


def status_sentence(mirrors: Sequence[MirrorStatus]) -> str:
    """Such as `120 ready, 1 pending, 2 failed; handbook: credentials`, on one line."""
    totals = {status.word: sum(getattr(m.documents, status.word) for m in mirrors) for status in SHOWN}
    counts = [f"{n:,} {word}" for word, n in totals.items() if n or word in ("ready", "pending", "failed")]
    halts = [f"{mirror.name}: {mirror.halt.reason}" for mirror in mirrors if mirror.halt is not None]
    return "; ".join([", ".join(counts), *halts])


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
class WatchedMirror:
    """A mirror that is watched: how to end it, and whether it has begun and looked, or said why not."""

    config: MirrorConfig
    stop: asyncio.Event
    begun: asyncio.Event
    compared: asyncio.Event
    task: asyncio.Task[None]


@dataclass(frozen=True, slots=True)
class ReloadRequest:
    """What a halted mirror wants to have read; `read` is set when it was."""

    mirror: str
    what: Reread
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
        notifier: ServiceManager | None = None,
    ) -> None:
        """`on_config` gets each new config that is taken; `notifier` tells the service manager."""
        self._installation = installation
        self._reload = reload
        self._signals = signals
        self._on_config = on_config
        self._supervised = ServiceReports(notifier or ServiceManager({}), SystemClock())
        self._stop = asyncio.Event()
        self._ended_by = ""
        self._hup = asyncio.Event()
        self._lost = asyncio.Event()
        self._wishes: list[ReloadRequest] = []
        self._wished = asyncio.Event()
        self._reading: asyncio.Task[Installation] | None = None
        self._kept: dict[str, WatchedMirror] = {}
        self._runs: dict[str, MirrorRun] = {}
        self._listening = HttpListener(
            self._runs, installation.state_file, installation.cure, self._opened_to_read
        )
        self._teller = Notifications(self._runs)

    async def run(self) -> None:
        """Until told to stop. Raises `LockedError`, `UsageError` or `StateError` at the start only."""
        began = time.monotonic()
        asyncio.get_running_loop().set_default_executor(Threads())
        with receiving(self._signals, self._receive):
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
        with open_state(self._installation, tell_damage) as store:
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

    def _begun(self, mirror: MirrorConfig, store: Store) -> WatchedMirror:
        run = mirror_run(self._installation, mirror, store, hears=True)
        run.on_event = partial(self._happened, mirror.name)
        self._listening.counting.attend(run)
        self._runs[mirror.name] = run
        watching = MirrorLoop(run, self._installation.state_dir, asyncio.Event())
        watching.on_wish = partial(self._wish, mirror.name)
        kept = keep_up(run.clock, watching.keep, "mirror", mirror=mirror.name)
        task = asyncio.create_task(apart(mirror.name, kept))
        return WatchedMirror(mirror, watching.stop, watching.begun, watching.compared, task)

    async def _opened_to_read(self, mirror: str) -> Target:
        config = self._kept[mirror].config
        return await asyncio.to_thread(self._installation.target, config, read_only=True)

    def _happened(self, mirror: str, event: Happened) -> None:
        log_finished(mirror, event)
        self._teller.heard(mirror, event)
        self._supervised.nudge()

    def _wish(self, mirror: str, what: Reread, read: asyncio.Event) -> None:
        self._wishes.append(ReloadRequest(mirror, what, read))
        self._wished.set()

    async def _read_what_is_wished(self, store: Store) -> None:
        """By a signal, or by mirrors that are halted."""
        wishes, self._wishes = self._wishes, []
        self._wished.clear()
        if self._hup.is_set() or any(each.what is Reread.CONFIG for each in wishes):
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
        self._reading = asyncio.create_task(run_detached(self._reload))
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
