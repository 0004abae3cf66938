"""Lists mounts, and the file systems that others can change without this kernel noticing.

On such file systems, file locks are unreliable, and the kernel doesn't report every change. So they can't
hold kbsync's state, and folders on them are polled. One list serves both purposes.

A dead network mount never responds. `access_within` limits the time for accessing a path that may be on one.
"""

from __future__ import annotations

import errno
import os
import re
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import field
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from kbsync.dataclass import dataclass

T = TypeVar("T")

MOUNTINFO = Path("/proc/self/mountinfo")

DISK_FAILED = (
    "the kernel made its file system read-only after an error; check the kernel log, repair the file system "
    "with fsck, and mount it again"
)

MAX_RESPONSE_SECONDS = 2.0
"""Time limit for one access to a folder, such as following its symlinks."""

# fmt: off
SHARED = frozenset((
    # on the network
    "9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "fhgfs", "gfs", "gfs2", "glusterfs", "gpfs",
    "lustre", "moosefs", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "pvfs2", "smb2", "smb3", "smbfs",
    # in the host of a virtual machine or of a container
    "drvfs", "fakeowner", "grpcfuse", "osxfs", "prl_fs", "vboxsf", "virtiofs", "vmhgfs",
    # in FUSE without a subtype: the program behind it is unknown
    "fuse",
))
"""File systems that are on a network, on a virtual machine's host, or served by an unknown program."""

_NETWORK_FUSE = frozenset((
    "ceph", "ceph-fuse", "cephfs", "curlftpfs", "davfs2", "gcsfuse", "glusterfs", "goofys", "gvfsd-fuse",
    "juicefs", "mfs", "moosefs", "rclone", "s3fs", "seaweedfs", "sshfs", "vmhgfs-fuse",
))
# fmt: on


def is_network(fs_type: str) -> bool:
    """Return whether file locks are unreliable on this file system.

    FUSE file systems vary: ntfs-3g is local, sshfs isn't.
    """
    name = fs_type.removeprefix("fuse.")
    return name in SHARED or name in _NETWORK_FUSE


def is_shared(fs_type: str) -> bool:
    """Return whether other machines or programs can change this file system.

    They can if it is on a network, on a virtual machine's host, or in FUSE.
    """
    # This excludes `fuseblk`, a local disk behind FUSE, because this kernel sees all of its changes.
    return fs_type in SHARED or fs_type.startswith("fuse.")


def has_lasting_inodes(fs_type: str) -> bool:
    """Return whether a folder keeps its inode number, also when its file system is mounted again.

    FAT and exFAT don't store inode numbers, most programs in FUSE assign them as files are looked up, and
    mergerfs takes them from whichever disk responds.
    """
    return fs_type not in ("vfat", "msdos", "exfat") and not fs_type.startswith("fuse")


@dataclass(frozen=True, slots=True)
class Mount:
    """A line of `/proc/self/mountinfo` (proc(5)), with the mount's id, location and file system type.

    `part` is the folder of the file system, or of its subvolume, that is mounted at `point`. `device`
    identifies the file system until it is unmounted. `source` is the device or the server's export.
    `has_failed`: the kernel has made the file system read-only after an error.
    """

    id: int
    point: str
    fs_type: str
    part: str = "/"
    device: str = ""
    source: str = ""
    has_failed: bool = False


def mounts() -> tuple[Mount, ...]:
    """Return all mounts that this process sees, in mount order. Raises `OSError`."""
    return _parse(MOUNTINFO.read_bytes())


@lru_cache(maxsize=1)
def _parse(mountinfo: bytes) -> tuple[Mount, ...]:
    parsed = list[Mount]()
    for line in mountinfo.splitlines():
        fields, _, remainder = line.partition(b" - ")
        number, _, device, part, point, point_options = fields.split(b" ")[:6]
        fs_type, _, options = remainder.partition(b" ")
        # A subvolume (btrfs) is mounted like a separate file system: the part is relative to it.
        subvolume = re.search(rb"(?:^|[ ,])subvol=(/[^ ,]+)", options)
        if subvolume and (part + b"/").startswith(subvolume[1] + b"/"):
            part = part[len(subvolume[1]) :] or b"/"
        # `mount -o ro` sets `ro` for the mount as well. Since Linux 6.15, ext4 shows `emergency_ro`.
        disk_options = options.rpartition(b" ")[2].split(b",")
        is_read_only = b"ro" in disk_options or b"emergency_ro" in disk_options
        has_failed = is_read_only and b"rw" in point_options.split(b",")
        mount = Mount(
            int(number),
            os.fsdecode(_unescaped(point)),
            os.fsdecode(fs_type),
            os.fsdecode(_unescaped(part)),
            os.fsdecode(device),
            os.fsdecode(_unescaped(options.partition(b" ")[0])),
            has_failed,
        )
        parsed.append(mount)
    return tuple(parsed)


def _unescaped(field: bytes) -> bytes:
    """Return the text with mountinfo's octal escapes decoded: spaces, tabs, newlines and backslashes."""
    return re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), field)


def holds(folder: str, path: str) -> bool:
    """Return whether `path` is `folder` or is inside it."""
    return f"{path.rstrip('/')}/".startswith(f"{folder.rstrip('/')}/")


def innermost(path: str, mounts: Iterable[Mount]) -> Mount | None:
    """Return the mount that contains `path` (a real path), or None if none of `mounts` does."""
    # Reversed, because the later of two mounts at one point is visible.
    around = [mount for mount in mounts if holds(mount.point, path)]
    return max(reversed(around), key=lambda mount: len(mount.point), default=None)


def mount_containing(path: Path) -> Mount | None:
    """Return the mount that contains `path`, which need not exist, or None if there is no mountinfo."""
    try:
        return innermost(os.path.realpath(path), mounts())
    except OSError:
        return None


def has_failed(path: Path) -> bool:
    """Return whether the kernel has made the file system that contains `path` read-only after an error."""
    mount = mount_containing(path)
    return mount is not None and mount.has_failed


@dataclass
class _Access:
    """A call that accesses a path in its own thread."""

    began: float = 0.0
    ended: threading.Event = field(default_factory=threading.Event)
    result: Any = None
    error: BaseException | None = None


_accesses: dict[str, _Access] = {}
"""The running call for each path."""
_changing = threading.Lock()


def access_within(path: Path, call: Callable[[], T], seconds: float | None = None) -> T:
    """Run `call`, which accesses `path`, in a thread. Return its result or raise its error.

    Raises TimeoutError if the file system doesn't respond within `seconds` (default: `MAX_RESPONSE_SECONDS`).
    The call then continues, and until it ends, later calls for this path wait only until `seconds` after its
    start. So at most one thread hangs for each path, and a command that accesses a path several times waits
    only once. `call` must not use `access_within` for the same path.
    """
    seconds = MAX_RESPONSE_SECONDS if seconds is None else seconds
    access, key = _Access(), os.fspath(path)

    def run() -> None:
        try:
            _wait_for_fuse(key)
            access.result = call()
        except BaseException as error:
            access.error = error
        _end(key, access)

    while (running := _claim(key, access)) is not access:
        _wait(running, seconds)
    try:
        threading.Thread(target=run, name="kbsync-disk", daemon=True).start()
    except BaseException:
        # After Ctrl+C, the thread may already run, or have ended.
        _end(key, access)
        raise
    _wait(access, seconds)
    if access.error is not None:
        raise access.error
    result: T = access.result
    return result


STAT = "/usr/bin/stat"

FUSE_RESPONSE_HOLDS = 60.0
"""Seconds for which a response of a file system in FUSE makes another one likely, so that a daemon doesn't
start a process every second.
"""

_fuse_responses: dict[str, float] = {}
"""The monotonic time of each mount's last response."""


def _wait_for_fuse(path: str) -> None:
    """Wait until another process has accessed `path`, if the path is on a file system in FUSE.

    Not even SIGKILL ends a thread that waits for a program behind FUSE, such as sshfs, so neither this
    process nor a shell that waits for it could continue.
    """
    with suppress(OSError):  # no mountinfo, or no such program: access the path directly
        absolute = os.path.abspath(path)  # noqa: PTH100
        for mount in mounts():
            is_around = mount.fs_type.startswith("fuse") and holds(mount.point, absolute)
            last = _fuse_responses.get(mount.point, -FUSE_RESPONSE_HOLDS)
            if is_around and time.monotonic() >= last + FUSE_RESPONSE_HOLDS:
                # `-f` asks for the free space, which no cache answers.
                null = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3)]
                child = os.posix_spawn(STAT, [STAT, "-f", "--", path], {}, file_actions=null)
                os.waitpid(child, 0)
                _fuse_responses[mount.point] = time.monotonic()


def _claim(key: str, access: _Access) -> _Access:
    """Return the running call for the path. If there is none, `access` becomes the running call."""
    with _changing:
        access.began = time.monotonic()
        return _accesses.setdefault(key, access)


def _end(key: str, access: _Access) -> None:
    with _changing:
        if _accesses.get(key) is access:
            del _accesses[key]
    access.ended.set()


def _wait(access: _Access, seconds: float) -> None:
    if not access.ended.wait(max(0.0, access.began + seconds - time.monotonic())):
        raise TimeoutError(errno.ETIMEDOUT, "its file system isn't responding")


def real_path(path: Path, root: Path | None = None) -> Path:
    """Return the real path, or the absolute path if the file system isn't responding.

    `root`: a folder that contains `path`, if known. While it doesn't respond, its paths don't, either.
    """
    try:
        return Path(access_within(root or path, lambda: os.path.realpath(path)))
    except TimeoutError:
        return Path(os.path.abspath(path))  # noqa: PTH100 (Path.absolute keeps `..`)
