"""The root of a mirror: which folder it is, what is mounted there, and how folders below it are opened.

A file system is called shared where others can change it behind this kernel's back: on the network, in the
host of a virtual machine, in FUSE. The kernel does not report every change there.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from kbsync.core.model import RootIdentity
from kbsync.errors import KbsyncError, ShortageError
from kbsync.file_systems import Mount, holds, is_shared, mounts


def mounts_below(root: Path) -> frozenset[str]:
    """The mount points below `root`, bind mounts included, as paths relative to it."""
    top = os.path.realpath(root).rstrip("/") + "/"
    return frozenset(m.point[len(top) :] for m in mounts() if m.point.startswith(top) and m.point != top)


def mount_of(fd: int) -> Mount | None:
    """The mount that `fd` was opened through: right also where one lies over another."""
    found = re.search(r"^mnt_id:\s*(\d+)", Path(f"/proc/self/fdinfo/{fd}").read_text(), re.MULTILINE)
    number = int(found[1]) if found else -1
    return next((mount for mount in mounts() if mount.id == number), None)


def shared_below(folder: str, mounts: Iterable[Mount]) -> Mount | None:
    """A shared mount below `folder` (a real path); None if there is none."""
    return next((mount for mount in _below(folder, mounts) if is_shared(mount.fs_type)), None)


def bound(folder: str, mounts: Sequence[Mount]) -> Mount | None:
    """The bind mount that `folder` (a real path) lies in, or one below it; None if there is none.

    It shows a part of a file system at a place of its own, as volumes of containers do. One that shows it
    where it is anyway, as sandboxes of services have it, is none.
    """
    around = [mount for mount in mounts if holds(mount.point, folder)]
    # Reversed, since of two mounts at one point the later one is seen.
    innermost = max(reversed(around), key=lambda mount: len(mount.point), default=None)
    places = [innermost] if innermost else []
    return next((mount for mount in (*places, *_below(folder, mounts)) if _is_bind(mount, mounts)), None)


def _below(folder: str, mounts: Iterable[Mount]) -> Iterator[Mount]:
    return (mount for mount in mounts if holds(folder, mount.point) and not holds(mount.point, folder))


def _is_bind(mount: Mount, mounts: Sequence[Mount]) -> bool:
    return mount.part != "/" and not any(
        _shows(other, mount) and not _is_bind(other, mounts) for other in mounts
    )


def _shows(other: Mount, mount: Mount) -> bool:
    """What `mount` shows can be seen at its place by a wider mount too."""
    if other.device != mount.device or mount.part == other.part or not holds(other.part, mount.part):
        return False
    return other.point.rstrip("/") + mount.part[len(other.part.rstrip("/")) :] == mount.point


FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
"""How a folder below the root is opened: never through a symlink."""

UNKNOWN = "unknown"
"""The file system of a folder that no listed mount holds, as in a `chroot` that is no mount point."""

_CURES = {
    errno.EACCES: "let the user that runs kbsync read it",
    errno.EPERM: "let the user that runs kbsync read it",
    errno.EIO: "look at the disk and its kernel log",
    errno.ESTALE: "mount its file system again",
    errno.ENOTCONN: "mount its file system again",
    errno.ETIMEDOUT: "look at the network and the file server",
    errno.EMFILE: "raise the limit of open files (ulimit -n, LimitNOFILE=)",
    errno.ENFILE: "raise the system's limit of open files (fs.file-max)",
    errno.ENOMEM: "give this machine more memory or less to do",
}

SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""What says nothing of the file that was to be opened."""


class RootTrouble(KbsyncError):
    """The root of a mirror cannot be used now; `halt` is the contract's word for it."""

    halt = "folder-missing"


def identify(root: Path) -> RootIdentity:
    """Look at `root`, through a symlink as well; raises RootTrouble: missing, not a directory, unreadable.

    And ShortageError, which says nothing of the root.
    """
    try:
        with opened_root(root) as fd:
            # This fails where the folder may be listed but not entered.
            os.stat(".", dir_fd=fd)
            status, mount = os.fstat(fd), mount_of(fd)
    except FileNotFoundError as error:
        made = "make it, mount it, or correct `folder` in the config or --folder"
        raise RootTrouble(f"{root}: the folder is missing; {made}") from error
    except NotADirectoryError as error:
        raise RootTrouble(
            f"{root}: is not a directory; correct `folder` in the config or --folder"
        ) from error
    except OSError as error:
        raise RootTrouble(f"{root}: the folder is unreadable: {error_words_at(error)}") from error
    is_mount = mount is not None and mount.point == os.path.realpath(root)
    return RootIdentity(status.st_dev, status.st_ino, mount.fs_type if mount else UNKNOWN, is_mount)


def compare(stored: RootIdentity, now: RootIdentity, *, within_run: bool = False) -> str:
    """ "" where `now` is still the root that `stored` was, else a sentence on the difference.

    The device number is compared only `within_run`, since it may change with every mount.
    """
    # An unmounted disk leaves an empty folder in its place: all would look deleted (promise 5).
    if stored.is_mount != now.is_mount:
        return "it was a mount point and is none now" if stored.is_mount else "something is mounted over it"
    if stored.fs_type != now.fs_type:
        return f"it was on a file system of type {stored.fs_type} and is on {now.fs_type} now"
    if stored.ino != now.ino or (within_run and stored.dev != now.dev):
        return "it is another folder than before, under the same name"
    return ""


@contextmanager
def opened_root(root: Path) -> Iterator[int]:
    """A descriptor of the folder `root`; raises OSError."""
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


def descend(root_fd: int, folder: str) -> int:
    """A descriptor of `folder` ("" is the root) below an open root; the caller closes it.

    Goes name by name, so that no symlink is followed and a path may be of any length. Raises OSError;
    a path that leads up, as a name made up at a service may say, leads nowhere.
    """
    if ".." in folder.split("/"):
        raise FileNotFoundError(errno.ENOENT, "leads out of the folder")
    if not folder:
        return os.dup(root_fd)
    fd = root_fd
    # Name by name, since O_NOFOLLOW guards only the last one of a path.
    for name in folder.split("/"):
        above = fd
        try:
            fd = os.open(name, FOLDER, dir_fd=above)
        finally:
            if above != root_fd:
                os.close(above)
    return fd


class FolderStack:
    """Open folders from a root down to one place, a bounded number of them however deep that is.

    Moved by `enter`, depth first. A folder that was let go on the way down is opened again on the way
    up, name by name, and must be the same folder then.
    """

    HELD = 64

    def __init__(self, root: Path) -> None:
        """Opens the root, which stays open until `close`. Raises OSError."""
        self._names: list[str] = []
        self._fds = [os.open(root, os.O_RDONLY | os.O_DIRECTORY)]
        self._seen: dict[int, tuple[int, int]] = {}

    def path_to(self, depth: int, name: str) -> str:
        """Where `enter` with the same arguments leads, relative to the root."""
        return "/".join([*self._names[: depth - 1], name]) if depth else ""

    def enter(self, depth: int, name: str) -> int:
        """Go to `name` in the folder at `depth` - 1 of the present way; its descriptor, kept here.

        Depth 0 is the root. Raises OSError, and then stays in the folder at `depth` - 1.
        """
        self._leave(max(depth, 1))
        if not depth:
            return self._fds[0]
        fd = os.open(name, FOLDER, dir_fd=self._at(depth - 1))
        self._names.append(name)
        self._fds.append(fd)
        self._let_go(depth - self.HELD)
        return fd

    def close(self) -> None:
        """Close all."""
        self._leave(1)
        os.close(self._fds.pop())

    def _leave(self, depth: int) -> None:
        """Close what lies at `depth` and deeper."""
        while len(self._fds) > depth:
            fd = self._fds.pop()
            self._names.pop()
            self._seen.pop(len(self._fds), None)
            if fd >= 0:
                os.close(fd)

    def _let_go(self, depth: int) -> None:
        """Close the folder at `depth`, remembering which one it was; the root stays open."""
        if depth > 0 and self._fds[depth] >= 0:
            status = os.fstat(self._fds[depth])
            self._seen[depth] = (status.st_dev, status.st_ino)
            os.close(self._fds[depth])
            self._fds[depth] = -1

    def _at(self, depth: int) -> int:
        """The descriptor at `depth`, with everything on the way to it opened again where need be."""
        if self._fds[depth] < 0:
            above = next(place for place in range(depth, -1, -1) if self._fds[place] >= 0)
            # Another folder of that name has other files, which must not pass for those of the first.
            for place in range(above + 1, depth + 1):
                fd = os.open(self._names[place - 1], FOLDER, dir_fd=self._fds[place - 1])
                status = os.fstat(fd)
                if (status.st_dev, status.st_ino) != self._seen[place]:
                    os.close(fd)
                    raise OSError(errno.ESTALE, "it was moved while it was being scanned")
                self._fds[place] = fd
                self._let_go(place - self.HELD)
        return self._fds[depth]


def error_words(error: OSError) -> str:
    """An error in words for a person, with the cure where one is known."""
    words = (error.strerror or str(error)).lower()
    cure = _CURES.get(error.errno or 0)
    return f"{words}; {cure}" if cure else words


def error_words_at(error: OSError) -> str:
    """`error_words` of an error at the place that was looked at.

    Raises ShortageError where no place is to blame: then nothing is known of it, and nothing may follow.
    """
    if error.errno in SHORTAGES:
        raise ShortageError(f"nothing can be looked at just now: {error_words(error)}") from error
    return error_words(error)
