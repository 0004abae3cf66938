"""Finds mirrors that have the same files as another folder.

That is the case if one folder contains the other, or if the mirror's folder was moved to the other location.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from kbsync.core.text import printable
from kbsync.errors import KbsyncError, UsageError
from kbsync.file_systems import access_within, real_path

if TYPE_CHECKING:
    from kbsync.config.model import Config, MirrorConfig
    from kbsync.installation import Installation


def describe_overlaps(config: Config, name: str) -> Iterator[str]:
    """Yield a sentence for each mirror that shares files with the mirror `name`. This reads the disk, so it
    may block.
    """
    from kbsync.core.selection import IGNORE_FILE, literal_pattern

    added = next(mirror for mirror in config.mirrors if mirror.name == name)
    for other in config.mirrors:
        for outer, inner in ((other, added), (added, other)):
            root, below = (real_path(mirror.folder) for mirror in (outer, inner))
            if other is not added and below.is_relative_to(root) and enters(root, below, outer):
                verb = "is inside" if inner is added else "contains"
                pattern = f"/{literal_pattern(str(below.relative_to(root)))}/"
                yield printable(
                    f"{added.folder} {verb} {other.folder} of mirror {other.name}, so searches list the "
                    f"files in {inner.folder} twice; to leave them out of {outer.name}, add {pattern} to "
                    f"{outer.folder / IGNORE_FILE}"
                )


def enters(root: Path, folder: Path, mirror: MirrorConfig | None = None) -> bool:
    """Return whether the mirror of `root` scans `folder`, which is inside it.

    If the mirror excludes the folder, another mirror may use it.
    """
    if folder == root:
        return True
    from kbsync.core.model import FileChoice, Formats
    from kbsync.core.selection import Rules
    from kbsync.source.stat import RulesUnknown, rules_in

    include, exclude = (None, ()) if mirror is None else (mirror.include, mirror.exclude)
    path = folder.relative_to(root)
    try:
        rules = Rules(include, exclude, Formats())
        for above in (*reversed(path.parents), path):
            relative = "" if above == Path() else str(above)
            if rules.enters(relative).choice is not FileChoice.SELECTED:
                return False
            with suppress(OSError):
                rules = rules_in(root / above, rules, relative)
    except RulesUnknown:
        # The mirror doesn't scan a folder with unknown rules.
        return False
    return True


MAX_SAMPLE = 100
"""Maximum number of files to compare per mirror."""

MIN_EQUAL_SHARE = 0.9
"""Fraction of the compared files that must have the same path and size. It is less than 1 because users edit
files after a move.
"""


def refuse_moved_folder(installation: Installation, folder: Path) -> None:
    """Raise `UsageError` if `folder` has the files of a mirror whose own folder is missing.

    This reads only file sizes, for at most `MAX_SAMPLE` files. It does nothing if the state can't be read.
    """
    for mirror in filter(_is_lost, installation.config.mirrors):
        sizes = _recorded_sizes(installation, mirror.name)
        equal_count = sum(_size_of(folder / path) == size for path, size in sizes.items())
        if sizes and equal_count >= MIN_EQUAL_SHARE * len(sizes):
            raise UsageError(
                printable(
                    f"{folder} has the files of mirror {mirror.name}, whose folder {mirror.folder} is "
                    f"missing; if you moved that folder, correct `folder:` of {mirror.name} in "
                    f"{installation.config.path}, so that nothing is reindexed"
                )
            )


def _is_lost(mirror: MirrorConfig) -> bool:
    """Return whether the mirror's folder is missing, rather than not responding."""
    folder = mirror.folder
    try:
        return not access_within(folder, lambda: os.path.lexists(os.path.realpath(folder)))
    except TimeoutError:
        return False


def _recorded_sizes(installation: Installation, name: str) -> dict[str, int]:
    """Return the sizes of some of the mirror's files, as a dict keyed by path."""
    from kbsync.core.model import Presence
    from kbsync.state.read_only import Tx, opened

    def read(tx: Tx) -> dict[str, int]:
        former = installation.former_names.get(name, name)
        if (record := tx.mirrors.named(former)) is None:
            return {}
        entries = tx.entries.page(record.id, "", MAX_SAMPLE)
        return {
            entry.path: entry.stamp.size
            for entry in entries
            if entry.presence is not Presence.MISSING and entry.stamp.size >= 0
        }

    try:
        with closing(opened(installation.state_file)) as state:
            return state.read(read)
    except (KbsyncError, OSError):
        return {}


def _size_of(path: Path) -> int | None:
    try:
        return path.lstat().st_size
    except OSError:
        return None
