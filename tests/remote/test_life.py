"""Tests the mirror of an asynchronous, forgetful, sometimes lying service: folder and base end up equal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kbsync.core.model import UploadState
from tests.remote.world import RemoteWorld, sha_of_folder
from tests.share import enumerated, long


async def mirrored(world: RemoteWorld, n: int = 6) -> None:
    await world.mirrored(n)
    assert world.bytes_by_path() == sha_of_folder(world)
    world.server.requests.clear()


# -- requests ------------------------------------------------------------------------------------------


@long
@pytest.mark.parametrize(("cap", "most"), [(0, 1.3), (10, 1.6)])
async def test_first_mirror_costs_little_more_than_its_uploads(
    world: RemoteWorld, cap: int, most: float
) -> None:
    world.turn(page_cap=cap, vectorize=[0, 0])
    await world.mirrored(400)
    assert world.statuses() == {"ready": 400}
    assert world.request_count("upload") == 400
    assert world.request_count() <= most * 400
    assert world.server.requests.in_flight_max <= world.target_settings["concurrency"]


# -- replacing ----------------------------------------------------------------------------------------


@long
async def test_failed_new_version_leaves_the_old_one(world: RemoteWorld) -> None:
    await mirrored(world, 6)
    world.clock.now += 10
    world.write("f1.md", "changed for the worse")
    world.play("fails", op="upload", match="f1*", times=0, args={"runs": 0, "text": "无法解析"})
    end = await world.once()
    assert end.complete
    assert world.statuses() == {"ready": 5, "failed": 1}
    rows = [row for row in world.rows() if row.path == "f1.md"]
    assert any(row.state.serves for row in rows)
    assert any("无法解析" in row.reason for row in rows)
    assert world.request_count("upload") == 2
    assert world.request_count("reembed") == 3
    world.server.faults.clear()
    world.post_request("retry")
    await world.once()
    assert world.bytes_by_path() == sha_of_folder(world)


# -- lost state ----------------------------------------------------------------------------------------


@long
@enumerated()
@pytest.mark.parametrize("style", ["tagged", "plain"])
@pytest.mark.parametrize("cap", [0, 10])
async def test_lost_state_resends_nothing_that_is_already_right(
    world: RemoteWorld, style: str, cap: int
) -> None:
    world.settings = replace(world.settings, names=style)
    world.turn(page_cap=cap)
    world.write("手册/退款 流程.md", "chinese")
    await mirrored(world, 25)
    world.lose_state()
    await world.once()
    assert world.request_count("upload") == 0
    assert world.request_count("file") == (26 if style == "plain" else 0)
    assert world.statuses() == {"ready": 26}


@long
async def test_lost_state_and_unreadable_address_cost_a_duplicate_found_by_verify(world: RemoteWorld) -> None:
    world.settings = replace(world.settings, names="plain")
    await mirrored(world, 3)
    world.lose_state()
    world.turn(not_offered=["url"])
    await world.once()
    assert world.request_count("upload") == 3
    assert world.statuses() == {"ready": 3}


# -- lost answers --------------------------------------------------------------------------------------


@enumerated()
@pytest.mark.parametrize("lag", [0, 8, 30])
async def test_losing_every_answer_still_creates_one_document_per_file(world: RemoteWorld, lag: int) -> None:
    world.turn(list_lag=lag)
    world.play("lost-answer", op="upload", times=5)
    await world.mirrored(5)
    for _ in range(3):
        world.clock.now += 100
        await world.once()
    assert world.bytes_by_path() == sha_of_folder(world)
    assert len(world.effects("stored")) == (5 if lag < 15 else 10)


# -- problems only a person can fix --------------------------------------------------------------------


def unwelcome(world: RemoteWorld) -> None:
    world.play("unauthorized", op="upload", times=0)


def lose_base_during_run(world: RemoteWorld) -> None:
    world.play("base-gone", op="upload", times=0)
    world.play("base-gone", op="base", times=0, skip=1)


def delete_base(form: str) -> Callable[[RemoteWorld], None]:
    return lambda world: world.turn(base="deleted", deleted_base=form, deleted_detail=form)


@enumerated()
@pytest.mark.parametrize(
    ("problem", "halt", "uploads"),
    [
        (unwelcome, "credentials", 5),
        (lambda world: world.turn(key_revoked=True), "credentials", 0),
        (lambda world: world.turn(money_gone=True), "quota", 5),
        *((delete_base(form), "knowledge-base-missing", 0) for form in ("code", "null")),
        (lose_base_during_run, "knowledge-base-missing", 5),
    ],
)
async def test_user_fixable_problem_halts_immediately_and_loses_nothing(
    world: RemoteWorld, problem: Callable[[RemoteWorld], None], halt: str, uploads: int
) -> None:
    await mirrored(world)
    world.write_many(5, "new")
    world.delete("f1.md")
    problem(world)
    for _ in range(2):
        await world.once()
        assert world.halted == halt
    assert world.run.halt is not None
    assert halt != "credentials" or "api_key" in world.run.halt.detail + world.run.halt.fix
    assert world.request_count("upload") <= 2 * uploads  # once for each document in each pass
    assert uploads or world.request_count("delete") == 0
    assert len(world.effects("deleted")) <= 1
    world.server.faults.clear()
    world.turn(key_revoked=False, money_gone=False, base="present")
    await world.once()
    assert world.halted == ""
    assert world.bytes_by_path() == sha_of_folder(world)


async def test_file_exceeding_the_remaining_capacity_is_not_sent(world: RemoteWorld) -> None:
    await mirrored(world)
    world.turn(capacity_bytes=1000)
    await world.mirrored({"new.md": "x" * 2000})
    assert world.halted == "quota"
    assert world.run.halt is not None
    assert "new" in world.run.halt.detail
    assert world.request_count("upload") == 0
    world.turn(capacity_bytes=100_000)
    await world.once()
    assert world.bytes_by_path() == sha_of_folder(world)


@long
async def test_vectorizing_stopped_by_capacity_uses_no_attempt(world: RemoteWorld) -> None:
    world.turn(not_offered=["capacity"], capacity_bytes=40)
    await world.mirrored(6)
    assert world.halted == "quota"
    uploads = world.request_count("upload")
    world.turn(capacity_bytes=100_000)
    for _ in range(3):
        await world.once()
    assert world.bytes_by_path() == sha_of_folder(world)
    assert world.request_count("upload") == uploads or uploads < 6
    assert all(row.attempts <= 1 for row in world.rows())


@long
async def test_outage_of_an_hour_loses_nothing(world: RemoteWorld) -> None:
    await mirrored(world)
    world.write("new.md")
    world.delete("f1.md")
    world.play("status", op="*", times=0, effect=False, args={"status": 503})
    for _ in range(4):
        end = await world.once()
        assert end.problem and not end.complete
        world.clock.now += 900
    assert world.request_count() < 200
    world.server.faults.clear()
    assert (await world.once()).complete
    assert world.bytes_by_path() == sha_of_folder(world)


@long
async def test_documents_never_vectorized_are_quarantined(tmp_path: Path) -> None:
    async with RemoteWorld(tmp_path, give_up=60.0, reembed_tries=1).serving() as world:
        world.turn(zero_balance=True)
        await world.mirrored({"a.md": "hello"})
    assert world.statuses() == {"failed": 1}
    assert world.request_count("retrieve") >= 1
    assert world.request_count("upload") <= 3


# -- others --------------------------------------------------------------------------------------------


@enumerated()
@pytest.mark.parametrize("policy", ["refuse", "replace", "allow"])
async def test_foreign_document_keeps_its_name(world: RemoteWorld, policy: str) -> None:
    world.turn(equal_names=policy)
    await mirrored(world, 1)
    [ours] = [document["sent_name"] for document in world.documents()]
    world.delete("f0.md")
    await world.mirrored({"keep.md": "hello"})
    foreign = world.plant(ours, "his own")
    await world.mirrored({"f0.md": "text of f0"})  # the bytes that give this same name
    assert world.statuses() == {"ready": 2}
    if policy != "replace":
        assert world.keeps_foreign()
        assert foreign not in {row.remote_id for row in world.rows()}


@long
async def test_service_that_finishes_nothing_is_blamed_instead_of_documents(tmp_path: Path) -> None:
    async with RemoteWorld(tmp_path, give_up=60.0, reembed_tries=1).serving() as world:
        world.turn(zero_balance=True)
        await world.mirrored(8)
        assert world.halted == "target-stuck"
        assert world.request_count("upload") == 8
        assert "failed" not in world.statuses()
        world.turn(zero_balance=False)
        for _ in range(4):
            await world.once()
            world.clock.now += 60
        assert world.halted == ""
        assert world.bytes_by_path() == sha_of_folder(world)


@long
async def test_documents_refused_because_of_the_target_are_sent_after_the_fix(world: RemoteWorld) -> None:
    world.play("failed-info", op="upload", times=5, args={"reason": "服务配置错误"})
    await world.mirrored(8)
    assert world.halted == "target-rejects"
    assert "failed" not in world.statuses()
    await world.once()
    assert world.bytes_by_path() == sha_of_folder(world)


# -- slicing: sent with the upload; another slicing needs another upload
# --------------------------------------


RULES: dict[str, dict[str, Any]] = {
    "one.md": {"knowledge_type": 1},
    "two.docx": {"knowledge_type": 2},
    "three.csv": {"knowledge_type": 3},
    "five.txt": {"knowledge_type": 5, "custom_separator": ["##"], "sentence_size": 20},
    "six.pdf": {"knowledge_type": 6, "parse_image": True},
    "seven.xlsx": {"knowledge_type": 7},
}


async def test_every_slicing_method_reaches_the_service(world: RemoteWorld) -> None:
    for path in RULES:
        world.write(path, f"text of {path}")
    world.settings = replace(world.settings, document_settings=lambda path: RULES.get(path, {}))
    await world.once()
    types_by_path = {path: rule["knowledge_type"] for path, rule in RULES.items()}
    assert {
        world.path_of(document): document["knowledge_type"] for document in world.documents()
    } == types_by_path
    recipes = {row.path: row.recipe.split(":")[0] for row in world.rows(UploadState.SERVING)}
    assert recipes == {path: f"k{number}" for path, number in types_by_path.items()}


async def test_new_slicing_method_is_a_new_upload(world: RemoteWorld) -> None:
    await mirrored(world)
    rules: dict[str, dict[str, Any]] = {"f0.md": {"knowledge_type": 2}}
    world.settings = replace(
        world.settings, document_settings=lambda path: rules.get(path, {}), fingerprint="other"
    )
    await world.once()
    assert world.statuses() == {"ready": 6}
    assert {document["knowledge_type"] for document in world.documents()} == {1, 2}
    assert (
        world.request_count("reslice") == 0
        and world.request_count("upload") == 1
        and world.request_count("delete") == 1
    )
