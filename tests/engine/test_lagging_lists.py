"""A base whose list lags: lost answers, late arrivals and deleted documents that come back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kbsync.contract.target import Listed
from kbsync.core.model import UploadState
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


def states(world: World) -> list[UploadState]:
    rows = world.look_up(lambda tx: tx.uploads.in_states(world.run.mirror, 1, tuple(UploadState)))
    return [row.state for row in rows]


async def test_a_lost_answer_is_found_although_the_list_lags(world: World) -> None:
    world.base.faults.append(Fault("put", error=lambda: Unsure("reset"), effect=True))
    world.write("a.md")
    await world.once()
    assert world.puts() == 1
    assert states(world) == [UploadState.SERVING]


async def test_what_never_arrived_is_sent_again_only_past_the_horizon(world: World) -> None:
    world.base.faults.append(Fault("put", error=lambda: Unsure("reset"), effect=False))
    world.write("a.md")
    began = world.clock.now
    await world.once()
    assert world.clock.now - began >= 14.99
    assert states(world) == [UploadState.PRESUMED_LOST, UploadState.SERVING]
    looks = [r for r in world.base.requests if r.op == "list"]
    assert len(looks) <= 8


async def test_a_pass_waits_for_what_is_unsure_however_long_a_list_takes(world: World) -> None:
    class SlowMemory(MemoryTarget):
        async def list(self) -> AsyncIterator[Listed]:
            async for listed in super().list():
                yield listed
                await world.clock.sleep(50.0)

    world.target_type = SlowMemory
    world.write_many(2)
    await world.once()
    world.clock.now += 100.0
    world.base.faults.append(Fault("put", error=lambda: Unsure("reset"), effect=False))
    world.write("a.md")
    end = await world.once()
    assert end.complete and world.served() == world.on_disk()


async def test_an_upload_that_arrives_after_it_was_given_up_is_recognised_and_retired(world: World) -> None:
    world.base.faults.append(Fault("put", error=lambda: Unsure("reset"), late=60.0))
    world.write("a.md")
    await world.once()
    world.clock.now += 100.0
    world.base.faults.append(Fault("put", error=lambda: Unsure("reset"), effect=True))
    world.write("b.md", "asks for a list")
    await world.once()
    assert world.served() == world.on_disk()
    assert len(world.base.documents) == 2


async def test_a_delete_that_left_the_document_is_repeated(world: World) -> None:
    world.write_many(4)
    await world.once()
    world.base.faults.append(Fault("delete", match=lambda s: s.path.endswith("f1.md"), lie=True))
    world.delete("f1.md")
    await world.once()
    assert UploadState.TOMBSTONE in states(world)
    world.clock.now += 100.0
    world.base.faults.append(Fault("put", error=lambda: Unsure("reset"), effect=True))
    world.write("b.md", "asks for a list")
    await world.once()
    assert world.served() == world.on_disk()


async def test_tombstones_go_after_a_week(world: World) -> None:
    world.write_many(4)
    await world.once()
    world.delete("f1.md")
    await world.once()
    assert UploadState.TOMBSTONE in states(world)
    world.clock.now += 8 * 86400.0
    await world.once()
    assert UploadState.TOMBSTONE not in states(world)


async def test_names_of_others_are_never_touched(world: World) -> None:
    world.base.add("f1.md", b"of somebody else")
    world.write_many(3)
    await world.once()
    world.delete("f1.md")
    world.write("f2.md", "changed")
    await world.once()
    assert [d.content.text for d in world.base.documents.values() if d.foreign] == ["of somebody else"]
