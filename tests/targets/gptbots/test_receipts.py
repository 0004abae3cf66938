"""Each file is told its own document, whatever the answer to a request with several of them calls them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.remote.world import sha_of_folder
from tests.targets.gptbots.world import GptbotsWorld

NAMESAKES = ("notes.md", "notes.md.txt", "notes.txt", "other.md")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[GptbotsWorld]:
    async with GptbotsWorld(tmp_path, concurrency=1).serving() as world:
        yield world


@pytest.mark.parametrize("told", ["as_sent", "bare"])
@pytest.mark.parametrize("lost", [None, *NAMESAKES])
@pytest.mark.parametrize("stored", [True, False])
async def test_no_two_files_are_told_one_document(
    world: GptbotsWorld, told: str, lost: str | None, stored: bool
) -> None:
    world.turn(receipts=told)
    for name in NAMESAKES:
        world.write(name, f"The text of {name}")
    if lost is not None:
        world.play("neither-list", op="add", match=f"*{lost}*", args={"name": lost, "stored": stored})
    await world.once()
    assert world.bytes_by_path(searchable=True) == sha_of_folder(world)
    assert (await world.verify()).ok
