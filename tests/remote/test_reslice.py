"""`reslice: in_place`: what serves is sliced anew where it lies, once a person said yes, or by an upload."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kbsync.core.model import UploadState
from kbsync.state.glance import Tx
from tests.remote.world import RemoteWorld, sha_of_folder

FILES = 6


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[RemoteWorld]:
    async with RemoteWorld(tmp_path, reslice="in_place", reembed_tries=1).serving() as world:
        world.write_many(FILES)
        await world.once()
        world.clock.now += 100
        world.server.requests.clear()
        yield world


def set_to(world: RemoteWorld, *only: str, **settings: Any) -> None:
    world.plan = replace(
        world.plan,
        settings=lambda path: settings if not only or path in only else {},
        fingerprint=f"{settings} {only}",
    )


async def let_go(world: RemoteWorld, **settings: Any) -> None:
    """Settings changed, a person was asked and said yes."""
    set_to(world, **settings)
    await world.once()
    assert world.statuses() == {"held": FILES} and world.asked("reslice") == world.asked("upload") == 0
    world.approve()


def types(world: RemoteWorld) -> set[int]:
    return {one["knowledge_type"] for one in world.documents()}


def serving(world: RemoteWorld) -> list[tuple[str, str, str]]:
    """(path, remote id, recipe) of what the state says serves."""

    def look(tx: Tx) -> list[tuple[str, str, str]]:
        record = tx.mirrors.named("docs")
        assert record is not None and record.binding is not None
        rows = tx.uploads.in_states(record.id, record.binding, (UploadState.SERVING,))
        return [(row.path or "", row.remote_id or "", row.recipe) for row in rows]

    found: list[tuple[str, str, str]] = world.glance(look)
    return found


async def test_documents_are_sliced_anew_where_they_lie_and_nothing_is_sent(world: RemoteWorld) -> None:
    before = {path: remote for path, remote, _ in serving(world)}
    await let_go(world, knowledge_type=2)
    await world.once()
    assert world.statuses() == {"ready": FILES} and types(world) == {2}
    assert world.asked("reslice") == FILES and world.asked("upload") == world.asked("delete") == 0
    assert {path: remote for path, remote, _ in serving(world)} == before
    assert {recipe for *_, recipe in serving(world)} == {"k2"}
    await world.once()
    assert world.asked("reslice") == FILES


async def test_a_limit_of_words_that_comes_or_goes_is_sent_as_no_cutting_changes_it(
    world: RemoteWorld,
) -> None:
    for settings, recipe in (({"word_num_limit": 2}, "k1!w2"), ({}, "k1")):
        world.server.requests.clear()
        await let_go(world, **settings)
        await world.once()
        await world.once()
        assert {one for *_, one in serving(world)} == {recipe}
        assert (world.asked("reslice"), world.asked("upload")) == (0, FILES)


RULES: dict[str, dict[str, Any]] = {
    "one.md": {"knowledge_type": 1},
    "two.docx": {"knowledge_type": 2},
    "three.csv": {"knowledge_type": 3},
    "five.txt": {"knowledge_type": 5, "custom_separator": ["##"], "sentence_size": 20},
    "six.pdf": {"knowledge_type": 6, "parse_image": True},
    "seven.xlsx": {"knowledge_type": 7},
}


async def test_every_way_of_slicing_reaches_the_vendor(world: RemoteWorld) -> None:
    for path in RULES:
        world.write(f"rules/{path}", f"text of {path}")
    world.plan = replace(world.plan, settings=lambda path: RULES.get(path.removeprefix("rules/"), {}))
    await world.once()
    found = {one["sent_name"].split("~")[0]: one["knowledge_type"] for one in world.documents()}
    number = {path.split(".")[0]: rule["knowledge_type"] for path, rule in RULES.items()}
    assert {name.removeprefix("rules__"): n for name, n in found.items() if "__" in name} == number
    assert {recipe.split(":")[0] for path, _, recipe in serving(world) if "/" in path} == {
        f"k{n}" for n in number.values()
    }


async def test_few_documents_ask_nobody(world: RemoteWorld) -> None:
    set_to(world, "f0.md", knowledge_type=2)
    await world.once()
    assert world.statuses() == {"ready": FILES} and world.asked("reslice") == 1


async def test_without_the_setting_a_new_upload_takes_its_place(world: RemoteWorld) -> None:
    world.settings["reslice"] = "upload"
    set_to(world, "f0.md", knowledge_type=2)
    await world.once()
    assert world.statuses() == {"ready": FILES}
    assert world.asked("reslice") == 0 and world.asked("upload") == 1


async def test_separators_and_size_go_along(world: RemoteWorld) -> None:
    set_to(world, "f0.md", knowledge_type=5, custom_separator=["##", "\n"], sentence_size=500)
    await world.once()
    [sliced] = [one for one in world.documents() if one["knowledge_type"] == 5]
    assert sliced["name"].startswith("f0") and world.asked("upload") == 0


async def test_the_old_status_right_after_the_answer_is_not_taken_for_the_new_one(world: RemoteWorld) -> None:
    world.turn(stale_stat=8, vectorize=[5, 5])
    set_to(world, "f0.md", knowledge_type=2)
    world.play("fails", op="reslice")
    await world.once()
    assert world.statuses() == {"ready": FILES}
    assert world.asked("upload") == 1, "the failure that came after the old status was not seen"


async def test_a_lost_answer_is_asked_for_again(world: RemoteWorld) -> None:
    world.play("lost-answer", op="reslice", times=2)
    set_to(world, "f0.md", knowledge_type=2)
    await world.once()
    assert world.statuses() == {"ready": FILES} and world.asked("upload") == 0
    assert ("f0.md", "k2") in {(path, recipe) for path, _, recipe in serving(world)}


async def test_a_failure_afterwards_has_a_fresh_upload_take_its_place(world: RemoteWorld) -> None:
    world.play("fails", op="reslice", args={"runs": 1})
    set_to(world, "f0.md", knowledge_type=2)
    await world.once()
    assert world.statuses() == {"ready": FILES} and world.bytes_by_path() == sha_of_folder(world)
    assert world.asked("upload") == 1 and world.asked("delete") == 1 and world.asked("reembed") == 0


@pytest.mark.parametrize("cut", ["404", "405"])
async def test_where_there_is_no_such_call_each_document_is_asked_for_once_and_uploads_do_it(
    world: RemoteWorld, cut: str
) -> None:
    if cut == "404":
        world.turn(not_offered=["reslice"])
    else:
        world.play("status", op="reslice", times=100, args={"status": 405})
    await let_go(world, knowledge_type=2)
    await world.once()
    assert world.statuses() == {"ready": FILES} and types(world) == {2}
    assert world.asked("reslice") == FILES  # within a minute one such answer proves nothing
    assert world.asked("upload") == FILES
    assert world.bytes_by_path() == sha_of_folder(world)


async def test_whether_images_are_read_is_changed_by_an_upload(world: RemoteWorld) -> None:
    set_to(world, "f0.md", parse_image=True)
    await world.once()
    assert world.statuses() == {"ready": FILES}
    assert world.asked("reslice") == 0 and world.asked("upload") == 1


async def test_a_file_edited_meanwhile_is_sent_and_its_document_deleted_once(world: RemoteWorld) -> None:
    world.turn(vectorize=[20, 20])
    await let_go(world, knowledge_type=2)
    async with world.running() as store:
        run = world.make_run(store)
        assert await run.begin()
        await run.tend()
        await world.clock.sleep(12)
        await run.end()
    world.write("f0.md", "edited")
    await world.once()
    assert world.statuses() == {"ready": FILES} and world.bytes_by_path() == sha_of_folder(world)
    assert world.asked("upload") == 1 and types(world) == {2}


async def test_a_setting_turned_back_in_the_midst_is_not_believed_without_slicing_back(
    world: RemoteWorld,
) -> None:
    world.turn(vectorize=[20, 20])
    plan = world.plan
    await let_go(world, knowledge_type=2)
    async with world.running() as store:
        run = world.make_run(store)
        assert await run.begin()
        await run.tend()
        await world.clock.sleep(12)
        await run.end()
    world.plan = plan
    await world.once()
    assert world.statuses() == {"held": FILES}, "slicing back costs as much"
    world.approve()
    await world.once()
    assert world.statuses() == {"ready": FILES} and types(world) == {1} and world.asked("upload") == 0
