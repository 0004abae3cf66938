"""A full disk at any write costs time and nothing else."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import apsw
import pytest

from kbsync.engine.once import PassEnd
from kbsync.errors import StateError
from tests.engine.world import World
from tests.remote.world import RemoteWorld, sha_of_folder
from tests.resources.shortage import Disk, every_file_on
from tests.share import SHARE

# What fails while SQLite closes a file has nobody to tell but Python itself.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


async def pass_on(world: World, disk: Disk) -> str:
    """A pass on that disk; the sentence it ended with ('' when all went well)."""
    with every_file_on(disk):
        try:
            end: PassEnd = await world.once()
        except (StateError, apsw.FullError) as error:  # the latter at the very end, as the file is closed
            return str(error)
    return end.trouble


def edited(world: World) -> None:
    """Work of every kind: a new file, a change, a rename, a deletion."""
    world.write("new.md", "new")
    world.write("f0.md", "changed")
    world.move("f1.md", "moved/f1.md")
    world.delete("f2.md")


async def test_a_disk_that_is_full_at_any_write_of_the_state_loses_and_doubles_nothing(
    tmp_path: Path,
) -> None:
    for number in range(2, 10_000, 8 * SHARE):
        place = tmp_path / str(number)
        place.mkdir()
        world = World(place)
        world.write_many(6)
        await world.once()
        edited(world)
        disk = Disk(full_at=number)
        sentence = await pass_on(world, disk)
        if disk.was_full:
            assert sentence == "" or "full" in sentence or "no space" in sentence, (
                f"write {number}: {sentence}"
            )
        await world.once()
        assert world.served() == world.on_disk(), f"write {number}"
        assert world.puts() <= 6 + 3, f"write {number}"
        if not disk.was_full:
            assert number > 8
            return


async def test_a_disk_that_is_full_at_any_write_of_a_first_pass_sends_no_copy_to_a_service(
    tmp_path: Path,
) -> None:
    for number in range(1, 10_000, 16 * SHARE):
        place = tmp_path / str(number)
        place.mkdir()
        world = RemoteWorld(place)
        async with world.serving():
            world.write_many(3)
            disk = Disk(full_at=number)
            await pass_on(world, disk)
            await world.once()
            assert world.bytes_by_path() == sha_of_folder(world), f"write {number}"
        if not disk.was_full:
            assert number > 8
            return


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EROFS])
@pytest.mark.parametrize("call", ["open", "write"])
async def test_a_spool_that_takes_nothing_keeps_the_intent_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    world = World(tmp_path)
    world.write("large.md", "x" * 300_000)
    world.write("small.md", "small")
    real: Any = getattr(os, call)

    def fails(what: Any, *args: Any, **kwargs: Any) -> Any:
        is_spool = call == "write" or (args and args[0] & os.O_TMPFILE == os.O_TMPFILE)
        if is_spool and fails.full:  # type: ignore[attr-defined]
            raise OSError(code, os.strerror(code))
        return real(what, *args, **kwargs)

    fails.full = True  # type: ignore[attr-defined]
    monkeypatch.setattr(os, call, fails)
    end = await world.once()
    assert "large.md" in end.trouble and os.strerror(code).lower() in end.trouble
    fails.full = False  # type: ignore[attr-defined]
    await world.once()
    assert world.served() == world.on_disk()
    assert world.puts() == 2
