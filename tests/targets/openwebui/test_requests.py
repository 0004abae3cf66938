"""Counts the requests of a mirror at Open WebUI, including polls.

The protocol needs two for a new document: the upload, and one list request for all simultaneous uploads.
"""

from __future__ import annotations

from kbsync.contract.target import DocState
from kbsync_standin.openwebui import HOME_ID
from tests.services.openwebui import OpenWebuiWorld
from tests.share import long

LOOK = 1
"""The check of the base at the start of each pass."""


async def mirrored(world: OpenWebuiWorld, n: int) -> None:
    world.write_many(n)
    await world.once()
    world.clock.now += 10
    world.server.requests.clear()


@long
async def test_small_new_document_costs_its_upload_and_one_poll(world: OpenWebuiWorld) -> None:
    await mirrored(world, 3)
    world.turn(vectorize=(0.2, 0.6))
    world.write("new.md", "a new file")
    await world.once()
    assert world.statuses() == {"ready": 4}
    assert (world.request_count("upload"), world.request_count()) == (1, LOOK + 2)


@long
async def test_polls_are_shared_by_many_new_documents(world: OpenWebuiWorld) -> None:
    await mirrored(world, 1)
    world.turn(vectorize=(0.2, 0.6))
    for number in range(100):
        world.write(f"new{number}.md", f"text {number}")
    await world.once()
    assert world.statuses() == {"ready": 101}
    assert world.request_count("upload") == 100
    assert world.request_count() <= 1.2 * 100


@long
async def test_changed_file_costs_six_requests_including_removal_of_the_old_one(
    world: OpenWebuiWorld,
) -> None:
    await mirrored(world, 3)
    world.turn(vectorize=(0.2, 0.6))
    world.write("f0.md", "changed")
    await world.once()
    assert world.statuses() == {"ready": 3}
    assert world.request_count() <= LOOK + 5


@long
async def test_copy_costs_two_requests_besides_its_polls(world: OpenWebuiWorld) -> None:
    await mirrored(world, 3)
    world.turn(vectorize=(0.2, 0.6))
    world.write("copy.md", (world.root / "f0.md").read_text())
    await world.once()
    assert world.statuses() == {"ready": 4}
    assert (world.request_count("upload"), world.request_count("update"), world.request_count("link")) == (
        1,
        1,
        1,
    )
    assert world.request_count() <= LOOK + 7


@long
async def test_unchanged_pass_sends_only_the_base_check(world: OpenWebuiWorld) -> None:
    await mirrored(world, 120)
    await world.once()
    assert world.request_count() == LOOK


@long
async def test_lost_state_costs_one_request_per_hundred_documents(world: OpenWebuiWorld) -> None:
    await mirrored(world, 250)
    world.lose_state()
    await world.once()
    assert world.statuses() == {"ready": 250}
    assert world.request_count("upload") == 0
    assert world.request_count() <= LOOK + 1 + 3


@long
async def test_folder_is_created_once(world: OpenWebuiWorld) -> None:
    await mirrored(world, 1)
    for number in range(10):
        world.write(f"deep/er/new{number}.md", f"text {number}")
    await world.once()
    assert world.request_count("make-folder") == 2
    assert world.request_count("folders") == 1


@long
async def test_moved_file_is_not_uploaded(world: OpenWebuiWorld) -> None:
    await mirrored(world, 3)
    world.move("f0.md", "sub/moved.md")
    await world.once()
    assert world.request_count("upload") == 0
    assert (world.request_count("move"), world.request_count("rename")) == (1, 1)


@long
async def test_polling_a_thousand_pending_documents_takes_a_few_requests(world: OpenWebuiWorld) -> None:
    world.turn(vectorize=(50.0, 60.0))
    ids = [
        world.app.store(f"{one}.md", b"text %d" % one, "text/plain", {"knowledge_id": HOME_ID}).id
        for one in range(1000)
    ]
    async with world.client() as target:
        assert {one.state for one in (await target.status(ids)).values()} == {DocState.INDEXING}
        assert world.request_count() <= 5
        world.clock.now += 100
        world.server.requests.clear()
        assert {one.state for one in (await target.status(ids)).values()} == {DocState.READY}
        assert world.request_count() <= 1 + 4 + 10
