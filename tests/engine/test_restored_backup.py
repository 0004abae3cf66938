"""Tests that a restored backup of the state is compared with the knowledge base before it is used."""

from __future__ import annotations

import contextlib
import shutil

import apsw

from kbsync.core.model import UploadState
from kbsync.state.read_only import opened
from tests.crash.harness import Guillotine
from tests.engine.world import World


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


async def test_document_deleted_since_the_backup_does_not_serve_its_file_again(world: World) -> None:
    await world.mirrored({"a.md": "one"})
    world.write("a.md", "two")
    await world.crash(Guillotine(upon=["put answer", "commit after"]))
    assert [row.state for row in world.rows()] == [UploadState.RETIRING, UploadState.SERVING]
    back_up(world)
    world.write("a.md", "three")
    await world.once()
    restore(world)
    searchable_paths: list[set[str]] = []
    world.base.observers.append(lambda base: searchable_paths.append(set(base.searchable_texts())))
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
