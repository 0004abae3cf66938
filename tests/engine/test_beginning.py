"""Tests the start of the work on a mirror: if it fails, the target is closed, and a halt is reported."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from kbsync.engine.halts import Halts
from kbsync.engine.mirror import Mirror
from kbsync.errors import Halted, StateError, TargetBusy, Unavailable
from kbsync.once import run_once
from kbsync.source import scan
from kbsync.state.store import StateStore
from tests.engine.test_watching import WatchingWorld, until
from tests.engine.world import World
from tests.memory.behaviour import FOREVER, Fault
from tests.memory.target import MemoryTarget
from tests.share import long


class Counted(MemoryTarget):
    """Counts the open instances of its class."""

    open_now = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        type(self).open_now += 1

    async def aclose(self) -> None:
        await super().aclose()
        type(self).open_now -= 1


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path, type("Counted", (Counted,), {}))
    world.write_many(3)
    return world


async def test_target_is_closed_whichever_write_fails_at_start(world: World) -> None:
    failing = began = 0
    while not began:
        failing += 1
        async with world.running() as store:
            fail_write(store, failing)
            run = world.make_run(store)
            with contextlib.suppress(StateError):
                async with run.bind() as bound:
                    began = bound is not None
        assert world.target_type.open_now == 0  # type: ignore[attr-defined]
    assert failing > 5


def fail_write(store: StateStore, number: int) -> None:
    """Fail the store's write of this number, from 1 on, with a full disk."""
    write, remaining = store.write, [number]

    async def count_down(work: Callable[..., Any]) -> Any:
        remaining[0] -= 1
        if remaining[0] == 0:
            raise StateError("the disk is full")
        return await write(work)

    store.write = count_down  # type: ignore[method-assign]


async def bound_for_good(run: Mirror) -> None:
    """Keep the mirror working until this is cancelled."""
    async with run.bind():
        await asyncio.Event().wait()


@long
async def test_target_is_closed_wherever_the_start_is_cancelled(world: World) -> None:
    steps, began = 0, False
    while not began:
        steps += 1
        async with world.running() as store:
            run = world.make_run(store)
            beginning = asyncio.create_task(bound_for_good(run))
            for _ in range(steps):
                await asyncio.sleep(0)
            began = run.bound is not None
            beginning.cancel()
            await asyncio.gather(beginning, return_exceptions=True)
            await asyncio.sleep(0)
        assert world.target_type.open_now == 0, steps  # type: ignore[attr-defined]
    assert steps > 10


@long
@pytest.mark.parametrize("times", [1, 2, 3])
async def test_repeated_cancellation_still_ends_the_work_and_closes_the_target(
    world: World, times: int
) -> None:
    """The daemon may cancel a mirror again and again: with a request in flight, or while it ends."""
    hang = asyncio.Event()
    world.base.faults.append(Fault("put", hang=hang, effect=True))
    async with world.running() as store:
        run = world.make_run(store)
        working = asyncio.create_task(run_once(run))
        while not world.requests("put"):
            await asyncio.sleep(0)
        bound = run.bound
        assert bound is not None
        for _ in range(times):
            working.cancel()
            for _ in range(20):
                await asyncio.sleep(0)
        await asyncio.gather(working, return_exceptions=True)
        assert working.cancelled() and run.bound is None
        assert world.target_type.open_now == 0  # type: ignore[attr-defined]
        # A request that outlives its target would look like a bug of ours.
        assert bound.working.done() and not bound.worker._tasks
        hang.set()


async def test_target_still_opening_when_cancelled_is_closed(world: World) -> None:
    async with world.running() as store:
        run, opened = world.make_run(store), asyncio.Event()

        async def open_late() -> Any:
            await opened.wait()
            return await world.open_target()

        run.open_target = open_late
        beginning = asyncio.create_task(bound_for_good(run))
        while not run.identity:
            await asyncio.sleep(0)
        beginning.cancel()
        await asyncio.gather(beginning, return_exceptions=True)
        opened.set()
        for _ in range(20):
            await asyncio.sleep(0)
    assert world.target_type.open_now == 0  # type: ignore[attr-defined]


async def test_halt_that_could_not_be_written_is_reported_once_it_can(world: World) -> None:
    refused = Halted("credentials", "the key was refused")
    async with world.start_mirror() as bound:
        run = bound.mirror
        fail_write(run.store, 1)
        with pytest.raises(StateError):
            await run.halts.halt(refused)
        assert run.halt is None
        with capture_logs() as logs:
            for _ in range(3):
                await run.halts.halt(refused)
        assert [line["event"] for line in logs] == ["mirror.halted"]
        stored = await run.store.read(lambda tx: tx.mirrors.get(run.id).halt)
    assert stored is not None and stored.reason == "credentials"


@pytest.mark.parametrize("by_person", [True, False])
async def test_halt_raised_while_another_is_cleared_persists(world: World, by_person: bool) -> None:
    async with world.start_mirror() as bound:
        halts, store, others = bound.mirror.halts, bound.mirror.store, list[asyncio.Task[None]]()
        await halts.halt(Halted("quota", "no money"))
        halts.try_again()
        halts.prove()
        write = store.write

        async def meet_another(work: Callable[..., Any]) -> Any:
            store.write = write  # type: ignore[method-assign]
            others.append(asyncio.create_task(halts.halt(Halted("credentials", "the key was refused"))))
            await asyncio.sleep(0)
            return await write(work)

        store.write = meet_another  # type: ignore[method-assign]
        await (halts.end() if by_person else halts.refresh())
        await asyncio.gather(*others)
        assert others and halts.halted is not None
        assert halts.stored is not None and halts.stored.reason == "credentials"


async def test_brief_failure_of_a_target_that_was_busy_is_not_reported(world: World) -> None:
    async with world.start_mirror() as bound:
        halts, reported = bound.mirror.halts, list[str]()
        for error in (
            TargetBusy("deleting"),
            Unavailable("502"),
            TargetBusy("deleting"),
            *[Unavailable("502")] * 2,
        ):
            halts.record_errors([error], 1, world.clock.steady())
            await halts.refresh()
            reported.append(halts.stored.reason if halts.stored else "")
            await world.clock.sleep(60)
    assert reported == ["", "", "", "", "target-down"]


async def test_halt_found_by_two_tasks_is_reported_once(world: World) -> None:
    refused = Halted("credentials", "the key was refused")
    async with world.start_mirror() as bound:
        with capture_logs() as logs:
            await asyncio.gather(bound.mirror.halts.halt(refused), bound.mirror.halts.halt(refused))
    assert [line["event"] for line in logs] == ["mirror.halted"]


@long
async def test_daemon_reports_a_workers_halt_that_could_not_be_written_at_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon, tries = WatchingWorld(tmp_path), list[str]()
    show = Halts.show

    async def fail_first(halts: Halts, halt: Any) -> None:
        if halt is not None:
            tries.append(halt.reason)
            if len(tries) == 1:
                raise StateError("the disk is full")
        await show(halts, halt)

    monkeypatch.setattr(Halts, "show", fail_first)
    async with daemon.run_daemon() as store:
        refusal = Fault("put", error=lambda: Halted("credentials", "the key was refused"), times=FOREVER)
        daemon.base.faults.append(refusal)
        daemon.write("new.md", "new")
        await until(lambda: store.read_now(lambda tx: tx.mirrors.get(daemon.run.id).halt))
    assert tries[0] == "credentials"


@long
async def test_missing_folder_causes_no_busy_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder disappears during a scan, whose end wakes the loop."""
    daemon = WatchingWorld(tmp_path)
    for number in range(40):
        daemon.write(f"d{number}/a.md", f"text {number}")
    async with daemon.run_daemon():
        slow_down(monkeypatch, 0.02)
        bound = daemon.run.bound
        assert bound is not None
        bound.next_scan = 0.0
        bound.request_turn()
        await until(lambda: bound.scanning)
        daemon.root.rename(tmp_path / "away")
        await until(lambda: daemon.run.halt)
        await asyncio.sleep(0.5)
        used = time.process_time()
        await asyncio.sleep(1.0)
        assert time.process_time() - used < 0.3
        (tmp_path / "away").rename(daemon.root)


def slow_down(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Make the disk take this long to list a directory."""
    read = scan._Folder.read

    def slowly(folder: scan._Folder) -> None:
        time.sleep(seconds)
        read(folder)

    monkeypatch.setattr(scan._Folder, "read", slowly)
