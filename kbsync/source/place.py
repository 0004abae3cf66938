"""Where a folder is: its real path, its identity, and what is known of the events of its mounts."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from kbsync.source.mounts import bound, deaf_below, is_deaf
from kbsync.source.roots import UNKNOWN, RootIdentity
from kbsync.source.statfs import name_of
from kbsync.source.watch import Machine


@dataclass(frozen=True, slots=True)
class Place:
    """A folder as it was found.

    `deaf` names a file system that does not report every change, `bound` the bind mount by which the
    folder or a part of it is seen; each is empty where there is none.
    """

    folder: str
    identity: RootIdentity
    deaf: str = ""
    bound: str = ""


def survey(root: Path, machine: Machine) -> Place:
    """Look at `root`, through a symlink as well. Raises OSError, RootTrouble and ShortageError."""
    identity = machine.identify(root)
    folder = os.path.realpath(root)
    kind = identity.fs_type if identity.fs_type != UNKNOWN else name_of(machine.magic(root))
    if is_deaf(kind):
        return Place(folder, identity, deaf=f"it is on {kind}")
    mounts = tuple(machine.mounts())
    if mount := deaf_below(folder, mounts):
        return Place(folder, identity, deaf=f"{mount.point} is {mount.fs_type}")
    mount = bound(folder, mounts)
    return Place(folder, identity, bound=mount.point if mount else "")
