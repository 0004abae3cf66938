"""Tests the mirror on GPTBots: folder and base end up equal, in place if possible, with few requests."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from kbsync.engine.verify import repair_request
from kbsync.once import run_once
from tests.crash.harness import Guillotine
from tests.remote.test_links import items, shortcut
from tests.remote.world import sha_of_folder
from tests.services.gptbots import GptbotsWorld
from tests.share import enumerated, long


async def mirrored(world: GptbotsWorld, n: int = 6) -> dict[str, str]:
    """Mirror `n` files and return ids by path."""
    await world.mirrored(n)
    assert world.bytes_by_path() == sha_of_folder(world)
    world.server.requests.clear()
    return ids_by_path(world)


def ids_by_path(world: GptbotsWorld) -> dict[str, str]:
    return {document["name"]: document["id"] for document in world.documents()}


async def kill_pass(world: GptbotsWorld, *upon: str) -> None:
    """Kill a pass here."""
    guillotine = Guillotine(upon=upon)
    await world.crash(guillotine)
    assert guillotine.fallen


@long
@enumerated()
@pytest.mark.parametrize("upon", [(), ("PUT answer",), ("PUT answer", "commit after")], ids=str)
async def test_earlier_available_status_is_not_mistaken_for_the_new_one(
    world: GptbotsWorld, upon: tuple[str, ...]
) -> None:
    """Nor after a crash."""
    world.turn(vectorize=[20, 20])
    await mirrored(world, 2)
    world.turn(stale_status=60)
    world.clock.now += 10
    world.write("f0.md", "changed")
    started_at = world.clock.now
    if upon:
        await kill_pass(world, *upon)
    await world.once()
    assert world.statuses() == {"ready": 2}
    assert world.bytes_by_path(searchable=True) == sha_of_folder(world)
    assert world.clock.now - started_at >= 20


@long
@pytest.mark.parametrize("seconds", [0, 30], ids=["searchable", "indexing"])
async def test_restored_state_sends_no_update_that_the_service_has(
    world: GptbotsWorld, seconds: float
) -> None:
    """Promise 7: the document's marker says which bytes it has."""
    before = await mirrored(world)
    shutil.copy(world.state / "state.db", world.state.parent / "backup.db")
    world.clock.now += 10
    world.write("f0.md", "changed")
    if seconds:
        world.turn(vectorize=[seconds, seconds])
        await kill_pass(world, "PUT answer", "commit after")
    else:
        await world.once()
    for file in world.state.glob("state.db*"):
        file.unlink()
    shutil.copy(world.state.parent / "backup.db", world.state / "state.db")
    world.server.requests.clear()
    await world.once()
    assert world.request_count("update") == world.request_count("add") == 0
    assert world.bytes_by_path(searchable=True) == sha_of_folder(world)
    assert (ids_by_path(world), world.statuses()) == (before, {"ready": 6})


@long
@pytest.mark.parametrize("args", [{"cut": True}, {}])
async def test_lost_marker_is_replaced_by_the_name_where_names_suffice(
    world: GptbotsWorld, args: dict[str, Any]
) -> None:
    await mirrored(world)
    world.lose_state()
    world.play("unmarked", op="list", times=0, args=args)
    world.settings = replace(world.settings, adopt="name")
    await world.once()
    assert world.statuses() == {"ready": 6}
    assert world.bytes_by_path() == sha_of_folder(world)


@long
async def test_foreign_document_with_its_own_address_is_not_ours_by_name(world: GptbotsWorld) -> None:
    """Not even if names are proof enough: it is neither adopted, replaced nor deleted."""
    foreign = world.plant("f0.md", "hello", source_url="https://intranet.example/f0.md")
    world.settings = replace(world.settings, adopt="name")
    await world.mirrored(8)
    assert foreign not in {row.remote_id for row in world.rows()}
    await world.mirrored({"f0.md": "changed"})
    world.delete("f0.md")
    await world.once()
    assert [document["id"] for document in world.documents() if document["name"] == "f0.md"] == [foreign]
    assert world.keeps_foreign()


@long
async def test_new_kind_is_a_new_document_and_the_old_one_is_deleted_last(world: GptbotsWorld) -> None:
    await world.mirrored({"faq.csv": "question,answer\nwho,me\n"})
    [old] = world.documents()
    world.settings = replace(world.settings, document_settings=lambda _: {"kind": "qa"}, fingerprint="qa")
    world.clock.now += 10
    await world.once()
    assert world.documents() == [old] and world.statuses() == {"held": 1}
    world.approve()
    await world.once()
    [new] = world.documents()
    assert (old["kind"], new["kind"]) == ("spreadsheet", "qa")
    assert [effect["effect"] for effect in world.app.journal()] == ["stored", "stored", "deleted"]


@long
async def test_new_slicing_method_is_an_update(world: GptbotsWorld) -> None:
    before = await mirrored(world, 2)
    world.settings = replace(world.settings, document_settings=lambda _: {"splitter": "\n"}, fingerprint="s")
    world.clock.now += 10
    await world.once()
    assert world.request_count("update") == 0 and world.statuses() == {"held": 2}
    world.approve()
    await world.once()
    assert ids_by_path(world) == before
    assert [document["rules"] for document in world.documents()] == [{"splitter": "\n"}] * 2


async def two_mirrors(world: GptbotsWorld) -> list[dict[str, Any]]:
    """Mirror the same files under b/ by one state; another, new one is about to begin with a/."""
    world.settings = replace(world.settings, prefix="b/")
    await world.mirrored(2)
    theirs = world.documents()
    world.lose_state()
    world.settings = replace(world.settings, prefix="a/")
    return theirs


@long
async def test_lost_upload_is_not_confused_with_the_same_upload_of_another_mirror(
    world: GptbotsWorld,
) -> None:
    theirs = await two_mirrors(world)
    world.play("lost-answer", op="add", effect=False)
    await world.ends_equal()
    await world.mirrored({path: f"another text of {path}" for path in ("f0.md", "f1.md")})
    assert [document for document in world.documents() if document in theirs] == theirs


async def test_same_upload_of_another_mirror_is_not_removed_as_a_copy(world: GptbotsWorld) -> None:
    theirs = await two_mirrors(world)
    await world.once()
    findings = await world.verify()
    assert (findings.duplicate, findings.foreign) == ((), 2)
    await world.repair()
    assert [document for document in world.documents() if document in theirs] == theirs


def other_prefix(world: GptbotsWorld) -> None:
    world.settings = replace(world.settings, prefix="other/")


def other_address(world: GptbotsWorld) -> None:
    world.target_settings["source_url_prefix"] = "https://docs.example"


@pytest.mark.parametrize("change", [other_prefix, other_address])
async def test_upload_in_flight_is_recognized_by_its_mark_after_a_change(
    world: GptbotsWorld, change: Callable[[GptbotsWorld], None]
) -> None:
    world.write_many(4)
    await kill_pass(world, "POST answer")
    ids = {document["id"] for document in world.documents()}
    assert ids
    change(world)
    await world.once()
    assert world.statuses() == {"ready": 4}
    assert {document["id"] for document in world.documents()} >= ids
    assert sorted([document["serving"]] for document in world.documents()) == sorted(
        sha_of_folder(world).values()
    )


@long
async def test_late_upload_with_an_earlier_prefix_is_found_and_removed(world: GptbotsWorld) -> None:
    world.play("late-effect", op="add", args={"after": 5000.0})
    await world.mirrored({"f0.md": "late"})
    world.settings = replace(world.settings, prefix="other/")
    await world.once()
    world.clock.now += 10_000.0
    findings = await world.verify()
    assert [finding.path for finding in findings.duplicate] == ["f0.md"]
    world.post_request("repair", **repair_request(findings))
    await world.ends_equal()
    assert len(world.documents()) == 1


async def test_service_with_a_lower_file_limit_gets_smaller_requests(world: GptbotsWorld) -> None:
    world.turn(most_files=3)
    world.write_many(10)
    async with world.running() as store:
        await run_once(world.make_run(store))
    assert world.statuses() == {"ready": 10}
    assert world.bytes_by_path() == sha_of_folder(world)


# ---- link files: the service fetches the linked page, under our marker


FILE = "https://example.org/files/prices.pdf"


def fetched(world: GptbotsWorld) -> list[tuple[str, str]]:
    return [(document["address"], document["text"][:7]) for document in world.documents()]


async def test_link_file_is_fetched_and_updated_in_place(world: GptbotsWorld) -> None:
    await world.mirrored({"prices.url": shortcut(FILE), "a.md": "a file"})
    assert (FILE, "Visit 1") in fetched(world)
    before = items(world)["prices.url"].document_id
    await world.mirrored({"prices.url": shortcut(f"{FILE}.docx")})
    assert (f"{FILE}.docx", "Visit 1") in fetched(world)
    assert items(world)["prices.url"].document_id == before
    world.delete("prices.url")
    await world.once()
    assert [address for address, _ in fetched(world)] == [""]


@pytest.mark.parametrize("effect", [True, False])
async def test_lost_answer_is_found_by_the_marker(world: GptbotsWorld, effect: bool) -> None:
    world.write("prices.url", shortcut(FILE))
    world.play("lost-answer", op="add", effect=effect)
    await world.once()
    assert fetched(world) == [(FILE, "Visit 1")]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (shortcut("https://example.org/a-page"), "not web pages"),
        (shortcut("ftp://example.org/a.pdf"), "http"),
    ],
)
async def test_pages_and_invalid_links_fail_with_the_reason(
    world: GptbotsWorld, text: str, reason: str
) -> None:
    for number in range(6):  # more than the target needs to be blamed
        world.write(f"{number}.url", text)
    await world.mirrored({"a.md": "a file"})
    assert world.statuses() == {"failed": 6, "ready": 1}
    assert reason in items(world)["0.url"].reason


@long
async def test_file_is_refetched_in_place_on_request(world: GptbotsWorld) -> None:
    await world.mirrored({"prices.url": shortcut(FILE)})
    before = items(world)["prices.url"].document_id
    await world.once()
    assert fetched(world) == [(FILE, "Visit 1")]
    world.post_request("retry", paths=["prices.url"])
    await world.once()
    assert fetched(world) == [(FILE, "Visit 2")]
    assert items(world)["prices.url"].document_id == before
    assert (world.request_count("add"), world.request_count("update")) == (1, 1)


@pytest.mark.parametrize("was_there", [False, True])
async def test_document_refused_without_a_reason_is_sent_again_alone(
    world: GptbotsWorld, was_there: bool
) -> None:
    world.target_settings["concurrency"] = 1
    world.write_many(4)
    if was_there:
        await world.once()
        world.clock.now += 10
        for number in range(4):
            world.write(f"f{number}.md", f"changed {number}")
    world.play("failed-item", op="[au]*", args={"name": "f[02]*"})
    world.server.requests.clear()
    await world.once()
    assert world.statuses() == {"ready": 4}
    assert world.bytes_by_path(searchable=True) == sha_of_folder(world)
    assert world.request_count("update" if was_there else "add") == 3


@long
async def test_whole_request_may_be_refused_without_a_reason(world: GptbotsWorld) -> None:
    """The service has a temporary problem: neither the documents nor the settings are to blame."""
    world.target_settings["concurrency"] = 1
    world.write_many(8)
    world.play("failed-item", op="add", args={"name": "*"})
    await world.once()
    assert world.statuses() == {"ready": 8}
    assert world.request_count("add") == 9


@long
async def test_document_always_refused_without_a_reason_fails_after_some_attempts(
    world: GptbotsWorld,
) -> None:
    world.target_settings["concurrency"] = 1
    world.write_many(4)
    world.play("failed-item", op="add", times=0, args={"name": "f0*"})
    began = world.clock.now
    await world.once()
    assert world.statuses() == {"ready": 3, "failed": 1}
    assert "gave no reason" in items(world)["f0.md"].reason
    assert world.request_count("add") == 2
    assert world.clock.now - began > 1, "without a pause between the tries"
    await world.once()
    assert world.request_count("add") == 2


@long
async def test_many_changed_texts_are_sent_in_few_requests(world: GptbotsWorld) -> None:
    """Two hundred are documented; only sending shows how many the service accepts."""
    world.target_settings["concurrency"] = 1
    await mirrored(world, 100)
    for most in (2, 4):
        world.clock.now += 10
        for number in range(100):
            world.write(f"f{number}.md", f"changed {number} {most}")
        world.server.requests.clear()
        await world.once()
        assert world.statuses() == {"ready": 100}
        assert world.bytes_by_path(searchable=True) == sha_of_folder(world)
        assert world.request_count("update") <= most
        world.play("code", op="update", skip=1, args={"code": "40332"})  # fifty are too many


@pytest.mark.parametrize("kind", ["unauthorized", "code"])
async def test_no_further_request_follows_one_that_halts_the_mirror(world: GptbotsWorld, kind: str) -> None:
    world.target_settings["concurrency"] = 1
    world.write_many(30)
    world.play(kind, op="add", times=0, args={"message": "insufficient credits"} if kind == "code" else {})
    await world.once()
    assert world.request_count("add") == 1
    world.server.faults.clear()
    world.post_request("retry")
    await world.once()
    assert world.statuses() == {"ready": 30}
    assert world.request_count("add") == 4
