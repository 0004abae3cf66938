"""Tests mirrors with the built-in knowledge base: its folder renamed, lost, or damaged."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.place import Place
from tests.share import long


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Mirror six files."""
    place = Place(tmp_path)
    place.configure()
    for i in range(6):
        place.write(f"f{i}.md", f"# Title {i}\n\nThe text of number{i}.\n")
    assert count_created(place) == 6
    return place


def count_created(place: Place) -> int:
    """Return the number of documents that a pass creates; all files are searchable after it."""
    ran = place.run("--once", "--json")
    [mirror] = ran.json["mirrors"]
    assert (ran.code, mirror["documents"]["ready"]) == (0, len(list(place.docs.iterdir()))), ran.err
    assert place.search("number3")[0] == "f3.md"
    return int(ran.json["uploaded"] + ran.json["replaced"])


def test_renamed_mirror_uploads_nothing_and_is_searchable_under_its_new_name(place: Place) -> None:
    rename_mirror(place, "manual")
    assert count_created(place) == 0
    assert [p.name for p in (place.state / "kb").iterdir()] == ["manual"]


KILLED = """
import os
from kbsync.__main__ import main
rename = os.rename
def rename_and_die(source, target, **kwargs):
    if os.path.basename(os.path.dirname(target)) == "kb":
        if {is_renamed}:
            rename(source, target, **kwargs)
        os._exit(137)
    rename(source, target, **kwargs)
os.rename = rename_and_die
main(["--once", "--config", {config!r}])
"""


def rename_mirror(place: Place, new: str) -> None:
    place.config.write_text(place.config.read_text().replace("name: handbook", f"name: {new}"))


@long
@pytest.mark.parametrize("last_name", ["manual", "handbook", "notes"])
@pytest.mark.parametrize("is_renamed", [False, True])
def test_mirror_rename_survives_a_kill_anywhere(place: Place, is_renamed: bool, last_name: str) -> None:
    before = place.config.read_text()
    rename_mirror(place, "manual")
    program = KILLED.format(is_renamed=is_renamed, config=str(place.config))
    killed = subprocess.run([sys.executable, "-c", program], env=place.environ({}), check=False)
    assert killed.returncode == 137
    place.config.write_text(before)
    rename_mirror(place, last_name)
    assert count_created(place) == 0
    assert [p.name for p in (place.state / "kb").iterdir()] == [last_name]


def test_failed_base_rename_is_reported_and_documents_are_kept(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename_mirror(place, "manual")

    def refuse(source: Path, _target: Path) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), os.fspath(source))

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", refuse)
        ran = place.run("--once")
    assert ran.code == 4
    base = place.state / "kb" / "handbook"
    assert f"cannot rename {base} to manual: device or resource busy" in ran.words
    assert [p.name for p in (place.state / "kb").iterdir()] == ["handbook"]
    assert count_created(place) == 0
    assert [p.name for p in (place.state / "kb").iterdir()] == ["manual"]


def test_moved_folder_with_equal_content_uploads_nothing(place: Place) -> None:
    moved = place.docs.with_name("moved")
    shutil.copytree(place.docs, moved)
    shutil.rmtree(place.docs)
    place.docs = moved
    place.configure()
    assert count_created(place) == 0


def test_lost_index_is_rebuilt_immediately(place: Place) -> None:
    shutil.rmtree(place.state / "kb")
    assert count_created(place) == 6


@long
def test_damaged_index_is_rebuilt_immediately(place: Place) -> None:
    index = place.state / "kb" / "handbook" / "index.db"
    raw = bytearray(index.read_bytes())
    raw[4096:] = b"\xa5" * (len(raw) - 4096)
    index.write_bytes(raw)
    for suffix in ("-wal", "-shm"):
        index.with_name(index.name + suffix).unlink()
    assert count_created(place) == 6
    assert list(index.parent.glob("*.damaged-*"))
    (place.docs / "f5.md").unlink()
    assert count_created(place) == 0
    assert not list(index.parent.glob("*.damaged-*"))  # it may hold deleted documents


def test_restored_knowledge_base_has_each_document_once(place: Place) -> None:
    base, away = place.state / "kb" / "handbook", place.home / "away"
    base.rename(away)
    assert count_created(place) == 6
    place.write("f1.md", "# Title 1\n\nAnother text.\n")
    (place.docs / "f2.md").unlink()
    count_created(place)
    shutil.rmtree(base)
    away.rename(base)
    assert count_created(place) == 1
    assert sorted(place.search("text")) == ["f0.md", "f1.md", "f3.md", "f4.md", "f5.md"]
    assert place.run("verify").code == 0


def test_pass_after_restoring_an_older_base_leaves_nothing_stale(place: Place) -> None:
    base, backup = place.state / "kb" / "handbook", place.home / "backup"
    shutil.copytree(base, backup)
    for name in ("f1.md", "f4.md"):
        place.write(name, "# Title\n\nAnother text.\n")
        count_created(place)
    (place.docs / "f2.md").unlink()
    count_created(place)
    shutil.rmtree(base)
    backup.rename(base)
    assert count_created(place) == 2
    assert place.run("verify").code == 0
