"""What the kernel calls the file system of a folder where the table of mounts does not list it.

It does not where kbsync runs in a `chroot` that is no mount point, as in some containers and build systems.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

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
