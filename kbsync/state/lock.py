"""One process at a time holds a state directory."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kbsync.errors import LockedError
from kbsync.permissions import open_private

LOCKS = Path("/proc/locks")
NAMESPACE = Path("/proc/self/ns/pid")
_OF_THE_MACHINE = str(0xEFFFFFFC)
"""The first namespace of processes, PROC_PID_INIT_INO (<linux/proc_ns.h>): all others are below it."""


@contextmanager
def held(state_dir: Path) -> Iterator[None]:
    """Hold the lock of a state directory; the kernel lets it go with the process, however that ends.

    Raises `LockedError` naming the process that has it.
    """
    fd = open_private(state_dir / "lock", os.O_RDWR | os.O_NOFOLLOW)
    try:
        _acquire(fd, state_dir)
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n{_namespace()}\n".encode(), 0)
        yield
    finally:
        os.close(fd)


def _acquire(fd: int, state_dir: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        process = _noted(state_dir / "lock")[2]
        raise LockedError(
            f"another kbsync{f' (process {process})' if process else ''} works on {state_dir}; stop it first"
        ) from None


def is_held(state_dir: Path) -> bool:
    """Whether some process is seen to hold the lock now."""
    return bool(holding(state_dir))


def holder(state_dir: Path) -> str:
    """The id of the process that took the lock last; '' where it is none of ours, or none noted it."""
    with contextlib.suppress(OSError):
        *_, process, namespace = _noted(state_dir / "lock")
        return process if namespace == _namespace() else ""
    return ""


def holding(state_dir: Path) -> bool | None:
    """Whether some process holds the lock now; None where that cannot be told from here.

    Reads `/proc/locks` (proc(5)) and takes nothing itself.
    """
    try:
        number, place, process, namespace = _noted(state_dir / "lock")
        found = [line.split() for line in LOCKS.read_text().splitlines() if " FLOCK " in line]
    except FileNotFoundError as error:
        return None if error.filename == str(LOCKS) else False
    except OSError:
        return None
    for *_, holder, inode, _, _ in found:
        if inode == place or (holder == process and inode.endswith(f":{number}")):
            return True
    return False if _sees_into(namespace) else None


def _noted(path: Path) -> tuple[int, str, str, str]:
    """The lock file's inode, that with its device as the kernel writes it, and what its last holder noted.

    Btrfs gives files another device than the kernel knows their locks by: inode and process tell then.
    """
    status = path.stat()
    process, namespace, *_ = [*path.read_text(errors="replace").split(), "", ""]
    place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    return status.st_ino, place, process, namespace


def _sees_into(namespace: str) -> bool:
    """What holds a lock in another container is left out of `/proc/locks`; the machine itself sees all."""
    own = _namespace()
    return own in (namespace, _OF_THE_MACHINE) or not namespace


def _namespace() -> str:
    """Which processes this one can see; '' where that has no number."""
    with contextlib.suppress(OSError):
        return str(NAMESPACE.stat().st_ino)
    return ""
