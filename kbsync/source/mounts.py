"""Whether this kernel hears of every change in a folder: not where others can make them behind its back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

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
