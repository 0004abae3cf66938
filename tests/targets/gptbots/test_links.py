"""Link files at GPTBots: files that the vendor fetches, under our marker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.remote.test_links import items, shortcut
from tests.targets.gptbots.world import GptbotsWorld

FILE = "https://example.org/files/prices.pdf"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[GptbotsWorld]:
    world = GptbotsWorld(tmp_path)
    async with world.serving():
        yield world


def fetched(world: GptbotsWorld) -> list[tuple[str, str]]:
    return [(one["address"], one["text"][:7]) for one in world.documents()]


async def test_a_link_file_is_fetched_and_changed_in_place(world: GptbotsWorld) -> None:
    world.write("prices.url", shortcut(FILE))
    world.write("a.md", "a file")
    await world.once()
    assert (FILE, "Visit 1") in fetched(world)
    before = items(world)["prices.url"].document_id
    world.write("prices.url", shortcut(f"{FILE}.docx"))
    await world.once()
    assert (f"{FILE}.docx", "Visit 1") in fetched(world)
    assert items(world)["prices.url"].document_id == before
    world.delete("prices.url")
    await world.once()
    assert [address for address, _ in fetched(world)] == [""]


@pytest.mark.parametrize("effect", [True, False])
async def test_a_lost_answer_is_found_by_the_marker(world: GptbotsWorld, effect: bool) -> None:
    world.write("prices.url", shortcut(FILE))
    world.play("lost-answer", op="add", effect=effect)
    await world.once()
    assert fetched(world) == [(FILE, "Visit 1")]


async def test_what_it_fetched_is_taken_over_where_the_state_was_lost(world: GptbotsWorld) -> None:
    world.write("prices.url", shortcut(FILE))
    await world.once()
    world.lose_state()
    await world.once()
    assert fetched(world) == [(FILE, "Visit 1")]
    assert world.asked("add") == 1


@pytest.mark.parametrize(
    ("text", "word"),
    [(shortcut("https://example.org/a-page"), "no pages"), (shortcut("ftp://example.org/a.pdf"), "http")],
)
async def test_pages_and_what_is_no_link_fail_with_the_reason(
    world: GptbotsWorld, text: str, word: str
) -> None:
    for number in range(6):  # more than it takes to blame a target
        world.write(f"{number}.url", text)
    world.write("a.md", "a file")
    await world.once()
    assert world.statuses() == {"failed": 6, "ready": 1}
    assert word in items(world)["0.url"].reason


async def test_a_file_is_fetched_again_in_place_when_a_person_asks(world: GptbotsWorld) -> None:
    world.write("prices.url", shortcut(FILE))
    await world.once()
    before = items(world)["prices.url"].document_id
    await world.once()
    assert fetched(world) == [(FILE, "Visit 1")]
    world.tell("retry", paths=["prices.url"])
    await world.once()
    assert fetched(world) == [(FILE, "Visit 2")]
    assert items(world)["prices.url"].document_id == before
    assert (world.asked("add"), world.asked("update")) == (1, 1)
