"""Tests each fault on each operation, pairs, and crashes: the mirror converges and changes nothing
foreign."""

from __future__ import annotations

import gc
import itertools
import random
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from kbsync.contract.searching import Query
from kbsync_standin import dify, gptbots, lightrag, openai, openwebui, ragflow, zhipu
from kbsync_standin.kinds import TRANSPORT
from tests.remote.faults import Trial, faulty, overcome
from tests.remote.world import RemoteWorld, sha_of_folder
from tests.services.gptbots import GptbotsWorld
from tests.share import enumerated, long
from tests.torture.audits import audit
from tests.torture.faults import TRIALS, calamity, pair

# A killed process would close its connections; here the process continues.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def of_each(seeds: Mapping[str, int]) -> list[tuple[str, int]]:
    return [(service, seed) for service, many in seeds.items() for seed in range(many)]


@pytest.fixture(autouse=True)
def swept() -> Iterator[None]:
    """Report open resources here, not in the next test."""
    yield
    gc.collect()


ANSWERS = {"stream"}
"""Of questions, which no pass sends: tested in tests/cli, test_ask_services."""

OTHERS = dict.fromkeys(TRIALS, 10)
"""Faults common to all services are tested with the first two."""

EVERY = [(service, trial) for service, trials in TRIALS.items() for trial in trials]


@enumerated("service")
@pytest.mark.parametrize(("service", "trial"), EVERY, ids=str)
async def test_single_fault_is_overcome(tmp_path: Path, service: str, trial: Trial) -> None:
    mirror = await overcome(service, tmp_path, trial)
    assert mirror.stored() <= 3


@enumerated("service")
@pytest.mark.parametrize(("service", "seed"), of_each({**OTHERS, "zhipu": 120, "gptbots": 60}))
async def test_pair_of_faults_is_overcome(tmp_path: Path, service: str, seed: int) -> None:
    await overcome(service, tmp_path, *pair(service, random.Random(seed)))


@enumerated("service")
@pytest.mark.parametrize(("service", "seed"), of_each({**OTHERS, "zhipu": 80, "gptbots": 60}))
async def test_fault_combined_with_a_client_crash_is_overcome(
    tmp_path: Path, service: str, seed: int
) -> None:
    chance = random.Random(seed)
    await overcome(service, tmp_path, chance.choice(TRIALS[service]), calamity=calamity(chance))


@long
@enumerated("service")
@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("service", ["zhipu", "gptbots"])
def test_disorder_caused_by_others_is_repaired(tmp_path: Path, service: str, seed: int) -> None:
    assert audit(service, seed, tmp_path, turns=2).faults > 1


@pytest.mark.parametrize(
    ("service", "kinds", "elsewhere"),
    [
        # Not faults of a pass: tested in tests/cli, test_ask and test_listener.
        ("zhipu", zhipu.application.kinds, {"stream", "pictures", "callback"}),
        ("gptbots", gptbots.application.kinds, {"nothing-found"}),  # a search: tested below
        ("openwebui", openwebui.application.kinds, ANSWERS),
        (
            "openai",
            openai.application.kinds,
            {"nothing-found"} | ANSWERS,
        ),  # a search: tested with its other tests
        (
            "lightrag",
            lightrag.application.kinds,
            {"search-failed", "not-queued"} | ANSWERS,
        ),  # tested in tests/targets/lightrag
        ("dify", dify.application.kinds, {"nothing-found"}),  # a search: tested in tests/targets/dify
        ("ragflow", ragflow.application.kinds, {"nothing-found"} | ANSWERS),
    ],
)
def test_every_fault_kind_is_tested_and_no_case_is_repeated(
    service: str, kinds: Mapping[str, str], elsewhere: set[str]
) -> None:
    assert {trial.kind for trial in TRIALS[service]} | elsewhere == {*kinds, *TRANSPORT}
    names = [str(trial) for trial in TRIALS[service]]
    assert len(set(names)) == len(names)


@enumerated()
@pytest.mark.parametrize("number", [3, 9, 17])
async def test_foreign_changes_during_a_pass_are_left_alone(tmp_path: Path, number: int) -> None:
    """At one moment of the pass, others add a document with a name of ours and delete one of theirs."""
    async with faulty("zhipu", tmp_path, Trial("lost-answer", "list")) as mirror:
        moments = itertools.count(1)

        def meddle(_: str) -> None:
            if next(moments) == number:
                mirror.world.plant("changed~aaaaaaaa.md", "not ours")
                mirror.world.app.put_foreign({"delete": "guide.md"})
                mirror.world.foreign -= {planted}

        [planted] = mirror.world.foreign
        mirror.world.at_request = meddle
        await mirror.converge()
        assert next(moments) > number
        mirror.check()


async def test_ipv6_only_service_can_be_mirrored_to(tmp_path: Path) -> None:
    world = RemoteWorld(tmp_path)
    world.server.host = "::1"
    world.write_many(2)
    try:
        await world.server.start()
    except OSError:
        pytest.skip("this machine has no IPv6")
    try:
        await world.once()
    finally:
        await world.server.stop()
    assert "[::1]" in world.server.url
    assert world.bytes_by_path() == sha_of_folder(world)


async def test_search_without_hits_is_not_an_error(tmp_path: Path) -> None:
    async with GptbotsWorld(tmp_path).serving() as world:
        await world.mirrored({"a.md": "some text"})
        world.play("nothing-found", op="match")
        async with world.client() as target:
            matching = [await target.search(Query("text", top_k=3)) for _ in range(2)]
        assert [len(hits) for hits in matching] == [0, 1]
