"""The root of a mirror: its identity, its mounts, and how folders below it are opened.

A file system is called shared if it can change without this kernel's involvement, that is, over the network,
on a virtual machine's host, or through FUSE. The kernel doesn't report every change there.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from kbsync.core.model import RootIdentity
from kbsync.errors import TOO_MANY_OPEN_FILES, KbsyncError, ShortageError, system_reason
from kbsync.file_systems import Mount, access_within, has_lasting_inodes, holds, innermost, is_shared, mounts
from kbsync.permissions import command_to_open

MAX_CHECK_SECONDS = 5.0
"""Time limit for checking a root, because a dead network mount never responds."""

VOLUMES = Path("/dev/disk/by-uuid")
"""The folder in which udev names the devices of file systems."""


def mounts_below(root: Path) -> frozenset[str]:
    """Return the mount points below `root`, including bind mounts, as paths relative to it."""
    top = os.path.realpath(root).rstrip("/") + "/"
    return frozenset(m.point[len(top) :] for m in mounts() if m.point.startswith(top) and m.point != top)


def mount_of(fd: int) -> Mount | None:
    """Return the mount through which `fd` was opened. This is correct even if one mount hides another."""
    match = re.search(r"^mnt_id:\s*(\d+)", Path(f"/proc/self/fdinfo/{fd}").read_text(), re.MULTILINE)
    number = int(match[1]) if match else -1
    return next((mount for mount in mounts() if mount.id == number), None)


def identify_mount(fd: int, mount: Mount) -> str:
    """Return text that identifies the mounted file system, or the part of it, whose top folder is open as
    `fd`.

    It consists of the type, the inode of that folder, and the volume or the server's export, separated by
    spaces. It stays the same when a disk is mounted again, even after a reboot. An unknown volume is empty,
    and so is an inode that may change. Raises OSError.
    """
    status = os.fstat(fd)
    ino = storable_inode(status.st_ino) if has_lasting_inodes(mount.fs_type) else ""
    return f"{mount.fs_type} {ino} {_volume_of(status, fd, mount)}"


def _volume_of(status: os.stat_result, fd: int, mount: Mount) -> str:
    if is_shared(mount.fs_type):
        return mount.source.encode("unicode_escape").decode("ascii")
    if (number := os.fstatvfs(fd).f_fsid) not in (0, status.st_dev):
        return f"{number:x}"
    # XFS, FAT and others report the device's number, which another disk may have after a reboot.
    return _volume_on(status.st_dev)


def _volume_on(device: int) -> str:
    """Return the UUID or serial number of the file system on a block device, or "" if unknown."""
    with suppress(OSError), os.scandir(VOLUMES) as links:
        for link in links:
            with suppress(OSError):
                if os.stat(link.path).st_rdev == device:
                    return link.name
    return ""


def is_same_mount(stored: str, current: str) -> bool:
    """Return whether two results of `identify_mount` may refer to the same disk. "" means unknown."""
    parts = zip(stored.split(" ", 2), current.split(" ", 2), strict=False)
    return stored == current or all(part == other or "" in (part, other) for part, other in parts)


def select_below(folder: str, mounts: Iterable[Mount]) -> Iterator[Mount]:
    """Yield the mounts below `folder` (a real path), including bind mounts."""
    return (mount for mount in mounts if holds(folder, mount.point) and not holds(mount.point, folder))


def shared_below(folder: str, mounts: Iterable[Mount]) -> Mount | None:
    """Return a shared mount below `folder` (a real path), or None if there is none."""
    return next((mount for mount in select_below(folder, mounts) if is_shared(mount.fs_type)), None)


def bound(folder: str, mounts: Sequence[Mount]) -> Mount | None:
    """Return the bind mount that contains `folder` (a real path) or is below it, or None if there is none.

    A bind mount shows a part of a file system at a different path, as container volumes do. Bind mounts that
    keep the path, as in service sandboxes, are ignored.
    """
    around = innermost(folder, mounts)
    places = [around] if around else []
    return next(
        (mount for mount in (*places, *select_below(folder, mounts)) if _is_bind(mount, mounts)), None
    )


def _is_bind(mount: Mount, mounts: Sequence[Mount]) -> bool:
    return mount.part != "/" and not any(
        _shows(wider, mount) and not _is_bind(wider, mounts) for wider in mounts
    )


def _shows(wider: Mount, mount: Mount) -> bool:
    """Return whether a larger mount shows the content of `mount` at the same path, too."""
    if wider.device != mount.device or mount.part == wider.part or not holds(wider.part, mount.part):
        return False
    return wider.point.rstrip("/") + mount.part[len(wider.part.rstrip("/")) :] == mount.point


FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
"""Flags for opening a folder below the root without following a symlink."""

UNKNOWN = "unknown"
"""The file system reported for a folder outside all listed mounts, as in a `chroot` that isn't a mount
point."""

_FIXES = {
    errno.EACCES: "give the user who runs kbsync read access",
    errno.EPERM: "give the user who runs kbsync read access",
    errno.EIO: "check the disk and the kernel log",
    errno.ESTALE: "mount its file system again",
    errno.ENOTCONN: "mount its file system again",
    errno.ETIMEDOUT: "check the network and the file server",
    **TOO_MANY_OPEN_FILES,
    errno.ENOMEM: "add memory to this machine or reduce its load",
}

SHORTAGES = (*TOO_MANY_OPEN_FILES, errno.ENOMEM)
"""Errors that aren't the fault of the file itself."""


class RootError(KbsyncError):
    """Raised if a mirror's root is currently unusable. `halt`: the reason, as defined in the contract."""

    halt = "folder-missing"


def identify(root: Path) -> RootIdentity:
    """Identify `root`, which may be a symlink.

    Raises RootError if it is missing, unreadable or not a directory, or if its file system isn't responding.
    May also raise ShortageError, which says nothing about the root.
    """
    try:
        return access_within(root, lambda: _identify(root), MAX_CHECK_SECONDS)
    except FileNotFoundError as error:
        advice = "mount the folder, or if it has moved, correct `folder` in the config or --folder"
        raise RootError(f"{root}: the folder is missing; {advice}") from error
    except NotADirectoryError as error:
        raise RootError(f"{root}: not a directory; correct `folder` in the config or --folder") from error
    except OSError as error:
        raise unreadable(root, error) from error


def unreadable(root: Path, error: OSError) -> RootError:
    """Return the error for a root that can't be read now. Raises ShortageError if the root isn't to blame."""
    if isinstance(error, PermissionError):
        command = command_to_open(root, os.R_OK)
        fix = f"run: {command}" if command else "give the user who runs kbsync read and execute access"
        words = f"{system_reason(error)}; {fix}"
    else:
        words = error_words_at(error)
    return RootError(f"{root}: the folder is unreadable: {words}")


def _identify(root: Path) -> RootIdentity:
    with opened_root(root) as fd:
        # Fails if the folder may be listed but not entered.
        os.stat(".", dir_fd=fd)
        status, mount = os.fstat(fd), mount_of(fd)
        is_mount = mount is not None and mount.point == os.path.realpath(root)
        fs_type = mount.fs_type if mount else UNKNOWN
        ino = storable_inode(status.st_ino) if has_lasting_inodes(fs_type) else 0
        mounted = identify_mount(fd, mount) if mount is not None and (is_mount or not ino) else ""
        return RootIdentity(status.st_dev, ino, fs_type, is_mount, mounted)


def compare(stored: RootIdentity, current: RootIdentity, *, within_run: bool = False) -> str:
    """Return "" if `current` is still the root `stored`, otherwise a sentence that describes the difference.

    The device number is compared only `within_run`, because it may change with every mount. Without a lasting
    inode number, another folder on the same disk isn't recognized.
    """
    # Unmounting a disk leaves an empty folder, so all files would look deleted (promise 5).
    if stored.is_mount != current.is_mount:
        return "it is no longer a mount point" if stored.is_mount else "something is mounted over it"
    if stored.fs_type != current.fs_type:
        return f"the folder's file system was {stored.fs_type} and is now {current.fs_type}"
    has_other_inode = stored.ino != current.ino and 0 not in (stored.ino, current.ino)
    if has_other_inode or (within_run and stored.dev != current.dev):
        return "a different folder with the same name is there now"
    # The top folder has the same inode number on all disks with the same type of file system.
    if stored.mount and not is_same_mount(stored.mount, current.mount):
        return "another disk is mounted there"
    return ""


def storable_inode(ino: int) -> int:
    """Return the inode number as stored in the state: the same 64 bits, but signed."""
    return ino if ino < 2**63 else ino - 2**64


@contextmanager
def opened_root(root: Path) -> Iterator[int]:
    """Yield a descriptor of the folder `root`. Raises OSError."""
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def opened_folder(root_fd: int, folder: str) -> Iterator[int]:
    """Yield a descriptor of `folder` ("" is the root) below an open root.

    The path is opened one component at a time, so no symlink is followed, and the path may have any length.
    Raises OSError. A path that contains `..`, which a service may send, is treated as missing.
    """
    if ".." in folder.split("/"):
        raise FileNotFoundError(errno.ENOENT, "leads out of the folder")
    fd = os.dup(root_fd)
    try:
        # Open one name at a time, because O_NOFOLLOW protects only the last name in a path.
        for name in folder.split("/") if folder else ():
            above, fd = fd, os.open(name, FOLDER, dir_fd=fd)
            os.close(above)
        yield fd
    finally:
        os.close(fd)


class FolderStack:
    """The open folders on the way from a root to one folder. The number of open descriptors is limited,
    regardless of the depth.

    `enter` moves to another folder, depth first. A folder that was closed on the way down is opened again on
    the way up, one component at a time, and must still be the same folder.
    """

    HELD = 64

    def __init__(self, root: Path) -> None:
        """Open the root, which stays open until `close`. Raises OSError."""
        self._names: list[str] = []
        self._fds = [os.open(root, os.O_RDONLY | os.O_DIRECTORY)]
        self._identities: dict[int, tuple[int, int]] = {}

    def path_to(self, depth: int, name: str) -> str:
        """Return the path, relative to the root, that `enter` would open if given the same arguments."""
        return "/".join([*self._names[: depth - 1], name]) if depth else ""

    def enter(self, depth: int, name: str) -> int:
        """Go to `name` in the folder at `depth` - 1 of the current path. Depth 0 is the root.

        Return its descriptor, which this object keeps open. Raises OSError. In that case, the folder at
        `depth` - 1 stays current.
        """
        self._leave(max(depth, 1))
        if not depth:
            return self._fds[0]
        fd = os.open(name, FOLDER, dir_fd=self._fd_at(depth - 1))
        self._names.append(name)
        self._fds.append(fd)
        self._let_go(depth - self.HELD)
        return fd

    def close(self) -> None:
        """Close all descriptors."""
        self._leave(1)
        os.close(self._fds.pop())

    def _leave(self, depth: int) -> None:
        """Close the folders at `depth` and deeper."""
        while len(self._fds) > depth:
            fd = self._fds.pop()
            self._names.pop()
            self._identities.pop(len(self._fds), None)
            if fd >= 0:
                os.close(fd)

    def _let_go(self, depth: int) -> None:
        """Close the folder at `depth`, remembering which one it was. The root stays open."""
        if depth > 0 and self._fds[depth] >= 0:
            status = os.fstat(self._fds[depth])
            self._identities[depth] = (status.st_dev, status.st_ino)
            os.close(self._fds[depth])
            self._fds[depth] = -1

    def _fd_at(self, depth: int) -> int:
        """Return the descriptor at `depth`. If necessary, open the folders on the way to it again."""
        if self._fds[depth] < 0:
            above = next(level for level in range(depth, -1, -1) if self._fds[level] >= 0)
            # Another folder of that name has different files, which must not be mistaken for those of the
            # first.
            for level in range(above + 1, depth + 1):
                fd = os.open(self._names[level - 1], FOLDER, dir_fd=self._fds[level - 1])
                status = os.fstat(fd)
                if (status.st_dev, status.st_ino) != self._identities[level]:
                    os.close(fd)
                    raise OSError(errno.ESTALE, "the folder was moved while it was being scanned")
                self._fds[level] = fd
                self._let_go(level - self.HELD)
        return self._fds[depth]


def error_words(error: OSError) -> str:
    """Describe an error for the user, with a fix if one is known."""
    words = system_reason(error)
    fix = _FIXES.get(error.errno or 0)
    return f"{words}; {fix}" if fix else words


def error_words_at(error: OSError) -> str:
    """Describe an error at a checked path, like `error_words`.

    Raises ShortageError if the path isn't to blame, because then nothing is known about it.
    """
    if error.errno in SHORTAGES:
        raise ShortageError(f"can't check any files right now: {error_words(error)}") from error
    return error_words(error)
