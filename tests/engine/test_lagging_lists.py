"""A base whose list lags: what was lost is looked for until it must be there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kbsync.contract.target import Listed
from kbsync.errors import Unsure
from tests.engine.world import World
from tests.memory.behaviour import Behaviour, Fault
from tests.memory.target import MemoryTarget

LAG = 5.0


@pytest.fixture(params=[True, False], ids=["marks", "names-only"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    world = World(tmp_path, MemoryTarget, list_lag=LAG, marks=request.param)
    world.base.behaviour = Behaviour(list_lag=LAG)
    return world


async def test_what_never_arrived_is_sent_again_only_past_the_horizon(world: World) -> None:
    world.base.faults.append(Fault("put", error=lambda: Unsure("reset"), effect=False))
    world.write("a.md")
    began = world.clock.now
    await world.once()
    assert world.clock.now - began >= 14.99
    assert world.states() == ["PRESUMED_LOST", "SERVING"]
    assert world.requests("list") <= 8


async def test_a_pass_waits_for_what_is_unsure_however_long_a_list_takes(world: World) -> None:
    class SlowMemory(MemoryTarget):
        async def list(self) -> AsyncIterator[Listed]:
            async for listed in super().list():
                yield listed
                await world.clock.sleep(50.0)

    world.target_type = SlowMemory
    await world.mirrored(2)
    world.clock.now += 100.0
    world.base.faults.append(Fault("put", error=lambda: Unsure("reset"), effect=False))
    world.write("a.md")
    end = await world.once()
    assert end.complete and world.served() == world.on_disk()


async def test_tombstones_go_after_a_week(world: World) -> None:
    await world.mirrored(4)
    world.delete("f1.md")
    await world.once()
    assert "TOMBSTONE" in world.states()
    world.clock.now += 8 * 86400.0
    await world.once()
    assert "TOMBSTONE" not in world.states()
