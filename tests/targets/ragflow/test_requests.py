"""Counts the requests of a mirror at RAGFlow.

A new document needs four: upload, metadata, parse, and one poll. Each pass first checks the dataset.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.services.ragflow import RagflowWorld
from tests.share import long


def take_request_counts(world: RagflowWorld) -> Counter[str]:
    request_counts = Counter(world.server.requests.by_op)
    world.server.requests.clear()
    return request_counts


async def test_new_document_costs_four_requests_and_a_dataset_check(
    world: RagflowWorld,
) -> None:
    world.turn(vectorize=[0.5, 0.5])
    await world.once()
    take_request_counts(world)
    world.write("new.md", "a new file")
    await world.once()
    assert world.statuses() == {"ready": 1}
    assert take_request_counts(world) == {"base": 1, "upload": 1, "describe": 1, "parse": 1, "list": 1}


@pytest.mark.parametrize(
    ("seconds", "poll_first", "polls"), [(3.0, 1.0, 3), (10.0, 1.0, 9), (60.0, 1.0, 17), (10.0, 10.0, 1)]
)
async def test_polls_of_a_slow_document_become_rarer(
    tmp_path: Path, seconds: float, poll_first: float, polls: int
) -> None:
    async with RagflowWorld(tmp_path, vectorize=(seconds, seconds), poll_first=poll_first).serving() as world:
        await world.once()
        take_request_counts(world)
        world.write("new.md", "a new file")
        await world.once()
        assert world.statuses() == {"ready": 1}
        assert take_request_counts(world) == {
            "base": 1,
            "upload": 1,
            "describe": 1,
            "parse": 1,
            "list": polls,
        }


@long
async def test_many_new_documents_are_polled_in_one_request(world: RagflowWorld) -> None:
    world.write_many(100)
    await world.once()
    assert world.statuses() == {"ready": 100}
    request_counts = take_request_counts(world)
    assert request_counts["upload"] == 100 and request_counts["parse"] <= 14
    assert request_counts.total() <= 2.25 * 100


async def test_changed_file_costs_six_requests(world: RagflowWorld) -> None:
    world.turn(vectorize=[0.5, 0.5])
    world.write_many(3)
    await world.once()
    take_request_counts(world)
    world.clock.now += 10
    world.write("f1.md", "changed")
    await world.once()
    assert take_request_counts(world) == {
        "base": 1,
        "upload": 1,
        "describe": 1,
        "parse": 1,
        "list": 1,
        "delete": 1,
    }


@long
async def test_many_documents_are_deleted_by_few_requests(world: RagflowWorld) -> None:
    world.write_many(60)
    await world.once()
    take_request_counts(world)
    world.clock.now += 10
    for number in range(60):
        world.delete(f"f{number}.md")
    await world.once()
    world.approve()
    await world.once()
    assert world.documents() == []
    assert take_request_counts(world)["delete"] <= 10


async def test_unchanged_pass_checks_only_the_dataset(world: RagflowWorld) -> None:
    world.write_many(5)
    await world.once()
    take_request_counts(world)
    await world.once()
    assert take_request_counts(world) == {"base": 1}


@long
async def test_lost_state_costs_a_list_and_no_upload(world: RagflowWorld) -> None:
    world.write_many(60)
    await world.once()
    take_request_counts(world)
    world.lose_state()
    await world.once()
    assert world.statuses() == {"ready": 60}
    request_counts = take_request_counts(world)
    assert (request_counts["upload"], request_counts["parse"], request_counts["delete"]) == (0, 0, 0)
    assert request_counts["list"] <= 2
