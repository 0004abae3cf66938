"""SIGKILL of the real process with the embedded target, at every commit of the state and of the index."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kbsync.targets.local.target import LocalTarget
from tests.crash.driver import installation
from tests.share import SHARE, boundaries


def run(folder: Path, state: Path, at: int) -> int:
    """Boundaries gone through, or 0 when it was killed."""
    command = [sys.executable, "-m", "tests.crash.driver", str(folder), str(state), str(at)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode in (0, -9), done.stderr
    return int(done.stdout) if done.returncode == 0 else 0


def indexed(folder: Path, state: Path) -> dict[str, str]:
    place = installation(folder, state)
    target = place.target(place.mirrors[0], read_only=True)
    assert isinstance(target, LocalTarget)

    async def texts() -> dict[str, str]:
        found: dict[str, str] = {}
        async for listed in target.list():
            assert listed.path is not None and listed.path not in found, "two documents for one file"
            found[listed.path] = (await target.explain(listed.remote_id)).text.strip()
        await target.aclose()
        return found

    return asyncio.run(texts())


def on_disk(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text().strip() for p in folder.rglob("*.md")}


def edit(folder: Path) -> None:
    (folder / "new.md").write_text("a new file")
    (folder / "f1.md").write_text("changed text of f1")
    (folder / "f2.md").rename(folder / "moved.md")
    (folder / "f3.md").unlink()


@pytest.mark.parametrize("change", [edit], ids=["edit"])
def test_killed_at_every_commit_each_file_ends_as_exactly_one_document(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    start = tmp_path / "start"
    (start / "docs").mkdir(parents=True)
    for i in range(6):
        (start / "docs" / f"f{i}.md").write_text(f"text of f{i}")
    first = run(start / "docs", start / "state", 0)
    assert first >= 4
    for at in range(1, first + 1, SHARE):
        folder, state = tmp_path / f"a{at}" / "docs", tmp_path / f"a{at}" / "state"
        shutil.copytree(start / "docs", folder)
        if not run(folder, state, at):  # a quicker run may have fewer commits than the first
            run(folder, state, 0)
        assert indexed(folder, state) == on_disk(folder)
    folder, state = start / "docs", start / "state"
    change(folder)
    for at in boundaries():  # the same folder and state, killed at one boundary after the other
        if run(folder, state, at):
            break
        assert "text of f0" in indexed(folder, state)["f0.md"]
    assert indexed(folder, state) == on_disk(folder)
