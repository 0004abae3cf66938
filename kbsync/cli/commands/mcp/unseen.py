"""Detects changes in a folder that aren't in the state yet.

An event takes up to a second to arrive, and a file must be unchanged for some time before its row is
written. Until then, the state doesn't show it as pending.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from kbsync.cli.context import open_state
from kbsync.core.model import NO_STAMP, FileKind, Formats, Presence
from kbsync.core.selection import Rules
from kbsync.dataclass import dataclass
from kbsync.installation import Installation
from kbsync.source.read import StableDigest, Unstable, digest
from kbsync.source.scan import FolderListing, FoundEntry, Scan, StoredTree
from kbsync.state.files import FileRow, join
from kbsync.state.read_only import ReadOnlyState, Tx

T = TypeVar("T")


def has_unseen_changes(alone: Installation, is_given_up: Callable[[], bool]) -> bool:
    """Return whether the only mirror's folder differs from the recorded state, in its list of files or in
    their contents.

    This reads the disk, and stops at the first difference. Return True if `is_given_up` becomes true.
    """
    [mirror] = alone.mirrors
    root = Path(os.path.realpath(mirror.folder))
    with open_state(alone) as state:
        record = state.read(lambda tx: tx.mirrors.named(mirror.name))
        if record is None:
            return True
        comparison = _Comparison(root, state, record.id, is_given_up)
        # Limits affect the upload, not the scan.
        rules = Rules(mirror.include, mirror.exclude, Formats())
        with closing(Scan(root, StoredTree(comparison.read, record.id), rules)) as scan:
            try:
                return any(map(comparison.is_changed, scan))
            except _GivenUpError:
                return True


class _GivenUpError(Exception):
    """Raised if the caller no longer waits for the comparison."""


@dataclass(frozen=True, slots=True)
class _Comparison:
    """Compares the disk with the state, ignoring differences that cause no events."""

    root: Path
    state: ReadOnlyState
    mirror: int
    is_given_up: Callable[[], bool]

    def read(self, query: Callable[[Tx], T]) -> T:
        """Run `query` on the state. Raises `_GivenUpError`."""
        if self.is_given_up():
            raise _GivenUpError
        return self.state.read(query)

    def is_changed(self, listing: FolderListing) -> bool:
        """Return whether an entry of this folder was added, removed or changed."""
        folders = [join(listing.path, name) for name in listing.gone_folders]

        def had_files(tx: Tx) -> bool:
            # The row of a deleted folder remains for a while.
            rows = (row for folder in folders for row in tx.entries.below(self.mirror, folder))
            return any(row.presence is not Presence.GONE for row in rows)

        return (
            (listing.new and not listing.problem)
            or bool(listing.missing)
            or (bool(folders) and self.read(had_files))
            or any(self._has_other_bytes(listing.path, entry) for entry in listing.changed)
        )

    def _has_other_bytes(self, folder: str, entry: FoundEntry) -> bool:
        """Return whether the file is new or has changed. A change of only its times or its mode doesn't
        count, because that causes no event.
        """
        if entry.stamp == NO_STAMP:
            return False
        row: FileRow | None = self.read(lambda tx: tx.entries.get(self.mirror, join(folder, entry.name)))
        if row is None or row.presence is Presence.GONE:
            return True
        if (entry.stamp.size, entry.stamp.ino) != (row.stamp.size, row.stamp.ino):
            return True
        is_touched = entry.kind is FileKind.FILE and entry.stamp.mtime_ns != row.stamp.mtime_ns
        if row.digest is None or not is_touched:
            return False
        current = digest(self.root, row.path, entry.stamp)
        if isinstance(current, StableDigest):
            return current.digest != row.digest
        return isinstance(current, Unstable)
