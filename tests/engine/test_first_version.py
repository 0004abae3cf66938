"""A file that was edited before its first version was known to be searchable is found all the time."""

from __future__ import annotations

from pathlib import Path

import pytest

from kbsync.errors import Unavailable
from tests.crash.harness import Guillotine
from tests.engine.world import World
from tests.memory.behaviour import Behaviour, Failure, Fault
from tests.memory.target import MemoryTarget

ACCEPTED = ("put effect", "put answer", "commit after")


@pytest.fixture(params=[("put effect",), ACCEPTED], ids=["answer lost", "accepted"])
async def world(tmp_path: Path, request: pytest.FixtureRequest) -> World:
    """The first version was stored, the program died, and the version became searchable later."""
    world = World(tmp_path, MemoryTarget, list_lag=1.0)
    world.base.behaviour = Behaviour(indexing_seconds=20.0, list_lag=1.0)
    world.write("a.md", "first")
    await world.crash(Guillotine(upon=request.param))
    world.breaches.clear()
    world.clock.now += 60
    assert world.served() == {"a.md": "first"}
    return world


async def test_it_is_found_until_the_next_version_is(world: World) -> None:
    world.write("a.md", "second")
    world.base.faults = [Fault("status", error=Unavailable("down"))]  # the edit is seen before the poll
    found: list[bool] = []
    world.base.observers.append(lambda base: found.append(any(d.shown for d in base._documents.values())))
    await world.once()
    assert all(found)
    assert world.served() == {"a.md": "second"}
    assert world.statuses() == {"ready": 1}


async def test_it_serves_where_the_next_version_fails(world: World) -> None:
    world.write("a.md", "second")
    world.base.behaviour.failures = [Failure(lambda one: one.digest.startswith("16367aac"), times=99)]
    await world.once()
    assert world.served() == {"a.md": "first"}
    assert world.statuses() == {"failed": 1}
