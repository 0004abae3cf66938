"""One pass of every mirror, and what a mirror at work needs, watched or not."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import structlog

from kbsync.assembly import opened, plan_of
from kbsync.config.model import MirrorConfig
from kbsync.contract.mirroring import Target
from kbsync.engine.clock import SystemClock
from kbsync.engine.halts import FAILING
from kbsync.engine.lasting import told
from kbsync.engine.mirror import MirrorRun, Site
from kbsync.engine.once import PassEnd, run_once
from kbsync.engine.outcomes import Happened
from kbsync.engine.threads import Threads, apart
from kbsync.errors import KbsyncError, StateError
from kbsync.installation import Installation
from kbsync.signals import Signals, Tell
from kbsync.state.store import Store

log = structlog.get_logger("kbsync")


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


def mirror_run(
    installation: Installation, mirror: MirrorConfig, store: Store, *, hears: bool = False
) -> MirrorRun:
    """A mirror ready to begin. `hears`: what its service calls back is listened to."""

    async def open_target() -> Target:
        return await asyncio.to_thread(installation.target, mirror, hears=hears)

    names = [m.name for m in installation.config.mirrors]
    site = Site(installation.spool_dir, names, installation.cure, installation.mirror_renamed, at_work=hears)
    run = MirrorRun(plan_of(mirror), store, open_target, SystemClock(), site)
    run.on_event = lambda event: note(mirror.name, event)
    return run


def note(mirror: str, event: Happened) -> None:
    """One canonical line for every finished document."""
    fields: dict[str, Any] = {
        "mirror": mirror,
        "path": event.path,
        "document_id": event.document_id,
        "upload_id": event.upload,
        "size": event.size,
        "attempt": event.attempt,
        "seconds": round(event.seconds, 3),
    }
    if event.phases is not None:
        fields |= {f"{name}_seconds": round(seconds, 3) for name, seconds in event.phases.items()}
    if event.replaced:
        fields["replaced"] = True
    if event.event == "document.failed":
        log.warning(event.event, **fields, reason=event.reason, code=event.code)
    elif event.event == "document.skipped":
        log.info(event.event, **fields, reason=event.reason, code=event.code)
    else:
        log.info(event.event, **fields)


async def once(
    installation: Installation, watch: Watcher | None = None, signals: Signals | None = None
) -> OnceEnd:
    """One pass of every mirror, side by side; the first of the `signals` cuts it short.

    Raises `LockedError`, `UsageError` or `StateError` at the start.
    """
    began = time.monotonic()
    stop, caught = asyncio.Event(), list[int]()

    def receive(number: int) -> None:
        caught.append(number)
        stop.set()

    with heeding(signals, receive), opened(installation, tell_damage) as store:
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
        trouble = str(error)
    except KbsyncError:
        raise
    except Exception as error:  # of one mirror: the others go on
        log.exception("mirror.failed", mirror=run.plan.name)
        trouble = told(error)
    with contextlib.suppress(StateError):
        await run.leave_word(FAILING, trouble)
    return PassEnd(False, trouble)


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
def heeding(signals: Signals | None, receive: Tell) -> Iterator[None]:
    """Within, each of `signals` is received in the loop."""
    if signals is None:
        yield
        return
    loop = asyncio.get_running_loop()

    def pass_on(number: int) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(receive, number)

    with signals.told_to(pass_on):
        yield
