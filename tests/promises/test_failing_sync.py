"""Tests a disk whose syncs fail: kbsync reports it and loses nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import programs
from tests.cli.sandbox import LONGEST, Sandbox
from tests.promises.disk import built
from tests.share import long

pytestmark = [programs.needs("gcc"), long]

SOURCE = Path(__file__).with_name("failing.c")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("failing"), SOURCE)


def run(sandbox: Sandbox, library: Path, disk: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run kbsync as a process in which no file below `disk` can be synced."""
    environment = sandbox.environ({"LD_PRELOAD": str(library), "FAILING_DISK": f"{disk}/"})
    command = (sys.executable, "-m", "kbsync", *words)
    return programs.run_program(*command, env=environment, cwd=sandbox.root, timeout=LONGEST)


def test_copy_that_cannot_be_synced_is_removed_and_its_disk_blamed(sandbox: Sandbox, library: Path) -> None:
    sandbox.mirror({"a.md": "a word"})
    folder = sandbox.add_folder("backups")
    result = run(sandbox, library, folder, "state", "backup", folder / "copy.db")
    assert result.returncode == 4
    assert f"{folder / 'copy.db'}: the disk failed; check the disk" in result.stderr
    assert list(folder.iterdir()) == []


def test_pass_on_a_disk_whose_syncs_fail_loses_and_repeats_nothing(sandbox: Sandbox, library: Path) -> None:
    sandbox.mirror({"a.md": "an otter", "b.md": "a badger"})
    sandbox.write_all({"a.md": "a weasel", "c.md": "a polecat"})
    (sandbox.docs / "b.md").unlink()
    completed = run(sandbox, library, sandbox.state, "--once")
    assert (
        completed.returncode == 4
        and "the disk failed" in completed.stderr
        and "Traceback" not in completed.stderr
    )
    result = sandbox.once()
    assert (result["uploaded"], result["replaced"], result["deleted"]) == (1, 1, 1)
    assert sandbox.status()["documents"]["ready"] == 2
    assert [sandbox.search(word) for word in ("weasel", "polecat", "badger")] == [["a.md"], ["c.md"], []]
