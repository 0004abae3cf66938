"""Runs passes while a disk fills up, and others after space was freed."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import closing
from pathlib import Path

import apsw

from kbsync import once
from kbsync.config.model import Config, DeletionRules, MirrorConfig
from kbsync.errors import StateError
from kbsync.installation import Installation
from kbsync.once import PassEnd
from kbsync.state.db import open_reader, unbind
from tests.engine.world import World
from tests.remote.world import RemoteWorld, sha_of_folder
from tests.resources.shortage import Disk, every_file_on


async def pass_on(world: World, disk: Disk) -> str:
    """Run a pass on that disk; return its error ('' for none)."""
    with every_file_on(disk):
        try:
            end: PassEnd = await world.once()
        except (StateError, apsw.FullError) as error:  # the latter at the very end, when the file is closed
            return str(error)
    return end.problem


def edited(world: World) -> None:
    """Make every kind of change: a new file, an edit, a rename, a deletion."""
    world.write("new.md", "new")
    world.write("f0.md", "changed")
    world.move("f1.md", "moved/f1.md")
    world.delete("f2.md")


async def play_full_state(folder: Path, number: int) -> bool:
    """Fill the disk from that write on during every kind of work; return whether there were so many
    writes.
    """
    folder.mkdir()
    world = World(folder)
    await world.mirrored(6)
    edited(world)
    disk = Disk(full_at=number)
    sentence = await pass_on(world, disk)
    if disk.was_full:
        assert sentence == "" or "full" in sentence or "no space" in sentence, f"write {number}: {sentence}"
    await world.once()
    assert world.searchable_texts() == world.on_disk(), f"write {number}"
    assert world.puts() <= 6 + 3, f"write {number}"
    return disk.was_full


async def play_full_state_of_service(folder: Path, number: int) -> bool:
    """Do the same in a first pass to a service."""
    folder.mkdir()
    world = RemoteWorld(folder)
    async with world.serving():
        world.write_many(3)
        disk = Disk(full_at=number)
        await pass_on(world, disk)
        await world.once()
        assert world.bytes_by_path() == sha_of_folder(world), f"write {number}"
    return disk.was_full


NEVER = DeletionRules(hold_fraction=1.0, hold_count=10_000)


class LocalMirror:
    """A folder mirrored into its built-in knowledge base, whose disk may become full."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.state = folder / "docs", folder / "state"
        self.folder.mkdir(parents=True)
        self.state.mkdir()
        for name in ("a", "b", "changed", "gone0", "moved"):
            self.write(f"{name}.md", f"secret{name}x of the first pass")
        assert self.pass_over() == ""

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def pass_over(self) -> str:
        """Run one pass; return its error, or ''."""
        config = MirrorConfig(name="docs", folder=self.folder, settle=0.02, deletions=NEVER)
        end = asyncio.run(once.once(Installation(Config(mirrors=(config,)), self.state)))
        passed: PassEnd = end.ends["docs"]
        halt = end.mirrors["docs"].halt
        return f"{halt.reason}: {halt.detail}; {halt.fix}" if halt else passed.problem

    def digests_in_index(self) -> list[tuple[str, str]]:
        """Return path and digest of every document in the index."""
        with closing(open_reader(self.state / "kb" / "docs" / "index.db")) as reader:
            rows = reader.execute("SELECT path, digest FROM document").fetchall()
        return sorted((unbind(path), str(digest)) for path, digest in rows)

    def on_disk(self) -> list[tuple[str, str]]:
        files = self.folder.iterdir()
        return sorted((path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files)

    def keeps(self, words: str) -> list[Path]:
        """Return the files of the knowledge base that contain these words."""
        files = (path for path in (self.state / "kb").rglob("*") if path.is_file())
        return [path for path in files if words.encode() in path.read_bytes()]

    def edit(self, number: int) -> str:
        """Make every kind of change; return the deleted words."""
        (old,) = self.folder.glob("gone*")
        words = old.read_text()
        old.unlink()
        self.write(f"gone{number}.md", f"secret{number}x of this file")
        self.write("new.md", f"new at {number}")
        self.write("changed.md", f"# Changed\n\nat {number}\n")
        for old in list(self.folder.glob("moved*")):
            old.rename(self.folder / f"moved{number}.md")
        return words.split()[0]


def play_full_index(mirror: LocalMirror, full_at: int) -> bool:
    """Fill the index's disk from that write on; return True if there were so many."""
    deleted = mirror.edit(full_at)
    before = dict(mirror.digests_in_index())
    disk = Disk(full_at)
    with every_file_on(disk, only="index.db"):
        sentence = mirror.pass_over()
    if disk.was_full:
        assert sentence == "" or ("disk-full" in sentence and "df -" in sentence), f"{full_at}: {sentence}"
        lost = before.keys() & dict(mirror.on_disk()).keys() - dict(mirror.digests_in_index()).keys()
        assert not lost, f"write {full_at}: {lost} cannot be found while the disk is full"
    sentence = mirror.pass_over()
    assert sentence == "", f"after write {full_at}: {sentence}"
    assert mirror.digests_in_index() == mirror.on_disk(), f"after write {full_at}"
    assert not mirror.keeps(deleted), f"after write {full_at}"
    return disk.was_full
