"""A pass while the disk of the state gets full, and another when there is room again."""

from __future__ import annotations

from pathlib import Path

import apsw

from kbsync.errors import StateError
from kbsync.once import PassEnd
from tests.engine.world import World
from tests.remote.world import RemoteWorld, sha_of_folder
from tests.resources.shortage import Disk, every_file_on


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


async def play_full_state(place: Path, number: int) -> bool:
    """The disk is full from that write on while there is work of every kind; whether there were so many."""
    place.mkdir()
    world = World(place)
    world.write_many(6)
    await world.once()
    edited(world)
    disk = Disk(full_at=number)
    sentence = await pass_on(world, disk)
    if disk.was_full:
        assert sentence == "" or "full" in sentence or "no space" in sentence, f"write {number}: {sentence}"
    await world.once()
    assert world.served() == world.on_disk(), f"write {number}"
    assert world.puts() <= 6 + 3, f"write {number}"
    return disk.was_full


async def play_full_state_of_service(place: Path, number: int) -> bool:
    """The same in a first pass to a service."""
    place.mkdir()
    world = RemoteWorld(place)
    async with world.serving():
        world.write_many(3)
        disk = Disk(full_at=number)
        await pass_on(world, disk)
        await world.once()
        assert world.bytes_by_path() == sha_of_folder(world), f"write {number}"
    return disk.was_full
