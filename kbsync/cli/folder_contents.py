"""Quickly scans a folder for files to mirror, excluded files and unreadable files.

`kbsync init` shows the result as a preview. `kbsync doctor` uses it to report unreadable files and to count
folders.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kbsync.contract.target import Limits
from kbsync.core.model import FileChoice, FileKind, Formats
from kbsync.core.selection import IGNORE_FILE, Rules, literal_pattern
from kbsync.core.text import format_count, format_size, printable, shell_command, shell_word
from kbsync.dataclass import dataclass
from kbsync.source.stat import RulesUnknown, kind_of, rules_in
from kbsync.state.files import folder_label

if TYPE_CHECKING:
    from kbsync.config.model import MirrorConfig
    from kbsync.installation import Installation

SECONDS = 5.0
"""Maximum number of seconds that the user has to wait for the scan."""

KINDS_NAMED, REASONS_NAMED = 8, 20

VAULT, MAX_SETTINGS_BYTES = ".obsidian", 1_000_000
"""The folder that marks its parent as an Obsidian vault, and the maximum size in bytes of a settings file in
it."""


@dataclass(slots=True)
class FolderContents:
    """The contents of a folder. Excluded folders aren't scanned, and symlinks aren't followed.

    `selected`, `bytes`: what would be mirrored, by extension. `left_out`: number of excluded entries by
    reason; `example`: one of each. `unreadable`: selected files and folders that cannot be read.
    `unread_gitignores`: folders' .gitignore files without a .kbsyncignore next to them. `vaults`: Obsidian
    vaults by path, each with the folders that Obsidian's search excludes or that hold templates.
    `is_complete`: the scan finished in time.
    """

    folders: int = 1
    files: int = 0
    selected: Counter[str] = field(default_factory=Counter)
    bytes: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    example: dict[str, str] = field(default_factory=dict)
    unreadable: int = 0
    first_unreadable: str = ""
    unread_gitignores: list[str] = field(default_factory=list)
    vaults: dict[str, list[str]] = field(default_factory=dict)
    is_complete: bool = True

    def leave_out(self, path: str, reason: str) -> None:
        """Count an entry that is not mirrored."""
        self.left_out[reason] += 1
        self.example.setdefault(reason, path)

    def count_unreadable(self, path: str) -> None:
        """Count a selected entry that can't be read."""
        self.unreadable += 1
        self.first_unreadable = self.first_unreadable or path


def scan_folder(folder: Path, rules: Rules, seconds: float = SECONDS) -> FolderContents:
    """Scan a folder for at most `seconds`. Raises OSError if the folder can't be listed."""
    contents, until = FolderContents(), time.monotonic() + seconds
    os.scandir(folder).close()
    remaining = [("", rules)]
    while remaining:
        if time.monotonic() > until:
            # A network disk may take hours.
            contents.is_complete = False
            break
        below, inherited = remaining.pop()
        try:
            remaining += _count_entries(contents, folder, below, inherited)
        except FileNotFoundError:
            continue  # it was deleted meanwhile
        except OSError as error:
            contents.leave_out(folder_label(below), error.strerror or str(error))
            contents.count_unreadable(str(folder / below))
    return contents


def scan_mirror(mirror: MirrorConfig, limits: Formats) -> FolderContents:
    """Scan a mirror's folder like `scan_folder`, for files within the target's `limits`."""
    return scan_folder(mirror.folder, Rules(mirror.include, mirror.exclude, limits))


def _count_entries(
    contents: FolderContents, root: Path, below: str, rules: Rules
) -> Iterator[tuple[str, Rules]]:
    """Count the entries of a folder. Yield its subfolders to scan, each with its rules."""
    with os.scandir(root / below) as entries:
        listed = sorted(entries, key=lambda entry: entry.name)
    names = {entry.name for entry in listed}
    if IGNORE_FILE in names:
        try:
            rules = rules_in(root / below, rules, below)
        except RulesUnknown as error:
            # A pass stops there, too, and reports it.
            contents.leave_out(folder_label(below), str(error))
            return
    elif ".gitignore" in names:
        contents.unread_gitignores.append(f"{below}/.gitignore" if below else ".gitignore")
    if VAULT in names and (root / below / VAULT).is_dir():
        contents.vaults[below] = _unsearched_folders(root / below)
    for entry in listed:
        path = f"{below}/{entry.name}" if below else entry.name
        if entry.is_dir(follow_symlinks=False):
            if rules.enters(path).choice is FileChoice.SELECTED:
                contents.folders += 1
                yield path, rules
            else:
                contents.leave_out(f"{path}/", "excluded folders")
        else:
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue  # it was deleted meanwhile
            size, kind = status.st_size, kind_of(status.st_mode)
            contents.files += kind is FileKind.FILE
            verdict = rules.verdict(path, size, kind)
            if verdict.choice is not FileChoice.SELECTED:
                contents.leave_out(path, verdict.reason)
                continue
            stem, dot, extension = entry.name.rpartition(".")
            name = extension.lower() if stem and dot else entry.name
            contents.selected[name] += 1
            contents.bytes[name] += size
            if not os.access(entry.path, os.R_OK):
                contents.count_unreadable(entry.path)


def _unsearched_folders(vault: Path) -> list[str]:
    """Return the folders that a vault's own settings exclude from Obsidian's search, and its templates
    folder.

    Only folders that exist are returned. Patterns in Obsidian's settings are ignored.
    """

    def settings(name: str) -> dict[str, Any]:
        file = vault / VAULT / name
        try:
            is_small = file.is_file() and file.stat().st_size < MAX_SETTINGS_BYTES
            value = json.loads(file.read_bytes()) if is_small else {}
        except (OSError, ValueError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}

    excluded = settings("app.json").get("userIgnoreFilters")
    named = [*(excluded if isinstance(excluded, list) else []), settings("templates.json").get("folder")]
    folders = {name.strip("/") for name in named if isinstance(name, str)}
    # No pattern can contain a line end, `.` or `..`.
    possible = (
        folder for folder in folders if "\n" not in folder and {"", ".", ".."}.isdisjoint(folder.split("/"))
    )
    return sorted(folder for folder in possible if (vault / folder).is_dir())


def limits_of(installation: Installation, mirror: MirrorConfig) -> Limits:
    """Return the target's limits, without using the network. Raises `KbsyncError`."""
    import asyncio

    async def read_limits() -> Limits:
        async with aclosing(await asyncio.to_thread(installation.target_or_stand_in, mirror)) as target:
            return target.limits

    return asyncio.run(read_limits())


def describe(name: str, folder: Path, contents: FolderContents, *, is_paid: bool) -> Iterator[str]:
    """Yield the contents of `folder` as lines: totals, extensions, excluded files, vaults and costs."""
    so_far = "" if contents.is_complete else " so far; the scan ran out of time"
    files, size = contents.selected.total(), format_size(contents.bytes.total())
    yield f"{name}: {format_count(files, 'document')}, {size} to mirror{so_far}"
    named = contents.selected.most_common(KINDS_NAMED)
    width = max((len(kind) for kind, _ in named), default=0)
    for kind, number in named:
        yield printable(f"  {kind:{width}}  {number:>7,}  {format_size(contents.bytes[kind]):>7}")
    if len(contents.selected) > len(named):
        yield f"  … and {format_count(len(contents.selected) - len(named), 'other kind')}"
    for reason, number in contents.left_out.most_common(REASONS_NAMED):
        yield printable(f"  left out: {number:,} ({reason}), such as {contents.example[reason]}")
    if (more := len(contents.left_out) - REASONS_NAMED) > 0:
        yield f"  left out: … for {format_count(more, 'other reason')}"
    if contents.unread_gitignores:
        example = printable(contents.unread_gitignores[0])
        yield f"  kbsync doesn't read {example}; to exclude the files it lists, copy it to {IGNORE_FILE}"
    yield from describe_vaults(folder, contents)
    if is_paid and files:
        yield f"  cost: the service's prices for {format_count(files, 'document')} ({size})"


def describe_vaults(folder: Path, contents: FolderContents) -> Iterator[str]:
    """Yield a line for each Obsidian vault, and a line with the command that excludes the same files as
    Obsidian.
    """
    for vault, unsearched in contents.vaults.items():
        which = f"{vault}/ is" if vault else "this is"
        yield printable(f"  {which} an Obsidian vault: searches find aliases, tags, properties and links")
        if unsearched:
            command = shell_command(
                ["printf", "%s\\n", *(f"/{literal_pattern(path)}/" for path in unsearched)]
            )
            command += f" >> {shell_word(str(folder / vault / IGNORE_FILE))}"
            yield printable(f"  to exclude {', '.join(unsearched)}, as Obsidian's search does: {command}")
