"""Protects kbsync's memory, environment, folders and files from other users and processes.

A file or folder created by root gets the same owner as its parent folder, so that a single `sudo kbsync …`
can't lock a service out of its own state.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

_PR_SET_DUMPABLE = 4
_PROBE = "/proc/self/fdinfo/2"
_MISSING = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


def keep_memory_private() -> None:
    """Disable core dumps, and keep this user's other processes from reading our memory and environment.

    On Linux, this uses prctl(2) with PR_SET_DUMPABLE. Root can still read both.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform != "linux":
        return
    prctl = ctypes.CDLL(None).prctl
    if prctl(_PR_SET_DUMPABLE, ctypes.c_ulong(0), 0, 0, 0) != 0:
        return
    try:
        open(_PROBE, "rb").close()
    except PermissionError:
        # Kernels before 5.14 don't tell such a process through which mount it opened a file.
        prctl(_PR_SET_DUMPABLE, ctypes.c_ulong(1), 0, 0, 0)
    except OSError:
        pass  # no such descriptor, or no /proc


def exists(path: Path) -> bool:
    """Return whether `path` exists. Raises OSError, such as PermissionError, if that is unknown.

    From Python 3.14 on, `Path.exists` returns False instead.
    """
    try:
        path.stat()
    except OSError as error:
        if error.errno in _MISSING:
            return False
        raise
    return True


def access_fix(path: Path) -> str:
    """Return what a user who lacks access to `path` can do."""
    command = command_to_open(path)
    return f"run: {command}" if command else "run kbsync as the user who owns it"


def command_to_open(path: Path, access: int = os.R_OK | os.W_OK) -> str:
    """Return the command that gives this user `access` to `path`, if only the mode of a file or folder of its
    own prevents that. Otherwise, return "".
    """
    from kbsync.core.text import shell_word  # imported late: only errors need it

    with contextlib.suppress(OSError):
        for item in (*reversed(path.parents), path):
            status = item.stat()
            needed = os.X_OK if item != path else access | (os.X_OK if item.is_dir() else 0)
            if not os.access(item, needed):
                # An immutable file (chattr) denies access whatever its mode.
                is_closed = bool(needed << 6 & ~status.st_mode) and status.st_uid == os.geteuid()
                mode = "u+rwX" if access & os.W_OK else "u+rX"
                return f"chmod {mode} {shell_word(str(item))}" if is_closed else ""
    return ""


def make_private_folder(path: Path) -> None:
    """Create a folder and its missing parents with mode 0700, regardless of the umask. Raises OSError."""
    missing = [folder for folder in (path, *path.parents) if not folder.is_dir()]
    for folder in reversed(missing):
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            if not folder.is_dir():
                raise
        else:
            _hand_over_folder(folder)


def make_passing_folder(prefix: str, folder: Path) -> Path:
    """Create a folder with a unique name in `folder`, with mode 0700. Raises OSError."""
    import tempfile  # imported late: few commands need it

    created = Path(tempfile.mkdtemp(prefix=prefix, dir=folder))
    _hand_over_folder(created)
    return created


def open_private(path: Path, flags: int) -> int:
    """Open a file and return its descriptor.

    If the file is missing, create it with mode 0600. Raises OSError.
    """
    flags |= os.O_CREAT | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags | os.O_EXCL, 0o600)
    except FileExistsError:
        return os.open(path, flags, 0o600)
    hand_over(descriptor, path.parent)
    return descriptor


def replace_private(path: Path, content: bytes) -> None:
    """Write a file with mode 0600.

    If kbsync is killed, the file has either the old or the new content. Raises OSError.
    """
    temporary = path.with_name(f".{path.name}-{os.urandom(4).hex()}")
    try:
        with naming(path), open(open_private(temporary, os.O_WRONLY), "wb") as file:
            file.write(content)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add the file's name to errors raised inside the context.

    A failed write to a descriptor doesn't name the file.
    """
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def hand_over(descriptor: int, folder: Path) -> None:
    """As root, give a file or folder that was just created in `folder` to that folder's owner.

    In a container, root may lack the permission to do that. In that case, the file keeps belonging to root.
    """
    if os.geteuid() != 0:
        return
    owner = folder.stat()
    if owner.st_uid != 0 and os.fstat(descriptor).st_uid == 0:
        with contextlib.suppress(OSError):
            os.fchown(descriptor, owner.st_uid, owner.st_gid)


def _hand_over_folder(folder: Path) -> None:
    if os.geteuid() == 0:
        # Use the file's descriptor, because another user may have replaced the file with a link in the
        # meantime.
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            hand_over(descriptor, folder.parent)
        finally:
            os.close(descriptor)
