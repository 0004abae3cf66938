"""What the kernel calls the file system of a folder where the table of mounts does not list it.

It does not where kbsync runs in a `chroot` that is no mount point, as in some containers and build systems.

Whether this kernel hears of every change in a folder: not where others can make them behind its back.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from kbsync.source.roots import Mount

_NAMES = {
    0x01021997: "9p",
    0x01161970: "gfs2",
    0x0BD00BD0: "lustre",
    0x19830326: "beegfs",
    0x47504653: "gpfs",
    0x517B: "smbfs",
    0x5346414F: "afs",
    0x564C: "ncpfs",
    0x65735546: "fuse",
    0x6969: "nfs",
    0x73757245: "coda",
    0x7461636F: "ocfs2",
    0x786F4256: "vboxsf",
    0x00C36400: "ceph",
    0xFE534D42: "smb2",
    0xFF534D42: "cifs",
}
"""linux/magic.h and statfs(2): file systems that others may change. All of FUSE has one number."""

_RESERVED = 256
"""Bytes for a `struct statfs`, which takes at most 120."""


def name_of(magic: int) -> str:
    """The name of a file system that others may change, by its number; empty for every other one."""
    return _NAMES.get(magic & 0xFFFFFFFF, "")


def magic_of(folder: Path) -> int:
    """The number of the file system of `folder`; 0 where it cannot be had. May wait for a dead server."""
    statfs = getattr(ctypes.CDLL(None), "statfs", None)
    answer = ctypes.create_string_buffer(_RESERVED)
    if statfs is None or statfs(os.fsencode(folder), answer) != 0:
        return 0
    return int(ctypes.c_long.from_buffer(answer).value)


_DEAF = frozenset(
    {
        *("9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "drvfs", "fakeowner", "fhgfs", "fuse"),
        *("gfs", "gfs2", "glusterfs", "gpfs", "grpcfuse", "lustre", "moosefs", "ncpfs", "nfs", "nfs4"),
        *("ocfs2", "orangefs", "osxfs", "prl_fs", "pvfs2", "smb2", "smb3", "smbfs", "vboxsf", "virtiofs"),
        *("vmhgfs",),
    }
)


def is_deaf(fs_type: str) -> bool:
    """True for file systems of the network, of virtual machines' hosts and in FUSE.

    `fuseblk` is a disk of this machine behind FUSE, so all its changes pass this kernel.
    """
    return fs_type in _DEAF or fs_type.startswith("fuse.")


def deaf_below(folder: str, mounts: Iterable[Mount]) -> Mount | None:
    """A mount below `folder` (a real path) whose changes may go unheard; None if there is none."""
    return next((mount for mount in _below(folder, mounts) if is_deaf(mount.fs_type)), None)


def bound(folder: str, mounts: Sequence[Mount]) -> Mount | None:
    """The bind mount that `folder` (a real path) lies in, or one below it; None if there is none.

    It shows a part of a file system at a place of its own, as volumes of containers do. One that shows it
    where it is anyway, as sandboxes of services have it, is none.
    """
    around = [mount for mount in mounts if _holds(mount.point, folder)]
    innermost = max(reversed(around), key=lambda mount: len(mount.point), default=None)
    places = [innermost] if innermost else []
    return next((mount for mount in (*places, *_below(folder, mounts)) if _is_bind(mount, mounts)), None)


def _below(folder: str, mounts: Iterable[Mount]) -> Iterator[Mount]:
    return (mount for mount in mounts if _holds(folder, mount.point) and not _holds(mount.point, folder))


def _holds(folder: str, path: str) -> bool:
    """True if `path` is `folder` or lies in it."""
    return f"{path.rstrip('/')}/".startswith(f"{folder.rstrip('/')}/")


def _is_bind(mount: Mount, mounts: Sequence[Mount]) -> bool:
    return mount.part != "/" and not any(
        _shows(other, mount) and not _is_bind(other, mounts) for other in mounts
    )


def _shows(other: Mount, mount: Mount) -> bool:
    """What `mount` shows can be seen at its place by a wider mount too."""
    if other.device != mount.device or mount.part == other.part or not _holds(other.part, mount.part):
        return False
    return other.point.rstrip("/") + mount.part[len(other.part.rstrip("/")) :] == mount.point
