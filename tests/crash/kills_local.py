"""Kills the real process with the built-in target at chosen commits of the state and of the index."""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing
from pathlib import Path

from kbsync.targets.local.target import LocalTarget
from tests import warm
from tests.crash import driver
from tests.crash.driver import installation
from tests.torture.exercise import PromiseBroken, Tally

KEPT = "f0.md"


def texts_on_disk(folder: Path) -> dict[str, list[str]]:
    """Return what `texts_in_base` must return."""
    return {str(path.relative_to(folder)): [path.read_text().strip()] for path in folder.rglob("*.md")}


def texts_in_base(folder: Path, state: Path, name: str = "docs") -> dict[str, list[str]]:
    """Return texts by path, as the built-in target reads them; none if there is no base yet."""
    if not (state / "kb" / name / "index.db").exists():
        return {}
    opened = installation(folder, state, name)
    target = opened.target(opened.mirrors[0], read_only=True)
    assert isinstance(target, LocalTarget)

    async def texts() -> dict[str, list[str]]:
        results: dict[str, list[str]] = {}
        async with aclosing(target):
            async for listed in target.list():
                text = (await target.explain(listed.remote_id)).text.strip()
                results.setdefault(listed.path or "", []).append(text)
        return results

    return asyncio.run(texts())


class KilledMirror:
    """A folder of six files, its state, and the process that mirrors it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.state = folder / "docs", folder / "state"

    def write_files(self) -> None:
        self.folder.mkdir(parents=True)
        for i in range(6):
            (self.folder / f"f{i}.md").write_text(f"text of f{i}")

    def run(self, stop_at: int) -> int:
        """Return the number of boundaries passed, or 0 if it was killed at boundary `stop_at`."""
        done = warm.run([self.folder, self.state, str(stop_at)], module=driver.__name__, text=True)
        assert done.returncode in (0, -9), done.stderr
        return int(done.stdout) if done.returncode == 0 else 0

    def edit(self, turn: int) -> None:
        """Make every kind of change; leave the kept file alone."""
        changed, moved, deleted = sorted(path for path in self.folder.glob("*.md") if path.name != KEPT)[:3]
        (self.folder / f"new{turn}.md").write_text(f"a new file in turn {turn}")
        (self.folder / f"other{turn}.md").write_text(f"another new file in turn {turn}")
        changed.write_text(f"{changed.name} changed in turn {turn}")
        moved.rename(moved.with_name(f"moved{turn}.md"))
        deleted.unlink()

    def check(self, tally: Tally) -> None:
        """Raise `PromiseBroken` unless each file has exactly one document with its text."""
        if wrong := tally.compare(texts_on_disk(self.folder), texts_in_base(self.folder, self.state)):
            raise PromiseBroken("; ".join(wrong), tally)

    def has_kept(self) -> bool:
        """Return whether searches find the untouched file."""
        return texts_in_base(self.folder, self.state).get(KEPT) == ["text of f0"]

    def check_kept(self, tally: Tally) -> None:
        """Raise `PromiseBroken` unless searches find the untouched file."""
        if not self.has_kept():
            tally.gaps += 1
            raise PromiseBroken(f"{KEPT} was not found after a kill", tally)


def kill_at_random(seed: int, folder: Path, kills: int) -> Tally:
    """Kill the process repeatedly while files change, then let it finish."""
    chance, mirror, tally = random.Random(seed), KilledMirror(folder), Tally()
    mirror.write_files()
    was_found = False
    while tally.crashes < kills and tally.steps < 4 * kills:
        if mirror.run(chance.randint(1, 14)) == 0:
            tally.crashes += 1
        tally.steps += 1
        if was_found:
            mirror.check_kept(tally)
        was_found = was_found or mirror.has_kept()
        if chance.random() < 0.4:
            mirror.edit(tally.steps)
    mirror.run(0)
    mirror.check(tally)
    return tally
