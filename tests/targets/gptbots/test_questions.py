"""Tests documents of questions and answers: replaced, or changed in place if the config says so."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.remote.world import sha_of_folder
from tests.services.gptbots import GptbotsWorld
from tests.share import enumerated, long
from tests.targets.gptbots.test_life import ids_by_path, kill_pass

FILES = ("faq.csv", "more.csv")


@pytest.fixture
async def world(world: GptbotsWorld) -> GptbotsWorld:
    world.target_settings["qa_update"] = "in_place"
    world.settings = replace(world.settings, document_settings=lambda _: {"kind": "qa"}, fingerprint="qa")
    for name in FILES:
        world.write(name, f"question,answer\nwho,{name}\n")
    await world.once()
    assert {document["kind"] for document in world.documents()} == {"qa"}
    world.clock.now += 10
    world.server.requests.clear()
    return world


async def edited(world: GptbotsWorld, *names: str, text: str = "you") -> None:
    """Change these files and mirror them."""
    for name in names:
        world.write(name, f"question,answer\nwho,{text}\n")
    await world.once()


def effects(world: GptbotsWorld) -> list[str]:
    return [effect["effect"] for effect in world.app.journal()]


@long
async def test_questions_are_replaced_without_the_setting_and_the_old_one_is_deleted_last(
    world: GptbotsWorld,
) -> None:
    before = ids_by_path(world)
    world.target_settings["qa_update"] = "replace"
    await edited(world, "faq.csv")
    assert ids_by_path(world)["faq.csv"] != before["faq.csv"]
    assert effects(world)[2:] == ["stored", "deleted"]


@enumerated()
@pytest.mark.parametrize("kind", ["lost-answer", "code-after", "neither-list", "shape"])
async def test_lost_answer_leaves_one_document_with_the_new_bytes(world: GptbotsWorld, kind: str) -> None:
    before = ids_by_path(world)
    world.play(kind, op="update", args={"stored": True} if kind == "neither-list" else {})
    await edited(world, "faq.csv")
    assert ids_by_path(world) == before
    assert world.bytes_by_path(searchable=True) == sha_of_folder(world)
    assert world.statuses() == {"ready": 2}
    assert effects(world).count("stored") == 2


@enumerated()
@pytest.mark.parametrize("upon", [("PUT answer",), ("PUT answer", "commit after")], ids=str)
async def test_crash_during_a_change_leaves_one_document(world: GptbotsWorld, upon: tuple[str, ...]) -> None:
    before = ids_by_path(world)
    world.turn(vectorize=[20, 20], stale_status=60)
    world.write("faq.csv", "question,answer\nwho,you\n")
    await kill_pass(world, *upon)
    await world.once()
    assert ids_by_path(world) == before
    assert world.bytes_by_path(searchable=True) == sha_of_folder(world)
    assert effects(world)[2:] == ["updated"]


@long
@enumerated()
@pytest.mark.parametrize("settings", [{"header_row": 2}, {"chunk_token": 100}, {"splitter": ";"}])
async def test_changes_the_call_has_no_field_for_create_another_document(
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


@pytest.mark.parametrize("status", [404, 405, 501])
async def test_questions_are_replaced_when_the_update_call_is_missing(
    world: GptbotsWorld, status: int
) -> None:
    before = ids_by_path(world)
    if status == 404:
        world.turn(qa_updates=False)
    else:
        fields = {"status": status, "body": {"error": "no such call"}}
        world.play("status", op="update", times=0, effect=False, args=fields)
    await edited(world, "faq.csv")
    assert ids_by_path(world)["faq.csv"] != before["faq.csv"]
    assert world.bytes_by_path(searchable=True) == sha_of_folder(world)
    assert world.statuses() == {"ready": 2}
    assert effects(world)[2:] == ["stored", "deleted"]
