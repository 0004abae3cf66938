"""Ensures that only one process at a time holds a state directory, and that the user can access the files in
it.

The second half of this module finds files that the user can't access, and the command that fixes that.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import pwd
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISREG
from typing import Literal

from kbsync.core.text import format_list, printable, shell_command, shell_word
from kbsync.dataclass import dataclass
from kbsync.errors import ForeignError, LockedError, StateError
from kbsync.permissions import exists, naming, open_private

MISPLACED = (errno.EISDIR, errno.ELOOP, errno.ENXIO)
"""Errors that occur if a directory, a symlink or a socket has the name of a file of kbsync."""


def describe_misplaced(path: Path, kind: str = "file") -> str:
    """Return that something else has the name of a file or directory of kbsync, and the command that renames
    it.
    """
    rename = shell_command(["mv", str(path), f"{path}.misplaced"])
    if path.is_symlink() and not exists(path):
        return f"{path} is a broken link; mount the disk that it leads to, or rename it with: {rename}"
    return f"{path} is not a {kind}; rename it with: {rename}"


LOCKS = Path("/proc/locks")
NAMESPACE = Path("/proc/self/ns/pid")
_OF_THE_MACHINE = str(0xEFFFFFFC)
"""The inode of the initial process namespace, PROC_PID_INIT_INO (<linux/proc_ns.h>), which contains all
others."""


_TASK = "task"
"""The text that a process writes to the lock file if it holds the lock for only one task, such as a single
pass."""

_ONLY = "mirror="
"""The text before the name of each mirror in the lock file if the process was limited to some mirrors."""

_BEFORE = "before="
"""The text before the time at which the lock file had last changed when the process acquired the lock."""

_CONFIG = "config="
"""The text before each fingerprint of the process's config file."""


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that holds the lock.

    `pid`: its process id as seen from here. `since`: in epoch seconds. `keeps_running`: whether it mirrors
    until it is stopped, like a daemon. `only`: the mirrors that it was limited to, or empty for all.
    `config`: the fingerprints of its config file, or empty if unknown.
    """

    pid: int
    since: float
    keeps_running: bool
    only: tuple[str, ...] = ()
    config: tuple[str, ...] = ()

    def serves(self, mirror: str) -> bool:
        """Return whether the process runs this mirror, which is in its config."""
        return not self.only or mirror in self.only

    def uses(self, config: Path) -> bool:
        """Return whether this may be the config file that the process reads."""
        return not self.config or not set(self.config).isdisjoint(_fingerprints(config))


def describe_left_out(mirrors: Sequence[str]) -> str:
    """Return a sentence about mirrors that the running kbsync doesn't serve."""
    names = printable(format_list(mirrors))
    return f"the running kbsync excludes {names} (--mirror); restart it to include {names}"


@contextmanager
def held(
    state_dir: Path, *, keeps_running: bool = True, only: Sequence[str] = (), config: Path | None = None
) -> Iterator[None]:
    """Hold the lock on a state directory. When the process ends, the kernel releases the lock, even after a
    crash.

    `keeps_running`: whether the holder mirrors until it is stopped. `only`: the mirrors that it is limited
    to. `config`: the file that commands may edit in the meantime. Raises `LockedError`, which names the
    process that holds the lock, or `StateError` if the lock isn't a file.
    """
    with contextlib.ExitStack() as opened:
        fds = [file := open_private(path := state_dir / "lock", os.O_RDWR | os.O_NOFOLLOW)]
        opened.callback(os.close, file)
        if not S_ISREG(os.fstat(file).st_mode):
            raise StateError(describe_misplaced(path))
        if config is None or config.resolve().parent != state_dir.resolve():
            # Somebody may delete the file while its holder runs. Edits of a config lock its directory, too.
            fds.append(directory := os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY))
            opened.callback(os.close, directory)
        try:
            for fd in fds:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            process = find_holder(state_dir)
            named = f" (process {process.pid})" if process else ""
            raise LockedError(f"another kbsync{named} is using {state_dir}; stop it first") from None
        marks = [f"{_BEFORE}{os.fstat(file).st_ctime_ns}", *([] if keeps_running else [_TASK])]
        marks += (f"{_ONLY}{name}" for name in only)
        marks += (f"{_CONFIG}{fingerprint}" for fingerprint in _fingerprints(config))
        with naming(path):
            os.ftruncate(file, 0)
            os.pwrite(file, f"{os.getpid()}\n{_namespace()}\n{' '.join(marks)}\n".encode(), 0)
        yield


def _fingerprints(config: Path | None) -> Iterator[str]:
    """Yield a hash of the file's path, and one of the path that its symlinks lead to now."""
    for path in {config.absolute(), config.resolve()} if config else ():
        yield hashlib.sha256(os.fsencode(path)).hexdigest()[:16]


def is_held(state_dir: Path) -> bool:
    """Return whether a process that is visible from here holds the lock now."""
    return bool(holding(state_dir))


def holder(state_dir: Path) -> str:
    """Return the id of the process that last acquired the lock, or '' if it is unknown or in another
    namespace.
    """
    with contextlib.suppress(OSError):
        note = _read_note(state_dir)
        return note.process if note.namespace == _namespace() else ""
    return ""


def taken_at(state_dir: Path) -> float | None:
    """Return when the lock was last acquired, in epoch seconds, or None if unknown."""
    with contextlib.suppress(OSError):
        return (state_dir / "lock").stat().st_mtime
    return None


def last_changes(state_dir: Path) -> tuple[int, ...]:
    """Return the ctime of the lock file in ns, then the one before that, or nothing if unknown.

    The file changes whenever the lock is acquired. No program can set a ctime, so a copy of the file always
    has a new one.
    """
    with contextlib.suppress(OSError):
        return _read_note(state_dir).changes
    return ()


def holding(state_dir: Path) -> bool | None:
    """Return whether any process currently holds the lock, or None if that can't be determined from here.

    This reads `/proc/locks` (proc(5)) without taking a lock itself.
    """
    process = find(state_dir)
    return isinstance(process, Holder) if process is not None else None


def find_holder(state_dir: Path) -> Holder | None:
    """Return the process that currently holds the lock, or None if no holder is visible."""
    process = find(state_dir)
    return process if isinstance(process, Holder) else None


def find_daemon(state_dir: Path) -> Holder | None:
    """Return the process that holds the lock if it keeps running, like a daemon."""
    holder = find_holder(state_dir)
    return holder if holder is not None and holder.keeps_running else None


def find(state_dir: Path) -> Holder | Literal[False] | None:
    """Return the holder, False if there is none, or None if that can't be determined from here."""
    try:
        note = _read_note(state_dir)
        if _has_ended(note):
            return False
        locks = [line.split() for line in LOCKS.read_text().splitlines() if " FLOCK " in line]
    except FileNotFoundError as error:
        return None if error.filename == str(LOCKS) else False
    except OSError:
        return None
    namespace = _namespace()
    for *_, process, inode, _, _ in locks:
        # Btrfs reports different devices for files and for the kernel's locks, so compare only the inode and
        # the process.
        if inode in note.kernel_ids or (process == note.process and inode.endswith(f":{note.number}")):
            # In a container, the same file may have another path.
            config = note.config if note.namespace == namespace else ()
            return Holder(int(process), note.since, not note.is_task, note.only, config)
    if not os.access(state_dir, os.X_OK):
        return None  # the holder may have locked only the file
    # `/proc/locks` omits locks held in another container; on the host it lists all.
    return False if namespace in (note.namespace, _OF_THE_MACHINE) or not note.namespace else None


@dataclass(frozen=True, slots=True)
class _Note:
    """A lock file and its note.

    This includes the file's inode, the devices and inodes of the file and its directory in the kernel's
    notation, and the note that the last holder wrote. `changes`: as `last_changes` returns them. Without the
    file, or the permission to read it, only the data about the directory is known.
    """

    number: int
    kernel_ids: tuple[str, ...]
    since: float
    process: str
    namespace: str
    is_task: bool
    only: tuple[str, ...]
    config: tuple[str, ...]
    changes: tuple[int, ...]


def _read_note(state_dir: Path) -> _Note:
    folder, path = state_dir.stat(), state_dir / "lock"
    try:
        # Reading a FIFO would wait for a writer.
        status, text = path.stat(), "" if path.is_fifo() else path.read_text(errors="replace")
    except FileNotFoundError:
        status, text = folder, ""
    except PermissionError:
        if os.access(state_dir, os.X_OK):
            raise  # only the file is closed
        status, text = folder, ""
    process, namespace, *marks = [*text.split(), "", ""]
    ids = tuple(
        f"{os.major(stat.st_dev):02x}:{os.minor(stat.st_dev):02x}:{stat.st_ino}" for stat in (status, folder)
    )
    only = tuple(mark.removeprefix(_ONLY) for mark in marks if mark.startswith(_ONLY))
    before = next((mark.removeprefix(_BEFORE) for mark in marks if mark.startswith(_BEFORE)), "")
    changes = (status.st_ctime_ns, int(before)) if before.isdecimal() else ()
    config = tuple(mark.removeprefix(_CONFIG) for mark in marks if mark.startswith(_CONFIG))
    return _Note(
        status.st_ino, ids, status.st_mtime, process, namespace, _TASK in marks, only, config, changes
    )


def _has_ended(note: _Note) -> bool:
    """Return whether the last holder has definitely ended.

    This avoids having to list all locks, which takes the kernel 8 ms.
    """
    if not note.process.isdigit() or not note.namespace or note.namespace != _namespace():
        return False
    try:
        os.kill(int(note.process), 0)
    except ProcessLookupError:
        return True
    except (OverflowError, PermissionError):
        pass
    return False


def _namespace() -> str:
    """Return the number of the process namespace in which this process runs, or '' if unknown."""
    with contextlib.suppress(OSError):
        return str(NAMESPACE.stat().st_ino)
    return ""


NOT_OURS = ("lost+found",)
"""Names at the top level of a state directory that belong to the disk mounted there, not to kbsync."""


def user_of(state_dir: Path) -> str:
    """Return the user who owns the state: the one running kbsync or, for root, the owner of the directory."""
    return user_name(os.geteuid() or state_dir.stat().st_uid)


def user_name(number: int) -> str:
    """Return the name of the user, or the user id if there is no name."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def unusable_paths(state_dir: Path) -> Iterator[Path]:
    """Yield everything in the directory that the current user can't access, parents first.

    Root can access everything, so for root this yields whatever the directory's owner doesn't own, or nothing
    if root owns the directory.
    """
    owner, is_root = state_dir.stat().st_uid, os.geteuid() == 0
    for path in _inside(state_dir):
        with contextlib.suppress(FileNotFoundError):
            if is_root:
                is_unusable = owner not in (0, path.lstat().st_uid)
            else:
                access = os.R_OK | os.W_OK | (os.X_OK if path.is_dir() else 0)
                is_unusable = exists(path) and not path.is_symlink() and not os.access(path, access)
            if is_unusable:
                yield path


def _inside(folder: Path) -> Iterator[Path]:
    """Yield all paths below `folder`. If a folder can't be listed, yield only the folder itself."""
    for above, folders, files in os.walk(folder):
        if above == str(folder):
            folders[:] = [name for name in folders if name not in NOT_OURS]
        folders.sort()
        yield from (Path(above, name) for name in sorted(folders + files))


def fault_of(state_dir: Path, path: Path) -> str:
    """Return why the directory's user can't use `path`, which is in the directory."""
    owner, user = user_name(path.lstat().st_uid), user_of(state_dir)
    if owner == user:
        return f"the mode of {path} keeps its owner, {user}, from using it"
    return f"{path} belongs to {owner} and cannot be used by {user}"


def fix_for(state_dir: Path, path: Path) -> str:
    """Return the command that lets the directory's user use `path` and everything else in the directory."""
    user, where = user_of(state_dir), shell_word(str(state_dir))
    is_theirs = user_name(path.lstat().st_uid) == user
    return f"chmod -R u+rwX {where}" if is_theirs else f"sudo chown -R {user} {where}"


def refusal(state_dir: Path, path: Path) -> ForeignError:
    """Return the error for `path`, which is in the directory but can't be used by the current user."""
    return ForeignError(f"{printable(fault_of(state_dir, path))}; run: {fix_for(state_dir, path)}")
