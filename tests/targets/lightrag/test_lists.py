"""Counts the list requests that states of documents cost."""

from __future__ import annotations

import pytest

from kbsync.contract.target import DocState
from kbsync.errors import Unavailable
from kbsync_standin.faults import Fault
from tests.services.lightrag import ServedLightrag
from tests.share import long

MANY = 450


def stored(served: ServedLightrag, stem: str, number: int, *, fault: str = "") -> list[str]:
    """Store new documents at the server and return their ids."""
    names = [f"{stem}{index}~aaaaaaaa.md" for index in range(number)]
    for name in names:
        served.app.store(name, name.encode(), fault)
    return names


async def poll_states(served: ServedLightrag, ids: list[str]) -> tuple[set[DocState], int]:
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
    assert await poll_states(served_world, ids) == ({DocState.READY}, 1 + 1 + 3)
    stored(served_world, "failing", MANY, fault="fails")
    await served_world.pass_time(100)
    served_world.app.set_behaviour({"vectorize": [50, 50]})
    ids = stored(served_world, "new", MANY)
    assert await poll_states(served_world, ids) == ({DocState.INDEXING}, 1 + 3)
    await served_world.pass_time(100)
    assert await poll_states(served_world, ids) == ({DocState.READY}, 1 + 1 + 3)


async def test_list_with_a_wrong_total_ends(served_world: ServedLightrag) -> None:
    [remote_id] = stored(served_world, "old", 1)
    body = {"documents": [], "pagination": {"total_count": 100_000}}
    fault = Fault("status", op="list", times=50, args={"status": 200, "body": body})
    served_world.server.faults.add(fault)
    with pytest.raises(Unavailable):
        await served_world.target.status([remote_id])
    assert served_world.server.requests.by_op["list"] < 20


@long
async def test_whole_list_is_rarely_read_for_missing_documents(served_world: ServedLightrag) -> None:
    stored(served_world, "old", MANY)
    await served_world.pass_time(100)
    missing = ["none~aaaaaaaa.md"]
    page_count = -(-MANY // 100)
    assert await poll_states(served_world, missing) == ({DocState.MISSING}, 3 + page_count)
    assert await poll_states(served_world, missing) == ({DocState.UNKNOWN}, 3)
    await served_world.pass_time(page_count)
    assert await poll_states(served_world, missing) == ({DocState.MISSING}, 3 + page_count)
