"""What the state knows of a tree, as the scanner asks for it: on a connection of its own."""

from __future__ import annotations

from pathlib import Path

from kbsync.source.scanner import KnownFolder
from kbsync.state.connection import open_reader, told, unbind
from kbsync.state.entries import Entries
from kbsync.state.folders import FolderRow, Folders


class StateTree:
    """A `scanner.KnownTree` over one mirror. Used by one thread at a time; `close` it.

    Raises `StateError`.
    """

    def __init__(self, path: Path, mirror: int) -> None:
        self._path = path
        with told(path):
            self._reader = open_reader(path)
        self._folders = Folders(self._reader)
        self._entries = Entries(self._reader, self._folders)
        self._mirror = mirror

    def rows(self, directory: str) -> set[tuple[str, int, int, int, int]]:
        """(name, size, mtime_ns, ctime_ns, ino) of every file stored directly in it.

        Names that are not UTF-8 come from SQLite as bytes; they are few, so only then is the set rebuilt.
        """
        with told(self._path):
            rows = set(self._entries.rows(self._mirror, directory))
        if any(type(row[0]) is bytes for row in rows):
            return {(unbind(row[0]), *row[1:]) for row in rows}
        return rows

    def folders(self, directory: str) -> dict[str, KnownFolder]:
        """Stored sub-directories by name."""
        with told(self._path):
            return {row.path: _known(row) for row in self._folders.below(self._mirror, directory)}

    def folder(self, directory: str) -> KnownFolder | None:
        """The stored directory itself."""
        with told(self._path):
            row = self._folders.get(self._mirror, directory)
        return None if row is None else _known(row)

    def close(self) -> None:
        """Let go of the state file."""
        self._reader.close()


def _known(row: FolderRow) -> KnownFolder:
    return KnownFolder(row.version, row.is_mount, row.problem)
