"""Counts the requests of a mirror. A document needs an upload, an attachment and a poll."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.services.openai import OpenaiWorld
from tests.share import long

MINIMUM = 3


@long
async def test_new_document_costs_one_base_check_extra(tmp_path: Path) -> None:
    async with OpenaiWorld(tmp_path, vectorize=(0.5, 0.5)).serving() as world:
        world.write_many(3)
        await world.once()
        world.server.requests.clear()
        world.write("a.md", "some text")
        await world.once()
        assert world.request_count() == MINIMUM + world.request_count("base") == MINIMUM + 1


async def test_new_document_is_not_polled_when_attach_returns_when_done(tmp_path: Path) -> None:
    async with OpenaiWorld(tmp_path, dialect="ogx").serving() as world:
        world.write_many(3)
        await world.once()
        world.server.requests.clear()
        world.write("a.md", "some text")
        await world.once()
        assert dict(world.server.requests.by_op) == {"base": 1, "readers": 1, "upload": 1, "attach": 1}


@long
@pytest.mark.parametrize("indexing", [0.5, 3.0])
async def test_many_new_documents_are_polled_together(tmp_path: Path, indexing: float) -> None:
    async with OpenaiWorld(tmp_path, vectorize=(indexing, indexing)).serving() as world:
        world.write_many(100)
        await world.once()
        assert world.request_count("upload") == world.request_count("attach") == 100
        assert world.request_count() <= 2.6 * 100


@long
async def test_changed_document_costs_five_and_the_base_check(tmp_path: Path) -> None:
    async with OpenaiWorld(tmp_path, vectorize=(0.5, 0.5)).serving() as world:
        world.write_many(20)
        await world.once()
        before = world.request_count()
        world.clock.now += 10
        world.write("f3.md", "another text")
        await world.once()
        assert world.request_count() - before == 5 + 1
        before = world.request_count()
        world.clock.now += 10
        for number in range(20):
            world.write(f"f{number}.md", f"text {number} once more")
        await world.once()
        assert world.request_count() - before <= 5 * 20


@long
async def test_changed_document_costs_five_at_ogx_too(tmp_path: Path) -> None:
    async with OpenaiWorld(tmp_path, dialect="ogx").serving() as world:
        world.write_many(20)
        world.write("f3.md", "a text that is as long as no other one")
        await world.once()
        world.server.requests.clear()
        world.clock.now += 10
        world.write("f3.md", "another text")
        await world.once()
        five = {"upload": 1, "attach": 1, "list": 1, "delete": 1, "delete-file": 1}
        assert dict(world.server.requests.by_op) == five | {"base": 1, "readers": 1}


@long
async def test_passages_of_equal_length_are_read_once_however_many_are_deleted(tmp_path: Path) -> None:
    async with OpenaiWorld(tmp_path, dialect="ogx").serving() as world:
        for number in range(10, 50):
            world.write(f"f{number}.md", f"text {number}")
        await world.once()
        going = [document["id"] for document in world.documents()][:20]
        world.server.requests.clear()
        async with world.running():
            assert await world.make_target().delete(going) == dict.fromkeys(going)
        assert world.request_count("text") == 40 and world.request_count("put-back") == 0


@long
async def test_unchanged_pass_sends_only_the_base_check(tmp_path: Path) -> None:
    async with OpenaiWorld(tmp_path).serving() as world:
        world.write_many(120)
        await world.once()
        world.server.requests.clear()
        await world.once()
        assert world.request_count() == world.request_count("base") == 1


async def test_rename_costs_two_requests_and_sends_nothing(tmp_path: Path) -> None:
    async with OpenaiWorld(tmp_path).serving() as world:
        world.write_many(3)
        await world.once()
        world.server.requests.clear()
        world.move("f1.md", "moved.md")
        await world.once()
        assert dict(world.server.requests.by_op) == {"base": 1, "status": 1, "rename": 1}
