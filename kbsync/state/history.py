"""The history of each mirror's documents: what kbsync did with them, but not their text. The age and the
number of entries are limited.

Each entry is written in the same transaction as its change, so a crash can neither lose nor add one.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from enum import StrEnum
from typing import Any

from kbsync.dataclass import dataclass
from kbsync.state.db import Table, bind, unbind

MAX_ENTRIES = 100_000
"""Maximum number of history entries in a state."""

RETENTION = 30 * 86400.0
"""Number of seconds to keep a history entry."""


class HistoryEvent(StrEnum):
    """The kind of an event. The state stores its value."""

    UPLOADED = "uploaded"
    REPLACED = "replaced"
    RENAMED = "renamed"
    DELETED = "deleted"
    FAILED = "failed"
    HELD = "held"
    APPROVED = "approved"
    KEPT = "kept"


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """An event in the history.

    `at`: when it happened, in epoch seconds. `path`: the file's path, or '' if the event is about several
    files. `former`: the path before a rename. `reason`: why the file failed, is held, was approved or is
    kept. `by`: where an approval came from, `command` or `page`.
    """

    at: float
    mirror: str
    event: HistoryEvent
    path: str
    former: str = ""
    document_id: str | None = None
    size: int | None = None
    reason: str = ""
    by: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the fields that aren't empty."""
        return {name: value for name, value in asdict(self).items() if value not in ("", None)}


class History(Table):
    """Reads and writes history entries on one connection."""

    def add(
        self,
        mirror: int,
        at: float,
        event: HistoryEvent,
        path: str = "",
        *,
        former: str = "",
        document_id: str | None = None,
        size: int | None = None,
        reason: str = "",
        by: str = "",
    ) -> None:
        """Add an entry. If there are too many, drop the oldest ones."""
        self._db.execute(
            "INSERT INTO history(mirror, at, event, path, former, document_id, size, reason, by)"
            " VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (mirror, at, event, bind(path), bind(former), document_id, size, bind(reason), by),
        )
        newest = self._db.last_insert_rowid()
        self._db.execute("DELETE FROM history WHERE id <= ?", (newest - MAX_ENTRIES,))

    def prune(self, before: float) -> None:
        """Drop entries older than this time."""
        oldest = self._db.execute("SELECT at FROM history ORDER BY id LIMIT 1").get
        if oldest is not None and oldest < before:
            self._db.execute("DELETE FROM history WHERE at < ?", (before,))

    def newest(
        self, mirrors: Collection[int], since: float, limit: int, places: Collection[tuple[int, str]] = ()
    ) -> list[HistoryEntry]:
        """Return the newest events of these mirrors since a time, at most `limit`, in chronological order.

        `places`: return only events about these files, or about files below these folders, given by mirror
        and path. '' is the root.
        """
        where, values = ["at >= ?", f"h.mirror IN ({', '.join('?' * len(mirrors))})"], [since, *mirrors]
        condition = (
            "(h.mirror = ? AND (? IN (path, former, '') OR instr(path, ?) = 1 OR instr(former, ?) = 1))"
        )
        if places:
            where.append(f"({' OR '.join([condition] * len(places))})")
            for mirror, path in places:
                below = bind(f"{path}/")
                values += [mirror, bind(path), below, below]  # type: ignore[list-item]
        sql = (
            "SELECT at, name, event, path, former, document_id, size, reason, by"  # noqa: S608 - ours
            f" FROM history h JOIN mirror m ON m.id = h.mirror WHERE {' AND '.join(where)}"
            " ORDER BY h.id DESC LIMIT ?"
        )
        # SQLite refuses numbers of more than 63 bits.
        rows = list(self._db.execute(sql, (*values, min(limit, MAX_ENTRIES + 1))))
        return [_read(row) for row in reversed(rows)]

    def has(self, mirror: int, path: str) -> bool:
        """Return whether an entry is about this file or about a file below this folder."""
        return bool(self.newest((mirror,), 0.0, 1, ((mirror, path),)))


def _read(row: tuple[Any, ...]) -> HistoryEntry:
    at, mirror, event, path, former, document_id, size, reason, by = row
    return HistoryEntry(
        at, mirror, HistoryEvent(event), unbind(path), unbind(former), document_id, size, unbind(reason), by
    )
