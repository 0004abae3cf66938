"""Runs mirrors: one pass of all of them, or all of them until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import structlog

from kbsync.assembly import Installation, opened, plan_of
from kbsync.config.model import MirrorConfig
from kbsync.contract import Target
from kbsync.engine.clock import SystemClock
from kbsync.engine.mirror import FAILING, MirrorRun, Site
from kbsync.engine.once import PassEnd, run_once
from kbsync.engine.outcomes import Happened
from kbsync.engine.threads import Threads, apart
from kbsync.engine.watching import Watching
from kbsync.errors import KbsyncError, StateError, UsageError
from kbsync.state.store import Store

log = structlog.get_logger("kbsync")

LOOK_AT_STATE = 5.0
"""Seconds between two looks at whether the state is still the file that was opened."""

STOP_SECONDS = 1.2
STOP_LATEST = 1.6
"""SIGTERM has two seconds in all. A thread that parses or makes vectors cannot be cut off, but the process
can: the journal is made for that."""

Arm = Callable[[int], None]
"""Told the exit code when a signal asks the process to end."""


def _nobody(_code: int) -> None:
    """For callers that need no hard end."""


@contextlib.contextmanager
def hard_end() -> Iterator[Arm]:
    """What runs within ends at the latest `STOP_LATEST` seconds after the given `arm` was called."""
    timers: list[threading.Timer] = []

    def arm(code: int) -> None:
        timer = threading.Timer(STOP_LATEST, os._exit, (code,))
        timer.daemon = True
        timer.start()
        timers.append(timer)

    try:
        yield arm
    finally:
        for timer in timers:
            timer.cancel()


@dataclass(slots=True)
class Runs:
    """The mirrors at work on one state."""

    store: Store
    runs: dict[str, MirrorRun] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OnceEnd:
    """How the passes ended, by mirror name; `signal` when one cut them short."""

    ends: dict[str, PassEnd]
    runs: dict[str, MirrorRun]
    seconds: float
    signal: int | None = None


Watcher = Callable[[Runs], Awaitable[None]]
"""Shows progress while passes run; is cancelled at their end."""


def tell_damage(sentence: str) -> None:
    """A damaged state is a person's business even in quiet mode."""
    log.error("state.set_aside", detail=sentence)


def mirror_run(installation: Installation, mirror: MirrorConfig, store: Store) -> MirrorRun:
    """A mirror ready to begin."""

    async def open_target() -> Target:
        return await asyncio.to_thread(installation.target, mirror)

    names = [m.name for m in installation.config.mirrors]
    site = Site(installation.spool_dir, names, installation.cure, installation.mirror_renamed)
    run = MirrorRun(plan_of(mirror), store, open_target, SystemClock(), site)
    run.on_event = lambda event: note(mirror.name, event)
    return run


def note(mirror: str, event: Happened) -> None:
    """One canonical line for every finished document."""
    fields = {
        "mirror": mirror,
        "path": event.path,
        "document_id": event.document_id,
        "attempt": event.attempt,
        "seconds": round(event.seconds, 3),
    }
    if event.event not in ("document.deleted", "document.retired"):
        fields |= {"size": event.size, "indexing_seconds": round(event.indexing, 3)}
    if event.event == "document.failed":
        log.warning(event.event, reason=event.reason, code=event.code, **fields)
    else:
        log.info(event.event, **fields)


async def once(installation: Installation, watch: Watcher | None = None, arm: Arm = _nobody) -> OnceEnd:
    """One pass of every mirror, side by side. `arm` is told when a signal cuts it short.

    Raises `LockedError`, `UsageError` or `StateError` at the start.
    """
    began = time.monotonic()
    stop, caught = asyncio.Event(), list[int]()
    with _signals(stop, caught, arm), opened(installation, tell_damage) as store:
        runs = Runs(store, {m.name: mirror_run(installation, m, store) for m in installation.mirrors})
        shown = asyncio.create_task(_shown(watch, runs))
        asyncio.get_running_loop().set_default_executor(Threads())
        passes = asyncio.gather(*(apart(name, _pass(run)) for name, run in runs.runs.items()))
        try:
            await _until_done_or_stopped(passes, stop)
        finally:
            shown.cancel()
            await asyncio.gather(shown, return_exceptions=True)
        ends = dict(zip(runs.runs, passes.result(), strict=True)) if not caught else {}
    return OnceEnd(ends, runs.runs, time.monotonic() - began, caught[0] if caught else None)


async def _pass(run: MirrorRun) -> PassEnd:
    try:
        return await run_once(run)
    except (StateError, OSError) as error:
        with contextlib.suppress(StateError):
            await run.leave_word(FAILING, str(error))
        return PassEnd(False, str(error))


async def _shown(watch: Watcher | None, runs: Runs) -> None:
    if watch is not None:
        await watch(runs)


async def _until_done_or_stopped(passes: asyncio.Future[list[PassEnd]], stop: asyncio.Event) -> None:
    """Stopped, the passes are cut; what was done so far is recorded."""
    waiting = asyncio.ensure_future(stop.wait())
    both: set[asyncio.Future[Any]] = {passes, waiting}
    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    passes.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await passes


@contextlib.contextmanager
def _signals(stop: asyncio.Event, caught: list[int], arm: Arm) -> Iterator[None]:
    def receive(number: int) -> None:
        caught.append(number)
        arm(128 + number)
        stop.set()

    with _heeding({number: partial(receive, number) for number in (signal.SIGTERM, signal.SIGINT)}):
        yield


@contextlib.contextmanager
def _heeding(calls: Mapping[int, Callable[[], None]]) -> Iterator[None]:
    """Within, each signal makes its call in the loop."""
    loop = asyncio.get_running_loop()
    for number, call in calls.items():
        loop.add_signal_handler(number, call)
    try:
        yield
    finally:
        for number in calls:
            loop.remove_signal_handler(number)


Reload = Callable[[], Installation]
"""Reads the config again; raises `UsageError` when it is no good."""


class Daemon:
    """Watches every mirror until SIGTERM or SIGINT; SIGHUP reads the config again."""

    def __init__(self, installation: Installation, reload: Reload, arm: Arm = _nobody) -> None:
        """`arm` is told when it is asked to stop."""
        self._installation = installation
        self._reload = reload
        self._arm = arm
        self._stop = asyncio.Event()
        self._hup = asyncio.Event()
        self._lost = asyncio.Event()
        self._tasks: dict[str, tuple[MirrorConfig, asyncio.Event, asyncio.Task[None]]] = {}

    async def run(self) -> None:
        """Until told to stop. Raises `LockedError`, `UsageError` or `StateError` at the start only."""
        asyncio.get_running_loop().set_default_executor(Threads())
        end = self._end_soon
        calls: dict[int, Callable[[], None]] = {
            signal.SIGTERM: end,
            signal.SIGINT: end,
            signal.SIGHUP: self._hup.set,
        }
        with _heeding(calls):
            await self._work()
            while not self._stop.is_set():
                await self._work_again()

    async def _work(self) -> None:
        """On one state file, until told to stop or the file is of no use any more."""
        self._lost.clear()
        with opened(self._installation, tell_damage) as store:
            loop = asyncio.get_running_loop()
            store.when_damaged(lambda: loop.call_soon_threadsafe(self._lost.set))
            await self._serve(store)

    async def _work_again(self) -> None:
        """With a new state, in which everything that is in the knowledge bases is taken over."""
        try:
            await self._work()
        except (KbsyncError, OSError) as error:
            log.error("state.failed", reason=str(error))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), LOOK_AT_STATE)

    def _end_soon(self) -> None:
        self._arm(0)
        self._stop.set()

    async def _serve(self, store: Store) -> None:
        self._adjust(store, self._installation.mirrors)
        while not self._stop.is_set() and not self._lost.is_set():
            waiting = [asyncio.create_task(e.wait()) for e in (self._stop, self._hup, self._lost)]
            await asyncio.wait(waiting, timeout=LOOK_AT_STATE, return_when=asyncio.FIRST_COMPLETED)
            for task in waiting:
                task.cancel()
            self._look_at(store)
            if self._hup.is_set() and not self._stop.is_set():
                self._hup.clear()
                await self._read_again(store)
        await self._end(list(self._tasks))

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
            if mirror.name not in self._tasks:
                stop = asyncio.Event()
                run = mirror_run(self._installation, mirror, store)
                watching = Watching(run, self._installation.state_dir, stop)
                task = asyncio.create_task(apart(mirror.name, watching.keep()))
                self._tasks[mirror.name] = (mirror, stop, task)

    async def _read_again(self, store: Store) -> None:
        """Take the new config whole or not at all; mirrors that did not change go on undisturbed."""
        try:
            new = self._reload()
            wanted = {mirror.name: mirror for mirror in new.mirrors}
        except (UsageError, OSError) as error:
            log.error("config.refused", reason=str(error))
            return
        if new.state_dir != self._installation.state_dir:
            log.error("config.refused", reason="state_dir cannot change while kbsync runs; restart it")
            return
        changed = [name for name, (old, _, _) in self._tasks.items() if wanted.get(name) != old]
        await self._end(changed)
        self._installation = new
        names = [mirror.name for mirror in new.config.mirrors]
        await store.write(lambda tx: tx.mirrors.detach_all_but(names))
        self._adjust(store, list(wanted.values()))
        log.info("config.read", mirrors=len(wanted), changed=len(changed))

    async def _end(self, names: Sequence[str]) -> None:
        ended = [self._tasks.pop(name) for name in names]
        for _, stop, _ in ended:
            stop.set()
        tasks = [task for _, _, task in ended]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=STOP_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
