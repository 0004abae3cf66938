"""Finds differences between a folder on disk and its stored rows, one directory at a time.

A directory is listed through its descriptor, and the whole list is compared with the stored rows. Only
differences are reported. Memory holds only one directory and the names of the directories still to visit. A
scan runs in a single thread: `stat` takes most of the time, and more threads would only compete.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import field
from pathlib import Path
from typing import Any, Self

from kbsync.core.model import NO_STAMP, UNMOUNTED, FileChoice, FileKind, Formats, Stamp, Verdict
from kbsync.core.selection import Rules
from kbsync.dataclass import dataclass
from kbsync.source.roots import (
    FolderStack,
    error_words_at,
    identify_mount,
    is_same_mount,
    mount_of,
    mounts_below,
)
from kbsync.source.stat import RulesUnknown, kind_of, stamp_of, storable, with_ignore_file
from kbsync.state.db import unbind
from kbsync.state.files import EntryRow, FolderRow, digest_of
from kbsync.state.read_only import Tx

_NO_RULES = Rules(None, (), Formats())


class StoredTree:
    """A mirror's stored files, queried for each directory. Raises `StateError`.

    `read` runs a function on the state, in the scan's thread. `write` runs a function in a later transaction.
    """

    def __init__(
        self,
        read: Callable[[Callable[[Tx], Any]], Any],
        mirror: int,
        write: Callable[[Callable[[Tx], None]], object] | None = None,
    ) -> None:
        self._read = read
        self._mirror = mirror
        self._write = write

    def content(self, directory: str) -> tuple[bytes | None, dict[str, FolderRow]]:
        """Return the digest of the directory's `rows`, if known, and the stored subdirectories by name."""

        def read(tx: Tx) -> tuple[bytes | None, dict[str, FolderRow]]:
            folders = {row.path: row for row in tx.folders.below(self._mirror, directory)}
            return tx.entries.digest(self._mirror, directory), folders

        content: tuple[bytes | None, dict[str, FolderRow]] = self._read(read)
        return content

    def rows(self, directory: str) -> set[EntryRow]:
        """Return the row of each file stored directly in the directory.

        A file name that isn't UTF-8 is still bytes, as SQLite returns it.
        """
        rows: set[EntryRow] = self._read(lambda tx: set(tx.entries.rows(self._mirror, directory)))
        return rows

    def record_digest(self, directory: str) -> None:
        """Record the digest of the `rows` in a later transaction, so that the next scan doesn't have to read
        them.
        """
        if self._write is not None:
            self._write(lambda tx: tx.entries.record_digest(self._mirror, directory))

    def folder(self, directory: str) -> FolderRow | None:
        """Return the directory's own row."""
        row: FolderRow | None = self._read(lambda tx: tx.folders.get(self._mirror, directory))
        return row


@dataclass(frozen=True, slots=True)
class FoundEntry:
    """An entry that isn't a folder. Its stamp is NO_STAMP if it exists but `stat` failed."""

    name: str
    stamp: Stamp
    kind: FileKind
    links: int


@dataclass(frozen=True, slots=True)
class FolderListing:
    """One directory that differs from its stored rows.

    With a `problem` it couldn't be listed: everything below is unknown, and `version` and all other fields
    are empty. `changed`: entries that are new or have a different stamp, or all entries if the directory is
    `new`, stored under a different version (`reselect`), or at or below one that had a problem before.
    `gone_folders`: no longer on disk. `excluded_folders`: on disk, but excluded by the rules now. `mount`:
    what is mounted there (`identify_mount`). `changed_mount`: the folder, at or above a missing name, where a
    disk was mounted, unmounted or replaced since it was last listed, so what is missing may only be hidden or
    on another disk. `rules` apply in it.
    """

    path: str
    version: str = ""
    is_mount: bool = False
    mount: str = ""
    changed_mount: str = ""
    problem: str = ""
    changed: tuple[FoundEntry, ...] = ()
    missing: tuple[str, ...] = ()
    gone_folders: tuple[str, ...] = ()
    excluded_folders: tuple[tuple[str, Verdict], ...] = ()
    new: bool = False
    reselect: bool = False
    rules: Rules = field(default=_NO_RULES, repr=False, compare=False)


@dataclass(slots=True)
class ScanSummary:
    """The counts of a scan so far. `changes`: how many folders and entries differ from their stored rows.

    `mount_points`: where something was mounted in the scanned folders, or anywhere at the end of the scan,
    relative to the root.
    """

    directories: int = 0
    files: int = 0
    changes: int = 0
    mount_points: set[str] = field(default_factory=set)


@dataclass(slots=True, eq=False, repr=False)
class _Folder:
    """A folder to list, with its content once it has been listed.

    A very large number of folders may be waiting, so the second group of fields is set only when the folder
    is listed.
    """

    depth: int  # relative to the root
    name: str
    rules: Rules  # the parent's rules until the folder is entered, then its own
    stored: FolderRow | None
    everything: bool = False  # report every entry, because the folder or one above it had a problem
    changed_mount: str = ""  # the folder above it where a disk was mounted, unmounted or replaced

    path: str = field(init=False)
    fd: int = field(init=False)
    is_mount: bool = field(init=False)
    mount: str = field(init=False)
    rows: list[EntryRow] = field(init=False)
    folders: set[str] = field(init=False)
    unclear: set[str] = field(init=False)  # `stat` failed
    raced: set[str] = field(init=False)  # vanished while the folder was listed

    @property
    def was_mounted(self) -> bool:
        return self.stored is not None and self.stored.is_mount

    @property
    def needs_mount(self) -> bool:
        return self.stored is not None and self.stored.needs_mount

    @property
    def had_problem(self) -> bool:
        return self.stored is not None and bool(self.stored.problem)

    @property
    def has_changed_mount(self) -> bool:
        stored = self.stored
        if stored is None:
            return False
        return stored.is_mount != self.is_mount or not is_same_mount(stored.mount, self.mount)

    def path_of(self, name: str) -> str:
        return f"{self.path}/{name}" if self.path else name

    def read(self) -> None:
        """Read the listing. Raises OSError, including when entries can be listed but not checked."""
        self.rows, self.folders, self.unclear, self.raced = [], set(), set(), set()
        add = self.rows.append
        with os.scandir(self.fd) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    self.folders.add(entry.name)
                    continue
                try:
                    status = entry.stat(follow_symlinks=False)
                except PermissionError:
                    # In a folder that may be listed but not entered, `stat` fails for every entry.
                    raise
                except FileNotFoundError:
                    self.raced.add(entry.name)
                except OSError:
                    self.unclear.add(entry.name)
                else:
                    add((entry.name, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino))


class _Blocked(Exception):
    """Raised if a folder can't be listed. `str()` says why."""


class _RacedAway(Exception):
    """Raised if a folder has disappeared, which the next check of its parent reports."""


class Scan(Iterator[FolderListing]):
    """Compares a folder, and everything below it, with the stored rows. `summary` has the counts so far."""

    def __init__(
        self, root: Path, stored: StoredTree, rules: Rules, *, start: str = "", deep: bool = False
    ) -> None:
        """Compare the folder `start` of the mirror at `root`.

        `rules`: the rules from the config; the scan reads ignore files on the way. `deep`: report every
        directory, with every regular file in `changed`, to be hashed again. If `start` doesn't exist or the
        rules exclude it, yield nothing, because a scan of its parent would report that.
        """
        self.summary = ScanSummary()
        self._root = root
        self._known = stored
        self._rules = rules
        self._start = start
        self._deep = deep
        self._listings = self._run()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> FolderListing:
        return next(self._listings)

    def close(self) -> None:
        """Close all descriptors. Safe to call more than once."""
        self._listings.close()

    def _run(self) -> Generator[FolderListing, None, None]:
        try:
            self._mounts = mounts_below(self._root)
            self._stack = FolderStack(self._root)
        except OSError as error:
            yield FolderListing("", problem=f"cannot be listed: {error_words_at(error)}")
            return
        with closing(self._stack):
            pending = self._first()
            while pending:
                folder = pending.pop()
                try:
                    self._enter(folder)
                    try:
                        folder.read()
                    except OSError as error:
                        raise _Blocked(f"cannot be listed: {error_words_at(error)}") from error
                    listing = self._compare(folder, pending)
                except _RacedAway:
                    continue
                except _Blocked as blocked:
                    stored, problem, mounted = folder.stored, str(blocked), folder.was_mounted
                    # Report a known problem again only if everything below is reported.
                    if stored is not None and stored.problem == problem and not folder.everything:
                        continue
                    listing = FolderListing(
                        folder.path, is_mount=mounted, problem=problem, new=stored is None
                    )
                if listing:
                    yield listing
        # A folder that was mounted after the start was listed like an ordinary one.
        with suppress(OSError):
            self.summary.mount_points |= mounts_below(self._root)

    def _first(self) -> list[_Folder]:
        """Return the folder to start from, or nothing if it has disappeared or the rules exclude it.

        Return one of its ancestors instead if that can't be listed, or if a disk was mounted, unmounted or
        replaced there.
        """
        folder = _Folder(0, "", self._rules, self._known.folder(""))
        for name in self._start.split("/") if self._start else ():
            try:
                self._enter(folder)
            except _Blocked:
                return [folder]
            except _RacedAway:
                return []
            if folder.has_changed_mount:
                return [folder]
            path = folder.path_of(name)
            if folder.rules.enters(path).choice is not FileChoice.SELECTED:
                return []
            folder = _Folder(folder.depth + 1, name, folder.rules, self._known.folder(path))
        return [folder]

    def _enter(self, folder: _Folder) -> None:
        """Open a folder and read its rules. The call may be repeated after _RacedAway or _Blocked."""
        folder.path = self._stack.path_to(folder.depth, folder.name)
        try:
            folder.fd = self._stack.enter(folder.depth, folder.name)
            folder.is_mount, folder.mount = False, ""
            if folder.was_mounted or folder.path in self._mounts:
                # Much may have changed since the scan began, so check which mount the folder was opened
                # through.
                mount = mount_of(folder.fd)
                point = os.path.join(os.path.realpath(self._root), folder.path)
                if mount is not None and mount.point == point:
                    folder.is_mount, folder.mount = True, identify_mount(folder.fd, mount)
                    self.summary.mount_points.add(folder.path)
            if folder.needs_mount and not folder.is_mount:
                raise _Blocked(UNMOUNTED)  # the files on that disk are unknown, not missing (promise 5)
            folder.rules = with_ignore_file(folder.rules, folder.path, folder.fd)
        except (FileNotFoundError, NotADirectoryError):
            if folder.needs_mount:
                raise _Blocked(UNMOUNTED) from None
            raise _RacedAway from None
        except OSError as error:
            raise _Blocked(f"cannot be listed: {error_words_at(error)}") from error
        except RulesUnknown as error:
            raise _Blocked(str(error)) from error

    def _compare(self, folder: _Folder, pending: list[_Folder]) -> FolderListing | None:
        """Add the subfolders of a listed folder to `pending`, and return the folder's differences, if any."""
        self.summary.directories += 1
        self.summary.files += len(folder.rows)
        stored, (digest, stored_folders) = folder.stored, self._known.content(folder.path)
        differing_rows = self._differing_rows(folder, digest)
        everything = folder.everything or folder.had_problem or folder.has_changed_mount
        changed_mount = folder.changed_mount or (folder.path if folder.has_changed_mount else "")

        # Visit a mount point even if its name is gone, to report it as unknown (promise 1).
        mount_points = {name for name, item in stored_folders.items() if item.needs_mount}
        excluded = []
        for name in sorted(folder.folders | mount_points, reverse=True):  # the last one is popped first
            verdict = folder.rules.enters(folder.path_of(name))
            if verdict.choice is FileChoice.SELECTED:
                below = stored_folders.get(name)
                pending.append(
                    _Folder(folder.depth + 1, name, folder.rules, below, everything, changed_mount)
                )
            elif name in stored_folders:
                excluded.append((name, verdict))
        gone_folders = tuple(sorted(stored_folders.keys() - folder.folders - mount_points))
        gone_mounts = (folder.path_of(name) for name in gone_folders if stored_folders[name].is_mount)

        version = folder.rules.version
        is_new = stored is None
        is_reselected = stored is not None and stored.version != version
        whole = everything or is_new or is_reselected
        has_same_mount = stored is None or stored.mount == folder.mount
        has_same_content = differing_rows is None and has_same_mount
        is_back = stored is not None and stored.is_gone
        is_affected = whole or is_back or excluded or gone_folders or folder.unclear
        if has_same_content and not (is_affected or self._deep):
            return None
        found, lost = differing_rows or (set(), set())
        present = {row[0] for row in folder.rows} | folder.unclear
        differing = {row[0] for row in found} | folder.unclear
        changed = _entries_of(folder.fd, present if whole or self._deep else differing)
        if not whole and self._deep:
            changed = (item for item in changed if item.kind is FileKind.FILE or item.name in differing)
        certain = {row[0] for row in found | lost} - folder.unclear - folder.raced
        self.summary.changes += sum(not stored_folders[name].is_gone for name in gone_folders)
        self.summary.changes += 1 if is_new or is_back else len(certain)
        return FolderListing(
            path=folder.path,
            version=version,
            is_mount=folder.is_mount,
            mount=folder.mount,
            changed_mount=changed_mount or next(gone_mounts, ""),
            changed=tuple(changed),
            missing=tuple(sorted({row[0] for row in lost} - present - folder.raced)),
            gone_folders=gone_folders,
            excluded_folders=tuple(excluded),
            new=is_new,
            reselect=is_reselected,
            rules=folder.rules,
        )

    def _differing_rows(
        self, folder: _Folder, digest: bytes | None
    ) -> tuple[set[EntryRow], set[EntryRow]] | None:
        """Return the rows that are only on disk and those that are only stored, or None if there are none.

        `digest`: the digest of the stored rows, if known.
        """
        current_digest = digest_of(folder.rows)
        if current_digest is not None and current_digest == digest:
            return None
        rows, stored_rows = set(folder.rows), self._known.rows(folder.path)
        if rows == stored_rows:
            if current_digest is not None:
                self._known.record_digest(folder.path)
            return None
        # Convert only now, so that unchanged files cost nothing.
        stored_rows = {(unbind(row[0]), *row[1:]) for row in stored_rows}
        rows = {(name, size, *storable(*others)) for name, size, *others in rows}
        return None if rows == stored_rows else (rows - stored_rows, stored_rows - rows)


def _entries_of(fd: int, names: Iterable[str]) -> Iterator[FoundEntry]:
    """Stat these entries to determine their kind, skipping those that have disappeared."""
    for name in sorted(names):
        try:
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            continue
        except OSError:
            yield FoundEntry(name, NO_STAMP, FileKind.FILE, 0)
            continue
        kind = kind_of(status.st_mode)
        if kind is not FileKind.FOLDER:
            yield FoundEntry(name, stamp_of(status), kind, status.st_nlink)
