"""A quick look through a mirrored folder: how much there is, and what of it cannot be read."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kbsync.cli.census import narrowed
from kbsync.config.model import MirrorConfig
from kbsync.core.model import Choice, Kind, Limits
from kbsync.core.select import Rules

WALK_SECONDS = 4.0


@dataclass(slots=True)
class Walked:
    """What is in a folder, without folders that are left out. `is_whole`: all of it was looked at in time."""

    folders: int = 1
    files: int = 0
    shut: int = 0
    first_shut: str = ""
    is_whole: bool = True

    def count_shut(self, path: str) -> None:
        """One that is wanted and cannot be read."""
        self.shut += 1
        self.first_shut = self.first_shut or path


def walk(mirror: MirrorConfig, limits: Limits | None = None, seconds: float = WALK_SECONDS) -> Walked:
    """Count what is in the folder; symlinks are not followed. Raises OSError where itself cannot be listed.

    `limits`: what the target takes; without them every file in a folder that is entered is wanted.
    """
    walked, until = Walked(), time.monotonic() + seconds
    left = [("", Rules(mirror.include, mirror.exclude, limits or Limits()))]
    os.scandir(mirror.folder).close()
    while left:
        if time.monotonic() > until:
            walked.is_whole = False
            break
        below, rules = left.pop()
        try:
            left += _counted(walked, mirror.folder, below, rules, knows_formats=limits is not None)
        except OSError:
            walked.count_shut(str(mirror.folder / below))
    return walked


def _counted(
    walked: Walked, root: Path, below: str, rules: Rules, *, knows_formats: bool
) -> Iterator[tuple[str, Rules]]:
    with os.scandir(root / below) as entries:
        rules = _narrowed(rules, root, below)
        for entry in entries:
            path = f"{below}/{entry.name}" if below else entry.name
            if entry.is_dir(follow_symlinks=False):
                if rules.enters(path).choice is Choice.SELECTED:
                    walked.folders += 1
                    yield path, rules
            elif entry.is_file(follow_symlinks=False):
                walked.files += 1
                if not os.access(entry.path, os.R_OK) and (
                    not knows_formats or _is_wanted(rules, path, entry)
                ):
                    walked.count_shut(entry.path)


def _narrowed(rules: Rules, root: Path, below: str) -> Rules:
    try:
        return narrowed(rules, root, below)
    except ValueError:  # a line that says nothing is told by a pass
        return rules


def _is_wanted(rules: Rules, path: str, entry: os.DirEntry[str]) -> bool:
    size = entry.stat(follow_symlinks=False).st_size
    return rules.verdict(path, size, Kind.FILE).choice is Choice.SELECTED
