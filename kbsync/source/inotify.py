"""What the kernel allows and says of inotify, read from /proc without touching the watching library."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_SYSCTL = Path("/proc/sys/fs/inotify")
_LINK = "anon_inode:inotify"


@dataclass(frozen=True, slots=True)
class InotifyLimits:
    """The kernel's limits (inotify(7), "/proc interfaces"); None where they cannot be read.

    `watches` and `instances` count for all processes of the user together, `queued` for one observer.
    """

    watches: int | None = None
    queued: int | None = None
    instances: int | None = None


def read_limits(folder: Path = _SYSCTL) -> InotifyLimits:
    """The limits in force now. `queued` binds an observer at its start, later changes do not."""
    return InotifyLimits(
        watches=_number(folder / "max_user_watches"),
        queued=_number(folder / "max_queued_events"),
        instances=_number(folder / "max_user_instances"),
    )


def inotify_fds() -> frozenset[int]:
    """The descriptors of this process that are inotify instances; empty where /proc is missing."""
    found: set[int] = set()
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):  # closed meanwhile
                if str(Path("/proc/self/fd", name).readlink()) == _LINK:
                    found.add(int(name))
    return frozenset(found)


def count_watches(fds: Iterable[int]) -> int | None:
    """How many directories these instances watch; None if the kernel does not say. 41 ms for 10,000."""
    try:
        return sum(_watches_of(fd) for fd in fds)
    except OSError:
        return None


def descriptors_used_up() -> bool:
    """True if this process, not the inotify limit, has run out of descriptors."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        return len(os.listdir("/proc/self/fd")) + 8 >= soft
    except OSError:
        return True


def cure(name: str, wanted: int) -> str:
    """The command that raises one inotify limit now and for good."""
    line = f"fs.inotify.{name}={wanted}"
    return f"echo {line} | sudo tee /etc/sysctl.d/60-kbsync-{name}.conf && sudo sysctl -w {line}"


def roomy(count: int) -> int:
    """A limit with room to grow: the next power of two above twice `count`, at least 524288."""
    return max(524_288, 1 << (2 * count).bit_length())


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def _watches_of(fd: int) -> int:
    with open(f"/proc/self/fdinfo/{fd}", "rb") as lines:
        return sum(1 for line in lines if line.startswith(b"inotify wd"))
