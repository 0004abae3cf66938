"""Tests `deletions: never`: documents of deleted files stay, and all other work continues."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kbsync.core.model import Presence, UploadState
from kbsync.engine.settings import DeletionLimits
from kbsync.engine.status import mirror_status
from kbsync.engine.verify import repair_request
from kbsync.errors import Rejected, TargetError, Unavailable, Unsure
from kbsync.source.hints import Hint, HintKind
from kbsync.state.read_only import Tx
from tests.crash.harness import Guillotine
from tests.engine.auditing import audited, paths, verified
from tests.engine.machine import Obstacles
from tests.engine.read_only_commands import explained, once_for, planned, plans_nothing
from tests.engine.test_forget import forgotten
from tests.engine.world import World
from tests.memory.behaviour import Behaviour, Fault
from tests.memory.target import MemoryTarget
from tests.memory.variants import RenamingMemory, UpdatingMemory
from tests.share import boundaries, enumerated, in_parts, long

NEVER, ASKS = DeletionLimits(never=True), DeletionLimits()


@pytest.fixture(params=[MemoryTarget, RenamingMemory, UpdatingMemory])
def world(tmp_path: Path, request: pytest.FixtureRequest) -> World:
    world = World(tmp_path, request.param)
    world.settings = replace(world.settings, deletions=NEVER)
    return world


def empty(world: World, path: str) -> None:
    world.write(path, "")


def exclude(world: World, path: str) -> None:
    world.settings = replace(world.settings, exclude=(path,))


def delete(world: World, path: str) -> None:
    world.delete(path)


def unready_items(world: World) -> dict[str, tuple[str, str]]:
    """Return state and reason of each document that isn't ready."""

    def read_items(tx: Tx) -> dict[str, tuple[str, str]]:
        record = tx.mirrors.named("docs")
        assert record is not None
        items = mirror_status(tx, record, now=0.0, documents=True, command_line=str).items or ()
        return {item.path: (item.state.word, item.reason) for item in items if item.state.word != "ready"}

    results: dict[str, tuple[str, str]] = world.read_state(read_items)
    return results


GOING: list[tuple[Callable[[World, str], None], str]] = [
    (delete, "the file is gone"),
    (exclude, "the file is no longer selected"),
    (empty, "the file is empty now"),
]


@enumerated()
@pytest.mark.parametrize(("goes", "why"), GOING)
async def test_document_of_a_deleted_file_is_kept_and_reported_as_kept(
    world: World, goes: Callable[[World, str], None], why: str
) -> None:
    await world.mirrored(4)
    goes(world, "f1.md")
    plan = await planned(world)
    assert plan.to_json()["keep"] == ["f1.md"] and plans_nothing(plan)
    await world.once()
    assert world.searchable_texts()["f1.md"] == "text of f1"
    assert world.statuses() == {"ready": 3, "kept": 1}
    assert unready_items(world) == {"f1.md": ("kept", f"{why}; its document is kept")}
    findings = await verified(world)
    assert findings.ok and findings.to_json()["kept"] == ["f1.md"] and repair_request(findings) == {}
    assert findings.kept is not None and findings.kept[0].why == f"{why}; its document is kept"
    assert (await planned(world)).to_json()["keep"] == ["f1.md"]
    explanation = await explained(world, "f1.md")
    assert (
        explanation.is_found
        and "the document is kept because the config says `deletions: never`" in explanation.answer
    )
    assert world.base.effects_of("delete") == []


async def test_nothing_is_ever_held(world: World) -> None:
    await world.mirrored(8)
    world.delete_many(8)
    await world.once()
    assert world.run.halt is None
    assert world.statuses() == {"kept": 8} and len(world.searchable_texts()) == 8
    assert world.read_state(lambda tx: tx.holds.current(world.run.id)) == []
    assert (await audited(world)).repaired == 0
    assert len(world.searchable_texts()) == 8


async def test_changes_and_renames_still_replace(world: World) -> None:
    await world.mirrored(3)
    world.write("f0.md", "other text")
    world.move("f1.md", "sub/moved.md")
    await world.ends_equal()
    assert world.statuses() == {"ready": 3}


async def test_restored_file_uploads_nothing_unless_its_bytes_changed(world: World) -> None:
    await world.mirrored(3)
    world.delete("f0.md", "f1.md")
    await world.once()
    sent = len(world.base.effects)
    await world.mirrored({"f0.md": "text of f0"})
    assert len(world.base.effects) == sent
    await world.mirrored({"f1.md": "other text"})
    assert world.searchable_texts() == world.on_disk()
    assert world.statuses() == {"ready": 3}


async def test_document_in_flight_finishes_and_is_kept(world: World) -> None:
    await world.mirrored(2)
    world.base.behaviour = Behaviour(indexing_seconds=60.0, answers_ready=False)
    world.write("new.md", "a new text")
    world.write("f0.md", "other text")
    await once_for(world, 10.0)
    world.delete("new.md", "f0.md")
    await world.once()
    assert world.searchable_texts()["new.md"] == "a new text"
    assert world.searchable_texts()["f0.md"] == "other text"
    assert world.statuses() == {"ready": 1, "kept": 2}


async def test_file_deleted_before_sending_has_no_document(world: World) -> None:
    await world.mirrored(2)
    world.base.faults.append(Fault("put", error=lambda: Unavailable("busy"), times=10_000))
    world.write("new.md", "a new text")
    await once_for(world, 30.0)
    world.base.faults.clear()
    world.delete("new.md")
    await world.once()
    assert world.statuses() == {"ready": 2}


@enumerated()
async def test_kept_documents_need_approval_when_deletions_are_turned_on(world: World) -> None:
    """Even one document of many needs approval: it may have been kept for years."""
    await world.mirrored(12)
    world.delete("f0.md", "f1.md")
    await world.once()
    world.settings = replace(world.settings, deletions=ASKS)
    assert (await planned(world)).to_json()["held"] == ["f0.md", "f1.md"]
    assert "keep" not in (await planned(world)).to_json()
    await world.once()
    assert world.statuses() == {"ready": 10, "held": 2} and len(world.searchable_texts()) == 12
    world.write("f1.md", "text of f1")
    world.approve()
    await world.ends_equal()
    world.delete("f2.md")
    await world.ends_equal()


@long
@enumerated()
@in_parts
async def test_kept_documents_need_approval_wherever_the_config_change_is_interrupted(
    tmp_path: Path, part: int
) -> None:
    for boundary in boundaries(part):
        guillotine, folder = Guillotine(boundary), tmp_path / str(boundary)
        folder.mkdir()
        world = World(folder)
        world.settings = replace(world.settings, deletions=NEVER)
        await world.mirrored(4)
        world.delete("f0.md")
        await world.once()
        world.settings = replace(world.settings, deletions=ASKS)
        await world.crash(guillotine)
        await world.once()
        assert world.statuses() == {"ready": 3, "held": 1}, guillotine.passed
        assert len(world.searchable_texts()) == 4
        world.settings = replace(world.settings, deletions=NEVER)
        await world.once()
        assert world.statuses() == {"ready": 3, "kept": 1}, guillotine.passed
        if not guillotine.fallen:
            break
    assert boundary > 8


async def test_held_deletions_are_kept_from_then_on(world: World) -> None:
    world.settings = replace(world.settings, deletions=ASKS)
    await world.mirrored(8)
    world.delete_many(8)
    await world.once()
    assert world.statuses() == {"held": 8}
    world.settings = replace(world.settings, deletions=NEVER)
    await world.once()
    assert world.statuses() == {"kept": 8} and len(world.searchable_texts()) == 8
    assert world.read_state(lambda tx: tx.holds.current(world.run.id)) == []


async def test_unsent_deletion_is_cancelled(world: World) -> None:
    world.settings = replace(world.settings, deletions=ASKS)
    await world.mirrored(12)
    row = world.row_of("f0.md")
    world.delete("f0.md")
    going = replace(row, state=UploadState.RETIRING, attempts=0, due_at=0.0)
    world.change(lambda tx: tx.uploads.save(going))
    world.settings = replace(world.settings, deletions=NEVER)
    await world.once()
    assert world.statuses() == {"ready": 11, "kept": 1} and "f0.md" in world.searchable_texts()


REFUSALS = [Unavailable("busy"), Rejected("not now")]


async def half_deleted(world: World, error: TargetError, *, effect: bool = False) -> None:
    """Delete two of twelve files; the deletions of their documents got no confirmation."""
    world.settings = replace(world.settings, deletions=ASKS)
    await world.mirrored(12)
    world.base.faults.append(Fault("delete", error=lambda: error, times=10_000, effect=effect))
    world.delete("f0.md", "f1.md")
    await world.once()
    world.base.faults.clear()
    assert world.states().count("RETIRING") == 2
    world.settings = replace(world.settings, deletions=NEVER)


@long
@enumerated()
@pytest.mark.parametrize("error", REFUSALS)
async def test_document_that_survived_a_delete_request_is_kept(world: World, error: TargetError) -> None:
    await half_deleted(world, error)
    plan = (await planned(world)).to_json()
    assert (plan["delete"], plan["keep"]) == ([], ["f0.md", "f1.md"])
    world.clock.now += 7200.0
    await world.once()
    assert world.statuses() == {"ready": 10, "kept": 2} and len(world.searchable_texts()) == 12
    assert world.base.effects_of("delete") == []
    assert (await verified(world)).ok


@long
async def test_document_removed_by_an_unanswered_delete_is_not_kept(world: World) -> None:
    await half_deleted(world, Unsure("no answer"), effect=True)
    world.clock.now += 7200.0
    await world.once()
    assert world.statuses() == {"ready": 10} and world.searchable_texts() == world.on_disk()


@long
@enumerated()
async def test_no_delete_is_repeated_while_the_documents_presence_is_unknown(world: World) -> None:
    await half_deleted(world, Unavailable("busy"))
    world.base.faults.append(Fault("status", times=10_000, is_false=True))
    world.clock.now += 7200.0
    await world.once()
    assert world.base.effects_of("delete") == [] and len(world.searchable_texts()) == 12
    world.base.faults.clear()
    world.clock.now += 7200.0
    await world.once()
    assert world.statuses() == {"ready": 10, "kept": 2} and len(world.searchable_texts()) == 12


@pytest.mark.parametrize("mends", [False, True])
async def test_deleted_document_still_listed_is_not_reported_as_kept(tmp_path: Path, mends: bool) -> None:
    world = World(tmp_path, list_lag=1.0)
    await world.mirrored(12)
    world.base.faults.append(Fault("delete", is_false=True))
    world.delete("f0.md")
    await world.once()
    assert world.states().count("TOMBSTONE") == 1 and len(world.searchable_texts()) == 12
    world.settings = replace(world.settings, deletions=NEVER)
    await world.once()
    world.clock.now += 7200.0
    if mends:
        assert (await audited(world)).repaired == 1
    else:
        findings = await verified(world)
        assert paths(findings) == {"orphaned": ["f0.md"]} and findings.kept == ()
        world.post_request("repair", **repair_request(findings))
        await world.once()
    assert world.searchable_texts() == world.on_disk()


async def test_kept_documents_survive_a_lost_state(world: World) -> None:
    await world.mirrored(4)
    world.delete("f0.md", "f1.md")
    await world.once()
    world.lose_state()
    sent = world.puts()
    await world.once()
    findings = await verified(world)
    assert findings.ok and findings.to_json()["kept"] == ["f0.md", "f1.md"] and repair_request(findings) == {}
    assert (await audited(world)).repaired == 0
    await world.mirrored({"f0.md": "text of f0"})
    assert world.puts() == sent
    assert world.searchable_texts() == {f"f{i}.md": f"text of f{i}" for i in range(4)}


async def test_kept_document_deleted_by_others_is_reported_missing_once(world: World) -> None:
    await world.mirrored(4)
    world.delete("f0.md")
    await world.once()
    world.base.remove(world.row_of("f0.md").remote_id)
    findings = await verified(world)
    assert paths(findings) == {"missing": ["f0.md"]} and findings.kept == ()
    world.post_request("repair", **repair_request(findings))
    await world.once()
    assert (await verified(world)).ok and world.statuses() == {"ready": 3}


async def test_kept_documents_stay_and_are_held_when_they_cannot_be_checked(world: World) -> None:
    world.write("d/a.md", "old text")
    await world.mirrored(12)
    world.delete("d/a.md")
    await world.once()
    world.write("d/a.md", "new text")
    obstacles = Obstacles()
    obstacles.blocked_paths.add(str(world.root / "d"))
    with obstacles.standing():
        async with world.start_mirror() as bound:
            await bound.reconciler.take_hints([Hint("d/a.md", HintKind.FILE)])
        assert unready_items(world)["d/a.md"] == ("kept", "the file is gone; its document is kept")
        assert (await verified(world)).to_json()["kept"] == ["d/a.md"]
        world.settings = replace(world.settings, deletions=ASKS)
        await world.once()
        assert unready_items(world)["d/a.md"][0] == "held"
        world.settings = replace(world.settings, deletions=NEVER)
        await world.once()
    assert world.searchable_texts()["d/a.md"] == "old text"
    await world.ends_equal()


async def test_kept_document_with_unknown_state_has_a_reason(world: World) -> None:
    await world.mirrored(4)
    world.delete("f0.md")
    await world.once()
    world.change(lambda tx: tx.entries.set_presence(world.run.id, "f0.md", Presence.UNKNOWN))
    assert unready_items(world)["f0.md"] == (
        "kept",
        "kbsync can't tell whether the file exists; its document is kept",
    )
    assert (await verified(world)).ok


async def test_forget_deletes_kept_documents(world: World) -> None:
    await world.mirrored(3)
    world.delete("f0.md")
    await world.once()
    assert await forgotten(world) == 3
    assert world.searchable_texts() == {}
