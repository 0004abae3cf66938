"""A mirror into the embedded knowledge base, and what must be true of it after every trouble."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import closing
from pathlib import Path

from kbsync import once
from kbsync.config.model import Config, DeletionRules, MirrorConfig
from kbsync.installation import Installation
from kbsync.once import PassEnd
from kbsync.state.db import open_reader, unbind
from tests.resources.shortage import Disk, every_file_on

NEVER = DeletionRules(hold_fraction=1.0, hold_count=10_000)


class LocalMirror:
    """A folder and its embedded knowledge base, which may lie on a disk that gets full."""

    def __init__(self, place: Path) -> None:
        self.folder, self.state = place / "docs", place / "state"
        self.folder.mkdir()
        self.state.mkdir()

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def pass_over(self) -> str:
        """One pass; the sentence about what is wrong, or ''."""
        config = MirrorConfig(name="docs", folder=self.folder, settle=0.02, deletions=NEVER)
        end = asyncio.run(once.once(Installation(Config(mirrors=(config,)), self.state)))
        passed: PassEnd = end.ends["docs"]
        halt = end.runs["docs"].halt
        return f"{halt.reason}: {halt.detail}; {halt.cure}" if halt else passed.trouble

    def served(self) -> list[tuple[str, str]]:
        """Path and digest of every document that the index holds."""
        with closing(open_reader(self.state / "kb" / "docs" / "index.db")) as reader:
            rows = reader.execute("SELECT path, digest FROM document").fetchall()
        return sorted((unbind(path), str(digest)) for path, digest in rows)

    def on_disk(self) -> list[tuple[str, str]]:
        files = self.folder.iterdir()
        return sorted((path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files)

    def keeps(self, words: str) -> list[Path]:
        """The files of the knowledge base in which these words are."""
        files = (path for path in (self.state / "kb").rglob("*") if path.is_file())
        return [path for path in files if words.encode() in path.read_bytes()]


def begun(place: Path) -> LocalMirror:
    """A mirror after its first pass."""
    place.mkdir(exist_ok=True)
    mirror = LocalMirror(place)
    for name in ("a", "b", "changed", "gone0", "moved"):
        mirror.write(f"{name}.md", f"secret{name}x of the first pass")
    assert mirror.pass_over() == ""
    return mirror


def edit(mirror: LocalMirror, number: int) -> str:
    """Work of every kind: a new file, a change, a rename, a deletion; words that are deleted by it."""
    (old,) = mirror.folder.glob("gone*")
    words = old.read_text()
    old.unlink()
    mirror.write(f"gone{number}.md", f"secret{number}x of this file")
    mirror.write("new.md", f"new at {number}")
    mirror.write("changed.md", f"# Changed\n\nat {number}\n")
    for old in list(mirror.folder.glob("moved*")):
        old.rename(mirror.folder / f"moved{number}.md")
    return words.split()[0]


def play_full_disk(mirror: LocalMirror, full_at: int) -> bool:
    """The disk of the index is full from that write on; True where there were so many."""
    deleted = edit(mirror, full_at)
    before = dict(mirror.served())
    disk = Disk(full_at)
    with every_file_on(disk, only="index.db"):
        sentence = mirror.pass_over()
    if disk.was_full:
        assert sentence == "" or ("disk-full" in sentence and "df -" in sentence), f"{full_at}: {sentence}"
        lost = before.keys() & dict(mirror.on_disk()).keys() - dict(mirror.served()).keys()
        assert not lost, f"write {full_at}: {lost} cannot be found while the disk is full"
    sentence = mirror.pass_over()
    assert sentence == "", f"after write {full_at}: {sentence}"
    assert mirror.served() == mirror.on_disk(), f"after write {full_at}"
    assert not mirror.keeps(deleted), f"after write {full_at}"
    return disk.was_full
