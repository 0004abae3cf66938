"""Whether this kernel hears of every change in a folder: not where others can make them behind its back."""

from __future__ import annotations

from collections.abc import Iterable

from kbsync.source.roots import Mount

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
    top = folder.rstrip("/") + "/"
    return next(
        (m for m in mounts if m.point.startswith(top) and m.point != top and is_deaf(m.fs_type)), None
    )
