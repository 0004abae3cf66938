"""kill -9 at every commit of the state and every request to the service, by enumeration, and once more."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.crash.harness import Guillotine, run_to
from tests.remote.world import RemoteWorld, sha_of_folder
from tests.share import boundaries

KEPT = "kept.md"

# What a killed process leaves open is closed by its end; here the process goes on.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def create(world: RemoteWorld) -> None:
    world.write("new.md", "new")


def change(world: RemoteWorld) -> None:
    world.write(KEPT, "kept, changed")


def rename(world: RemoteWorld) -> None:
    world.move(KEPT, "sub/renamed.md")


def delete(world: RemoteWorld) -> None:
    world.delete("f1.md")


def mend(world: RemoteWorld) -> None:
    """It fails to index, is asked again, and fails for good the second time: a fresh upload."""
    world.write("new.md", "new")
    world.play("fails", op="upload", match="new*", args={"runs": 0})


def lose_answers(world: RemoteWorld) -> None:
    world.write("new.md", "new")
    world.play("lost-answer", op="upload", times=1)


def lose_state(world: RemoteWorld) -> None:
    world.lose_state()
    world.write("new.md", "new")


def lose_state_with_plain_names(world: RemoteWorld) -> None:
    lose_state(world)


def change_prefix(world: RemoteWorld) -> None:
    world.plan = replace(world.plan, prefix="new-")


def everything(world: RemoteWorld) -> None:
    create(world)
    change(world)
    world.move("f2.md", "moved.md")
    delete(world)


SCENARIOS = [create, change, rename, delete, mend, lose_answers, lose_state, change_prefix, everything]
SCENARIOS.append(lose_state_with_plain_names)


@asynccontextmanager
async def starting_point(place: Path, scenario: Callable[[RemoteWorld], None]) -> AsyncIterator[RemoteWorld]:
    """Four files mirrored beside a document of somebody else, and then what the scenario does."""
    place.mkdir()
    async with RemoteWorld(place, reembed_tries=1).serving() as world:
        if scenario is lose_state_with_plain_names:
            world.plan = replace(world.plan, names="plain")
        world.write_many(3)
        world.write(KEPT, "kept")
        await world.once()
        world.plant("guide.md", "not ours")
        world.clock.now += 10
        scenario(world)
        yield world


async def crash_at(world: RemoteWorld, number: int | None) -> Guillotine:
    guillotine = Guillotine(at=number)
    world.at_request = guillotine.boundary
    await run_to(world, guillotine)
    world.at_request = None
    for target in world.targets:
        await target.aclose()  # as the end of a process does
    world.targets.clear()
    world.breaches.clear()
    return guillotine


async def recover(world: RemoteWorld) -> None:
    await world.once()
    if world.bytes_by_path() != sha_of_folder(world):  # a late twin is recognised by a later list
        world.clock.now += 100
        await world.once()


def check(world: RemoteWorld, before: int, most: int) -> None:
    """`most`: how often the same bytes may have been stored since `before`."""
    assert world.bytes_by_path() == sha_of_folder(world)
    assert set(world.statuses()) == {"ready"}
    assert world.keeps_foreign()
    sent = Counter(entry["sha256"] for entry in world.effects("stored")[before:])
    assert max(sent.values(), default=0) <= most, sent
    assert world.app.violations == []


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.__name__)
async def test_a_crash_anywhere_leaves_one_document_a_file(
    tmp_path: Path, scenario: Callable[[RemoteWorld], None]
) -> None:
    for number in boundaries(SCENARIOS.index(scenario)):
        async with starting_point(tmp_path / str(number), scenario) as world:
            before = len(world.effects("stored"))
            guillotine = await crash_at(world, number)
            await recover(world)
            check(world, before, 2 if scenario is mend else 1)
        if not guillotine.fallen:
            break
    assert number > 10


@pytest.mark.parametrize("seed", range(12))
async def test_a_crash_during_the_recovery_from_a_crash(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    scenario = chance.choice(SCENARIOS)
    async with starting_point(tmp_path / "0", scenario) as world:
        before = len(world.effects("stored"))
        for _ in range(3):
            await crash_at(world, chance.randint(1, 40))
        await recover(world)
        check(world, before, 2 if scenario is mend else 1)
