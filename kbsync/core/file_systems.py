"""Which file systems others can change behind this kernel's back, by the types in /proc/self/mountinfo.

Locks do not hold there and the kernel does not report every change, so they are no place for a state, and a
folder there is polled. One list for both.
"""

from __future__ import annotations

# fmt: off
SHARED = frozenset((
    # on the network
    "9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "fhgfs", "gfs", "gfs2", "glusterfs", "gpfs",
    "lustre", "moosefs", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "pvfs2", "smb2", "smb3", "smbfs",
    # in the host of a virtual machine or of a container
    "drvfs", "fakeowner", "grpcfuse", "osxfs", "prl_fs", "vboxsf", "virtiofs", "vmhgfs",
    # in FUSE without a subtype: nobody knows what is behind it
    "fuse",
))
"""On the network, in the host of a virtual machine, or in an unnamed program."""

_NETWORK_FUSE = frozenset((
    "ceph", "ceph-fuse", "cephfs", "curlftpfs", "davfs2", "gcsfuse", "glusterfs", "goofys", "gvfsd-fuse",
    "juicefs", "mfs", "moosefs", "rclone", "s3fs", "seaweedfs", "sshfs", "vmhgfs-fuse",
))
# fmt: on


def is_network(fs_type: str) -> bool:
    """True where locks do not hold: not in every FUSE, since ntfs-3g is local and sshfs is not."""
    name = fs_type.removeprefix("fuse.")
    return name in SHARED or name in _NETWORK_FUSE
