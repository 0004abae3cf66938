from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from kbsync.targets.memory import AbleMemory, Behaviour, MemoryTarget, RenamingMemory, UpdatingMemory
from tests.crash.harness import Guillotine, enumerate_boundaries, run_until
from tests.engine.world import World
from tests.share import boundaries

VARIANTS = [MemoryTarget, RenamingMemory, UpdatingMemory, AbleMemory]
KEPT = "kept.md"


def slow_base() -> Behaviour:
    return Behaviour(indexing_polls=1, answers_ready=False)


def create(world: World) -> None:
    world.write("new.md", "new")


def replace(world: World) -> None:
    world.write(KEPT, "kept, changed")


def rename(world: World) -> None:
    world.move(KEPT, "sub/renamed.md")


def delete(world: World) -> None:
    world.delete("f1.md")


def everything(world: World) -> None:
    create(world)
    replace(world)
    world.move("f2.md", "moved.md")
    delete(world)


SCENARIOS = [create, replace, rename, delete, everything]


def starting_point(
    tmp_path: Path, target: type[MemoryTarget], behaviour: Callable[[], Behaviour]
) -> Callable[[], Awaitable[World]]:
    """Makes worlds in which six files are mirrored already."""
    numbers = itertools.count()

    async def make() -> World:
        place = tmp_path / str(next(numbers))
        place.mkdir()
        world = World(place, target)
        world.base.behaviour = behaviour()
        world.write_many(5)
        world.write(KEPT, "kept")
        await world.once()
        world.base.effects.clear()
        return world

    return make


CASES = [
    *((target, scenario, False) for target in VARIANTS for scenario in (create, replace, rename, delete)),
    *((target, everything, False) for target in (MemoryTarget, AbleMemory)),
    *((target, everything, True) for target in (MemoryTarget, UpdatingMemory)),
]


@pytest.mark.parametrize(
    ("target", "scenario", "slow"),
    CASES,
    ids=lambda v: v if isinstance(v, str) else getattr(v, "__name__", "slow" if v else "quick"),
)
async def test_killed_at_every_boundary_each_file_ends_as_exactly_one_document(
    tmp_path: Path, target: type[MemoryTarget], scenario: Callable[[World], None], slow: bool
) -> None:
    make = starting_point(tmp_path, target, slow_base if slow else Behaviour)
    gaps: list[str] = []

    def prepare(world: World) -> None:
        watch_for_gaps(world, gaps)
        scenario(world)

    def check(world: World) -> None:
        assert world.served() == world.on_disk()
        assert len(world.base.documents) == len(world.on_disk())
        assert gaps == []
        puts = world.base.effects_of("put", "update")
        versions = [(e.path, e.digest) for e in puts]
        assert len(versions) == len(set(versions)), f"sent twice: {versions}"

    found = await enumerate_boundaries(
        make, prepare, check, boundaries(CASES.index((target, scenario, slow)))
    )
    assert found >= 8


def watch_for_gaps(world: World, gaps: list[str]) -> None:
    """The kept file must be found at every moment, under its old or its new path."""

    def look(base) -> None:  # type: ignore[no-untyped-def]
        if not any(t.startswith("kept") for texts in base.shown().values() for t in texts):
            gaps.append("kept.md was absent")

    world.base.observers.append(look)


async def test_killed_again_during_recovery(tmp_path: Path) -> None:
    make = starting_point(tmp_path, MemoryTarget, slow_base)
    for first, second in itertools.product((3, 9, 15, 21), (1, 2, 4, 7, 11, 16, 22)):
        world = await make()
        everything(world)
        await run_until(world, Guillotine(at=first))
        await run_until(world, Guillotine(at=second))
        world.breaches.clear()
        await world.once()
        assert world.served() == world.on_disk()
        assert len(world.base.documents) == len(world.on_disk())
