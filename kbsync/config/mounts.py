"""On what kind of file system a path lies."""

from __future__ import annotations

import os
import re
from pathlib import Path

MOUNTINFO = Path("/proc/self/mountinfo")

# fmt: off
_NETWORK = frozenset((
    "9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "fhgfs", "gfs", "gfs2", "glusterfs", "gpfs",
    "lustre", "moosefs", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "pvfs2", "smb2", "smb3", "smbfs",
))
_NETWORK_FUSE = frozenset((
    "ceph", "ceph-fuse", "cephfs", "curlftpfs", "davfs2", "gcsfuse", "glusterfs", "goofys", "gvfsd-fuse",
    "juicefs", "mfs", "moosefs", "rclone", "s3fs", "seaweedfs", "sshfs",
))
# fmt: on


def network_file_system(path: Path, mountinfo: Path = MOUNTINFO) -> str | None:
    """The type of the network file system that `path`, which need not exist, lies on; None for others.

    None as well where there is no mountinfo (proc(5)) to look it up in.
    """
    try:
        content = mountinfo.read_bytes()
    except OSError:
        return None
    kind = _kind_at(os.fsencode(os.path.realpath(path)), content)
    is_network = kind in _NETWORK or kind.removeprefix("fuse.") in _NETWORK_FUSE
    return kind if is_network else None


def _kind_at(path: bytes, mountinfo: bytes) -> str:
    """The type of the innermost mount that holds `path`; at one place the last covers the others."""
    longest, kind = -1, ""
    for line in mountinfo.splitlines():
        before, separator, after = line.partition(b" - ")
        fields = before.split(b" ")
        if not separator or len(fields) < 5:
            continue
        point = _unescaped(fields[4])
        if len(point) >= longest and _holds(point, path):
            longest, kind = len(point), after.split(b" ")[0].decode("ascii", "replace")
    return kind


def _holds(point: bytes, path: bytes) -> bool:
    return path == point or path.startswith(point.rstrip(b"/") + b"/")


def _unescaped(field: bytes) -> bytes:
    """Spaces, tabs, newlines and backslashes are written as octal in mountinfo."""
    return re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8) & 0xFF]), field)
