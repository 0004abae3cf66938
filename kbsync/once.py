"""Runs one full pass: compares, applies the changes, waits until every document is searchable or has failed,
and audits if due.

`once` runs the passes of all mirrors in parallel; `run_once` runs a single one. The daemon shares the rest of
the module, which prepares a mirror and locks and opens the state.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from kbsync.config.model import Config, MirrorConfig, settings_for
from kbsync.core.model import ON_THE_WAY
from kbsync.core.quiet_hours import parse_quiet_hours
from kbsync.dataclass import dataclass
from kbsync.engine.clock import SystemClock, log_bug, wait_for_any
from kbsync.engine.journal import DocumentEvent
from kbsync.engine.mirror import BoundMirror, Mirror, RunContext
from kbsync.engine.settings import DeletionLimits, MirrorIdentity, MirrorSettings
from kbsync.engine.status import FAILING, TARGET_DOWN
from kbsync.errors import KbsyncError, StateError, TargetError, UsageError, system_reason
from kbsync.file_systems import real_path
from kbsync.installation import Installation
from kbsync.permissions import make_private_folder
from kbsync.signals import ReceiveSignal, Signals
from kbsync.state import lock
from kbsync.state.db import DamagedError, set_aside
from kbsync.state.store import StateStore
from kbsync.threads import Threads, in_own_threads

DOWN_BUDGET = 60.0
MIN_CHECK_PAUSE, MAX_CHECK_PAUSE = 0.02, 1.0
"""Minimum and maximum number of seconds between checks for completion while the worker is busy."""


@dataclass(frozen=True, slots=True)
class PassEnd:
    """How a pass ended, in addition to what the state records.

    `busy`: files that are still being written. `reason`: the halt reason to show for its `problem` until the
    next pass, or '' if there is none. A paused mirror has no complete pass and no problem.
    """

    complete: bool
    problem: str = ""
    reason: str = ""
    busy: tuple[str, ...] = ()


async def run_once(mirror: Mirror, *, budget: float = DOWN_BUDGET) -> PassEnd:
    """Run one mirror's pass. Problems with the folder or the target never raise an error.

    `budget`: how many seconds a target may be down before the pass gives up.
    """
    mirror.is_pass, may_repeat = True, True
    deadline, wait = mirror.clock.steady() + budget, 1.0
    while True:
        if await mirror.find_pause() is not None:
            return PassEnd(False)
        async with mirror.bind() as bound:
            if bound is not None:
                end = await _run_pass(bound, budget)
                if not (may_repeat and end.problem and await bound.base_changed()):
                    break
                # An empty base replaced a damaged one: upload everything.
                may_repeat, deadline = False, mirror.clock.steady() + budget
                continue
        await mirror.halts.end_problem()  # problems that a daemon noted earlier are checked again
        if mirror.halt is not None or mirror.clock.steady() + wait > deadline:
            end = PassEnd(False, mirror.halts.down_reason, TARGET_DOWN if mirror.halts.down_reason else "")
            break
        await mirror.clock.sleep(wait)
        wait *= 2
    if end.reason:
        await mirror.halts.note_unfinished(end.reason, end.problem)
    return end


async def _run_pass(bound: BoundMirror, budget: float) -> PassEnd:
    """Mirror the folder's current contents, and audit the base if that is due."""
    mirror = bound.mirror
    if await bound.compare() is None:
        return PassEnd(False)
    if (end := await _finish(bound, budget)) is not None:
        return end
    await bound.compared()
    await mirror.first_pass_over()
    # The audit comes last, when the base is idle. Documents that it sends again are part of this pass.
    await bound.audits.run_due()
    if (end := await _finish(bound, budget)) is not None:
        return end
    with contextlib.suppress(TargetError):  # the next pass tries again
        await bound.target.erase()
    return PassEnd(True, busy=tuple(sorted(bound.awaited.unsettled)))


async def _finish(bound: BoundMirror, budget: float) -> PassEnd | None:
    """Do the work that the scan found, turn by turn.

    If the pass halts or gives up early, return how it ended.
    """
    mirror, worker, binding, halts = bound.mirror, bound.worker, bound.journal.binding, bound.mirror.halts
    while mirror.halt is None:
        worker.rested.clear()
        is_paused = await mirror.find_pause() is not None
        if is_paused:
            if await worker.is_settled():
                return PassEnd(False)
            worker.wake()
        else:
            await bound.turn()
        # An error of one mirror ends its own pass only; the work so far is recorded.
        if halts.is_down_for(budget, mirror.clock.steady()):
            return PassEnd(False, halts.down_reason, "" if halts.is_busy else TARGET_DOWN)
        if halts.state_error:
            return PassEnd(False, halts.state_error)
        if halts.failing:
            return PassEnd(False, halts.failing, FAILING)
        if not is_paused and await bound.is_done():
            break
        # A paused worker rests after each round.
        events = [] if is_paused else [worker.rested]
        due = await bound.next_due() - mirror.clock.steady()
        await wait_for_any(mirror.clock, min(MAX_CHECK_PAUSE, max(MIN_CHECK_PAUSE, due)), *events)
        if not worker.rested.is_set():
            bound.request_turn()  # another process may have written a message
    if mirror.halt is not None:
        return PassEnd(True)
    pending = await mirror.store.read(
        lambda tx: tx.uploads.in_states(binding.mirror, binding.id, ON_THE_WAY, limit=1)
    )
    if pending:
        return PassEnd(False, f"{pending[0].label}: {pending[0].reason or 'not sent yet'}")
    return None


log = structlog.get_logger("kbsync")


@dataclass(frozen=True, slots=True)
class OnceEnd:
    """How the passes ended, by mirror name.

    `signal`: the signal that interrupted them. `installation`: the installation, with the config that they
    used.
    """

    installation: Installation
    ends: dict[str, PassEnd]
    mirrors: dict[str, Mirror]
    seconds: float
    signal: int | None = None


ShowProgress = Callable[[StateStore, Mapping[str, Mirror]], Awaitable[None]]
"""A coroutine that shows the mirrors' progress; it is canceled when the passes end."""


async def once(
    installation: Installation, watch: ShowProgress | None = None, signals: Signals | None = None
) -> OnceEnd:
    """Run one pass of every mirror, in parallel. The first of the `signals` interrupts them.

    Raises `LockedError`, `UsageError` or `StateError` at the start, or `StateError` at the end if the state
    was lost in the meantime.
    """
    started = time.monotonic()
    signalled: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def receive(number: int) -> None:
        if not signalled.done():
            signalled.set_result(number)

    with receiving(signals, receive), open_state(installation, log_damage) as (installation, store):
        mirrors = {config.name: make_mirror(installation, config, store) for config in installation.mirrors}
        progress = None if watch is None else asyncio.ensure_future(watch(store, mirrors))
        asyncio.get_running_loop().set_default_executor(Threads())
        work = [in_own_threads(name, _run_isolated(mirror)) for name, mirror in mirrors.items()]
        passes: asyncio.Future[Any] = asyncio.gather(*work)
        try:
            await asyncio.wait({passes, signalled}, return_when=asyncio.FIRST_COMPLETED)
            passes.cancel()  # the work so far is recorded (promise 3)
            with contextlib.suppress(asyncio.CancelledError):
                await passes
        finally:
            if progress is not None:
                progress.cancel()
                await asyncio.gather(progress, return_exceptions=True)
        if not signalled.done() and not store.is_there:
            # Otherwise, the report would come from the new file, which contains nothing about this pass.
            raise StateError(
                f"{store.path} was removed or replaced during the pass; "
                f"to adopt its documents: {installation.command_line('--once')}"
            )
        ends = dict(zip(mirrors, passes.result(), strict=True)) if not signalled.done() else {}
    signal = signalled.result() if signalled.done() else None
    return OnceEnd(installation, ends, mirrors, time.monotonic() - started, signal)


async def _run_isolated(mirror: Mirror) -> PassEnd:
    try:
        return await run_once(mirror)
    except (StateError, OSError) as error:
        problem = str(error)
    except KbsyncError:
        raise
    except Exception as error:  # only this mirror's pass ends; the others continue
        problem = log_bug("mirror.failed", error, mirror=mirror.settings.name)
    with contextlib.suppress(StateError):
        await mirror.halts.note_unfinished(FAILING, problem)
    return PassEnd(False, problem)


def make_mirror(
    installation: Installation, config: MirrorConfig, store: StateStore, *, is_listening: bool = False
) -> Mirror:
    """Return a mirror that is ready to start.

    `is_listening`: whether kbsync listens for the service's callbacks.
    """
    open_target = partial(asyncio.to_thread, installation.target, config, is_listening=is_listening)
    context = RunContext(
        installation.spool_dir,
        identities_of(installation.config),
        installation.command_line,
        installation.rename_base,
    )
    log_event = partial(log_finished, config.name)
    return Mirror(settings_of(config), store, open_target, SystemClock(), context, log_event)


def log_finished(mirror: str, event: DocumentEvent) -> None:
    """Log a canonical line for every finished document."""
    fields: dict[str, Any] = {
        "mirror": mirror,
        "path": event.path,
        "document_id": event.upload.remote_id,
        "upload_id": event.upload.id or None,
        "size": event.upload.size,
        "attempt": event.upload.attempts,
        "seconds": round(event.seconds, 3),
    }
    if event.phases is not None:
        fields |= {f"{name}_seconds": round(seconds, 3) for name, seconds in event.phases.items()}
    if event.replaced:
        fields["replaced"] = True
    if event.event in ("document.failed", "document.skipped"):
        fields |= {"reason": event.upload.reason, "code": event.upload.code}
    log_line = log.warning if event.event == "document.failed" else log.info
    log_line(event.event, **fields)


def settings_of(mirror: MirrorConfig) -> MirrorSettings:
    """Convert the mirror's config to the engine's settings."""
    kind = mirror.target.type
    return MirrorSettings(
        name=mirror.name,
        root=real_path(mirror.folder),
        target_type=kind,
        include=mirror.include,
        exclude=mirror.exclude,
        settle=mirror.settle,
        settle_longest=mirror.settle_longest,
        rescan=mirror.rescan,
        deep_rescan=mirror.deep_rescan,
        prefix=mirror.prefix,
        renames=mirror.renames,
        names=mirror.names,
        adopt=mirror.adopt,
        observer=mirror.observer,
        quiet_hours=parse_quiet_hours(mirror.quiet_hours or ""),
        absent_after=mirror.target.vectorization.absent_after,
        deletions=DeletionLimits(
            mirror.deletions.hold_fraction,
            mirror.deletions.hold_count,
            mirror.deletions.hold_window,
            mirror.deletions.never,
        ),
        document_settings=lambda path: settings_for(mirror, path, kind),
        fingerprint=repr(mirror.documents),
        given=mirror.folder,
        location=location_of(mirror),
    )


def location_of(mirror: MirrorConfig) -> str:
    """Return the knowledge base that the config specifies, with the prefix if several mirrors share it."""
    prefix = mirror.prefix if mirror.target.shares_base else ""
    return json.dumps([*mirror.target.base_key(mirror.name), prefix])


def identities_of(config: Config) -> list[MirrorIdentity]:
    """Return the identities under which the state may have stored the mirrors in the config."""
    return [
        MirrorIdentity(mirror.name, str(real_path(mirror.folder)), location_of(mirror))
        for mirror in config.mirrors
    ]


@contextlib.contextmanager
def receiving(signals: Signals | None, receive: ReceiveSignal) -> Iterator[None]:
    """Let the event loop handle `signals` inside the block."""
    if signals is None:
        yield
        return
    loop = asyncio.get_running_loop()

    def pass_on(number: int) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(receive, number)

    with signals.forward_to(pass_on):
        yield


@contextmanager
def open_state(
    installation: Installation,
    notify: Callable[[str], None],
    *,
    keeps_running: bool = False,
    on_refused: Callable[[UsageError], None] | None = None,
) -> Iterator[tuple[Installation, StateStore]]:
    """Yield the state, locked and ready to write, and the installation to use from now on: its config may
    have changed since it was read. `keeps_running`: whether the process keeps running, like a daemon.

    `notify` gets a message when a damaged state has been set aside. Damage found during the run is handled
    when the run ends, and the next start creates a new state. `on_refused` gets the error of a changed
    config, and the old one stays in use. Raises `LockedError`, `StateError`, and `UsageError` for a state
    from a newer kbsync and, without `on_refused`, for a changed config with errors.
    """
    path = installation.state_file
    only, config = installation.only, installation.config.path
    with lock.held(installation.state_dir, keeps_running=keeps_running, only=only, config=config):
        _empty_spool(installation.state_dir, installation.spool_dir)
        store = open_or_set_aside(path, notify)
        try:
            # These messages request a reload of the config, which is read after this.
            with contextlib.suppress(StateError):
                if numbers := store.read_now(lambda tx: tx.inbox.reloads()):
                    store.submit(lambda tx: tx.inbox.done(*numbers)).result()
            # A command may have removed a mirror with its documents while this process waited for the lock:
            # the old config would upload them again (promise 11). Later changes send a message to the
            # process with the lock, which needs the state, so this is read after the state was opened.
            try:
                installation = installation.reread()
            except UsageError as error:
                if on_refused is None:
                    raise
                on_refused(error)
            yield installation, store
        finally:
            store.close()
            if store.damage and store.is_there:
                try:
                    notify(_set_aside(path, store.damage))
                except StateError as error:  # the next start tries again
                    notify(str(error))


def log_damage(message: str) -> None:
    """Report a damaged state, even in quiet mode."""
    log.error("state.set_aside", detail=message)


def _empty_spool(state_dir: Path, spool: Path) -> None:
    """Remove a killed run's scratch files. Raises `ForeignError` if they belong to another user."""
    with contextlib.suppress(OSError):
        spool.rmdir()  # usually empty, and perhaps even if it can't be listed
    if spool.is_dir():
        import shutil  # imported late: it takes 3 ms of each start

        shutil.rmtree(spool, ignore_errors=True)
    else:
        spool.unlink(missing_ok=True)
    make_private_folder(spool)
    if os.geteuid() != 0:
        for path in lock.unusable_paths(state_dir):
            if path.is_relative_to(spool):
                raise lock.refusal(state_dir, path)


def open_or_set_aside(path: Path, notify: Callable[[str], None]) -> StateStore:
    """Return the state. If it is damaged, replace it with an empty one, and pass a message to `notify`."""
    try:
        return StateStore(path)
    except DamagedError as error:
        notify(_set_aside(path, error.what, is_foreign=error.is_foreign))
        return StateStore(path)


def _set_aside(path: Path, damage: str, *, is_foreign: bool = False) -> str:
    """Rename a damaged state file to keep it, and report that. Raises `StateError` if it can't be renamed."""
    # An empty state is safe: the next pass adopts the documents instead of sending them again.
    try:
        aside = set_aside(path, is_foreign=is_foreign)
    except OSError as error:
        why = system_reason(error)
        raise StateError(f"{damage}, and it cannot be set aside ({why}); check {path.parent}") from error
    return f"{damage}; it was set aside as {aside.name}, and kbsync will adopt the documents in the target"
