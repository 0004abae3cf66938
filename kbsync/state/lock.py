"""One process at a time holds a state directory."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kbsync.errors import LockedError

LOCKS = Path("/proc/locks")


@contextmanager
def held(state_dir: Path) -> Iterator[None]:
    """Hold the lock of a state directory; the kernel lets it go with the process, however that ends.

    Raises `LockedError` naming the process that has it.
    """
    path = state_dir / "lock"
    fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        _acquire(fd, state_dir)
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(fd)


def _acquire(fd: int, state_dir: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(fd, 32, 0).decode(errors="replace").strip()
        raise LockedError(
            f"another kbsync{f' (process {holder})' if holder else ''} works on {state_dir}; stop it first"
        ) from None


def is_held(state_dir: Path) -> bool:
    """Whether some process holds the lock now. Reads `/proc/locks` (proc(5)) and takes nothing itself."""
    with contextlib.suppress(OSError):
        status = (state_dir / "lock").stat()
        major, minor = os.major(status.st_dev), os.minor(status.st_dev)
        place = f" {major:02x}:{minor:02x}:{status.st_ino} "
        return any(place in line and " FLOCK " in line for line in LOCKS.read_text().splitlines())
    return False
