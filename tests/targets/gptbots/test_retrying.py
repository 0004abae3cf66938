"""Tests the service's own retry of failed documents, and its effect on a mirror's documents."""

from __future__ import annotations

import pytest

from kbsync.accounts.account import account_of
from tests.remote.world import sha_of_folder
from tests.services.gptbots import GptbotsWorld
from tests.share import enumerated
from tests.targets.gptbots.test_life import ids_by_path


async def retry(world: GptbotsWorld) -> int | None:
    """Request a retry, which the service finishes some time later."""
    async with world.client() as target:
        retried = await account_of(target).bases.retry_all()
    world.clock.now += 30
    return int(retried)


@enumerated()
@pytest.mark.parametrize(("was_there", "request_counts"), [(False, [1, 0, 1]), (True, [0, 1, 0])])
async def test_document_repaired_by_the_service_is_found_and_stays_failed_here_until_retry(
    world: GptbotsWorld, was_there: bool, request_counts: list[int]
) -> None:
    """A new document is sent again, a changed one is changed in place."""
    world.write_many(2)
    if was_there:
        await world.once()
        world.clock.now += 10
        world.write("f0.md", "changed")
    before = ids_by_path(world)
    world.play("fails", op="[au]*", match="*f0*", times=0, args={"name": "f0*"})
    await world.once()
    world.server.faults.clear()
    assert world.bytes_by_path(searchable=True) != sha_of_folder(world)
    assert await retry(world) == 1
    assert world.bytes_by_path(searchable=True) == sha_of_folder(world)
    world.server.requests.clear()
    await world.once()
    assert world.statuses() == {"ready": 1, "failed": 1}
    assert world.request_count() == world.request_count("base") == 1
    world.post_request("retry", paths=None)
    world.clock.now += 30
    await world.once()
    assert world.statuses() == {"ready": 2}
    assert world.bytes_by_path(searchable=True) == sha_of_folder(world)
    assert len(world.documents()) == 2
    assert [world.request_count(op) for op in ("add", "update", "delete")] == request_counts
    assert not was_there or ids_by_path(world) == before
