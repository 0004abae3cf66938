"""Each fault alone on each operation, pairs, crashes: the mirror converges and touches nothing foreign."""

from __future__ import annotations

import gc
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from kbsync.contract.searching import Query
from kbsync_standin.gptbots.behaviour import KINDS
from kbsync_standin.kinds import TRANSPORT
from tests.remote.ordeal import Trial, stand, stand_pair, stand_with
from tests.remote.services import GPTBOTS
from tests.share import enumerated
from tests.targets.gptbots.world import GptbotsWorld
from tests.torture.faults import AT_GPTBOTS, calamity, pair

PAIRS, CALAMITIES = 60, 60

# What a killed process leaves open is closed by its end; here the process goes on.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def swept() -> Iterator[None]:
    """What is left open is told here, and not in the test that comes next."""
    yield
    gc.collect()


@enumerated("trial.kind")
@pytest.mark.parametrize("trial", AT_GPTBOTS.trials, ids=str)
async def test_a_lone_fault_is_overcome(tmp_path: Path, trial: Trial) -> None:
    one = await stand(GPTBOTS, tmp_path, trial)
    assert one.stored() <= 3


@enumerated()
@pytest.mark.parametrize("seed", range(PAIRS))
async def test_a_pair_of_faults_is_overcome(tmp_path: Path, seed: int) -> None:
    await stand_pair(GPTBOTS, tmp_path, *pair(AT_GPTBOTS, random.Random(seed)))


@enumerated()
@pytest.mark.parametrize("seed", range(CALAMITIES))
async def test_a_fault_and_the_end_of_the_client_are_overcome(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    trial, (_, blow) = chance.choice(AT_GPTBOTS.trials), calamity(chance)
    await stand_with(GPTBOTS, tmp_path, trial, blow)


async def test_a_search_that_finds_nothing_is_no_error(tmp_path: Path) -> None:
    async with GptbotsWorld(tmp_path).serving() as world:
        world.write("a.md", "some text")
        await world.once()
        world.play("nothing-found", op="match")
        target = world.make_target()
        async with world.running():
            found = [await target.search(Query("text", top_k=3)) for _ in range(2)]
            await target.aclose()
        assert [len(hits) for hits in found] == [0, 1]


def test_every_kind_of_fault_of_the_stand_in_is_played() -> None:
    answers = {"nothing-found"}  # to a search, which is no part of mirroring: played above
    assert {trial.kind for trial in AT_GPTBOTS.trials} | answers == {*KINDS, *TRANSPORT}


def test_no_trial_is_there_twice() -> None:
    names = [str(trial) for trial in AT_GPTBOTS.trials]
    assert len(set(names)) == len(names)
