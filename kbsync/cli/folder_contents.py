"""What is in a folder, by the rules of its mirror: what would be mirrored, what is left out and why.

A quick look through a mirrored folder: how much there is, and what of it cannot be read.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from kbsync.cli.output import counted
from kbsync.config.model import MirrorConfig
from kbsync.core.model import Choice, FileKind, Limits
from kbsync.core.selection import IGNORE_FILE, Rules
from kbsync.core.text import printable, sized

if TYPE_CHECKING:
    from kbsync.installation import Installation


SECONDS = 5.0
"""A look at a folder that somebody waits for."""

KINDS_NAMED, REASONS_NAMED = 8, 5


@dataclass(slots=True)
class FolderContents:
    """`files`, `bytes`: what would be mirrored, by extension. `left_out`: by reason, `first`: one of each.

    `unheeded`: the ignore files of git without one of ours beside them.
    """

    files: Counter[str] = field(default_factory=Counter)
    bytes: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    unheeded: list[str] = field(default_factory=list)
    is_whole: bool = True

    def take(self, path: str, size: int) -> None:
        """One that is mirrored."""
        kind = _kind(path)
        self.files[kind] += 1
        self.bytes[kind] += size

    def leave_out(self, path: str, reason: str) -> None:
        """One that is not."""
        self.left_out[reason] += 1
        self.first.setdefault(reason, path)


def _kind(path: str) -> str:
    name = path.rpartition("/")[2]
    stem, dot, extension = name.rpartition(".")
    return extension.lower() if stem and dot else name


def count_contents(folder: Path, limits: Limits, seconds: float = SECONDS) -> FolderContents:
    """Count what a mirror of `folder` would take by default. Raises OSError where it cannot be listed."""
    census, until = FolderContents(), time.monotonic() + seconds
    left = [("", Rules(None, (), limits))]
    os.scandir(folder).close()
    while left:
        if time.monotonic() > until:
            census.is_whole = False
            break
        below, rules = left.pop()
        left += _count_folder(census, folder, below, rules)
    return census


def limits_of(installation: Installation, mirror: MirrorConfig) -> Limits:
    """What the target takes; nothing is asked over any network. Raises `KbsyncError`."""
    import asyncio

    async def look() -> Limits:
        target = await asyncio.to_thread(installation.target_or_stand_in, mirror)
        try:
            return target.limits
        finally:
            await target.aclose()

    return asyncio.run(look())


def _count_folder(
    census: FolderContents, root: Path, below: str, rules: Rules
) -> Iterator[tuple[str, Rules]]:
    try:
        with os.scandir(root / below) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
        rules = narrowed(rules, root, below)
    except (OSError, ValueError) as error:
        census.leave_out(f"{below}/", getattr(error, "strerror", "") or str(error))
        return
    if {".gitignore", IGNORE_FILE} & {entry.name for entry in listed} == {".gitignore"}:
        census.unheeded.append(f"{below}/.gitignore" if below else ".gitignore")
    for entry in listed:
        path = f"{below}/{entry.name}" if below else entry.name
        if entry.is_dir(follow_symlinks=False):
            if rules.enters(path).choice is Choice.SELECTED:
                yield path, rules
            else:
                census.leave_out(f"{path}/", "folders that are left out")
        else:
            _judge(census, rules, path, entry)


def narrowed(rules: Rules, root: Path, below: str) -> Rules:
    """The rules in a folder, by its ignore file. Raises OSError and ValueError."""
    ignored = root / below / IGNORE_FILE
    return rules.below(below, ignored.read_text("utf-8", "replace")) if ignored.is_file() else rules


def _judge(census: FolderContents, rules: Rules, path: str, entry: os.DirEntry[str]) -> None:
    is_file = entry.is_file(follow_symlinks=False)
    other = FileKind.SYMLINK if entry.is_symlink() else FileKind.SPECIAL
    size = entry.stat(follow_symlinks=False).st_size
    verdict = rules.verdict(path, size, FileKind.FILE if is_file else other)
    if verdict.choice is Choice.SELECTED:
        census.take(path, size)
    else:
        census.leave_out(path, verdict.reason)


def describe_contents(name: str, census: FolderContents, *, is_paid: bool) -> Iterator[str]:
    """For a person: totals, extensions, what is left out, and what is known of the cost."""
    so_far = "" if census.is_whole else " so far; it is larger than a quick look"
    files, size = census.files.total(), sized(census.bytes.total())
    yield f"{name}: {counted(files, 'document')}, {size} to mirror{so_far}"
    yield from _kinds(census)
    for reason, number in census.left_out.most_common(REASONS_NAMED):
        yield printable(f"  left out: {number:,} ({reason}), such as {census.first[reason]}")
    if census.unheeded:
        example = printable(census.unheeded[0])
        yield f"  not read: {example}; to leave out what it names, copy it to {IGNORE_FILE}"
    if is_paid and files:
        yield f"  cost: that of {counted(files, 'document')} of {size} by the service's price list"


def _kinds(census: FolderContents) -> Iterator[str]:
    named = census.files.most_common(KINDS_NAMED)
    width = max((len(kind) for kind, _ in named), default=0)
    for kind, number in named:
        yield printable(f"  {kind:{width}}  {number:>7,}  {sized(census.bytes[kind]):>7}")
    others = len(census.files) - len(named)
    if others > 0:
        yield f"  … and {counted(others, 'other kind')}"


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
            left += _walk_folder(walked, mirror.folder, below, rules, knows_formats=limits is not None)
        except OSError:
            walked.count_shut(str(mirror.folder / below))
    return walked


def _walk_folder(
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
    return rules.verdict(path, size, FileKind.FILE).choice is Choice.SELECTED
