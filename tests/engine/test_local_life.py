"""Tests mirrors with the built-in knowledge base: its folder renamed, lost, or damaged."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.sandbox import Sandbox
from tests.share import long


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    """Mirror six files."""
    sandbox = Sandbox(tmp_path)
    sandbox.configure()
    for i in range(6):
        sandbox.write(f"f{i}.md", f"# Title {i}\n\nThe text of number{i}.\n")
    assert count_created(sandbox) == 6
    return sandbox


def count_created(sandbox: Sandbox) -> int:
    """Return the number of documents that a pass creates; all files are searchable after it."""
    ran = sandbox.run("--once", "--json")
    [mirror] = ran.json["mirrors"]
    assert (ran.code, mirror["documents"]["ready"]) == (0, len(list(sandbox.docs.iterdir()))), ran.err
    assert sandbox.search("number3")[0] == "f3.md"
    return int(ran.json["uploaded"] + ran.json["replaced"])


@long
def test_renamed_mirror_uploads_nothing_and_is_searchable_under_its_new_name(sandbox: Sandbox) -> None:
    rename_mirror(sandbox, "manual")
    assert count_created(sandbox) == 0
    assert [p.name for p in (sandbox.state / "kb").iterdir()] == ["manual"]


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


def rename_mirror(sandbox: Sandbox, new: str) -> None:
    sandbox.config.write_text(sandbox.config.read_text().replace("name: handbook", f"name: {new}"))


@long
@pytest.mark.parametrize("last_name", ["manual", "handbook", "notes"])
@pytest.mark.parametrize("is_renamed", [False, True])
def test_mirror_rename_survives_a_kill_anywhere(sandbox: Sandbox, is_renamed: bool, last_name: str) -> None:
    before = sandbox.config.read_text()
    rename_mirror(sandbox, "manual")
    program = KILLED.format(is_renamed=is_renamed, config=str(sandbox.config))
    killed = subprocess.run([sys.executable, "-c", program], env=sandbox.environ({}), check=False)
    assert killed.returncode == 137
    sandbox.config.write_text(before)
    rename_mirror(sandbox, last_name)
    assert count_created(sandbox) == 0
    assert [p.name for p in (sandbox.state / "kb").iterdir()] == [last_name]


@long
def test_failed_base_rename_is_reported_and_documents_are_kept(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename_mirror(sandbox, "manual")

    def refuse(source: Path, _target: Path) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), os.fspath(source))

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", refuse)
        ran = sandbox.run("--once")
    assert ran.code == 4
    base = sandbox.state / "kb" / "handbook"
    assert f"cannot rename {base} to manual: device or resource busy" in ran.words
    assert [p.name for p in (sandbox.state / "kb").iterdir()] == ["handbook"]
    assert count_created(sandbox) == 0
    assert [p.name for p in (sandbox.state / "kb").iterdir()] == ["manual"]


@long
def test_moved_folder_with_equal_content_uploads_nothing(sandbox: Sandbox) -> None:
    moved = sandbox.docs.with_name("moved")
    shutil.copytree(sandbox.docs, moved)
    shutil.rmtree(sandbox.docs)
    sandbox.docs = moved
    sandbox.configure()
    assert count_created(sandbox) == 0


@long
def test_lost_index_is_rebuilt_immediately(sandbox: Sandbox) -> None:
    shutil.rmtree(sandbox.state / "kb")
    assert count_created(sandbox) == 6


@long
def test_damaged_index_is_rebuilt_immediately(sandbox: Sandbox) -> None:
    index = sandbox.state / "kb" / "handbook" / "index.db"
    raw = bytearray(index.read_bytes())
    raw[4096:] = b"\xa5" * (len(raw) - 4096)
    index.write_bytes(raw)
    for suffix in ("-wal", "-shm"):
        index.with_name(index.name + suffix).unlink()
    assert count_created(sandbox) == 6
    assert list(index.parent.glob("*.damaged-*"))
    (sandbox.docs / "f5.md").unlink()
    assert count_created(sandbox) == 0
    assert not list(index.parent.glob("*.damaged-*"))  # it may hold deleted documents


@long
def test_restored_knowledge_base_has_each_document_once(sandbox: Sandbox) -> None:
    base, away = sandbox.state / "kb" / "handbook", sandbox.home / "away"
    base.rename(away)
    assert count_created(sandbox) == 6
    sandbox.write("f1.md", "# Title 1\n\nAnother text.\n")
    (sandbox.docs / "f2.md").unlink()
    count_created(sandbox)
    shutil.rmtree(base)
    away.rename(base)
    assert count_created(sandbox) == 1
    assert sorted(sandbox.search("text")) == ["f0.md", "f1.md", "f3.md", "f4.md", "f5.md"]
    assert sandbox.run("verify").code == 0


@long
def test_pass_after_restoring_an_older_base_leaves_nothing_stale(sandbox: Sandbox) -> None:
    base, backup = sandbox.state / "kb" / "handbook", sandbox.home / "backup"
    shutil.copytree(base, backup)
    for name in ("f1.md", "f4.md"):
        sandbox.write(name, "# Title\n\nAnother text.\n")
        count_created(sandbox)
    (sandbox.docs / "f2.md").unlink()
    count_created(sandbox)
    shutil.rmtree(base)
    backup.rename(base)
    assert count_created(sandbox) == 2
    assert sandbox.run("verify").code == 0
