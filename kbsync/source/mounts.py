"""What is mounted where, and whether this kernel hears of every change there.

It does not where others can make changes behind its back: network file systems, hosts of virtual machines,
FUSE.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_MOUNTINFO = "/proc/self/mountinfo"


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of `/proc/self/mountinfo` (proc(5)): its id, where it is, and the file system's type.

    `part` is the folder of its file system, or of its subvolume, that is seen at `point`; `device` tells
    file systems apart.
    """

    id: int
    point: str
    fs_type: str
    part: str = "/"
    device: str = ""


def mounts() -> tuple[Mount, ...]:
    """All that is mounted now, as this process sees it, in the order of mounting."""
    text = Path(_MOUNTINFO).read_bytes()
    return tuple(map(_mount, text.splitlines()))


def mounts_below(root: Path) -> frozenset[str]:
    """The mount points below `root`, bind mounts included, as paths relative to it."""
    top = os.path.realpath(root).rstrip("/") + "/"
    return frozenset(m.point[len(top) :] for m in mounts() if m.point.startswith(top) and m.point != top)


def mount_of(fd: int) -> Mount | None:
    """The mount that `fd` was opened through: right also where one lies over another."""
    found = re.search(r"^mnt_id:\s*(\d+)", Path(f"/proc/self/fdinfo/{fd}").read_text(), re.MULTILINE)
    number = int(found[1]) if found else -1
    return next((mount for mount in mounts() if mount.id == number), None)


def _mount(line: bytes) -> Mount:
    fields, _, rest = line.partition(b" - ")
    number, _, device, part, point = fields.split(b" ", 5)[:5]
    fs_type, _, options = rest.partition(b" ")
    return Mount(
        int(number),
        os.fsdecode(_unescaped(point)),
        os.fsdecode(fs_type),
        os.fsdecode(_unescaped(_within_subvolume(part, options))),
        os.fsdecode(device),
    )


def _within_subvolume(part: bytes, options: bytes) -> bytes:
    """`part` as its subvolume has it (btrfs), which is mounted as if it were a file system of its own."""
    found = re.search(rb"(?:^|[ ,])subvol=(/[^ ,]+)", options)
    if found is None or not (part + b"/").startswith(found[1] + b"/"):
        return part
    return part[len(found[1]) :] or b"/"


def _unescaped(field: bytes) -> bytes:
    """Spaces, tabs, newlines and backslashes stand as three octal digits after a backslash."""
    return re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), field)


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
    # Of two mounts at one point the later one is seen.
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


# The table of mounts does not list the folder where kbsync runs in a `chroot` that is no mount point, as in
# some containers and build systems. There the kernel is asked.
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
