"""Counts the requests of a mirror. A new document needs at least two: the upload, and a poll."""

from __future__ import annotations

import pytest

from kbsync.contract.target import DocState
from tests.remote.world import sha_of_folder
from tests.services.lightrag import LightragWorld, ServedLightrag
from tests.share import enumerated, long

LEAST = 2


async def requests_of_pass(world: LightragWorld) -> dict[str, int]:
    """Return the requests of one pass, after which base and folder are equal."""
    world.clock.now += 100
    world.server.requests.clear()
    await world.once()
    assert world.bytes_by_path(searchable=True) == sha_of_folder(world)
    return dict(world.server.requests.by_op)


async def test_new_document_costs_one_upload_and_one_poll(world: LightragWorld) -> None:
    world.write_many(2)
    await world.once()
    idle = sum((await requests_of_pass(world)).values())
    world.app.set_behaviour({"vectorize": [0.5, 0.5]})
    world.write("new.md", "a new file")
    spent = await requests_of_pass(world)
    assert spent["upload"] == 1
    assert sum(spent.values()) - idle <= LEAST + 1.2, spent


async def test_changed_file_costs_at_most_five(world: LightragWorld) -> None:
    world.write_many(2)
    await world.once()
    idle = sum((await requests_of_pass(world)).values())
    world.app.set_behaviour({"vectorize": [0.5, 0.5]})
    world.write("f0.md", "another text")
    spent = await requests_of_pass(world)
    assert (spent["upload"], spent["delete"], spent["deletion"]) == (1, 1, 1)
    assert sum(spent.values()) - idle <= 5, spent


@long
async def test_many_new_documents_share_their_polls(world: LightragWorld) -> None:
    world.write_many(60)
    spent = await requests_of_pass(world)
    assert spent["upload"] == 60
    assert spent["list"] <= 12, spent


@long
async def test_documents_deleted_together_share_the_requests(world: LightragWorld) -> None:
    world.write_many(40)
    await world.once()
    for number in range(8):
        world.delete(f"f{number}.md")
    spent = await requests_of_pass(world)
    assert spent["delete"] <= 4, spent
    assert spent["deletion"] <= 4, spent


@long
@enumerated()
@pytest.mark.parametrize("number", [5, 150])
async def test_unchanged_pass_checks_the_base_once(world: LightragWorld, number: int) -> None:
    world.write_many(number)
    await world.once()
    spent = await requests_of_pass(world)
    assert spent["base"] == 1
    assert spent.get("list", 0) <= -(-number // 100)
    assert sum(spent.values()) == spent["base"] + spent.get("list", 0)


MANY = 450


def stored(served: ServedLightrag, stem: str, number: int, *, fault: str = "") -> list[str]:
    """Store new documents at the server and return their ids."""
    names = [f"{stem}{each}~aaaaaaaa.md" for each in range(number)]
    for name in names:
        served.app.store(name, name.encode(), fault)
    return names


async def looked(served: ServedLightrag, ids: list[str]) -> tuple[set[DocState], int]:
    """Return their states, and the number of requests that it took."""
    served.server.requests.clear()
    states = await served.target.status(ids)
    assert states.keys() == set(ids)
    return {state.state for state in states.values()}, served.server.requests.by_op["list"]


@long
async def test_only_unfinished_documents_are_read_from_a_long_list(served_world: ServedLightrag) -> None:
    """The total number of documents doesn't matter."""
    ids = stored(served_world, "old", MANY)
    await served_world.pass_time(100)
    assert await looked(served_world, ids) == ({DocState.READY}, 1 + 1 + 3)
    stored(served_world, "failing", MANY, fault="fails")
    await served_world.pass_time(100)
    served_world.app.set_behaviour({"vectorize": [50, 50]})
    ids = stored(served_world, "new", MANY)
    assert await looked(served_world, ids) == ({DocState.INDEXING}, 1 + 3)
    await served_world.pass_time(100)
    assert await looked(served_world, ids) == ({DocState.READY}, 1 + 1 + 3)


@long
async def test_whole_list_is_rarely_read_for_missing_documents(served_world: ServedLightrag) -> None:
    stored(served_world, "old", MANY)
    await served_world.pass_time(100)
    missing = ["none~aaaaaaaa.md"]
    whole = -(-MANY // 100)
    assert await looked(served_world, missing) == ({DocState.MISSING}, 3 + whole)
    assert await looked(served_world, missing) == ({DocState.UNKNOWN}, 3)
    await served_world.pass_time(whole)
    assert await looked(served_world, missing) == ({DocState.MISSING}, 3 + whole)
