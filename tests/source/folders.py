"""Shared code for tests of a folder: files, refusals of the operating system, and stored rows."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from kbsync.contract.target import Limits
from kbsync.core.selection import Rules
from kbsync.source.scan import FolderListing, Scan, StoredTree
from kbsync.state.files import EntryRow, FolderRow, digest_of

OBSTACLES = [errno.EACCES, errno.EIO, errno.ESTALE, errno.ELOOP, errno.ETIMEDOUT, errno.ENOTCONN]
"""Errors that don't show whether a path exists."""

RULES = Rules(None, ("shut/",), Limits(extensions=frozenset({"md"})))


def write(root: Path, path: str, text: str = "words\n") -> Path:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def refuse(monkeypatch: pytest.MonkeyPatch, call: str, name: object, number: int) -> None:
    """Let one of os's functions fail for `name`, or for "anything"."""
    real = getattr(os, call)

    def failing(subject: Any, *args: Any, **options: Any) -> Any:
        if name in (subject, "anything"):
            raise OSError(number, os.strerror(number))
        return real(subject, *args, **options)

    monkeypatch.setattr(os, call, failing)


def open_below(folder: Path) -> int:
    """Return how many descriptors this process has of the folder and all below it, deleted files included."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            path = os.readlink(f"/proc/self/fd/{name}")
        except OSError as error:
            path = str(folder) if error.errno == errno.ENAMETOOLONG else ""  # else it was closed meanwhile
        count += f"{path}/".startswith(f"{folder}/")
    return count


class Tree(StoredTree):
    """A tree that learns from listings as a state would."""

    def __init__(self) -> None:
        self.entries: dict[str, dict[str, EntryRow]] = {}
        self.stored: dict[str, FolderRow] = {}
        self.digests: dict[str, bytes | None] = {}
        self.read_paths: list[str] = []

    def content(self, directory: str) -> tuple[bytes | None, dict[str, FolderRow]]:
        self.read_paths.append(directory)
        below = ((path.rpartition("/"), row) for path, row in self.stored.items() if path)
        folders = {name: row for (above, _, name), row in below if above == directory}
        return self.digests.get(directory), folders

    def rows(self, directory: str) -> set[EntryRow]:
        return set(self.entries.get(directory, {}).values())

    def record_digest(self, directory: str) -> None:
        self.digests[directory] = digest_of(self.rows(directory))

    def folder(self, directory: str) -> FolderRow | None:
        return self.stored.get(directory)

    def learn(self, listing: FolderListing) -> None:
        self.stored[listing.path] = FolderRow(
            listing.path, listing.version, listing.is_mount, listing.problem, mount=listing.mount
        )
        rows = self.entries.setdefault(listing.path, {})
        self.digests.pop(listing.path, None)
        for change in listing.changed:
            s = change.stamp
            rows[change.name] = (change.name, s.size, s.mtime_ns, s.ctime_ns, s.ino)
        for name in listing.missing:
            del rows[name]
        for name in [*listing.gone_folders, *(name for name, _ in listing.excluded_folders)]:
            deleted = f"{listing.path}/{name}" if listing.path else name
            for path in [path for path in self.stored if f"{path}/".startswith(f"{deleted}/")]:
                del self.stored[path]
                self.entries.pop(path, None)


def listed(root: Path, tree: Tree, rules: Rules = RULES, **options: Any) -> dict[str, FolderListing]:
    """Return a scan's listings by path, without storing them."""
    changes = list(Scan(root, tree, rules, **options))
    assert len({listing.path for listing in changes}) == len(changes)
    return {listing.path: listing for listing in changes}


def learnt(root: Path, tree: Tree, rules: Rules = RULES, **options: Any) -> dict[str, FolderListing]:
    changes = listed(root, tree, rules, **options)
    for listing in changes.values():
        tree.learn(listing)
    return changes


def store_listings(root: Path, tree: Tree, *paths: str) -> None:
    """Store the scan's listings."""
    for path in paths:
        write(root, path)
    learnt(root, tree)
