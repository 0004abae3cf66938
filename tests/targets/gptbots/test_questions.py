"""Tests documents of questions and answers, which a change replaces."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.services.gptbots import GptbotsWorld
from tests.share import enumerated, long
from tests.targets.gptbots.test_life import ids_by_path

FILES = ("faq.csv", "more.csv")


@pytest.fixture
async def world(world: GptbotsWorld) -> GptbotsWorld:
    world.settings = replace(world.settings, document_settings=lambda _: {"kind": "qa"}, fingerprint="qa")
    await world.mirrored({name: f"question,answer\nwho,{name}\n" for name in FILES})
    assert {document["kind"] for document in world.documents()} == {"qa"}
    world.clock.now += 10
    world.server.requests.clear()
    return world


async def edited(world: GptbotsWorld, *names: str, text: str = "you") -> None:
    """Change these files and mirror them."""
    await world.mirrored(dict.fromkeys(names, f"question,answer\nwho,{text}\n"))


def effects(world: GptbotsWorld) -> list[str]:
    return [effect["effect"] for effect in world.app.journal()]


@long
async def test_questions_are_replaced_and_the_old_one_is_deleted_last(world: GptbotsWorld) -> None:
    before = ids_by_path(world)
    await edited(world, "faq.csv")
    assert ids_by_path(world)["faq.csv"] != before["faq.csv"]
    assert effects(world)[2:] == ["stored", "deleted"]


@long
@enumerated()
@pytest.mark.parametrize("settings", [{"header_row": 2}, {"chunk_token": 100}, {"splitter": ";"}])
async def test_changed_settings_create_another_document(
    world: GptbotsWorld, settings: dict[str, Any]
) -> None:
    before = ids_by_path(world)
    world.settings = replace(
        world.settings, document_settings=lambda _: {"kind": "qa", **settings}, fingerprint="other"
    )
    await world.once()
    world.approve()
    await world.once()
    middle = ids_by_path(world)
    assert not set(before.values()) & set(middle.values())
    await edited(world, "faq.csv")
    assert ids_by_path(world)["faq.csv"] != middle["faq.csv"]
    assert world.request_count("update") == 0
    assert all(settings.items() <= document["rules"].items() for document in world.documents())
