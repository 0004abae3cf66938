"""Looks at one path (is it there, is it gone, or is that unknown?) and reads the rules of a folder."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
import unicodedata
from collections.abc import Collection, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from kbsync.core.model import SELECTED, FileChoice, FileKind, Presence, RootIdentity, Stamp, Verdict
from kbsync.core.selection import IGNORE_FILE, Rules
from kbsync.errors import KbsyncError
from kbsync.source.hints import ancestors
from kbsync.source.roots import FolderStack, descend, error_words_at, mounts_below, opened_root

_LONGEST_IGNORE_FILE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Look:
    """What one look saw. `stamp` and `kind` are None unless PRESENT; `problem` says why it is UNKNOWN."""

    presence: Presence
    stamp: Stamp | None = None
    kind: FileKind | None = None
    links: int = 0
    problem: str = ""

    @property
    def lacks_file(self) -> bool:
        """Surely no file is there: nothing at all, or a folder in its place."""
        return self.presence is Presence.MISSING or self.kind is FileKind.FOLDER


def look(root: Path, path: str, identity: RootIdentity | None = None) -> Look:
    """Look at `path` below `root` without following any symlink in it. Raises ShortageError, never OSError.

    MISSING: the root could be entered and the path leads nowhere (a name is not there, or what should be
    a folder is a file or a symlink). Anything else makes it UNKNOWN: an error, and a root
    that is not the one of `identity` (taken in this run). `look_in_mounts` knows of disks that are missing.
    """
    try:
        with opened_root(root) as root_fd:
            status = os.fstat(root_fd)
            if identity and (status.st_dev, status.st_ino) != (identity.dev, identity.ino):
                return _unknown(f"{root} is not the folder it was when watching began")
            folder, _, name = path.rpartition("/")
            try:
                fd = descend(root_fd, folder)
                try:
                    status = os.stat(name or ".", dir_fd=fd, follow_symlinks=False)
                finally:
                    os.close(fd)
            except (NotADirectoryError, FileNotFoundError):
                # Gone is said only here, where the root could be entered (promise 5).
                return Look(Presence.MISSING)
            except OSError as error:
                return _unknown(error_words_at(error))
    except OSError as error:
        return _unknown(f"{root}: {error_words_at(error)}")
    return Look(Presence.PRESENT, stamp_of(status), kind_of(status.st_mode), status.st_nlink)


def look_exactly(
    root: Path, paths: Iterable[str], identity: RootIdentity | None = None
) -> list[tuple[str, Look]]:
    """`look` at paths that should be gone: one that is there only under another spelling is MISSING."""
    looked = [(path, look(root, path, identity)) for path in paths]
    aliases = find_aliases(root, [path for path, seen in looked if seen.presence is Presence.PRESENT])
    return [(path, Look(Presence.MISSING) if path in aliases else seen) for path, seen in looked]


def find_aliases(root: Path, paths: Collection[str]) -> set[str]:
    """Those of the paths that lead to an entry of another spelling, or through a folder of another one.

    Some file systems do not tell `a.md` from `A.md`, or composed from decomposed letters: after a rename
    from one to the other, the old path still leads to the file. Only a listing has the name as it is. Lists
    each folder on the way once. Raises ShortageError, never OSError: where nothing can be listed, nothing is
    an alias.
    """
    if not paths:
        return set()
    names: dict[str, set[str]] = {}
    for path in paths:
        for place in itertools.accumulate(path.split("/"), "{}/{}".format):
            folder, _, name = place.rpartition("/")
            names.setdefault(folder, set()).add(name)
    aliases: set[str] = set()
    try:
        with opened_root(root) as root_fd:
            for folder, wanted in names.items():
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    fd = descend(root_fd, folder)
                    try:
                        found = _aliases_in(fd, wanted)
                    finally:
                        os.close(fd)
                    aliases |= {f"{folder}/{name}" if folder else name for name in found}
    except OSError as error:
        error_words_at(error)
        return set()
    return {path for path in paths if any(place in aliases for place in (path, *ancestors(path)))}


def _aliases_in(fd: int, names: Collection[str]) -> set[str]:
    """Those of the names that a folder does not list, though it has their entry under another spelling."""
    folded = {fold(name) for name in names}
    spellings: dict[str, list[str]] = {}
    unlisted = set(names)
    with os.scandir(fd) as entries:
        for entry in entries:
            unlisted.discard(entry.name)
            if (spelling := fold(entry.name)) in folded:
                spellings.setdefault(spelling, []).append(entry.name)

    def is_alias(name: str) -> bool:
        # A listing that is late, as on a network, is no proof: the entry itself must be listed.
        others = spellings.get(fold(name))
        if not others:
            return False
        with contextlib.suppress(FileNotFoundError):
            inode = _inode(fd, name)
            return any(_inode(fd, other) == inode for other in others)
        return False

    return {name for name in unlisted if is_alias(name)}


def _inode(fd: int, name: str) -> tuple[int, int]:
    status = os.stat(name, dir_fd=fd, follow_symlinks=False)
    return status.st_dev, status.st_ino


def fold(name: str) -> str:
    """Equal for names or paths that differ in case, or in the normal form of Unicode, alone."""
    if name.isascii():
        return name.casefold()
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())


def look_in_mounts(root: Path, path: str, mount_points: Collection[str]) -> Look:
    """Look at a path that lies in disks that used to be mounted at `mount_points` (relative, at or above it).

    It is there or not only while all of them are mounted, before and after the look; else UNKNOWN. Raises
    ShortageError, never OSError.
    """
    try:
        # The disk may go between the two, and then what it held would look deleted (promise 5).
        seen = _diskless(root, mount_points) or look(root, path)
        return _diskless(root, mount_points) or seen
    except OSError as error:
        return _unknown(f"{root}: {error_words_at(error)}")


def _diskless(root: Path, mount_points: Collection[str]) -> Look | None:
    lost = set(mount_points) - mounts_below(root)
    return _unknown(f"{min(lost)} was a mount point and is not mounted") if lost else None


class RulesUnknown(KbsyncError):
    """An ignore file cannot be used: what it would leave out is not known, so its folder stays as it is."""


def with_ignore_file(rules: Rules, folder: str, fd: int) -> Rules:
    """The rules in `folder`, open as `fd`: those from above and its ignore file, if it has one.

    Raises RulesUnknown where that file cannot be read or has a line without sense.
    """
    place = f"{folder}/{IGNORE_FILE}" if folder else IGNORE_FILE
    try:
        try:
            # O_NONBLOCK: a fifo of that name must not hold us.
            found = os.open(IGNORE_FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=fd)
        except FileNotFoundError:
            return rules
        with open(found, "rb") as file:
            if not stat.S_ISREG(os.fstat(found).st_mode):
                raise OSError(errno.EINVAL, "it is no regular file")
            content = file.read(_LONGEST_IGNORE_FILE + 1)
        if len(content) > _LONGEST_IGNORE_FILE:
            raise OSError(errno.EFBIG, f"it is longer than {_LONGEST_IGNORE_FILE:,} bytes")
        return rules.below(folder, os.fsdecode(content))
    except OSError as error:
        raise RulesUnknown(f"{place} cannot be read: {error_words_at(error)}") from error
    except ValueError as error:
        raise RulesUnknown(f"{error}; correct that line") from error


def rules_at(root: Path, rules: Rules, folder: str) -> tuple[Rules, Verdict]:
    """The rules that apply in `folder` below `root`, and SELECTED or why it is not entered.

    In the second case the rules are those of the nearest folder that is entered. Raises RulesUnknown,
    and OSError when a folder on the way cannot be opened.
    """
    with closing(FolderStack(root)) as stack:
        rules = with_ignore_file(rules, "", stack.enter(0, ""))
        for depth, name in enumerate(folder.split("/") if folder else (), 1):
            place = stack.path_to(depth, name)
            verdict = rules.enters(place)
            if verdict.choice is not FileChoice.SELECTED:
                return rules, verdict
            rules = with_ignore_file(rules, place, stack.enter(depth, name))
    return rules, SELECTED


def stamp_of(status: os.stat_result) -> Stamp:
    """The part of a stat that tells contents apart."""
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def kind_of(mode: int) -> FileKind:
    """What a stat's mode says the entry is."""
    if stat.S_ISREG(mode):
        return FileKind.FILE
    if stat.S_ISDIR(mode):
        return FileKind.FOLDER
    return FileKind.SYMLINK if stat.S_ISLNK(mode) else FileKind.SPECIAL


def _unknown(problem: str) -> Look:
    return Look(Presence.UNKNOWN, problem=problem)
