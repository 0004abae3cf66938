"""Which file a person means by a path: one answer for all commands that take one."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from kbsync.state.glance import Tx

Place = tuple[str, str]
"""A mirror's name and a path below its root; '' is the root itself."""


def resolve(
    typed: str,
    cwd: Path,
    roots: Mapping[str, Path],
    is_known: Callable[[str, str], bool] = lambda mirror, path: False,
) -> list[Place]:
    """The places that `typed` may mean, by the working directory first and then by the mirrors.

    `roots` are real paths by mirror. What is there, or is known to the state, comes before what is not; of
    several mirrors each that has it is meant. Empty: it lies in none of them.
    """
    here = _real(cwd / typed)
    seen_from_here = [(name, _below(root, here)) for name, root in roots.items() if _is_in(root, here)]
    seen_from_roots = []
    if not Path(typed).is_absolute():
        places = [(name, root, _real(root / typed)) for name, root in roots.items()]
        seen_from_roots = [(name, _below(root, place)) for name, root, place in places if _is_in(root, place)]
    for ways in (seen_from_here, seen_from_roots):
        found = [
            (name, path) for name, path in ways if os.path.lexists(roots[name] / path) or is_known(name, path)
        ]
        if found:
            return found
    return seen_from_here or (seen_from_roots if len(roots) == 1 else [])


def is_known(tx: Tx, mirror: int, path: str) -> bool:
    """The state has a file or a directory at `path`."""
    return tx.entries.get(mirror, path) is not None or tx.folders.get(mirror, path) is not None


def _real(path: Path) -> Path:
    """With the directories' symlinks followed. That of the file itself is not: it may be what is meant."""
    folder, name = os.path.split(os.path.normpath(path))
    return Path(os.path.realpath(folder), name)


def _is_in(root: Path, place: Path) -> bool:
    return place.is_relative_to(root) or _is_way_to(root, place)


def _below(root: Path, place: Path) -> str:
    if place == root or not place.is_relative_to(root):
        return ""
    return str(place.relative_to(root))


def _is_way_to(root: Path, place: Path) -> bool:
    """A symlink outside of the mirror that leads to its root."""
    return Path(os.path.realpath(place)) == root
