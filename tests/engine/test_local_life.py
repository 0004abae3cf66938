"""Tests mirrors with the built-in knowledge base: its folder renamed, lost, or damaged."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kbsync.engine import attach
from tests.cli.knowledge_bases import documents_in, files_of
from tests.cli.sandbox import Sandbox
from tests.share import long

pytestmark = long


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
    result = sandbox.run("--once", "--json")
    [mirror] = result.json["mirrors"]
    assert (result.code, mirror["documents"]["ready"]) == (0, len(list(sandbox.docs.iterdir()))), result.err
    assert sandbox.search("number3")[0] == "f3.md"
    return int(result.json["uploaded"] + result.json["replaced"])


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


def test_failed_base_rename_is_reported_and_documents_are_kept(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename_mirror(sandbox, "manual")

    def refuse(source: Path, _target: Path) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), os.fspath(source))

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", refuse)
        result = sandbox.run("--once")
    assert result.code == 4
    base = sandbox.state / "kb" / "handbook"
    assert f"cannot rename {base} to manual: device or resource busy" in result.words
    assert [p.name for p in (sandbox.state / "kb").iterdir()] == ["handbook"]
    assert count_created(sandbox) == 0
    assert [p.name for p in (sandbox.state / "kb").iterdir()] == ["manual"]


def test_moved_folder_with_equal_content_uploads_nothing(sandbox: Sandbox) -> None:
    moved = sandbox.docs.with_name("moved")
    shutil.copytree(sandbox.docs, moved)
    shutil.rmtree(sandbox.docs)
    sandbox.docs = moved
    sandbox.configure()
    assert count_created(sandbox) == 0


def test_lost_index_is_rebuilt_immediately(sandbox: Sandbox) -> None:
    shutil.rmtree(sandbox.state / "kb")
    assert count_created(sandbox) == 6


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


def put_back(sandbox: Sandbox, copy: Path) -> None:
    base = sandbox.state / "kb" / "handbook"
    shutil.rmtree(base)
    shutil.copytree(copy, base)


def check_base(sandbox: Sandbox) -> None:
    """Check that the base has each file's bytes once, and that `verify` finds nothing."""
    assert documents_in(sandbox.state / "kb" / "handbook") == files_of(sandbox.docs)
    assert sandbox.run("verify").code == 0


def test_base_that_is_one_run_old_is_repaired_by_the_next_pass(sandbox: Sandbox) -> None:
    copy = sandbox.home / "copy"
    shutil.copytree(sandbox.state / "kb" / "handbook", copy)
    sandbox.write("f1.md", "# Title 1\n\nAnother text.\n")
    sandbox.write("new.md", "# New\n\nAdded after the copy.\n")
    (sandbox.docs / "f2.md").unlink()
    (sandbox.docs / "f4.md").rename(sandbox.docs / "g4.md")
    count_created(sandbox)
    put_back(sandbox, copy)
    planned = sandbox.run("plan", "--json").json["mirrors"][0]
    assert (planned["upload"], planned["replace"]) == (["new.md"], ["f1.md"])
    assert sandbox.run("verify").code == 1
    assert count_created(sandbox) == 2
    check_base(sandbox)
    # The ids of the lost documents were given again.
    (sandbox.docs / "new.md").unlink()
    count_created(sandbox)
    check_base(sandbox)


def test_base_older_than_most_documents_gets_them_again_without_asking(sandbox: Sandbox) -> None:
    copy = sandbox.home / "copy"
    shutil.copytree(sandbox.state / "kb" / "handbook", copy)
    for number in range(14):
        sandbox.write(f"later{number}.md", f"# Later\n\nAdded as number {number}.\n")
    count_created(sandbox)
    put_back(sandbox, copy)
    kill(sandbox, LISTED)
    assert count_created(sandbox) == 14
    check_base(sandbox)


KILLED_AT = """
import os
from kbsync.__main__ import main
from kbsync.engine.audit import RegularAudit
from kbsync.index.sqlite.store import SqliteStore
from kbsync.targets.local.target import LocalTarget
put = SqliteStore.put
def die(self, *args):
    if args:
        put(self, *args)
    os._exit(137)
{moment} = die
main(["--once", "--config", {config!r}])
"""
STORED, RECORDED, LISTED = "SqliteStore.put", "RegularAudit.run_due", "LocalTarget.list"
"""The moments when documents are in the base, when the state has recorded that, and when kbsync begins to
compare the base with the state.
"""


def kill(sandbox: Sandbox, moment: str) -> None:
    program = KILLED_AT.format(moment=moment, config=str(sandbox.config))
    env = sandbox.environ({})
    assert subprocess.run([sys.executable, "-c", program], env=env, check=False).returncode == 137


def test_base_ahead_of_the_state_after_a_kill_causes_no_comparison(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.write("f1.md", "# Title 1\n\nAnother text.\n")
    kill(sandbox, STORED)
    adoptions = list[str]()
    monkeypatch.setattr(attach, "adopt", lambda *_: adoptions.append("adopted"))
    assert count_created(sandbox) <= 1
    assert count_created(sandbox) == 0
    assert adoptions == []
    check_base(sandbox)


def test_file_changed_back_after_a_kill_stays_searchable(sandbox: Sandbox) -> None:
    text = (sandbox.docs / "f1.md").read_text()
    sandbox.write("f1.md", "# Title 1\n\nAnother text.\n")
    kill(sandbox, STORED)
    sandbox.write("f1.md", text)
    time.sleep(0.2)  # it is quiet before the base is read
    assert count_created(sandbox) == 2
    check_base(sandbox)


def test_older_base_is_noticed_after_a_kill(sandbox: Sandbox) -> None:
    copy = sandbox.home / "copy"
    shutil.copytree(sandbox.state / "kb" / "handbook", copy)
    sandbox.write("f1.md", "# Title 1\n\nAnother text.\n")
    kill(sandbox, RECORDED)
    put_back(sandbox, copy)
    assert count_created(sandbox) == 1
    check_base(sandbox)


def test_older_base_put_back_under_a_daemon_is_repaired_by_its_next_rescan(sandbox: Sandbox) -> None:
    sandbox.configure("rescan: 1s")
    daemon = sandbox.watch()
    copy = sandbox.home / "copy"
    shutil.copytree(sandbox.state / "kb" / "handbook", copy)
    sandbox.write("f1.md", "# Title 1\n\nAnother text.\n")
    daemon.wait_for_event("document.ready", path="f1.md")
    put_back(sandbox, copy)
    daemon.wait_for_event("document.ready", times=2, path="f1.md")
    daemon.end()
    check_base(sandbox)


def test_folder_and_state_put_back_rename_their_documents_back(sandbox: Sandbox) -> None:
    copy = sandbox.home / "copy"
    copy.mkdir()
    for file in sandbox.state.glob("state.db*"):
        shutil.copy2(file, copy)
    files = shutil.copytree(sandbox.docs, sandbox.home / "files")
    (sandbox.docs / "f4.md").rename(sandbox.docs / "g4.md")
    count_created(sandbox)
    for file in copy.iterdir():
        shutil.copy2(file, sandbox.state)
    shutil.rmtree(sandbox.docs)
    files.rename(sandbox.docs)
    assert sandbox.run("verify", "--json").json["mirrors"][0]["stale"] == ["f4.md"]
    sandbox.run("--once")
    check_base(sandbox)
