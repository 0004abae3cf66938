"""What differs between a folder on disk and what is known of it, one directory at a time.

A directory is listed through its descriptor and compared, as one set of rows, with what is stored for
it; only a difference leaves this module. Nothing here holds more than one directory and the names of
those still to visit. Built for a single thread: the time goes into one `stat` a file, and more threads
only contend.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

from kbsync.core.model import NO_STAMP, Choice, FileKind, Limits, Stamp, Verdict
from kbsync.core.selection import Rules
from kbsync.source.look import RulesUnknown, kind_of, narrowed, stamp_of
from kbsync.source.mounts import mount_of, mounts_below
from kbsync.source.roots import FolderStack, error_words_at

EntryRow = tuple[str, int, int, int, int]
"""(name, size, mtime_ns, ctime_ns, ino) of an entry that is no folder."""

_NO_RULES = Rules(None, (), Limits())
_UNMOUNTED = "was a mount point and is not mounted; mount it again"
_PAGE_LIST = "urls.yaml"
_RETIRED_PAGE_LIST = (
    "lists of pages are not read any more, and their pages are kept;"
    " write a .url file for each page you want, then delete this file"
)


@dataclass(frozen=True, slots=True)
class StoredFolder:
    """What is stored of a folder: the fields of the `Listing` it was last reported with."""

    version: str
    is_mount: bool
    problem: str


class StoredTree(Protocol):
    """What is stored of a mirror; asked twice for each directory."""

    def rows(self, directory: str) -> set[EntryRow]:
        """Every entry stored directly in `directory` that is no folder, whether mirrored or not."""

    def folders(self, directory: str) -> dict[str, StoredFolder]:
        """The stored folders directly in `directory`, by name."""

    def folder(self, directory: str) -> StoredFolder | None:
        """What is stored of `directory` itself ("" is the root)."""


@dataclass(frozen=True, slots=True)
class FoundEntry:
    """An entry that is no folder. With NO_STAMP: there, but it could not be looked at."""

    name: str
    stamp: Stamp
    kind: FileKind
    links: int


@dataclass(frozen=True, slots=True)
class FolderListing:
    """One directory that differs from what is known.

    With a `problem` it could not be listed: everything below is unknown, `version` and all else is empty.
    `changed`: new, or with another stamp, or every entry when the directory is `new`, stored under
    another version (`reselect`), or lies at or below one that had a problem before. `gone_folders`: not
    there any more. `shut_folders`: there, but the rules do not enter them now. `rules` apply in it.
    """

    path: str
    version: str = ""
    is_mount: bool = False
    problem: str = ""
    changed: tuple[FoundEntry, ...] = ()
    missing: tuple[str, ...] = ()
    gone_folders: tuple[str, ...] = ()
    shut_folders: tuple[tuple[str, Verdict], ...] = ()
    new: bool = False
    reselect: bool = False
    rules: Rules = field(default=_NO_RULES, repr=False, compare=False)


@dataclass(slots=True)
class ScanSummary:
    """What a scan has seen so far.

    `errors`: folders and entries that could not be looked at; `changes`: those not as they are known.
    """

    directories: int = 0
    files: int = 0
    errors: int = 0
    changes: int = 0


def scan(
    root: Path,
    known: StoredTree,
    rules: Rules,
    *,
    start: str = "",
    deep: bool = False,
    everything: bool = False,
) -> Scan:
    """Compare the folder `start` of the mirror at `root`, and all below, with `known`.

    `rules` are those of the config; ignore files are read on the way. `deep`: every directory is
    reported, with every regular file in `changed`, to be hashed again; `everything`: with every entry.
    A `start` that is not there, or that the rules do not enter, gives nothing: its parent would tell.
    """
    return Scan(root, known, rules, start, deep, everything)


@dataclass(frozen=True, slots=True)
class _Visit:
    """A folder still to be listed, at `depth` below the root, with the rules of its parent."""

    depth: int
    name: str
    rules: Rules
    known: StoredFolder | None
    everything: bool

    @property
    def was_mounted(self) -> bool:
        return self.known is not None and self.known.is_mount

    @property
    def had_problem(self) -> bool:
        return self.known is not None and bool(self.known.problem)


@dataclass(frozen=True, slots=True)
class _Place:
    """A folder that was entered, with its own rules."""

    fd: int
    path: str
    rules: Rules
    is_mount: bool

    def path_of(self, name: str) -> str:
        return f"{self.path}/{name}" if self.path else name


@dataclass(frozen=True, slots=True)
class _Content:
    """What a folder holds. `unclear`: names that could not be looked at; `raced`: that went meanwhile."""

    rows: set[EntryRow]
    folders: list[str]
    unclear: list[str]
    raced: list[str]


class _Blocked(Exception):
    """The folder at `path` cannot be listed."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(problem)
        self.path = path
        self.problem = problem


class _RacedAway(Exception):
    """A folder is not there any more: the next look at its parent says so."""


class Scan(Iterator[FolderListing]):
    """A scan under way; `summary` counts what it has seen. `close` ends it early."""

    def __init__(
        self, root: Path, known: StoredTree, rules: Rules, start: str, deep: bool, everything: bool
    ) -> None:
        self.summary = ScanSummary()
        self._root = root
        self._known = known
        self._rules = rules
        self._start = start
        self._deep = deep
        self._everything = everything
        self._listings = self._run()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> FolderListing:
        return next(self._listings)

    def close(self) -> None:
        """Let go of all descriptors; repeatable."""
        self._listings.close()

    def _run(self) -> Generator[FolderListing, None, None]:
        try:
            self._mounts = mounts_below(self._root)
            self._ladder = FolderStack(os.open(self._root, os.O_RDONLY | os.O_DIRECTORY))
        except OSError as error:
            self.summary.errors += 1
            yield FolderListing("", problem=f"cannot be listed: {error_words_at(error)}")
            return
        with closing(self._ladder):
            pending = self._first()
            while pending:
                if listing := self._visit(pending.pop(), pending):
                    yield listing

    def _first(self) -> list[_Visit]:
        """The visit to the folder to start from; to the one above it that is closed; or none."""
        visit = _Visit(0, "", self._rules, self._known.folder(""), self._everything)
        for name in self._start.split("/") if self._start else ():
            try:
                place = self._enter(visit)
            except _Blocked:
                return [visit]
            except _RacedAway:
                return []
            path = place.path_of(name)
            if place.rules.enters(path).choice is not Choice.SELECTED:
                return []
            visit = _Visit(visit.depth + 1, name, place.rules, self._known.folder(path), self._everything)
        return [visit]

    def _visit(self, visit: _Visit, pending: list[_Visit]) -> FolderListing | None:
        """List one folder, note the folders in it as `pending`, and say what differs, if anything."""
        try:
            place = self._enter(visit)
            content = self._content(place)
        except _RacedAway:
            return None
        except _Blocked as blocked:
            return self._blocked(visit, blocked)
        self.summary.directories += 1
        self.summary.files += len(content.rows)
        self.summary.errors += len(content.unclear)
        return self._compare(visit, place, content, pending)

    def _enter(self, visit: _Visit) -> _Place:
        path = self._ladder.path_to(visit.depth, visit.name)
        try:
            fd = self._ladder.enter(visit.depth, visit.name)
            is_mount = self._is_mounted(path, fd, visit)
            return _Place(fd, path, narrowed(visit.rules, path, fd), is_mount)
        except (FileNotFoundError, NotADirectoryError):
            if visit.was_mounted:
                raise _Blocked(path, _UNMOUNTED) from None
            if visit.name == _PAGE_LIST and visit.known:
                raise _Blocked(path, _RETIRED_PAGE_LIST) from None
            raise _RacedAway from None
        except OSError as error:
            raise _Blocked(path, f"cannot be listed: {error_words_at(error)}") from error
        except RulesUnknown as error:
            raise _Blocked(path, str(error)) from error

    def _is_mounted(self, path: str, fd: int, visit: _Visit) -> bool:
        """Whether `fd` was opened through a mount of its own; much may have changed since the scan began."""
        if not visit.was_mounted and path not in self._mounts:
            return False
        mount = mount_of(fd)
        is_mounted = mount is not None and mount.point == os.path.join(os.path.realpath(self._root), path)
        if visit.was_mounted and not is_mounted:
            raise _Blocked(path, _UNMOUNTED)
        return is_mounted

    def _content(self, place: _Place) -> _Content:
        try:
            return _content(place.fd)
        except OSError as error:
            raise _Blocked(place.path, f"cannot be listed: {error_words_at(error)}") from error

    def _blocked(self, visit: _Visit, blocked: _Blocked) -> FolderListing | None:
        self.summary.errors += 1
        is_news = visit.everything or visit.known is None or visit.known.problem != blocked.problem
        if not is_news:
            return None
        return FolderListing(
            blocked.path, is_mount=visit.was_mounted, problem=blocked.problem, new=visit.known is None
        )

    def _compare(
        self, visit: _Visit, place: _Place, content: _Content, pending: list[_Visit]
    ) -> FolderListing | None:
        version = place.rules.version
        known_folders = self._known.folders(place.path)
        shut = self._plan(visit, place, content, known_folders, pending)
        if _is_page_list(content, known_folders):
            # Its pages must not count as deleted because a newer kbsync reads the list no more (promise 5).
            pending.append(
                _Visit(visit.depth + 1, _PAGE_LIST, place.rules, known_folders[_PAGE_LIST], visit.everything)
            )
            content.folders.append(_PAGE_LIST)
        gone = _gone(content, known_folders)
        is_new = visit.known is None
        is_reselected = visit.known is not None and visit.known.version != version
        whole = visit.everything or visit.had_problem or is_new or is_reselected
        moved = visit.known is not None and visit.known.is_mount != place.is_mount
        rows = self._known.rows(place.path)
        if not (whole or moved or self._deep or shut or gone or content.unclear) and rows == content.rows:
            return None
        self.summary.changes += len(gone) + (1 if is_new else len(_differing(content, rows)))
        return FolderListing(
            path=place.path,
            version=version,
            is_mount=place.is_mount,
            changed=self._changed(place.fd, content, rows, whole),
            missing=_missing(content, rows),
            gone_folders=gone,
            shut_folders=shut,
            new=is_new,
            reselect=is_reselected,
            rules=place.rules,
        )

    def _plan(
        self,
        visit: _Visit,
        place: _Place,
        content: _Content,
        known_folders: dict[str, StoredFolder],
        pending: list[_Visit],
    ) -> tuple[tuple[str, Verdict], ...]:
        """Note the folders to visit, first one last; the stored ones that the rules shut.

        A mount point is visited even if its very name is gone, to say that it is unknown.
        """
        everything = visit.everything or visit.had_problem
        mounted = [name for name, known in known_folders.items() if known.is_mount]
        shut = []
        for name in sorted({*content.folders, *mounted}, reverse=True):
            known = known_folders.get(name)
            verdict = place.rules.enters(place.path_of(name))
            if verdict.choice is Choice.SELECTED:
                pending.append(_Visit(visit.depth + 1, name, place.rules, known, everything))
            elif known:
                shut.append((name, verdict))
        return tuple(shut)

    def _changed(
        self, fd: int, content: _Content, rows: set[EntryRow], whole: bool
    ) -> tuple[FoundEntry, ...]:
        """The entries to report, looked at once more for their kind; what went meanwhile is left out."""
        differing = {row[0] for row in content.rows - rows}.union(content.unclear)
        if whole:
            return tuple(_looked_at(fd, {row[0] for row in content.rows}.union(content.unclear)))
        if not self._deep:
            return tuple(_looked_at(fd, differing))
        every = _looked_at(fd, {row[0] for row in content.rows} | differing)
        return tuple(found for found in every if found.kind is FileKind.FILE or found.name in differing)


def _content(fd: int) -> _Content:
    """List an open folder. Raises OSError; also where its entries may be named but not looked at."""
    rows: set[EntryRow] = set()
    content = _Content(rows, [], [], [])
    with os.scandir(fd) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                content.folders.append(entry.name)
                continue
            try:
                seen = entry.stat(follow_symlinks=False)
            except OSError as error:
                _note(error, entry.name, content)
                continue
            rows.add((entry.name, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_ino))
    return content


def _note(error: OSError, name: str, content: _Content) -> None:
    """An entry that could not be looked at, unless that holds for the whole folder."""
    if isinstance(error, PermissionError):
        raise error
    (content.raced if isinstance(error, FileNotFoundError) else content.unclear).append(name)


def _looked_at(fd: int, names: Iterable[str]) -> Iterator[FoundEntry]:
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


def _differing(content: _Content, rows: set[EntryRow]) -> set[str]:
    """The entries that are certainly not as they are known."""
    return {row[0] for row in content.rows ^ rows}.difference(content.unclear, content.raced)


def _missing(content: _Content, rows: set[EntryRow]) -> tuple[str, ...]:
    present = {row[0] for row in content.rows}.union(content.unclear, content.raced)
    return tuple(sorted({row[0] for row in rows} - present))


def _is_page_list(content: _Content, known_folders: dict[str, StoredFolder]) -> bool:
    """An older kbsync took this file for a folder of link files, and its pages are still known."""
    return _PAGE_LIST in known_folders and any(row[0] == _PAGE_LIST for row in content.rows)


def _gone(content: _Content, known_folders: dict[str, StoredFolder]) -> tuple[str, ...]:
    """The stored folders that are not there, without those that something was mounted on."""
    gone = known_folders.keys() - set(content.folders)
    return tuple(sorted(name for name in gone if not known_folders[name].is_mount))
