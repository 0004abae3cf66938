"""Tests that a restored backup of the state is compared with the knowledge base before it is used."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import apsw
import pytest
from structlog.testing import capture_logs

from kbsync.contract.target import Base
from kbsync.core.model import UploadState
from kbsync.errors import Unavailable
from kbsync.state.read_only import opened
from tests.crash.harness import Guillotine
from tests.engine.machine import Obstacles
from tests.engine.world import World
from tests.memory.behaviour import Behaviour, Fault
from tests.memory.variants import RenamingMemory
from tests.share import long


def back_up(world: World) -> None:
    """Write a copy of the state, as `kbsync state backup` does."""
    with (
        contextlib.closing(apsw.Connection(str(world.state.with_name("backup.db")))) as copy,
        contextlib.closing(opened(world.state / "state.db")) as state,
    ):
        state.backup(copy)


def restore(world: World) -> None:
    world.lose_state()
    shutil.copyfile(world.state.with_name("backup.db"), world.state / "state.db")


def record_searchable_paths(world: World) -> list[set[str]]:
    """Return a list to which each change of the base will add the paths that searches then find."""
    searchable_paths = list[set[str]]()
    world.base.observers.append(lambda base: searchable_paths.append(set(base.searchable_texts())))
    return searchable_paths


class CountingMemory(RenamingMemory):
    """Counts its changes."""

    @property
    def revision(self) -> int:
        return len(self._base.effects)

    async def base(self) -> Base:
        return replace(await super().base(), revision=self.revision)


@contextlib.contextmanager
def unreadable(world: World, folder: str) -> Iterator[None]:
    obstacles = Obstacles()
    obstacles.blocked_paths.add(os.fspath(world.root / folder))
    with obstacles.standing():
        yield


async def test_document_deleted_since_the_backup_does_not_serve_its_file_again(world: World) -> None:
    await world.mirrored({"a.md": "one"})
    world.write("a.md", "two")
    await world.crash(Guillotine(upon=["put answer", "commit after"]))
    assert [row.state for row in world.rows()] == [UploadState.RETIRING, UploadState.SERVING]
    back_up(world)
    world.write("a.md", "three")
    await world.once()
    restore(world)
    searchable_paths = record_searchable_paths(world)
    await world.ends_equal()
    assert set() not in searchable_paths
    assert world.puts() == 3


async def test_document_replaced_since_the_backup_is_noticed_after_the_clock_was_set_back(
    world: World,
) -> None:
    await world.mirrored({"a.md": "one"})
    back_up(world)
    world.clock.skew -= 7200.0
    world.write("a.md", "two")
    await world.once()
    restore(world)
    await world.ends_equal()
    assert world.puts() == 2


async def test_upload_sent_again_since_the_backup_is_found_in_the_base(world: World) -> None:
    world.write("a.md", "one")
    await world.crash(Guillotine(upon=["put start"]))
    assert [row.state for row in world.rows()] == [UploadState.SENDING]
    back_up(world)
    await world.once()
    restore(world)
    await world.ends_equal()
    assert world.puts() == 1


@pytest.mark.parametrize("new_text", ["", "another"])
async def test_document_renamed_since_the_backup_stays_while_its_new_folder_is_unreadable(
    tmp_path: Path, new_text: str
) -> None:
    """`new_text`: of a new file at the old path."""
    world = World(tmp_path, RenamingMemory)
    await world.mirrored({"a.md": "one", "b.md": "two", "d/c.md": "three"})
    back_up(world)
    world.move("a.md", "d/a.md")
    await world.once()
    restore(world)
    if new_text:
        world.write("a.md", new_text)
    with unreadable(world, "d"):
        await world.once()
    assert world.searchable_texts() == world.on_disk()
    await world.ends_equal()
    assert world.puts() == len(world.on_disk())


async def test_document_of_a_file_that_was_unreadable_in_the_backup_is_not_sent_again(world: World) -> None:
    await world.mirrored({"b.md": "two"})
    world.base.behaviour = Behaviour(indexing_seconds=30.0)
    world.write("a.md", "one")
    world.base.faults.append(Fault("put", error=Unavailable("busy", retry_after=20.0)))
    async with world.start_mirror() as bound:
        await bound.compare()
        await world.take_turns(bound, until=lambda: world.requests("put") == 2)
        with unreadable(world, "a.md"):
            await bound.reconciler.check(["a.md"])
            back_up(world)
        await bound.compare()
        await world.take_turns(bound, 200, until=lambda: world.states() == ["SERVING", "INDEXING"])
    restore(world)
    with capture_logs() as logs:
        async with world.start_mirror() as bound:
            await world.take_turns(bound, 20)
    assert [entry for entry in logs if entry["event"] == "worker.failed"] == []
    await world.ends_equal()
    assert world.puts() == 2


async def rename_in_a_chain(world: World) -> None:
    world.move("d/b.md", "d/e.md")
    await world.once()
    world.move("a.md", "d/b.md")
    await world.once()


async def exchange(world: World) -> None:
    world.move("d/b.md", "d/x.md")
    await world.once()
    world.move("d/c.md", "d/b.md")
    await world.once()
    world.move("d/x.md", "d/c.md")
    await world.once()


@long
@pytest.mark.parametrize("rename", [rename_in_a_chain, exchange])
async def test_documents_renamed_to_former_paths_of_each_other_stay_while_unreadable(
    tmp_path: Path, rename: Callable[[World], Awaitable[None]]
) -> None:
    for number in itertools.count(1):
        (folder := tmp_path / str(number)).mkdir()
        world = World(folder, RenamingMemory)
        await world.mirrored({"a.md": "one", "d/b.md": "two", "d/c.md": "three"})
        back_up(world)
        await rename(world)
        restore(world)
        guillotine = Guillotine(number)
        with unreadable(world, "d"):
            await world.crash(guillotine)
            await world.once()
        assert world.searchable_texts() == world.on_disk()
        await world.ends_equal()
        assert world.puts() == 3
        if not guillotine.fallen:
            break


async def test_document_stays_with_its_unreadable_file_although_its_base_is_restored(tmp_path: Path) -> None:
    """The restored base knows the document by its old path, where another file is now."""
    world = World(tmp_path, CountingMemory)
    await world.mirrored({"a.md": "one", "b.md": "two"})
    revision = len(world.base.effects)
    world.move("a.md", "d/a.md")
    await world.once()
    world.write("a.md", "three")
    await world.once()
    [new], [moved] = world.base.searchable("a.md"), world.base.searchable("d/a.md")
    world.base.lose(new.remote_id)
    world.base.rename(moved.remote_id, "a.md", "a.md", moved.content.mtime)
    del world.base.effects[revision:]
    with unreadable(world, "d"):
        await world.once()
    assert world.searchable_texts() == world.on_disk()
    await world.ends_equal()


@pytest.mark.parametrize("has_twin", [False, True])
@pytest.mark.parametrize("is_edited", [False, True])
async def test_successor_of_a_document_that_a_late_list_still_has_serves_at_once(
    tmp_path: Path, is_edited: bool, has_twin: bool
) -> None:
    """`has_twin`: the base has a second document with our mark, but without a recipe."""
    world = World(tmp_path, list_lag=30.0)
    world.base.behaviour = Behaviour(indexing_seconds=40.0, list_lag=30.0)
    await world.mirrored({"a.md": "one"})
    back_up(world)
    world.write("a.md", "two")
    await world.once()
    restore(world)
    if is_edited:
        world.write("a.md", "three")
    if has_twin:
        world.base.add("a.md", b"two", path="a.md", upload_id=5, foreign=False)
    searchable_paths = record_searchable_paths(world)
    await world.ends_equal()
    assert set() not in searchable_paths
    assert world.puts() == 2 + (is_edited or has_twin)


async def test_newer_document_is_kept_although_the_restored_state_knows_other_bytes(world: World) -> None:
    await world.mirrored({"a.md": "one"})
    back_up(world)
    world.write("a.md", "two")
    await world.crash(Guillotine(upon=["put answer", "commit after"]))
    restore(world)
    await world.ends_equal()
    assert world.puts() == 2


async def test_new_file_at_the_old_path_of_a_document_keeps_its_own_although_prefixes_changed(
    tmp_path: Path,
) -> None:
    world = World(tmp_path, RenamingMemory)
    await world.mirrored({"a.md": "one", "b.md": "two"})
    world.settings = replace(world.settings, prefix="new-")
    await world.crash(Guillotine(upon=["rename start"]))
    back_up(world)
    world.move("a.md", "c.md")
    await world.once()
    world.write("a.md", "three")
    await world.once()
    restore(world)
    searchable_paths = record_searchable_paths(world)
    await world.ends_equal()
    assert all({"a.md", "c.md"} <= paths for paths in searchable_paths)
    assert world.puts() == 3


async def test_changes_recorded_while_the_base_responds_are_no_restored_copy(world: World) -> None:
    responses = list[Base]()

    class DelayedMemory(CountingMemory):
        """Each response of `base` takes a while."""

        async def base(self) -> Base:
            responses.append(await super().base())
            await world.clock.sleep(10)
            return responses[-1]

    world.target_type = DelayedMemory
    world.write("a.md")
    async with world.start_mirror() as bound:
        await bound.compare()
        assert not await bound.base_changed()
        assert await bound.worker.is_idle()
        assert (responses[-1].revision, len(world.base.effects)) == (0, 2)
        assert not await bound.base_changed()
        world.base.effects.clear()
        assert await bound.base_changed(), "an older copy"
