"""The kernel's limits of inotify, and why a folder cannot be watched by events, in words for a person.

Loads nothing of the watching library: `kbsync doctor` reads the limits too.
"""

from __future__ import annotations

import errno
import os
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kbsync.source.roots import error_words

ObserverChoice = Literal["auto", "native", "polling"]
"""The setting `observer` of a mirror."""

DESCRIPTORS = 65_536
"""How many a process is given that has used up its own."""

_SYSCTL = Path("/proc/sys/fs/inotify")


@dataclass(frozen=True, slots=True)
class InotifyLimits:
    """The kernel's limits (inotify(7), "/proc interfaces"); None where they cannot be read.

    Both count for all processes of the user together.
    """

    watches: int | None = None
    instances: int | None = None


def read_limits(folder: Path = _SYSCTL) -> InotifyLimits:
    """The limits in force now."""
    return InotifyLimits(
        watches=_number(folder / "max_user_watches"),
        instances=_number(folder / "max_user_instances"),
    )


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


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why events cannot be had; `cure` is a command to paste or empty; `lasts`: trying again is no use."""

    why: str
    cure: str = ""
    lasts: bool = False


def foreseen(choice: ObserverChoice, deaf: str, directories: int, limits: InotifyLimits) -> Obstacle | None:
    """What is known before trying.

    `deaf` names the file system that does not report every change, or is empty; `directories` is how
    many the folder has (0: not known).
    """
    if choice == "polling":
        return Obstacle("the setting `observer: polling` asks for it", lasts=True)
    if choice == "auto" and deaf:
        return Obstacle(f"{deaf}, which does not report every change", lasts=True)
    if limits.watches is not None and directories >= limits.watches:
        return too_few_watches(limits.watches, directories)
    return None


def too_few_watches(watches: int | None, directories: int) -> Obstacle:
    """The kernel lets the user watch fewer directories than there are."""
    allowed = "too few" if watches is None else f"only {watches}"
    needed = f"the {directories} of this folder need more" if directories else "this folder needs more"
    return Obstacle(
        f"the kernel allows {allowed} watched directories to all of a user's programs together, {needed}",
        cure("max_user_watches", roomy(max(directories, watches or 0))),
    )


def met(error: OSError, limits: InotifyLimits, directories: int) -> Obstacle:
    """What starting to watch ran into."""
    if error.errno == errno.ENOSPC:
        return too_few_watches(limits.watches, directories)
    if error.errno != errno.EMFILE:
        return Obstacle(f"starting to watch failed: {error_words(error)}")
    if descriptors_used_up():
        # For the process as it runs: `ulimit` would reach those only that a shell starts later.
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        is_enough = most == resource.RLIM_INFINITY or most >= DESCRIPTORS
        return Obstacle(
            "this process has used up its file descriptors",
            f"sudo prlimit --pid {os.getpid()} --nofile={DESCRIPTORS}:{'' if is_enough else DESCRIPTORS}",
        )
    allowed = "" if limits.instances is None else f" ({limits.instances})"
    return Obstacle(
        f"all inotify instances that a user's programs may have{allowed} are in use",
        cure("max_user_instances", max(1024, 2 * (limits.instances or 0))),
    )
