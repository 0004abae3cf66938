"""Requests from commands to the process that holds the lock."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import field, replace
from typing import Any

from kbsync.dataclass import dataclass
from kbsync.state.db import Table


@dataclass(frozen=True, slots=True)
class Message:
    """A user's request: approve, retry, repair, audit, rescan, remove or, without a mirror, reload.

    `problem`: why its arguments can't be read, or '' if they can.
    """

    id: int
    verb: str
    mirror: str | None
    args: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""


RELOAD, REMOVE = "reload", "remove"
"""The requests to reload the config after a command changed it, and to remove a mirror with its documents.
The daemon handles them, not one of its mirrors.
"""

# Read as bytes, because SQLite stores any value, and text that isn't UTF-8 couldn't be read otherwise.
_SELECT = "SELECT id, CAST(verb AS BLOB), CAST(mirror AS BLOB), CAST(args AS BLOB) FROM inbox "


def _read(row: tuple[int, bytes, bytes | None, bytes]) -> Message:
    number, verb, mirror, args = row
    name = None if mirror is None else mirror.decode("utf-8", "replace")
    message = Message(number, verb.decode("utf-8", "replace"), name)
    try:
        values = json.loads(args)
    except (ValueError, RecursionError) as error:
        return replace(message, problem=f"the arguments are not JSON ({error})")
    if not isinstance(values, dict):
        return replace(message, problem="the arguments are not a JSON object")
    return replace(message, args=values)


class Messages(Table):
    """Reads and writes requests on one connection."""

    def post(self, verb: str, mirror: str | None, args: Mapping[str, Any], now: float) -> int:
        """Send a request. Return its number."""
        self._db.execute(
            "INSERT INTO inbox(at, verb, mirror, args) VALUES(?, ?, ?, ?)",
            (now, verb, mirror, json.dumps(dict(args))),
        )
        return self._db.last_insert_rowid()

    def waiting(self, mirror: str) -> list[Message]:
        """Return the messages for this mirror, oldest first."""
        rows = self._db.execute(_SELECT + "WHERE mirror = ? AND verb <> ? ORDER BY id", (mirror, REMOVE))
        return [_read(row) for row in rows]

    def find_unknown(self, configured: Collection[str]) -> list[Message]:
        """Return the messages for mirrors that are neither in the state nor in the config, oldest first.

        While a reload of the config is pending, return none, because it may add these mirrors.
        """
        if self.reloads():
            return []
        is_unknown = "(mirror IS NULL OR mirror NOT IN (SELECT name FROM mirror))"
        where = f"WHERE verb NOT IN (?, ?) AND {is_unknown} ORDER BY id"
        messages = (_read(row) for row in self._db.execute(_SELECT + where, (RELOAD, REMOVE)))
        return [message for message in messages if message.mirror not in configured]

    def reloads(self) -> list[int]:
        """Return the requests to reload the config."""
        return [number for (number,) in self._db.execute("SELECT id FROM inbox WHERE verb = ?", (RELOAD,))]

    def removals(self) -> list[Message]:
        """Return the requests to remove a mirror with its documents, oldest first, with any answers."""
        return [_read(row) for row in self._db.execute(_SELECT + "WHERE verb = ? ORDER BY id", (REMOVE,))]

    def answer(self, message: int, answer: Mapping[str, Any]) -> None:
        """Replace the arguments of a request to remove a mirror: by `{"begun": True}`, and at the end by
        `{"deleted": 12}` (documents) or `{"problem": "…"}`. The command that sent the request removes it.
        """
        self._db.execute("UPDATE inbox SET args = ? WHERE id = ?", (json.dumps(dict(answer)), message))

    def done(self, *messages: int) -> None:
        """Remove messages that were carried out or dropped."""
        self._db.executemany("DELETE FROM inbox WHERE id = ?", ((message,) for message in messages))

    def rename_mirror(self, old_name: str, new_name: str) -> None:
        """Address the messages for a renamed mirror to its new name."""
        self._db.execute("UPDATE inbox SET mirror = ? WHERE mirror = ?", (new_name, old_name))
