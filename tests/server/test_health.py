"""Tests health while the loop runs, and readiness once each first pass ended and no mirror is halted."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from kbsync.engine.status import halt_json
from kbsync.errors import StateError
from kbsync.once import run_once
from kbsync.server import health
from kbsync.server.health import MirrorReadiness, Readiness
from kbsync.server.metrics import STALLED_AFTER
from kbsync.source.hints import Hint, HintKind
from kbsync.state.mirrors import Halt
from tests.engine.world import World
from tests.server.client import HALT, HALTED, READY, Listened


async def test_healthy_only_while_the_loop_runs() -> None:
    listened = Listened()
    assert (await listened.get("/healthz")).status_code == 200
    listened.clock.now += STALLED_AFTER
    stalled = await listened.get("/healthz")
    assert (stalled.status_code, stalled.text) == (503, "the event loop has been stuck for 10 s\n")
    listened.monitor.beat()
    assert (await listened.get("/healthz")).status_code == 200
    assert listened.read_count == 0


async def test_ready_when_every_mirror_is_and_names_the_others_with_hints() -> None:
    listened = Listened(READY, MirrorReadiness("faq"))
    response = await listened.get("/readyz")
    ready = [{"name": "handbook", "ready": True}, {"name": "faq", "ready": True}]
    assert (response.status_code, response.json()) == (200, {"ready": True, "mirrors": ready})
    response = await Listened(READY, HALTED).get("/readyz")
    assert response.status_code == 503
    assert response.json()["mirrors"] == [ready[0], {"name": "faq", "ready": False, **halt_json(HALT)}]


async def test_not_ready_while_no_mirror_runs() -> None:
    response = await Listened().get("/readyz")
    assert (response.status_code, response.json()["ready"]) == (503, False)


async def test_concurrent_health_checks_query_the_mirrors_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    listened = Listened(READY)
    responses = await asyncio.gather(*(listened.get("/readyz") for _ in range(50)))
    assert ({response.status_code for response in responses}, listened.read_count) == ({200}, 1)
    listened.standings = [HALTED]
    monkeypatch.setattr(health, "FRESH", 0.0)
    assert (await listened.get("/readyz")).status_code == 503
    assert listened.read_count == 2


async def test_unresponsive_mirrors_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "PATIENCE", 0.0)

    async def hang() -> Sequence[MirrorReadiness]:
        await asyncio.Event().wait()
        return ()

    response = await Listened(read=hang).get("/readyz")
    assert response.status_code == 503
    assert "did not respond" in response.json()["detail"]


async def reason(readiness: Readiness) -> str:
    [mirror] = await readiness.check()
    return mirror.obstacle.reason if mirror.obstacle else ""


async def test_mirror_is_ready_only_after_its_first_pass(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.write_many(3)
    async with world.running() as store:
        run = world.make_run(store)
        readiness = Readiness({"docs": run})
        assert await reason(readiness) == "first-pass"
        async with run.bind():
            assert await reason(readiness) == "first-pass"
        await run_once(run)
        async with run.bind() as bound:
            assert bound is not None
            while not bound.worker._has_read:
                await asyncio.sleep(0)
            assert await reason(readiness) == ""
            world.write("late.md", "what changes later does not make it unready")
            await bound.compare()
            assert await reason(readiness) == ""
        await run.halts.show(HALT)
        assert [mirror.obstacle for mirror in await readiness.check()] == [HALT]
        await run.halts.show(None)
        assert await reason(readiness) == ""


async def test_file_saved_during_startup_does_not_delay_readiness(tmp_path: Path) -> None:
    """The first scan sees it being written; once it is mirrored, nothing of that scan is pending."""
    world = World(tmp_path)
    world.write_many(3)
    now = world.clock.wall()
    os.utime(world.write("saved.md"), (now, now))
    async with world.start_mirror() as bound:
        readiness = Readiness({"docs": world.run})
        await bound.compare()
        await bound.compared()
        assert await reason(readiness) == "first-pass"
        await world.take_turns(bound, every=0.1)
        assert world.statuses() == {"ready": 4}
        assert await reason(readiness) == ""


async def test_continuously_written_file_does_not_affect_readiness_after_the_first_pass(
    tmp_path: Path,
) -> None:
    world = World(tmp_path)
    world.write_many(3)
    async with world.start_mirror() as bound:
        readiness = Readiness({"docs": world.run})
        await bound.compare()
        await bound.compared()
        for number in range(100):
            now = world.clock.wall()
            os.utime(world.write("log.md", f"line {number}"), (now, now))
            await bound.reconciler.take_hints([Hint("log.md", HintKind.FILE)])
            await bound.turn()
            if await reason(readiness) == "":
                break
            await world.clock.sleep(0.2)
        assert "log.md" in bound.reconciler.settling
        assert await reason(readiness) == ""


async def test_unreadable_state_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path)

    async def broken(_work: object) -> None:
        raise StateError("the disk is gone")

    async with world.running() as store:
        monkeypatch.setattr(store, "read", broken)
        [mirror] = await Readiness({"docs": world.make_run(store)}).check()
    assert mirror.obstacle == Halt("failing", "the disk is gone", "")
