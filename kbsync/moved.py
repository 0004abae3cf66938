"""Recognizes the moved folder of a mirror, so that nobody adds it as another mirror."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from kbsync.core.model import Presence
from kbsync.core.text import printable
from kbsync.errors import KbsyncError, UsageError

if TYPE_CHECKING:
    from kbsync.installation import Installation

MAX_SAMPLE = 100
"""Maximum number of a mirror's files to compare."""

MIN_EQUAL_SHARE = 0.9
"""Fraction of the compared files that must have the same path and size: users edit files after a move."""


def refuse_moved_folder(installation: Installation, folder: Path) -> None:
    """Raise `UsageError` if `folder` has the files of a mirror whose own folder is missing.

    Reads only file sizes, and of at most `MAX_SAMPLE` files. Does nothing if the state can't be read.
    """
    lost = [m for m in installation.config.mirrors if not os.path.lexists(os.path.realpath(m.folder))]
    for mirror in lost:
        sizes = _recorded_sizes(installation, mirror.name)
        equal_count = sum(_size_of(folder / path) == size for path, size in sizes.items())
        if sizes and equal_count >= MIN_EQUAL_SHARE * len(sizes):
            raise UsageError(
                printable(
                    f"{folder} has the files of mirror {mirror.name}, whose folder {mirror.folder} is "
                    f"missing; if you moved it, correct `folder:` of {mirror.name} in "
                    f"{installation.config.path}: then nothing is indexed again"
                )
            )


def _recorded_sizes(installation: Installation, name: str) -> dict[str, int]:
    """Return the sizes of some of the mirror's files, by path."""
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
