"""Tests a base without marks, with late lists and lost responses: names and bytes prove what is ours."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from kbsync.contract.target import Listed
from kbsync.core.lifecycle import LATER_CHECKS
from kbsync.core.model import UploadState
from kbsync.engine.verify import repair_request
from kbsync.errors import Unsure
from tests.engine.auditing import audited, paths, verified
from tests.engine.world import World
from tests.memory.behaviour import FOREVER, Behaviour, Failure, Fault
from tests.memory.variants import ForgetfulMemory
from tests.share import enumerated, long


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path, ForgetfulMemory, list_lag=1.0, marks=False, poll_first=1.0, reembed_grace=5.0)
    world.base.behaviour = Behaviour(indexing_seconds=3.0)
    return world


# -- names ---------------------------------------------------------------------------------------------


@enumerated()
@pytest.mark.parametrize("policy", ["refuse", "replace", "allow"])
@pytest.mark.parametrize("style", ["tagged", "plain"])
async def test_reverting_to_earlier_bytes_reuses_no_name_in_use(
    world: World, policy: str, style: str
) -> None:
    world.settings = replace(world.settings, names=style)
    world.base.behaviour.equal_names = policy  # type: ignore[assignment]
    for text in ("one", "two", "one", "two"):
        world.write("a.md", text)
        world.clock.now += 100
        await world.ends_equal()
    assert len(world.base.documents) == 1


async def test_new_prefix_renames_each_document_without_a_gap(world: World) -> None:
    await world.mirrored(4)
    world.settings = replace(world.settings, prefix="new-")
    await world.ends_equal()
    assert len(world.base.documents) == 4
    assert all(document.name.startswith("new-") for document in world.base.documents.values())
    assert (world.run.counts["renamed"], world.run.counts["deleted"]) == (4, 0)
    assert world.run.halt is None
    puts = world.puts()
    await world.once()
    assert world.puts() == puts


async def test_renamed_file_keeps_its_document_when_configured(world: World) -> None:
    world.settings = replace(world.settings, renames="keep")
    await world.mirrored({"a.md": "one"})
    world.move("a.md", "b.md")
    await world.once()
    assert world.puts() == 1
    await world.mirrored({"a.md": "one"})  # the same name as the document of b.md
    assert world.puts() == 2
    assert len({document.name for document in world.base.documents.values()}) == 2


# -- lost answers --------------------------------------------------------------------------------------


@long
async def test_longer_lag_than_expected_costs_one_duplicate_and_is_remembered(world: World) -> None:
    world.base.behaviour.list_lag = 25.0
    world.base.faults.append(Fault("put", error=lambda: Unsure("reset"), effect=True))
    await world.mirrored({"a.md": "one"})
    world.clock.now += LATER_CHECKS[0] + 40
    await world.once()
    world.clock.now += 100
    await world.once()
    assert len(world.base.documents) == 1
    assert world.searchable_texts() == world.on_disk()
    world.base.faults.append(Fault("put", error=lambda: Unsure("reset"), effect=True))
    world.write("b.md", "two")
    puts = world.puts()
    began = world.clock.now
    await world.once()
    assert world.puts() == puts + 1
    assert world.clock.now - began < 80


async def test_lost_upload_that_appears_beside_another_is_a_duplicate(world: World) -> None:
    world.base.behaviour.list_lag = 25.0
    world.base.faults.append(Fault("put", error=lambda: Unsure("reset"), effect=True))
    await world.mirrored({"a.md": "one"})
    world.clock.now += 40
    findings = await verified(world)
    assert paths(findings) == {"duplicate": ["a.md"]}
    world.post_request("repair", **repair_request(findings))
    await world.once()
    assert (len(world.base.documents), world.searchable_texts()) == (1, world.on_disk())


async def test_plain_names_are_verified_by_bytes_after_a_lost_answer(world: World) -> None:
    world.settings = replace(world.settings, names="plain")
    await world.mirrored({"b.md": "so that something is mirrored"})
    foreign = world.base.add("a.md", b"HELLO")
    world.base.faults.append(Fault("put", error=lambda: Unsure("reset"), effect=True))
    await world.mirrored({"a.md": "hello"})
    assert world.puts() == 2
    assert foreign.remote_id in world.base.documents
    assert foreign.remote_id not in {row.remote_id for row in world.rows(UploadState.SERVING)}


@long
async def test_lost_upload_is_looked_up_ever_less_often(world: World) -> None:
    world.settings = replace(world.settings, deep_rescan=1e9)  # an audit reads the list as well
    world.base.faults.append(Fault("put", error=lambda: Unsure("reset"), effect=False))
    await world.mirrored({"a.md": "hello"})
    lists = world.requests("list")
    for _ in range(6 * 9):
        world.clock.now += 4 * 3600.0
        await world.once()
    assert world.states()[0] == "DROPPED"
    assert world.requests("list") - lists < 18


@long
async def test_pass_waits_for_unsure_uploads_however_long_a_list_takes(world: World) -> None:
    class SlowMemory(ForgetfulMemory):
        async def list(self) -> AsyncIterator[Listed]:
            async for listed in super().list():
                yield listed
                await world.clock.sleep(50.0)

    world.target_type = SlowMemory
    await world.mirrored(2)
    world.clock.now += 100.0
    world.base.faults.append(Fault("put", error=lambda: Unsure("reset"), effect=False))
    world.write("a.md")
    end = await world.once()
    assert end.complete and world.searchable_texts() == world.on_disk()


# -- state lost ----------------------------------------------------------------------------------------


async def test_file_changed_meanwhile_replaces_the_upload_where_names_are_proof(world: World) -> None:
    world.settings = replace(world.settings, adopt="name")
    await world.mirrored(3)
    world.lose_state()
    await world.mirrored({"f1.md": "other bytes"})
    assert world.searchable_texts() == world.on_disk()
    assert len(world.base.documents) == 3


@long
@pytest.mark.parametrize("kind", ["orphaned", "duplicate"])
@pytest.mark.parametrize("adopt", ["content", "name"])
async def test_repair_removes_the_upload_of_another_state_where_names_are_proof(
    world: World, adopt: str, kind: str
) -> None:
    world.settings = replace(world.settings, adopt=adopt)
    await world.mirrored(3)
    other = replace(world.base.searchable("f0.md")[0], remote_id="of another state")
    world.base._documents[other.remote_id] = other
    if kind == "orphaned":
        world.delete("f0.md")
    else:
        world.write("f0.md", "new words")
    await world.once()
    findings = await verified(world)
    assert paths(findings) == {kind: ["f0.md"]}
    world.post_request("repair", **(repair_request(findings) or {"base": findings.base}))
    await world.once()
    assert (other.remote_id in world.base.documents) is (adopt == "content")
    assert (await verified(world)).ok is (adopt == "name")


@pytest.mark.parametrize("adopt", ["content", "name"])
async def test_plain_names_are_adopted_by_their_bytes(world: World, adopt: str) -> None:
    world.settings = replace(world.settings, names="plain", adopt=adopt)
    await world.mirrored(3)
    world.lose_state()
    await world.mirrored({"f1.md": "text of F1"})  # the same length as before
    assert world.puts() == 4
    assert world.requests("digest") == 3
    assert world.on_disk()["f1.md"] == "text of F1"
    assert len(world.rows(UploadState.SERVING)) == 3
    assert len(world.base.documents) == (3 if adopt == "name" else 4)


@long
async def test_copy_of_a_document_with_a_too_long_path_is_a_duplicate(world: World) -> None:
    path = f"{'long' * 40}/{'path' * 30}.md"
    await world.mirrored({path: "hello"})
    [document] = world.base.documents.values()
    assert len(document.name) < len(path)
    copy = world.base.add(document.name, document.data, foreign=False)
    assert paths(await verified(world)) == {"duplicate": [path]}
    world.post_request("repair", **repair_request(await verified(world)))
    await world.once()
    assert copy.remote_id not in world.base.documents and world.searchable_texts() == world.on_disk()


@long
async def test_repair_leaves_one_of_two_equal_plain_named_documents_after_a_lost_state(world: World) -> None:
    world.settings = replace(world.settings, names="plain")
    await world.mirrored(3)
    world.base.add("f0.md", b"text of f0", foreign=False)
    theirs = world.base.add("f1.md", b"text of F1")
    world.lose_state()
    await world.once()
    world.post_request("repair", **repair_request(await verified(world)))
    await world.once()
    assert [document.name for document in world.base.documents.values()].count("f0.md") == 1
    assert theirs.remote_id in world.base.documents
    assert (world.puts(), len(world.rows(UploadState.SERVING))) == (3, 3)


async def repaired(world: World) -> None:
    world.post_request("repair", **repair_request(await verified(world)))
    await world.once()


async def audited_later(world: World) -> None:
    world.clock.now += 1000
    await audited(world)


@long
@pytest.mark.parametrize("mend", [repaired, audited_later])
@pytest.mark.parametrize(("twin", "puts"), [(b"text of f0", 3), (b"text of F0", 4)])
async def test_plain_named_twin_with_the_files_bytes_replaces_a_missing_document(
    world: World, mend: Callable[[World], Awaitable[None]], twin: bytes, puts: int
) -> None:
    world.settings = replace(world.settings, names="plain")
    await world.mirrored(3)
    world.base.add("f0.md", twin, foreign=False)
    world.lose_state()
    await world.once()
    [server] = [row for row in world.rows(UploadState.SERVING) if row.path == "f0.md"]
    world.base.lose(server.remote_id or "")
    await mend(world)
    assert world.puts() == puts
    texts = [document.data.decode() for document in world.base.searchable("f0.md")]
    assert texts == ["text of f0"] if puts == 3 else sorted(texts) == ["text of F0", "text of f0"]
    assert paths(await verified(world)) == ({} if puts == 3 else {"duplicate": ["f0.md"]})


# -- waiting for the index -----------------------------------------------------------------------------


@long
async def test_old_failure_still_listed_is_not_counted(world: World) -> None:
    world.base.behaviour.stale_after_reembed = 4.0
    world.base.behaviour.failures.append(Failure(lambda _s: True, times=1))
    await world.mirrored({"a.md": "hello"})
    assert (world.states(), world.requests("reembed"), world.puts()) == (["SERVING"], 1, 1)


@pytest.mark.parametrize(("not_offered", "uploads"), [((), 2), (("reembed",), 4)])
async def test_document_is_reindexed_then_resent_then_quarantined(
    world: World, not_offered: tuple[str, ...], uploads: int
) -> None:
    """If the target can't reindex, it gets new uploads instead."""
    world.base.behaviour.not_offered = not_offered
    world.base.behaviour.failures.append(Failure(lambda _s: True, times=FOREVER))
    await world.mirrored({"a.md": "hello"})
    assert not_offered or world.requests("reembed") == 3
    assert world.puts() == uploads
    assert "FAILED" in world.states()


@long
async def test_document_that_never_reports_ready_is_checked_by_search(world: World) -> None:
    world.limits = replace(world.limits, give_up=60.0)
    world.base.behaviour.never_says = "*"
    await world.mirrored({"a.md": "hello"})
    assert world.states() == ["SERVING"]
    assert world.puts() == 1
    assert world.requests("is_searchable") == 1


@long
@pytest.mark.parametrize(("not_offered", "cut_again"), [((), True), (("reslice",), False)])
async def test_quarantined_document_is_resliced_when_its_settings_change(
    world: World, not_offered: tuple[str, ...], cut_again: bool
) -> None:
    """If the target can't reslice, the document is sent again."""
    world.base.behaviour.not_offered = not_offered
    world.base.behaviour.failures.append(Failure(lambda _s: True, times=5))
    await world.mirrored({"a.md": "hello"})
    assert "FAILED" in world.states()
    puts = world.puts()
    world.settings = replace(
        world.settings, document_settings=lambda _path: {"chunk_size": 99}, fingerprint="other"
    )
    await world.once()
    assert world.puts() == puts + (not cut_again)
    assert world.states()[-1] == "SERVING"
    assert world.searchable_texts() == world.on_disk()
    assert len(world.base.documents) == 1


@long
async def test_lagging_count_is_not_an_emptied_base(world: World) -> None:
    await world.mirrored(20)
    world.base.behaviour.list_lag = 0.0
    describe = world.base.describe
    world.base.describe = lambda: replace(describe(), documents=0)  # type: ignore[method-assign]
    await world.once()
    assert world.run.halt is None


@pytest.mark.parametrize("replace_file", [Path.touch, partial(Path.symlink_to, target="b.md")])
async def test_document_of_a_file_that_is_skipped_since_the_state_was_lost_is_reported(
    world: World, replace_file: Callable[[Path], None]
) -> None:
    await world.mirrored({"a.md": "one", "b.md": "two"})
    world.lose_state()
    world.delete("a.md")
    replace_file(world.root / "a.md")
    world.clock.now += 100.0
    await world.once()
    findings = await verified(world)
    assert paths(findings) == {"orphaned": ["a.md"]}
    assert findings.orphaned[0].why.startswith("the file is skipped, but document ")


@pytest.mark.parametrize("ignored", ["d/", "a.md"])
async def test_document_of_a_file_that_is_excluded_since_the_state_was_lost_is_reported(
    world: World, ignored: str
) -> None:
    await world.mirrored({"d/a.md": "one", "b.md": "two"})
    world.lose_state()
    world.write(".kbsyncignore", ignored)
    world.clock.now += 100.0
    await world.once()
    findings = await verified(world)
    assert paths(findings) == {"orphaned": ["d/a.md"]}
    assert findings.orphaned[0].why.startswith("the file is not selected, but document ")
