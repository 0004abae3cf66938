"""Whether what lies in a state directory can be used by its user, and the command that makes it so."""

from __future__ import annotations

import contextlib
import os
import pwd
from collections.abc import Iterator
from pathlib import Path

from kbsync.core.text import printable, shell_word
from kbsync.errors import ForeignError

NOT_OURS = ("lost+found",)
"""What may lie at the top without being kbsync's: of a disk that is mounted there."""


def user_of(state_dir: Path) -> str:
    """Who works with the state: whoever runs this or, where that is root, the directory's owner."""
    return user_name(os.geteuid() or state_dir.stat().st_uid)


def user_name(number: int) -> str:
    """The user's name, or the number of one that has none."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def strange(state_dir: Path) -> Iterator[Path]:
    """Files and folders in the directory that its user may not use, those above others first.

    For root, who may use all: what belongs to another user than a directory that is not root's.
    """
    owner = state_dir.stat().st_uid
    for place in _inside(state_dir):
        with contextlib.suppress(FileNotFoundError):
            if _is_another(place, owner) if os.geteuid() == 0 else _is_shut(place):
                yield place


def _is_another(place: Path, owner: int) -> bool:
    return owner not in (0, place.lstat().st_uid)


def _is_shut(place: Path) -> bool:
    if not place.exists() or place.is_symlink():
        return False
    return not os.access(place, os.R_OK | os.W_OK | (os.X_OK if place.is_dir() else 0))


def _inside(folder: Path) -> Iterator[Path]:
    """Of folders that cannot be listed, themselves."""
    for above, folders, files in os.walk(folder):
        if above == str(folder):
            folders[:] = [name for name in folders if name not in NOT_OURS]
        folders.sort()
        yield from (Path(above, name) for name in sorted(folders + files))


def fault_of(state_dir: Path, place: Path) -> str:
    """Why the user of the directory may not use the `place` in it."""
    owner, user = user_name(place.lstat().st_uid), user_of(state_dir)
    return f"{place} belongs to {owner} and cannot be used by {user}"


def cure_of(state_dir: Path, place: Path) -> str:
    """The command that lets the user of the directory use the `place` in it, and all else there."""
    user, where = user_of(state_dir), shell_word(str(state_dir))
    is_theirs = user_name(place.lstat().st_uid) == user
    return f"chmod -R u+rwX {where}" if is_theirs else f"sudo chown -R {user} {where}"


def refusal(state_dir: Path, place: Path) -> ForeignError:
    """The error of a `place` in the directory that its user may not use."""
    return ForeignError(f"{printable(fault_of(state_dir, place))}; run: {cure_of(state_dir, place)}")
