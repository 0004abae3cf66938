"""Counts the requests that documents cost, including polls."""

from __future__ import annotations

from pathlib import Path

import pytest

from kbsync_standin.dify import HOME_ID
from tests.services.dify import DifyWorld
from tests.share import enumerated, long

LEAST = 3
"""The requests for a new document: its upload, one poll, which no other call replaces, and its metadata."""


async def spent(world: DifyWorld) -> int:
    """Return the requests of a pass that makes all documents searchable."""
    before = world.request_count()
    end = await world.once()
    assert end.complete
    assert set(world.statuses()) == {"ready"}
    return world.request_count() - before


@long
@enumerated()
@pytest.mark.parametrize("many", [1, 40])
async def test_new_small_document_costs_little_more_than_the_protocol_needs(
    tmp_path: Path, many: int
) -> None:
    async with DifyWorld(tmp_path, vectorize=(0.0, 0.0)).serving() as world:
        world.write("kept.md", "kept")
        await world.once()
        quiet = await spent(world)
        for number in range(many):
            world.write(f"new{number}.md", f"text {number}")
        new = await spent(world) - quiet
        assert new / many <= LEAST + 1.2
        if many > 1:  # one page of the list has a hundred states
            assert new / many <= 1.5


async def test_new_document_costs_the_documented_three_requests(world: DifyWorld) -> None:
    world.turn(vectorize=(0.0, 0.0))
    world.write("kept.md", "kept")
    await world.once()
    ops = ("create-field", "upload", "list", "detail", "describe", "base")
    before = {op: world.request_count(op) for op in ops}
    assert before["create-field"] == 1
    world.write("new.md", "a new file")
    await world.once()
    requests_before = {op: world.request_count(op) - before[op] for op in ops}
    assert requests_before == {
        "create-field": 0,
        "upload": 1,
        "list": 0,
        "detail": 1,
        "describe": 1,
        "base": 1,
    }


async def test_metadata_of_many_documents_is_sent_together(world: DifyWorld) -> None:
    world.turn(vectorize=(0.0, 0.0))
    for number in range(12):
        world.write(f"{number}.md", f"text {number}")
    await world.once()
    assert all(document.metadata for document in world.app.documents_of(HOME_ID))
    assert world.request_count("describe") <= 2


async def test_no_metadata_request_is_made_without_metadata(tmp_path: Path) -> None:
    async with DifyWorld(tmp_path, metadata="none").serving() as world:
        world.write("a.md", "---\ntags: red\n---\ntext")
        await world.once()
        assert world.statuses() == {"ready": 1}
        assert world.request_count("create-field") == world.request_count("describe") == 0
        assert world.app.violations == []


@long
async def test_changed_file_costs_at_most_five_requests(world: DifyWorld) -> None:
    for number in range(5):
        world.write(f"{number}.md", f"text {number}")
    await world.once()
    quiet = await spent(world)
    world.clock.now += 10
    world.write("1.md", "another text")
    assert await spent(world) - quiet <= 5
    assert world.request_count("delete") == 1


@long
async def test_unchanged_pass_checks_only_the_base(world: DifyWorld) -> None:
    for number in range(150):
        world.write(f"{number}.md", f"text {number}")
    await world.once()
    before = world.request_count("list")
    assert await spent(world) <= 3
    assert world.request_count("list") - before <= 2
