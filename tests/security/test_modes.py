"""Tests that kbsync's files are only for its own user, whatever the umask, and that looser modes are
corrected."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kbsync.source.wake import wake
from tests.cli.sandbox import Sandbox
from tests.index import samples
from tests.share import enumerated, long


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def loose(below: Path) -> list[str]:
    """Return the files that other users may read, write or enter."""
    return [str(p) for p in (below, *below.rglob("*")) if stat.S_IMODE(p.lstat().st_mode) & 0o077]


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    sandbox = Sandbox(tmp_path)
    sandbox.write("a.md", "# A\n\nwords of a page\n")
    sandbox.write("b.docx", samples.docx())
    return sandbox


@long
@enumerated()
@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_state_index_spool_lock_and_backup_are_private_whatever_the_umask(sandbox, mask):
    loose_paths: list[str] = []
    with umask(mask):
        sandbox.configure()
        assert sandbox.run("--once", env={"PYTHONWARNINGS": "default"}).code == 0
        loose_paths += loose(sandbox.state)
        wake(sandbox.state)
        assert sandbox.run("state", "backup", sandbox.root / "copy.db").code == 0
    assert [*loose_paths, *loose(sandbox.state)] == []
    assert stat.S_IMODE((sandbox.root / "copy.db").stat().st_mode) == 0o600
    names = {p.name for p in sandbox.state.rglob("*")}
    assert {"state.db", "state.db-wal", "lock", "wake", "index.db", "spool"} <= names


@long
def test_world_permissions_are_removed_and_group_read_is_kept(sandbox):
    sandbox.configure()
    assert sandbox.run("--once").code == 0
    state = sandbox.state / "state.db"
    for file in sandbox.state.glob("state.db*"):
        file.chmod(0o666)
    for file in sandbox.state.glob("kb/*/*.db*"):
        file.chmod(0o644)
    assert sandbox.run("--once").code == 0
    assert {stat.S_IMODE(p.stat().st_mode) for p in sandbox.state.rglob("*.db*")} == {0o640}
    assert stat.S_IMODE(state.stat().st_mode) == 0o640


def test_world_writable_state_directory_is_refused(sandbox):
    sandbox.configure()
    sandbox.state.mkdir(parents=True)
    sandbox.state.chmod(0o777)
    result = sandbox.run("--once")
    assert result.code == 2 and "chmod o-w" in result.err and str(sandbox.state) in result.err
    assert list(sandbox.state.iterdir()) == []


@long
def test_symlinks_in_place_of_lock_or_wake_files_are_not_followed(sandbox):
    sandbox.configure()
    assert sandbox.run("--once").code == 0
    victim = sandbox.root / "victim"
    victim.write_text("untouched")
    before = victim.stat()
    (sandbox.state / "lock").unlink()
    for name in ("wake", "lock"):
        (sandbox.state / name).symlink_to(victim)
    with pytest.raises(OSError):
        wake(sandbox.state)
    result = sandbox.run("--once")
    assert (
        result.code not in (0, 1)
        and "Traceback" not in result.err
        and str(sandbox.state / "lock") in result.err
    )
    assert victim.read_text() == "untouched" and victim.stat().st_mtime_ns == before.st_mtime_ns
