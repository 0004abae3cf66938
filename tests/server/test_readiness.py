"""A mirror is ready when its first pass ended and nothing halts it."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from kbsync.engine.mirror import MirrorRun
from kbsync.errors import StateError
from kbsync.once import run_once
from kbsync.server.health import Readiness
from kbsync.source.hints import Hint, HintKind
from tests.engine.test_watching import PATIENCE, WatchingWorld, until
from tests.engine.world import World


async def reason(readiness: Readiness) -> str:
    [one] = await readiness.look()
    return one.obstacle.reason if one.obstacle else ""


@pytest.fixture
def daemon(tmp_path: Path) -> WatchingWorld:
    world = WatchingWorld(tmp_path)
    world.write_many(10)
    return world


async def becomes(readiness: Readiness, wanted: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while (found := await reason(readiness)) != wanted:
        assert time.monotonic() < deadline, f"{found!r} is not {wanted!r}"
        await asyncio.sleep(0.01)


async def test_a_mirror_is_not_ready_before_its_pass_and_then_it_is(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.write_many(3)
    async with world.running() as store:
        run = world.make_run(store)
        readiness = Readiness({"docs": run})
        assert await reason(readiness) == "first-pass"
        assert await run.begin()
        assert await reason(readiness) == "first-pass"
        await run.end()
        await run_once(run)
        bound = await run.begin()
        assert bound is not None
        assert await reason(readiness) == ""
        world.write("late.md", "what changes later does not make it unready")
        await bound.compare()
        assert await reason(readiness) == ""
        await run.end()
        assert await reason(readiness) == ""


async def test_a_file_that_is_written_to_without_end_after_the_first_pass_keeps_nothing_unready(
    tmp_path: Path,
) -> None:
    world = World(tmp_path)
    world.write_many(3)
    async with world.running() as store:
        run = world.make_run(store)
        readiness = Readiness({"docs": run})
        bound = await run.begin()
        assert bound is not None
        await bound.compare()
        await bound.compared()
        for number in range(100):
            now = world.clock.wall()
            os.utime(world.write("log.md", f"line {number}"), (now, now))
            await bound.reconciler.take_hints([Hint("log.md", HintKind.FILE)])
            await bound.do_due_work()
            if await reason(readiness) == "":
                break
            await world.clock.sleep(0.2)
        assert "log.md" in bound.reconciler.settling
        assert await reason(readiness) == ""
        await run.end()


async def test_a_halt_is_told_as_status_tells_it_and_ends(daemon: WatchingWorld) -> None:
    async with daemon.kept():
        readiness = Readiness({"docs": daemon.run})
        await until(lambda: daemon.run.has_compared)
        await becomes(readiness, "")
        away = daemon.root.with_name("away")
        daemon.root.rename(away)
        await until(lambda: daemon.run.halt)
        [one] = await readiness.look()
        assert one.obstacle is not None
        assert one.obstacle.reason == "folder-missing"
        assert str(daemon.root) in one.obstacle.detail
        away.rename(daemon.root)
        await becomes(readiness, "")


async def test_a_state_that_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path)
    async with world.running() as store:
        run: MirrorRun = world.make_run(store)

        async def broken(_work: object) -> None:
            raise StateError("the disk is gone")

        monkeypatch.setattr(store, "read", broken)
        [one] = await Readiness({"docs": run}).look()
    assert one.obstacle is not None
    assert (one.obstacle.reason, one.obstacle.detail) == ("failing", "the disk is gone")
