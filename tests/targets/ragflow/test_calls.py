"""Single calls of the target, on a clock that is moved by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from kbsync.accounts.account import account_of
from kbsync.contract.target import DocState
from kbsync.errors import Halted, Rejected
from kbsync_standin.faults import Fault
from tests.conformance.test_ragflow import RagflowConformance


@pytest.fixture
async def world() -> AsyncIterator[Any]:
    world = RagflowConformance("tagged")
    async with world.serving():
        world.target = await world.open()
        yield world
        await world.target.aclose()


async def unbegun(world: Any) -> str:
    """A document that was uploaded a while ago and is not parsed, for the server is at work on others."""
    world.server.faults.add(Fault("code", "parse", times=0, args={"code": 106}))
    [accepted] = await world.target.put([world.document("a.md", "alpha")])
    world.server.advance(20)
    world.server.requests.clear()
    return str(accepted.remote_id)


async def test_parsing_is_asked_for_again_after_a_while_and_not_at_every_look(world: Any) -> None:
    one = await unbegun(world)
    for _ in range(12):
        await world.target.status([one])
        world.server.advance(1)
    assert world.server.requests.by_op["parse"] == 1
    world.server.advance(5)
    world.server.faults.clear()
    await world.target.status([one])
    assert world.server.requests.by_op["parse"] == 2
    world.server.advance(5)
    assert (await world.target.status([one]))[one].state is DocState.READY


async def test_a_command_that_only_looks_begins_no_work(world: Any) -> None:
    one = await unbegun(world)
    await world.target.aclose()
    world.server.faults.clear()
    world.read_only = True
    world.target = await world.open()
    assert (await world.target.status([one]))[one].state is DocState.INDEXING
    assert world.server.requests.by_op["parse"] == 0


async def test_a_gateway_without_the_call_blames_no_document(world: Any) -> None:
    one = await unbegun(world)
    world.server.faults.clear()
    world.server.faults.add(Fault("status", "parse", effect=False, args={"status": 404}))
    assert (await world.target.status([one]))[one].state is DocState.INDEXING
    world.server.advance(20)
    await world.target.status([one])
    world.server.advance(5)
    assert (await world.target.status([one]))[one].state is DocState.READY


async def test_a_dataset_counts_as_deleted_only_where_the_server_says_that_it_is_gone(world: Any) -> None:
    world.server.faults.add(Fault("code", "delete-base"))
    world.server.faults.add(Fault("unauthorized", "base"))
    with pytest.raises(Halted) as refused:
        await account_of(world.target).bases.delete(world.base)
    assert refused.value.halt == "credentials"
    world.server.faults.add(Fault("code", "delete-base"))
    with pytest.raises(Rejected):
        await account_of(world.target).bases.delete(world.base)
    world.server.faults.add(Fault("code-after", "delete-base"))
    await account_of(world.target).bases.delete(world.base)
