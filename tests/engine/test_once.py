from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kbsync.contract.target import SupportsReembed
from kbsync.core import lifecycle
from kbsync.core.backoff import MAX_PAUSE
from kbsync.core.model import Presence, UploadState
from kbsync.engine import deletions
from kbsync.engine.deletions import needs_approval
from kbsync.engine.mirror import PATIENCE
from kbsync.engine.settings import DeletionLimits
from kbsync.errors import NotOffered, Rejected, TargetError, Unavailable
from kbsync.source.scan import StoredTree
from kbsync.source.stat import PathStat
from kbsync.state.db import open_writer
from kbsync.state.files import EntryRow
from kbsync.state.read_only import Tx
from kbsync.state.removals import Removal
from tests.crash.harness import Guillotine
from tests.engine.world import World
from tests.memory.base import MemoryBase
from tests.memory.behaviour import FOREVER, Behaviour, Failure, Fault
from tests.memory.target import MemoryTarget
from tests.memory.variants import AbleMemory, ReembeddingMemory, RenamingMemory, UpdatingMemory
from tests.share import enumerated, long

VARIANTS = [MemoryTarget, RenamingMemory, UpdatingMemory, ReembeddingMemory, AbleMemory]


@pytest.fixture(params=VARIANTS, ids=lambda v: v.__name__)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    return World(tmp_path, request.param)


async def test_second_pass_over_a_mirrored_folder_sends_nothing(world: World) -> None:
    world.write_many(20)
    await world.mirrored({"sub/deep/a.md": "deep"})
    assert world.searchable_texts() == world.on_disk()
    sent = world.puts()
    requests = len(world.base.requests)
    await world.once()
    assert world.puts() == sent == 21
    assert len(world.base.requests) - requests <= 1  # a check of the base itself
    assert world.statuses() == {"ready": 21}


async def all_held(world: World, prefix: str = "f") -> dict[str, str]:
    """Mirror three files and delete them; return their texts."""
    await world.mirrored(3, prefix)
    texts = world.on_disk()
    world.delete(*texts)
    await world.once()
    assert world.statuses() == {"held": 3}
    return texts


@enumerated()
@pytest.mark.parametrize("is_upgraded", [False, True])
async def test_pass_over_unchanged_directories_reads_no_rows(
    world: World, monkeypatch: pytest.MonkeyPatch, is_upgraded: bool
) -> None:
    """After an upgrade from a kbsync that recorded no digests, only the first pass reads the rows."""
    await world.mirrored({"a.md": "a", "sub/b.md": "b", "sub/deep/c.md": "c"})
    read = list[str]()
    rows = StoredTree.rows

    def reading(tree: StoredTree, directory: str) -> set[EntryRow]:
        read.append(directory)
        return rows(tree, directory)

    monkeypatch.setattr(StoredTree, "rows", reading)
    if is_upgraded:
        with closing(open_writer(world.state / "state.db")) as connection:
            connection.execute("UPDATE folder SET files_digest = NULL")
        await world.once()
        assert sorted(read) == ["", "sub", "sub/deep"]
        read.clear()
    await world.once()
    assert read == []
    world.write("sub/b.md", "b2")
    await world.ends_equal()
    assert set(read) == {"sub"}


async def test_pass_uploads_at_once_what_an_earlier_one_could_not(world: World) -> None:
    """After several attempts, the next one would be due later than a pass waits."""
    world.base.faults.append(Fault("put", error=lambda: Unavailable("down"), times=FOREVER))
    await world.mirrored(2)
    while (world.row_of("f0.md").due_at or 0.0) <= world.clock.wall() + PATIENCE:
        await world.once()
    world.base.faults.clear()
    started = world.clock.now
    await world.once()
    assert world.searchable_texts() == world.on_disk() and world.clock.now - started < PATIENCE


async def test_restored_held_file_is_served_without_an_upload(world: World) -> None:
    await world.mirrored(await all_held(world))
    assert world.statuses() == {"ready": 3}
    assert world.puts() == 3
    assert world.read_state(lambda tx: tx.holds.current(world.run.id)) == []


async def test_file_missed_before_a_crash_is_requested_again(world: World) -> None:
    world.base.faults.append(Fault("put", error=lambda: Unavailable("down"), times=FOREVER))
    await world.mirrored({"a.md": "text"})
    world.base.faults.clear()

    def end_while_missed(tx: Tx) -> None:
        mirror = world.run.id
        tx.entries.miss(mirror, "", ["a.md"], 1.0)
        for upload in tx.uploads.at_path(mirror, 1, "a.md"):
            tx.uploads.save(lifecycle.drop(upload))

    world.change(end_while_missed)
    await world.once()
    assert world.searchable_texts() == {"a.md": "text"}


@pytest.mark.parametrize("has_failed", [False, True])
async def test_documents_of_a_lost_state_count_once_found(tmp_path: Path, has_failed: bool) -> None:
    world = World(tmp_path, ReembeddingMemory)
    world.base.behaviour = Behaviour(indexing_seconds=50.0)
    if has_failed:
        world.base.behaviour.failures = [Failure("a.md", times=1)]
    world.write("a.md", "text")
    await world.crash(Guillotine(upon=("put effect", "commit after")))
    world.lose_state()
    world.clock.now += 100 * has_failed
    before: list[dict[str, int]] = []
    world.base.observers.append(lambda _base: before.append(world.statuses()))
    await world.once()
    assert before[-1] == {"indexing": 1}  # when the base made it searchable
    assert (world.statuses(), world.searchable_texts(), world.puts()) == ({"ready": 1}, {"a.md": "text"}, 1)


async def test_held_file_restored_but_deselected_is_deleted_on_approval(world: World) -> None:
    texts = await all_held(world, "d/f")
    world.settings = replace(world.settings, exclude=("d/",))
    for path, text in texts.items():
        world.write(path, text)
    world.approve()
    await world.once()
    assert world.searchable_texts() == {}


async def test_excluded_unreadable_file_is_deleted(world: World) -> None:
    """An excluded folder isn't scanned, so kbsync never learns again whether its files are readable."""
    world.write_many(9)
    await world.mirrored({"d/a.md": "hello"})
    world.change(lambda tx: tx.entries.set_presence(world.run.id, "d/a.md", Presence.UNKNOWN))
    assert "d/a.md" in world.searchable_texts()
    world.settings = replace(world.settings, exclude=("d/",))
    await world.once()
    assert "d/a.md" not in world.searchable_texts()
    assert world.statuses()["ready"] == 9


@enumerated()
async def test_held_file_briefly_restored_is_deleted_on_approval(world: World) -> None:
    await all_held(world)
    world.approve()
    world.change(lambda tx: tx.entries.doubt(world.run.id, "f0.md"))
    await world.once()
    assert world.searchable_texts() == {}


async def test_rename_leaves_no_gap_and_uploads_at_most_once(world: World) -> None:
    await world.mirrored(8)
    world.move("f1.md", "sub/renamed.md")
    await world.ends_equal()
    renames = issubclass(world.target_type, RenamingMemory)
    assert world.puts() + len(world.base.effects_of("update")) == (8 if renames else 9)


@pytest.mark.parametrize("limits", [{}, {"embedded": True}, {"list_lag": 1.0}], ids=str)
async def test_rename_during_a_lost_state_leaves_no_gap(tmp_path: Path, limits: dict[str, Any]) -> None:
    world = World(tmp_path, **limits)
    world.base.behaviour = Behaviour(indexing_seconds=3.0)
    await world.mirrored(6)
    world.lose_state()
    world.move("f0.md", "renamed.md")
    was_found: list[bool] = []
    world.base.observers.append(
        lambda base: was_found.append(bool({"f0.md", "renamed.md"} & base.searchable_texts().keys()))
    )
    await world.once()
    assert all(was_found)
    assert world.searchable_texts() == world.on_disk()


async def find_gaps(world: World, texts: Collection[str]) -> list[set[str]]:
    """Mirror the folder once. Returns which of the `texts` were not searchable at some moment."""
    gaps: list[set[str]] = []

    def observe(base: MemoryBase) -> None:
        missing = set(texts).difference(*base.searchable_texts().values())
        if missing:
            gaps.append(missing)

    world.base.observers.append(observe)
    await world.once()
    return gaps


@pytest.mark.parametrize("limits", [{}, {"list_lag": 1.0}], ids=str)
async def test_file_copied_and_then_deleted_stays_searchable(tmp_path: Path, limits: dict[str, Any]) -> None:
    world = World(tmp_path, **limits)
    world.base.behaviour = Behaviour(indexing_seconds=60.0)
    await world.mirrored(6)
    texts = world.on_disk()
    world.write("moved.md", texts["f0.md"])
    world.delete("f0.md")
    assert await find_gaps(world, texts.values()) == []
    assert world.searchable_texts() == world.on_disk()
    [ready], [deleted] = world.base.effects_of("ready", path="moved.md"), world.base.effects_of("delete")
    assert 0 <= deleted.time - ready.time < 20  # after the next poll


async def test_original_is_deleted_once_its_copy_has_failed(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.mirrored(6)
    world.base.behaviour = Behaviour(indexing_seconds=60.0, failures=[Failure("moved.md", times=FOREVER)])
    world.write("moved.md", world.on_disk()["f0.md"])
    world.delete("f0.md")
    await world.once()
    assert world.statuses() == {"ready": 5, "failed": 1}
    failed, [deleted] = (
        world.base.effects_of("fail", path="moved.md"),
        world.base.effects_of("delete", path="f0.md"),
    )
    assert 0 <= deleted.time - failed[-1].time < 20
    assert "f0.md" not in world.searchable_texts()


@long
@pytest.mark.parametrize("error", [Unavailable("busy"), Rejected("not now")], ids=repr)
async def test_refused_deletion_is_repeated_once_a_copy_is_searchable(
    tmp_path: Path, error: TargetError
) -> None:
    world = World(tmp_path)
    world.base.behaviour = Behaviour(indexing_seconds=60.0)
    await world.mirrored(6)
    texts = world.on_disk()
    world.base.faults.append(Fault("delete", error=lambda: error, times=FOREVER))
    world.delete("f0.md")
    await world.once()
    world.base.faults.clear()
    world.clock.now += 7200.0
    world.write("moved.md", texts["f0.md"])
    assert await find_gaps(world, texts.values()) == []
    assert world.searchable_texts() == world.on_disk()
    [ready], [deleted] = world.base.effects_of("ready", path="moved.md"), world.base.effects_of("delete")
    assert 0 <= deleted.time - ready.time < 20


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (NotOffered("answered 404: a web page", code="404"), MAX_PAUSE),
        (Rejected("answered 403: a web page", code="403", may_pass=True), MAX_PAUSE),
        (Rejected("the document is locked"), lifecycle.REJECTED_DELETE_PAUSE),
    ],
    ids=repr,
)
async def test_refused_deletion_is_repeated_soon_if_a_gateway_may_have_refused_it(
    tmp_path: Path, error: TargetError, seconds: float
) -> None:
    world = World(tmp_path)
    await world.mirrored(6)
    world.base.faults.append(Fault("delete", error=lambda: error, match=lambda _: True, times=FOREVER))
    world.delete("f0.md")
    async with world.start_mirror() as bound:
        await bound.compare()
        await world.take_turns(bound, 100, every=6.0)
        tries, began = world.requests("delete"), world.clock.now
        assert tries < 12
        world.base.faults.clear()
        await world.take_turns(bound, 1000, every=6.0, until=lambda: world.requests("delete") > tries)
        assert world.searchable_texts() == world.on_disk()
        assert world.clock.now - began <= seconds + 6.0


async def test_files_that_exchange_their_texts_stay_searchable(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.base.behaviour = Behaviour(indexing_seconds=60.0, one_at_a_time=True)
    await world.mirrored({"a.md": "kestrels", "b.md": "herons"})
    world.write("a.md", "herons")
    world.write("b.md", "kestrels")
    assert await find_gaps(world, ["kestrels", "herons"]) == []
    assert world.searchable_texts() == {"a.md": "herons", "b.md": "kestrels"}


async def test_unrenamable_document_is_recreated_without_a_gap(tmp_path: Path) -> None:
    """A rename that was refused once causes no further requests."""
    world = World(tmp_path, RenamingMemory)
    world.base.behaviour = Behaviour(indexing_seconds=5.0)
    await world.mirrored(8)
    world.base.faults.append(Fault("rename", error=lambda: Rejected("no such name"), times=FOREVER))
    world.move("f1.md", "sub/renamed.md")
    was_found = list[bool]()
    world.base.observers.append(
        lambda base: was_found.append(bool({"f1.md", "sub/renamed.md"} & base.searchable_texts().keys()))
    )
    await world.ends_equal()
    assert world.puts() == 9
    assert len([request for request in world.base.requests if request.op == "rename"]) == 1
    assert was_found and all(was_found)


async def test_document_that_fails_to_index_is_tried_a_bounded_number_of_times(world: World) -> None:
    world.base.behaviour = Behaviour(failures=[Failure("f0.md", times=99, reason="no can do")])
    world.write_many(2)
    before = world.clock.now
    await world.once()
    assert world.clock.now - before < 60
    assert world.statuses() == {"ready": 1, "failed": 1}
    tries = [e for e in world.base.effects_of("put", "update", "reembed") if e.path == "f0.md"]
    assert 2 <= len(tries) <= 5
    assert [row.reason for row in world.rows(UploadState.FAILED)] == ["no can do"]


async def test_attempts_before_a_retry_do_not_count_after_it(world: World) -> None:
    """The problem that a user fixed also affected documents in progress: they need no second `retry`."""
    world.base.behaviour = Behaviour(failures=[Failure("f0.md", times=5)])
    world.write_many(1)
    retry_op = "reembed" if issubclass(world.target_type, SupportsReembed) else "put"
    await world.crash(Guillotine(upon=[f"{retry_op} start"] * 3))
    world.post_request("retry")
    await world.ends_equal()


async def test_emptied_file_counts_as_deleted(world: World) -> None:
    await world.mirrored(10)
    await world.mirrored({"f1.md": ""})
    assert "f1.md" not in world.searchable_texts()
    assert world.statuses() == {"ready": 9, "skipped": 1}


@enumerated()
async def test_narrowed_selection_deletes_under_the_hold_rule(world: World) -> None:
    world.write_many(10)
    await world.mirrored({"drafts/d.md": "draft"})
    await world.mirrored({".kbsyncignore": "drafts/\n"})
    assert "drafts/d.md" not in world.searchable_texts()
    world.write(".kbsyncignore", "f[0-3].md\ndrafts/\n")
    world.delete("f4.md", "f5.md")  # kbsync decides about all deletions of a pass together
    await world.once()
    assert world.statuses()["held"] == 6
    await world.mirrored({".kbsyncignore": "", "f4.md": "text of f4", "f5.md": "text of f5"})
    assert world.searchable_texts() == world.on_disk()
    assert world.puts() == 12  # drafts/d.md was really deleted


async def test_new_file_that_vanishes_between_passes_blocks_nothing(world: World) -> None:
    world.clock.epoch -= 1000.0  # the machine's own time: what was just written is racy
    await world.mirrored(4)
    world.delete("f1.md")
    await world.ends_equal()


async def test_vanished_directory_leaves_no_row(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.write_many(9)
    await world.mirrored({"d/e/a.md": "a"})
    world.delete("d/e/a.md")
    (world.root / "d/e").rmdir()
    (world.root / "d").rmdir()
    await world.once()
    await world.once()
    assert world.read_state(lambda tx: tx.folders.tree(world.run.id, "")) == [""]


async def test_new_files_reusing_inodes_are_not_renames(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.mirrored(10)
    for i in range(8):
        world.delete(f"f{i}.md")
        world.write(f"other{i}.md", f"unrelated {i}")  # ext4 reuses the inode at once
    await world.once()
    assert world.statuses() == {"ready": 10, "held": 8}


@long
async def test_late_update_does_not_release_a_held_deletion(tmp_path: Path) -> None:
    world = World(tmp_path, UpdatingMemory)
    await world.mirrored(9)
    world.write("f0.md", "changed")
    world.base.behaviour.indexing_seconds = 60.0
    await world.crash(Guillotine(upon=("put answer",)))
    assert world.base.effects[-1].op == "update"
    world.delete_many(8)
    await world.once()
    assert world.statuses() == {"held": 8, "ready": 1}
    world.approve()
    await world.ends_equal()


@enumerated()
async def test_deletion_approval_unused_for_a_week_expires(world: World) -> None:
    await world.mirrored(20)
    world.delete_many(12)
    await world.once()
    assert world.statuses() == {"ready": 8, "held": 12}
    world.approve()
    await only_approved(world)
    world.clock.now += 8 * 86400
    await world.once()
    assert len(world.searchable_texts()) == 20
    world.approve()
    await world.ends_equal()


async def only_approved(world: World) -> None:
    """The program reads the message, and is killed before it acts on it."""
    async with world.start_mirror() as bound:
        await bound.inbox.carry_out()


async def test_file_no_longer_accepted_by_an_upgrade_keeps_its_document(world: World) -> None:
    world.write_many(10)
    await world.mirrored({"old.txt": "taken once"})
    world.limits = replace(world.limits, extensions=world.limits.extensions - {"txt"})
    await world.once()
    await world.once()
    assert world.searchable_texts()["old.txt"] == "taken once"
    assert world.base.effects_of("delete") == []


@enumerated()
async def test_file_restored_before_an_approval_runs_is_still_held(world: World) -> None:
    """Even before an event reports it: kbsync checks for each file before it releases the deletion."""
    await world.mirrored(10)
    world.delete_many(6)
    await world.once()
    world.approve()
    world.write("f0.md", "back")
    async with world.start_mirror() as bound:
        binding = bound.journal.binding
        await bound.inbox.carry_out()
        await bound.deletions.run_approved()
        rows = await bound.mirror.store.read(
            lambda tx: tx.uploads.at_path(binding.mirror, binding.id, "f0.md")
        )
        assert [row.state for row in rows] == [UploadState.HELD]
    await world.ends_equal()


@enumerated()
async def test_held_document_missing_from_the_base_needs_no_approval(world: World) -> None:
    await world.mirrored(20)
    world.delete_many(12)
    await world.once()
    lost = [world.base.searchable(f"f{number}.md")[0].remote_id for number in range(12)]
    for remote_id in lost:
        world.base.lose(remote_id)
    world.post_request("repair", missing=lost)
    await world.once()
    assert world.statuses() == {"ready": 8}
    assert world.read_state(lambda tx: list(tx.holds.current(world.run.id))) == []


@enumerated()
async def test_refilled_file_keeps_its_document(world: World) -> None:
    await world.mirrored(10)
    async with world.start_mirror() as bound:
        world.write("f4.md", "")
        await bound.compare()
        assert weighed(world) == ["f4.md"]
        for part in range(10):  # it isn't quiet before kbsync decides about the deletions
            now = world.clock.wall()
            os.utime(world.write("f4.md", "filled again" * (part + 1)), (now, now))
            await bound.compare()
            await bound.turn()
            await world.clock.sleep(0.5)
            assert "f4.md" in world.searchable_texts()
    await world.ends_equal()


def weighed(world: World) -> list[str]:
    def waiting(tx: Tx) -> list[Removal]:
        batches = tx.holds.batches(world.run.id, decided=False)
        return [removal for batch in batches for removal in tx.removals.page(batch, held=False)]

    return [removal.path for removal in world.read_state(waiting)]


async def test_folder_replaced_between_two_checks_proves_nothing_missing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second check of a file finds another folder at the root; the first one is restored afterwards."""
    await world.mirrored(20)
    world.delete("f0.md")
    away, real = world.root.with_name("away"), deletions.stat_exactly

    def list_another(root: Path, *args: Any, **options: Any) -> list[tuple[str, PathStat]]:
        root.rename(away)
        root.mkdir()
        result = real(root, *args, **options)
        root.rmdir()
        away.rename(root)
        return result

    monkeypatch.setattr(deletions, "stat_exactly", list_another)
    await world.once()
    assert "f0.md" in world.searchable_texts()
    monkeypatch.undo()
    await world.ends_equal()


# -- which batches of deletions need approval --------------------------------------------------------------


@pytest.mark.parametrize(
    ("batch", "executed", "serving", "is_held"),
    [
        (1, 0, 10, False),
        (5, 0, 10, False),
        (6, 0, 10, True),
        (6, 0, 100, False),
        (20, 0, 100, False),
        (21, 0, 100, True),
        (1, 20, 80, True),
        (8, 10, 80, False),
        (9, 10, 80, True),
        (11, 10, 90, True),
        (1, 0, 1, True),
        (3, 0, 3, True),
        (2, 0, 3, False),
    ],
)
def test_mass_deletion_needs_approval(batch: int, executed: int, serving: int, is_held: bool) -> None:
    counts = {"deleted": batch, "executed": executed, "serving": serving, "all_documents": serving}
    assert needs_approval(DeletionLimits(), **counts) is is_held


@long
async def test_deletions_that_wait_for_approval_count_too(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.mirrored(30)
    world.delete_many(7)
    await world.once()
    world.delete_many(1, start=7)
    await world.once()
    assert world.statuses() == {"ready": 22, "held": 8}


# -- another knowledge base ------------------------------------------------------------------------------


async def turned_away(world: World) -> MemoryBase:
    """The base that had x, y and z; the mirror uses another one now."""
    await world.mirrored({f"{name}.md": f"text of {name}" for name in "xyz"})
    first, world.base = world.base, MemoryBase(clock=world.clock.wall)
    world.base.id = "another"
    await world.ends_equal()
    return first


async def test_file_may_reuse_the_name_of_a_document_left_behind(tmp_path: Path) -> None:
    world = World(tmp_path)
    await turned_away(world)
    world.delete("y.md")
    await world.once()
    world.move("x.md", "y.md")
    assert (await world.once()).complete
    assert world.searchable_texts() == world.on_disk() == {"y.md": "text of x", "z.md": "text of z"}


async def test_deletions_made_meanwhile_apply_to_a_reused_base(tmp_path: Path) -> None:
    world = World(tmp_path)
    first = await turned_away(world)
    world.delete("y.md")
    world.move("x.md", "x2.md")
    await world.mirrored({"z.md": "text of z, changed"})
    world.base = first
    assert (await world.once()).complete
    assert world.searchable_texts() == world.on_disk() == {"x2.md": "text of x", "z.md": "text of z, changed"}


async def held_in_one_of_two(tmp_path: Path) -> tuple[World, MemoryBase]:
    """Another folder replaced the root, so one deletion of ten is held, and the base was changed."""
    world = World(tmp_path)
    await world.mirrored(10)
    world.change(lambda tx: tx.mirrors.set_hold_all(world.run.id, True))
    world.delete("f3.md")
    await world.once()
    assert world.statuses() == {"held": 1, "ready": 9}
    first, world.base = world.base, MemoryBase(clock=world.clock.wall)
    world.base.id = "another"
    return world, first


async def test_deletions_in_one_base_need_no_approval_in_another(tmp_path: Path) -> None:
    world, first = await held_in_one_of_two(tmp_path)
    assert (await world.once()).complete
    assert world.read_state(lambda tx: tx.holds.current(world.run.id)) == []
    assert world.searchable_texts() == world.on_disk()
    assert first.searchable("f3.md")


@pytest.mark.parametrize("approves", [False, True])
async def test_held_deletion_waits_again_when_its_base_is_reused(tmp_path: Path, approves: bool) -> None:
    world, first = await held_in_one_of_two(tmp_path)
    await world.once()
    if approves:  # the document in the first base isn't affected by any hold
        world.approve()
        await world.once()
    world.base = first
    await world.once()
    assert world.statuses() == {"held": 1, "ready": 9}
    assert world.base.searchable("f3.md")
    world.approve()
    await world.ends_equal()
    assert world.statuses() == {"ready": 9}


@long
async def test_held_deletion_taken_over_by_another_mirror_waits_for_approval(tmp_path: Path) -> None:
    world, first = await held_in_one_of_two(tmp_path)
    world.settings, world.configured = replace(world.settings, name="notes"), ("docs", "notes")
    await world.once()
    world.base, world.configured = first, ("notes",)
    await world.once()
    assert world.statuses() == {"held": 1, "ready": 9}
    assert world.base.searchable("f3.md")


async def test_held_deletion_of_a_renamed_mirror_waits_for_approval(tmp_path: Path) -> None:
    world, world.base = await held_in_one_of_two(tmp_path)
    world.settings, world.configured = replace(world.settings, name="notes"), ("notes",)
    await world.once()
    assert world.statuses() == {"held": 1, "ready": 9}
    assert world.puts() == 10


# -- an edit before the first version was known to be searchable: it is found all the time ---------------


@pytest.fixture(params=[("put effect",), ("put effect", "put answer", "commit after")])
async def first_is_found(tmp_path: Path, request: pytest.FixtureRequest) -> World:
    """The first version was stored, the program died, and the version became searchable later."""
    world = World(tmp_path, MemoryTarget, list_lag=1.0)
    world.base.behaviour = Behaviour(indexing_seconds=20.0, list_lag=1.0)
    world.write("a.md", "first")
    await world.crash(Guillotine(upon=request.param))
    world.breaches.clear()
    world.clock.now += 60
    assert world.searchable_texts() == {"a.md": "first"}
    return world


async def test_first_version_is_searchable_until_the_next_one_is(first_is_found: World) -> None:
    world = first_is_found
    world.write("a.md", "second")
    world.base.faults = [Fault("status", error=Unavailable("down"))]  # the edit is seen before the poll
    results: list[bool] = []
    world.base.observers.append(
        lambda base: results.append(any(d.searchable for d in base._documents.values()))
    )
    await world.once()
    assert all(results)
    assert world.searchable_texts() == {"a.md": "second"}
    assert world.statuses() == {"ready": 1}


@long
@enumerated()
async def test_first_version_serves_when_the_next_one_fails(first_is_found: World) -> None:
    world = first_is_found
    world.write("a.md", "second")
    world.base.behaviour.failures = [
        Failure(lambda document: document.digest.startswith("16367aac"), times=99)
    ]
    await world.once()
    assert world.searchable_texts() == {"a.md": "first"}
    assert world.statuses() == {"failed": 1}
