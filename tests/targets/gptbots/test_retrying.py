"""The vendor's own retry of all that failed: what it means for documents of a mirror that failed there."""

from __future__ import annotations

from tests.remote.world import sha_of_folder
from tests.targets.gptbots.world import GptbotsWorld


async def retry(world: GptbotsWorld) -> int | None:
    """The vendor is asked, and has done its work some time later."""
    target = world.make_target()
    async with world.running():
        try:
            taken = await target.retry_all()
        finally:
            await target.aclose()
    world.clock.now += 30
    return int(taken)


async def f0_fails(world: GptbotsWorld, text: str = "") -> None:
    """Whatever is sent of `f0.md` beside `f1.md`, until it is in quarantine."""
    world.write_many(2)
    world.play("fails", op="[au]*", match="*f0*", times=0, args={"name": "f0*"})
    if text:
        world.write("f0.md", text)
    await world.once()
    assert world.statuses() == {"ready": 1, "failed": 1}
    world.server.faults.clear()


async def again(world: GptbotsWorld) -> None:
    """`kbsync retry`, and a pass."""
    world.tell("retry", paths=None)
    world.clock.now += 30
    await world.once()
    assert world.statuses() == {"ready": 2}
    assert world.bytes_by_path(searchable=True) == sha_of_folder(world)
    assert len(world.documents()) == 2


async def test_a_new_document_that_it_mends_is_found_and_stays_failed_here_until_a_retry_of_ours_sends_it(
    world: GptbotsWorld,
) -> None:
    await f0_fails(world)
    assert await retry(world) == 1
    assert world.bytes_by_path(searchable=True) == sha_of_folder(world)
    world.server.requests.clear()
    await world.once()
    assert world.statuses() == {"ready": 1, "failed": 1}
    assert world.asked() == world.asked("base") == 1
    await again(world)
    assert [world.asked(op) for op in ("add", "delete")] == [1, 1]


async def test_a_change_that_it_mends_is_found_and_sent_once_more_in_place(world: GptbotsWorld) -> None:
    world.write_many(2)
    await world.once()
    before = {one["name"]: one["id"] for one in world.documents()}
    world.clock.now += 10
    await f0_fails(world, "changed")
    assert world.bytes_by_path(searchable=True) != sha_of_folder(world)
    assert await retry(world) == 1
    assert world.bytes_by_path(searchable=True) == sha_of_folder(world)
    world.server.requests.clear()
    await world.once()
    assert world.statuses() == {"ready": 1, "failed": 1}
    await again(world)
    assert {one["name"]: one["id"] for one in world.documents()} == before
    assert [world.asked(op) for op in ("add", "update", "delete")] == [0, 1, 0]
