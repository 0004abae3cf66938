"""Checks a path (present, missing or unknown) and reads a folder's rules."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from contextlib import closing
from pathlib import Path

from kbsync.core.model import SELECTED, FileChoice, FileKind, Presence, RootIdentity, Stamp, Verdict
from kbsync.core.selection import IGNORE_FILE, Rules
from kbsync.dataclass import dataclass
from kbsync.errors import KbsyncError
from kbsync.source.hints import ancestors
from kbsync.source.roots import (
    FolderStack,
    error_words_at,
    identify_mount,
    is_same_mount,
    mount_of,
    mounts_below,
    opened_folder,
    opened_root,
    storable_inode,
)

_MAX_IGNORE_FILE_BYTES = 1024 * 1024
_FIRST_NS, _LAST_NS = -(2**63), 2**63 - 1


@dataclass(frozen=True, slots=True)
class PathStat:
    """The result of a check.

    `stamp` and `kind` are None unless PRESENT. `problem` says why a path is UNKNOWN.
    """

    presence: Presence
    stamp: Stamp | None = None
    kind: FileKind | None = None
    links: int = 0
    problem: str = ""

    @property
    def lacks_file(self) -> bool:
        """Return whether there is definitely no file, because the path doesn't exist or is a folder."""
        return self.presence is Presence.MISSING or self.kind is FileKind.FOLDER


def stat_path(root: Path, path: str, identity: RootIdentity | None = None) -> PathStat:
    """Check `path` below `root` without following any symlinks in it. Raises ShortageError, but never
    OSError.

    The path is MISSING if the root could be entered and the path doesn't exist (a name is missing, or a file
    or symlink takes the place of a folder). In all other cases, such as an error, or a root other than
    `identity` (recorded earlier in this run), it is UNKNOWN. `stat_in_mounts` also detects changed mounts.
    """
    try:
        with opened_root(root) as root_fd:
            status = os.fstat(root_fd)
            if identity and not identity.is_at(status.st_dev, storable_inode(status.st_ino)):
                return _unknown(f"{root} is no longer the same folder as when watching began")
            folder, _, name = path.rpartition("/")
            try:
                if "\0" in path:  # no file can have this name, but a service may send it
                    raise FileNotFoundError
                with opened_folder(root_fd, folder) as fd:
                    status = os.stat(name or ".", dir_fd=fd, follow_symlinks=False)
            except (NotADirectoryError, FileNotFoundError):
                # A path may count as missing only here, after the root was entered (promise 5).
                return PathStat(Presence.MISSING)
            except OSError as error:
                return _unknown(error_words_at(error))
    except OSError as error:
        return _unknown(f"{root}: {error_words_at(error)}")
    return PathStat(Presence.PRESENT, stamp_of(status), kind_of(status.st_mode), status.st_nlink)


def stat_exactly(
    root: Path, paths: Iterable[str], identity: RootIdentity | None = None
) -> list[tuple[str, PathStat]]:
    """Check several paths like `stat_path`, although they are expected to be missing. A path that exists only
    in a different spelling is reported as MISSING.
    """
    results = [(path, stat_path(root, path, identity)) for path in paths]
    aliases = find_aliases(root, [path for path, result in results if result.presence is Presence.PRESENT])
    return [(path, PathStat(Presence.MISSING) if path in aliases else result) for path, result in results]


def find_aliases(root: Path, paths: Collection[str]) -> set[str]:
    """Return the paths that lead to an entry with a different spelling, or through such a folder.

    Some file systems don't distinguish `a.md` from `A.md`, or composed from decomposed letters: after a
    rename from one to the other, the old path still leads to the file. Only a listing shows the real name.
    Each folder on the way is listed once. Raises ShortageError, never OSError: if nothing can be listed,
    nothing is an alias.
    """
    if not paths:
        return set()
    names: dict[str, set[str]] = {}
    for path in paths:
        for prefix in itertools.accumulate(path.split("/"), "{}/{}".format):
            folder, _, name = prefix.rpartition("/")
            names.setdefault(folder, set()).add(name)
    aliases: set[str] = set()
    try:
        with opened_root(root) as root_fd:
            for folder, folder_names in names.items():
                with (
                    contextlib.suppress(FileNotFoundError, NotADirectoryError),
                    opened_folder(root_fd, folder) as fd,
                ):
                    names_here = _aliases_in(fd, folder_names)
                    aliases |= {f"{folder}/{name}" if folder else name for name in names_here}
    except OSError as error:
        error_words_at(error)
        return set()
    return {path for path in paths if any(prefix in aliases for prefix in (path, *ancestors(path)))}


def _aliases_in(fd: int, names: Collection[str]) -> set[str]:
    """Return the names that a folder lists only in a different spelling."""
    folded = {fold(name) for name in names}
    spellings: dict[str, list[str]] = {}
    listed = set[str]()
    with os.scandir(fd) as entries:
        for entry in entries:
            listed.add(entry.name)
            if (spelling := fold(entry.name)) in folded:
                spellings.setdefault(spelling, []).append(entry.name)

    def is_alias(name: str) -> bool:
        # A stale listing, such as one from a network file system, proves nothing, so the listing must contain
        # the entry itself.
        listed_names = spellings.get(fold(name))
        if not listed_names:
            return False
        with contextlib.suppress(FileNotFoundError):
            inode = _inode(fd, name)
            if any(_inode(fd, listed_name) == inode for listed_name in listed_names):
                return True
            # In FUSE, each spelling may have its own inode number, as on exFAT or in sshfs to a Mac.
            if name.lower() in map(str.lower, listed_names):
                return _ignores_case(fd, (name, *listed), listed | set(names))
        return False

    return {name for name in set(names) - listed if is_alias(name)}


def _ignores_case(fd: int, existing_names: Iterable[str], used: Collection[str]) -> bool:
    """Return whether a folder has one of these names in a spelling that isn't `used` by anyone.

    Such a spelling has one letter in the other case. Raises FileNotFoundError if the folder doesn't have the
    first such spelling.
    """
    for name in existing_names:
        for number, letter in enumerate(name):
            spelling = name[:number] + letter.swapcase() + name[number + 1 :]
            if letter.isascii() and spelling != name and spelling not in used:
                _inode(fd, spelling)
                return True
    return False


def _inode(fd: int, name: str) -> tuple[int, int]:
    status = os.stat(name, dir_fd=fd, follow_symlinks=False)
    return status.st_dev, status.st_ino


def fold(name: str) -> str:
    """Return a key that is equal for names or paths that differ only in case or Unicode normalization."""
    if name.isascii():
        return name.casefold()
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())


def stat_in_mounts(root: Path, mount_points: Mapping[str, Mapping[str, str]]) -> dict[str, PathStat]:
    """Check which of these paths exist. Each is, or used to be, on a disk mounted below the root.

    `mount_points`: for each path, the former mount points at or above it (relative to the root), each with
    the identity of its disk. A result is known only if exactly these disks are mounted before and after the
    check; otherwise, it is UNKNOWN. Raises ShortageError, but never OSError.
    """
    points = {point: mount for above in mount_points.values() for point, mount in above.items()}
    try:
        before = _mounts_at(root, points)
        doubtful = {path for path, above in mount_points.items() if above or _mounts_over(path, before)}
        stats = {path: stat_path(root, path) for path in doubtful}
        # A disk may be mounted or unmounted during the check, and files would look deleted (promise 5).
        after = _mounts_at(root, points) if doubtful else before
    except OSError as error:
        unknown = _unknown(f"{root}: {error_words_at(error)}")
        return dict.fromkeys(mount_points, unknown)
    return {
        path: _check_mounts(path, mount_points[path], before)
        or _check_mounts(path, mount_points[path], after)
        or stat
        for path, stat in stats.items()
    }


def _mounts_at(root: Path, points: Mapping[str, str]) -> dict[str, str]:
    """Return the mount points below the root, each with the identity of what is mounted there now. The
    identity is "" if `points` has no known disk for the mount point.

    Raises OSError.
    """
    mounted = dict.fromkeys(mounts_below(root), "")
    for point in mounted.keys() & {point for point, mount in points.items() if mount}:
        # Another mount may cover the point, which `_check_mounts` reports.
        with (
            contextlib.suppress(FileNotFoundError, NotADirectoryError),
            opened_root(root) as root_fd,
            opened_folder(root_fd, point) as fd,
        ):
            mount = mount_of(fd)
            mounted[point] = identify_mount(fd, mount) if mount else ""
    return mounted


def _mounts_over(path: str, mounted: Collection[str]) -> set[str]:
    return {folder for folder in (path, *ancestors(path)) if folder in mounted}


def _check_mounts(path: str, stored: Mapping[str, str], mounted: Mapping[str, str]) -> PathStat | None:
    current = _mounts_over(path, mounted)
    if unmounted := stored.keys() - current:
        return _unknown(f"{min(unmounted)} was a mount point, but nothing is mounted there now")
    if new := current - stored.keys():
        return _unknown(f"something is mounted over {min(new)}")
    replaced = {point for point in current if not is_same_mount(stored[point], mounted[point])}
    return _unknown(f"another disk is mounted at {min(replaced)}") if replaced else None


class RulesUnknown(KbsyncError):
    """Raised if an ignore file can't be used.

    Because it is unknown what the file excludes, the documents in its folder stay unchanged.
    """


def with_ignore_file(rules: Rules, folder: str, fd: int) -> Rules:
    """Return the rules in `folder`, which is open as `fd`.

    They consist of the rules of the folders above and, if there is one, the folder's own ignore file. Raises
    RulesUnknown if that file can't be read or has an invalid line.
    """
    path = f"{folder}/{IGNORE_FILE}" if folder else IGNORE_FILE
    try:
        try:
            # O_NONBLOCK: a fifo of that name must not block us.
            ignore_fd = os.open(IGNORE_FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=fd)
        except FileNotFoundError:
            return rules
        with open(ignore_fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(ignore_fd).st_mode):
                raise OSError(errno.EINVAL, "it is not a regular file")
            content = file.read(_MAX_IGNORE_FILE_BYTES + 1)
        if len(content) > _MAX_IGNORE_FILE_BYTES:
            raise OSError(errno.EFBIG, f"it is longer than {_MAX_IGNORE_FILE_BYTES:,} bytes")
        return rules.below(folder, os.fsdecode(content))
    except OSError as error:
        if error.errno == errno.EACCES and not os.access(".", os.X_OK, dir_fd=fd):  # chmod -R 644
            problem = "cannot be entered: permission denied; give the user who runs kbsync execute access"
            raise RulesUnknown(problem) from error
        raise RulesUnknown(f"{path} cannot be read: {error_words_at(error)}") from error
    except ValueError as error:
        raise RulesUnknown(f"{error}; correct that line") from error


def rules_in(directory: Path, rules: Rules, folder: str) -> Rules:
    """Return the rules in `folder`, like `with_ignore_file`. `directory`: where the folder is on disk.

    Raises RulesUnknown, or OSError if the folder can't be opened.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return with_ignore_file(rules, folder, descriptor)
    finally:
        os.close(descriptor)


def rules_at(root: Path, rules: Rules, folder: str) -> tuple[Rules, Verdict]:
    """Return the rules that apply in `folder` below `root`, and SELECTED or the reason why scans don't
    descend into it.

    In the latter case, the rules are those of the nearest folder above it into which scans descend. Raises
    RulesUnknown, or OSError if a folder on the way can't be opened.
    """
    with closing(FolderStack(root)) as stack:
        rules = with_ignore_file(rules, "", stack.enter(0, ""))
        for depth, name in enumerate(folder.split("/") if folder else (), 1):
            path = stack.path_to(depth, name)
            verdict = rules.enters(path)
            if verdict.choice is not FileChoice.SELECTED:
                return rules, verdict
            rules = with_ignore_file(rules, path, stack.enter(depth, name))
    return rules, SELECTED


def stamp_of(status: os.stat_result) -> Stamp:
    """Return the part of a stat result that changes when the content does."""
    return Stamp(*stamp_fields(status))


def stamp_fields(status: os.stat_result) -> tuple[int, int, int, int]:
    """Return the fields of a stamp: (size, mtime_ns, ctime_ns, ino)."""
    return status.st_size, *storable(status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def storable(mtime_ns: int, ctime_ns: int, ino: int) -> tuple[int, int, int]:
    """Return the values as the state stores them, as 64-bit signed integers.

    A time before 1677 or after 2262 is replaced by the nearest time that fits.
    """
    if _FIRST_NS <= mtime_ns <= _LAST_NS and _FIRST_NS <= ctime_ns <= _LAST_NS and ino <= _LAST_NS:
        return mtime_ns, ctime_ns, ino
    mtime_ns, ctime_ns = (max(_FIRST_NS, min(ns, _LAST_NS)) for ns in (mtime_ns, ctime_ns))
    return mtime_ns, ctime_ns, storable_inode(ino)


def kind_of(mode: int) -> FileKind:
    """Return the kind of entry that a stat mode describes."""
    if stat.S_ISREG(mode):
        return FileKind.FILE
    if stat.S_ISDIR(mode):
        return FileKind.FOLDER
    return FileKind.SYMLINK if stat.S_ISLNK(mode) else FileKind.SPECIAL


def _unknown(problem: str) -> PathStat:
    return PathStat(Presence.UNKNOWN, problem=problem)
