"""`kbsync state backup`, and docs/backup.md, 'Move to another machine', step by step."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path

import apsw
import pytest

from kbsync.state import lock
from tests.cli.place import Place


def test_backup_is_a_sound_private_copy(failed: Place) -> None:
    copy = failed.root / "copy.db"
    with lock.held(failed.state):  # also while another process works
        assert failed.run("state", "backup", copy).code == 0
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert [p.name for p in failed.root.glob("copy.db*")] == ["copy.db"]
    database = apsw.Connection(str(copy))
    assert database.pragma("integrity_check") == "ok"
    assert database.execute("SELECT name FROM mirror").fetchall() == [("handbook",)]
    database.close()


FILES = 4


@pytest.fixture
def old(tmp_path: Path) -> Place:
    """A machine that mirrored a folder."""
    (tmp_path / "old").mkdir()
    place = Place(tmp_path / "old")
    for number in range(FILES):
        place.write(f"sub/{number}.md", f"word number{number}")
    place.configure()
    assert place.run("--once").code == 0
    return place


def moved(old: Place, root: Path) -> Place:
    """Another machine: folder, config and state were copied to it, so every inode and path is another."""
    root.mkdir()
    new = Place(root)
    shutil.copytree(old.docs, new.docs, dirs_exist_ok=True, copy_function=shutil.copyfile)
    new.configure()
    new.state.mkdir(parents=True)
    assert old.run("state", "backup", root / "copy.db").code == 0
    (root / "copy.db").rename(new.state / "state.db")
    shutil.copytree(old.state / "kb", new.state / "kb")
    return new


def inodes(folder: Path) -> set[int]:
    return {path.stat().st_ino for path in folder.rglob("*.md")}


def test_a_mirror_goes_on_at_another_machine_and_sends_nothing(old: Place, tmp_path: Path) -> None:
    new = moved(old, tmp_path / "new")
    assert not inodes(old.docs) & inodes(new.docs)
    shutil.rmtree(old.root)
    ran = new.run("--once", "--json")
    assert (ran.code, ran.json["uploaded"], ran.json["replaced"], ran.json["deleted"]) == (0, 0, 0, 0)
    assert ran.json["mirrors"][0]["documents"]["ready"] == FILES
    assert new.run("search", "number2", "--files").out.split()[0] == str(new.docs / "sub" / "2.md")
    assert new.run("verify").code == 0
