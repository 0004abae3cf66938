"""Link files at GPTBots: files that the vendor fetches, under our marker, and fetches anew in place."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.remote.test_links import items, shortcut
from tests.targets.gptbots.world import GptbotsWorld

FILE = "https://example.org/files/prices.pdf"
DAY = 86400.0


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


async def test_a_list_of_files_and_the_cutting_of_its_entries(world: GptbotsWorld) -> None:
    world.write("urls.yaml", f"- {{url: {FILE}, name: prices, chunk_token: 300}}\n- {FILE}.txt\n")
    await world.once()
    rules = {one["address"]: one["rules"] for one in world.documents()}
    assert rules == {FILE: {"chunk_token": 300}, f"{FILE}.txt": {"chunk_token": 600}}


async def test_a_file_is_fetched_anew_in_place(world: GptbotsWorld) -> None:
    world.plan = replace(world.plan, settings=lambda _path: {"refresh": "1d"}, fingerprint="1d")
    world.write("prices.url", shortcut(FILE))
    await world.once()
    before = items(world)["prices.url"].document_id
    world.clock.now += 2 * DAY
    await world.once()
    await world.once()
    assert fetched(world) == [(FILE, "Visit 2")]
    assert items(world)["prices.url"].document_id == before
    assert (world.asked("add"), world.asked("update")) == (1, 1)


async def test_a_document_that_is_gone_is_not_made_anew_by_a_fetch(world: GptbotsWorld) -> None:
    world.plan = replace(world.plan, settings=lambda _path: {"refresh": "1d"}, fingerprint="1d")
    world.write("prices.url", shortcut(FILE))
    world.write_many(8)
    await world.once()
    document = world.app._bot.shelf.documents[items(world)["prices.url"].document_id or ""]  # type: ignore[attr-defined]
    document.deleted_at = world.clock.wall()
    world.clock.now += 2 * DAY
    await world.once()
    assert (FILE, "Visit 2") not in fetched(world)
    assert "no longer" in items(world)["prices.url"].reason


def set_to(world: GptbotsWorld, **settings: Any) -> None:
    world.plan = replace(world.plan, settings=lambda _path: settings, fingerprint=str(settings))


@pytest.mark.parametrize("stale", [0.0, 5.0])
async def test_an_edit_in_the_middle_of_a_fetch_waits_for_its_end(world: GptbotsWorld, stale: float) -> None:
    world.turn(vectorize=[40.0, 40.0], stale_status=stale)
    set_to(world, refresh="1d")
    world.write("prices.url", shortcut(FILE))
    await world.once()
    document = items(world)["prices.url"].document_id
    world.clock.now += 2 * DAY
    async with world.running() as store:
        run = world.make_run(store)
        assert await run.begin()
        await run.compare()
        while not world.asked("update"):
            await world.clock.sleep(0.5)
        world.write("prices.url", shortcut(f"{FILE}.docx"))
        await world.clock.sleep(5.0)
        await run.compare()
        assert world.asked("update") == 1
        await world.clock.sleep(200.0)
        await run.end()
    assert world.app.violations == []
    assert world.asked("update") == 2
    assert fetched(world) == [(f"{FILE}.docx", "Visit 1")]
    assert items(world)["prices.url"].document_id == document


async def test_what_settings_would_change_is_not_changed_by_a_fetch(world: GptbotsWorld) -> None:
    set_to(world, refresh="1d")
    for number in range(4):
        world.write(f"{number}.url", shortcut(f"{FILE}.{number}.pdf"))
    await world.once()
    world.clock.now += 2 * DAY
    set_to(world, refresh="1d", chunk_token=300)
    for _ in range(4):
        await world.once()
        world.clock.now += DAY / 4
    assert world.statuses() == {"held": 4}
    assert world.asked("update") == 0
    world.approve()
    await world.once()
    assert [one["rules"] for one in world.documents()] == [{"chunk_token": 300}] * 4
    assert changes(world) == 4
    world.clock.now += 2 * DAY
    await world.once()
    assert changes(world) == 8


def changes(world: GptbotsWorld) -> int:
    """How often a document was changed; one request may change several."""
    return sum(one["effect"] == "updated" for one in world.app.journal())
