"""One process at a time holds a state directory, and only its user works with what lies in it.

The second half says which files there its user cannot use, and the command that changes that.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kbsync.core.text import printable, shell_word
from kbsync.errors import ForeignError, LockedError
from kbsync.permissions import open_private

LOCKS = Path("/proc/locks")
NAMESPACE = Path("/proc/self/ns/pid")
_OF_THE_MACHINE = str(0xEFFFFFFC)
"""The first namespace of processes, PROC_PID_INIT_INO (<linux/proc_ns.h>): all others are below it."""


_TASK = "task"
"""What a process notes that holds the lock for one task, such as a single pass, and then ends."""


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that holds the lock. `pid`: as seen from here; `since`: epoch seconds.

    `stays`: it keeps mirroring until it is stopped, as a daemon does.
    """

    pid: int
    since: float
    stays: bool


@contextmanager
def held(state_dir: Path, *, stays: bool = True) -> Iterator[None]:
    """Hold the lock of a state directory; the kernel lets it go with the process, however that ends.

    `stays`: the holder keeps mirroring. Raises `LockedError` naming the process that has it.
    """
    fd = open_private(state_dir / "lock", os.O_RDWR | os.O_NOFOLLOW)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            process = _noted(state_dir / "lock").process
            named = f" (process {process})" if process else ""
            raise LockedError(f"another kbsync{named} works on {state_dir}; stop it first") from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n{_namespace()}\n{'' if stays else _TASK}\n".encode(), 0)
        yield
    finally:
        os.close(fd)


def is_held(state_dir: Path) -> bool:
    """Whether some process is seen to hold the lock now."""
    return bool(holding(state_dir))


def holder(state_dir: Path) -> str:
    """The id of the process that took the lock last; '' where it is none of ours, or none noted it."""
    with contextlib.suppress(OSError):
        note = _noted(state_dir / "lock")
        return note.process if note.namespace == _namespace() else ""
    return ""


def taken_at(state_dir: Path) -> float | None:
    """When the lock was taken last, epoch seconds; None where that cannot be told."""
    with contextlib.suppress(OSError):
        return (state_dir / "lock").stat().st_mtime
    return None


def holding(state_dir: Path) -> bool | None:
    """Whether some process holds the lock now; None where that cannot be told from here.

    Reads `/proc/locks` (proc(5)) and takes nothing itself.
    """
    found = _find(state_dir)
    return isinstance(found, Holder) if found is not None else None


def find_holder(state_dir: Path) -> Holder | None:
    """The process that is seen to hold the lock now; None where none is."""
    found = _find(state_dir)
    return found if isinstance(found, Holder) else None


def _find(state_dir: Path) -> Holder | Literal[False] | None:
    """The holder; False where there is none, None where that cannot be told from here."""
    try:
        note = _noted(state_dir / "lock")
        found = [line.split() for line in LOCKS.read_text().splitlines() if " FLOCK " in line]
    except FileNotFoundError as error:
        return None if error.filename == str(LOCKS) else False
    except OSError:
        return None
    for *_, process, inode, _, _ in found:
        # Btrfs gives files another device than the kernel knows their locks by: inode and process tell then.
        if inode == note.place or (process == note.process and inode.endswith(f":{note.number}")):
            return Holder(int(process), note.since, stays=not note.is_task)
    # What holds a lock in another container is left out of `/proc/locks`; the machine itself sees all.
    own = _namespace()
    return False if own in (note.namespace, _OF_THE_MACHINE) or not note.namespace else None


@dataclass(frozen=True, slots=True)
class _Note:
    """A lock file: its inode, that with its device as the kernel writes it, and its last holder's note."""

    number: int
    place: str
    since: float
    process: str
    namespace: str
    is_task: bool


def _noted(path: Path) -> _Note:
    status = path.stat()
    process, namespace, *rest = [*path.read_text(errors="replace").split(), "", ""]
    place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    return _Note(status.st_ino, place, status.st_mtime, process, namespace, _TASK in rest)


def _namespace() -> str:
    """Which processes this one can see; '' where that has no number."""
    with contextlib.suppress(OSError):
        return str(NAMESPACE.stat().st_ino)
    return ""


NOT_OURS = ("lost+found",)
"""What may lie at the top without being kbsync's: of a disk that is mounted there."""


def user_of(state_dir: Path) -> str:
    """Who works with the state: the user who runs this or, where that is root, the directory's owner."""
    return user_name(os.geteuid() or state_dir.stat().st_uid)


def user_name(number: int) -> str:
    """The user's name, or the number of one that has none."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def strange(state_dir: Path) -> Iterator[Path]:
    """Files and folders in the directory that its user may not use, those above others first.

    For root, who may use all: what belongs to another user than a directory that is not root's.
    """
    owner = state_dir.stat().st_uid
    for place in _inside(state_dir):
        with contextlib.suppress(FileNotFoundError):
            if owner not in (0, place.lstat().st_uid) if os.geteuid() == 0 else _is_shut(place):
                yield place


def _is_shut(place: Path) -> bool:
    if not place.exists() or place.is_symlink():
        return False
    return not os.access(place, os.R_OK | os.W_OK | (os.X_OK if place.is_dir() else 0))


def _inside(folder: Path) -> Iterator[Path]:
    """Of folders that cannot be listed, themselves."""
    for above, folders, files in os.walk(folder):
        if above == str(folder):
            folders[:] = [name for name in folders if name not in NOT_OURS]
        folders.sort()
        yield from (Path(above, name) for name in sorted(folders + files))


def fault_of(state_dir: Path, place: Path) -> str:
    """Why the user of the directory may not use the `place` in it."""
    owner, user = user_name(place.lstat().st_uid), user_of(state_dir)
    return f"{place} belongs to {owner} and cannot be used by {user}"


def cure_of(state_dir: Path, place: Path) -> str:
    """The command that lets the user of the directory use the `place` in it, and all else there."""
    user, where = user_of(state_dir), shell_word(str(state_dir))
    is_theirs = user_name(place.lstat().st_uid) == user
    return f"chmod -R u+rwX {where}" if is_theirs else f"sudo chown -R {user} {where}"


def refusal(state_dir: Path, place: Path) -> ForeignError:
    """The error of a `place` in the directory that its user may not use."""
    return ForeignError(f"{printable(fault_of(state_dir, place))}; run: {cure_of(state_dir, place)}")
