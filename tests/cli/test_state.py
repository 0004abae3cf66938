"""Tests `kbsync state backup`, and the steps of 'Move to another machine' in docs/backup.md."""

from __future__ import annotations

import os
import shutil
import signal
import stat
from pathlib import Path

import apsw
import pytest

from kbsync.cli.context import list_damaged
from kbsync.installation import Installation
from kbsync.state import lock
from tests.cli.sandbox import Sandbox, eventually
from tests.share import long

pytestmark = long


def test_backup_is_a_consistent_private_copy(failed: Sandbox) -> None:
    copy = failed.root / "copy.db"
    with lock.held(failed.state):  # also while another process works
        assert failed.run("state", "backup", copy).code == 0
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert [p.name for p in failed.root.glob("copy.db*")] == ["copy.db"]
    database = apsw.Connection(str(copy))
    assert database.pragma("integrity_check") == "ok"
    assert database.execute("SELECT name FROM mirror").fetchall() == [("handbook",)]
    database.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_killed_backup_leaves_nothing_under_the_name_of_the_copy(
    sandbox: Sandbox, number: signal.Signals
) -> None:
    sandbox.mirror({"a.md": "a word"})
    state = apsw.Connection(str(sandbox.state / "state.db"))
    with state:  # so that the copy takes long enough
        state.execute("CREATE TABLE padding(content)")
        for _ in range(60):
            state.execute("INSERT INTO padding VALUES(zeroblob(1000000))")
    state.close()
    folder = sandbox.add_folder("backups")
    process = sandbox.start("state", "backup", folder / "copy.db")
    eventually(lambda: any(file.stat().st_size for file in folder.iterdir()))
    process.send_signal(number)
    process.wait()
    assert not list(folder.glob("copy.db*"))
    if number != signal.SIGKILL:
        assert (process.returncode, list(folder.iterdir())) == (128 + number, [])
    assert sandbox.run("state", "backup", folder / "copy.db").code == 0
    assert sandbox.run("state", "backup", folder / "copy.db").code == 2


def test_discard_ignores_files_that_another_command_deletes_at_the_same_time(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.mirror({"a.md": "a word"})
    for number in (1, 2):
        (sandbox.state / f"state.db.damaged-{number}").write_bytes(b"damaged")

    def list_then_delete_one(installation: Installation) -> list[Path]:
        files = list_damaged(installation)
        files[0].unlink()
        return files

    monkeypatch.setattr("kbsync.cli.commands.state.list_damaged", list_then_delete_one)
    sandbox.run("state", "discard", "--yes").check_success()
    assert not list(sandbox.state.glob("*.damaged-*"))


def test_mirror_continues_on_another_machine_without_uploads(tmp_path: Path) -> None:
    """Folder, config and state were copied there, so every inode and path is different."""
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    old, new = Sandbox(tmp_path / "old"), Sandbox(tmp_path / "new")
    old.mirror({f"sub/{number}.md": f"word number{number}" for number in range(4)})
    shutil.copytree(old.docs, new.docs, dirs_exist_ok=True, copy_function=shutil.copyfile)
    new.configure()
    new.state.mkdir(parents=True)
    assert old.run("state", "backup", new.state / "state.db").code == 0
    shutil.copytree(old.state / "kb", new.state / "kb")
    shutil.rmtree(old.root)
    result = new.run("--once", "--json")
    assert (result.code, result.json["uploaded"], result.json["replaced"], result.json["deleted"]) == (
        0,
        0,
        0,
        0,
    )
    assert result.json["mirrors"][0]["documents"]["ready"] == 4
    assert new.run("search", "number2", "--files").out.split()[0] == str(new.docs / "sub" / "2.md")
    assert new.run("verify").code == 0


def test_state_and_its_copies_may_have_paths_that_are_not_utf8(sandbox: Sandbox) -> None:
    home = sandbox.root / os.fsdecode(b"home \xff")

    def run(*words: str | Path) -> str:
        return sandbox.run(*words, env={"HOME": str(home)}).check_success().out

    sandbox.write("a.md", "alpha")
    run("--once", "--folder", "docs")
    assert run("search", "alpha", "--folder", "docs").startswith("a.md")
    other = sandbox.add_folder("other", {"b.md": "beta"})
    config = home / ".config/kbsync/config.yaml"
    config.parent.mkdir(parents=True)
    config.write_text(f"mirrors: [{{name: other, folder: {other}}}]\n")
    assert "nothing will be reindexed" in run("add", sandbox.docs)
    assert "2 documents searchable, 1 uploaded" in run("--once")
    run("state", "backup", home / "copy.db")
    assert (home / "copy.db").stat().st_size


@pytest.mark.parametrize("words", [["--once"], ["status"], ["search", "aardvark"], ["plan"], ["doctor"]])
def test_state_on_an_unmounted_disk_is_not_taken_for_a_new_one(sandbox: Sandbox, words: list[str]) -> None:
    sandbox.mirror({"a.md": "an aardvark"})
    disk = sandbox.root / "disk"
    sandbox.state.rename(disk)
    sandbox.state.symlink_to(disk)
    disk.rename(sandbox.root / "unmounted")
    result = sandbox.run(*words)
    assert result.code == 2
    assert f"{sandbox.state} is a symlink to the missing {disk}; mount its disk" in result.err + result.out
    (sandbox.root / "unmounted").rename(disk)
    assert sandbox.once()["uploaded"] == 0
