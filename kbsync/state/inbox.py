"""What commands ask of the process that holds the lock, and small facts by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kbsync.state.db import Table


@dataclass(frozen=True, slots=True)
class Message:
    """One request of a person: approve, retry, repair or audit."""

    id: int
    verb: str
    mirror: str | None
    args: Mapping[str, Any] = field(default_factory=dict)


class Messages(Table):
    """Messages of one connection."""

    def post(self, verb: str, mirror: str | None, args: Mapping[str, Any], now: float) -> None:
        """Ask for something."""
        self._db.execute(
            "INSERT INTO inbox(at, verb, mirror, args) VALUES(?, ?, ?, ?)",
            (now, verb, mirror, json.dumps(dict(args))),
        )

    def waiting(self, mirror: str) -> list[Message]:
        """Messages for this mirror, oldest first."""
        sql = "SELECT id, verb, mirror, args FROM inbox WHERE mirror = ? ORDER BY id"
        return [
            Message(number, verb, name, json.loads(args))
            for number, verb, name, args in self._db.execute(sql, (mirror,))
        ]

    def done(self, message: int) -> None:
        """It was carried out."""
        self._db.execute("DELETE FROM inbox WHERE id = ?", (message,))


class Meta(Table):
    """Small facts about the state itself, by name."""

    def get(self, key: str) -> str:
        """The fact, or ''."""
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return "" if row is None else str(row[0])

    def set(self, key: str, value: str) -> None:
        """Remember it."""
        self._db.execute("INSERT OR REPLACE INTO meta(key, value) VALUES(?, ?)", (key, value))
