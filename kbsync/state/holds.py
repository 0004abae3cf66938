"""Holds that ask a person; of deletions also the candidates to be weighed, and the log of what went."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import apsw

from kbsync.state.connection import bind, unbind

DELETIONS, RENEWALS = "deletions", "renewals"
"""Kinds of holds."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A served path whose file is gone or deselected. `cause`: gone, deselected or emptied."""

    path: str
    upload: int
    cause: str
    at: float


@dataclass(frozen=True, slots=True)
class HoldItem:
    """One deletion a hold is about: it runs only for this upload."""

    path: str
    upload: int
    digest: str
    cause: str


@dataclass(frozen=True, slots=True)
class Hold:
    """What waits for `approve`. `kind`: deletions or renewals; `detail`: what a person should know of it."""

    id: int
    mirror: int
    made_at: float
    approved_at: float | None
    kind: str = DELETIONS
    detail: str = ""


class Holds:
    """Candidates, holds and the deletion log of one connection."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._db = connection

    def nominate(self, mirror: int, path: str, upload: int, cause: str, now: float) -> None:
        """A deletion to be weighed; saying it twice changes nothing but the upload."""
        self._db.execute(
            "INSERT INTO candidate VALUES(?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET upload = excluded.upload, cause = excluded.cause",
            (mirror, bind(path), upload, cause, now),
        )

    def withdraw(self, mirror: int, path: str) -> None:
        """The path is wanted again."""
        self._db.execute("DELETE FROM candidate WHERE mirror = ? AND path = ?", (mirror, bind(path)))

    def candidates(self, mirror: int) -> Iterator[Candidate]:
        """What waits to be weighed."""
        sql = "SELECT path, upload, cause, at FROM candidate WHERE mirror = ? ORDER BY path"
        for path, upload, cause, at in self._db.execute(sql, (mirror,)):
            yield Candidate(unbind(path), upload, cause, at)

    def candidate_times(self, mirror: int) -> tuple[int, float, float]:
        """Number of candidates, and when the first and the last were found (0.0 for none)."""
        sql = (
            "SELECT count(*), coalesce(min(at), 0.0), coalesce(max(at), 0.0) FROM candidate WHERE mirror = ?"
        )
        n, first, last = self._db.execute(sql, (mirror,)).fetchone()  # type: ignore[misc]
        return int(n), float(first), float(last)

    def open(self, mirror: int, now: float, kind: str = DELETIONS, detail: str = "") -> int:
        """A new hold."""
        sql = "INSERT INTO hold(mirror, made_at, kind, detail) VALUES(?, ?, ?, ?)"
        self._db.execute(sql, (mirror, now, kind, detail))
        return self._db.last_insert_rowid()

    def add_item(self, hold: int, item: HoldItem) -> None:
        """One more deletion of a hold."""
        self._db.execute(
            "INSERT OR REPLACE INTO hold_item VALUES(?, ?, ?, ?, ?)",
            (hold, bind(item.path), item.upload, item.digest, item.cause),
        )

    def current(self, mirror: int, kind: str = DELETIONS) -> list[Hold]:
        """Holds of this kind that have not ended, oldest first."""
        sql = (
            "SELECT id, mirror, made_at, approved_at, kind, detail FROM hold"
            " WHERE mirror = ? AND kind = ? AND ended_at IS NULL ORDER BY id"
        )
        return [Hold(*row) for row in self._db.execute(sql, (mirror, kind))]

    def items(self, hold: int) -> Iterator[HoldItem]:
        """What a hold is about."""
        sql = "SELECT path, upload, digest, cause FROM hold_item WHERE hold = ? ORDER BY path"
        for path, upload, digest, cause in self._db.execute(sql, (hold,)):
            yield HoldItem(unbind(path), upload, digest, cause)

    def item_count(self, hold: int) -> int:
        """How many deletions a hold is about."""
        row = self._db.execute("SELECT count(*) FROM hold_item WHERE hold = ?", (hold,)).fetchone()
        return int(row[0])  # type: ignore[index]

    def release(self, upload: int) -> None:
        """The path came back: no hold is about this upload any more; a hold about nothing ends."""
        self._db.execute("DELETE FROM hold_item WHERE upload = ?", (upload,))

    def inherit(self, old: int, new: int, digest: str) -> None:
        """Another version serves the path now: what is held is its deletion."""
        self._db.execute("UPDATE hold_item SET upload = ?, digest = ? WHERE upload = ?", (new, digest, old))

    def end_empty(self, mirror: int, now: float) -> None:
        """Holds that are about nothing have ended."""
        self._db.execute(
            "UPDATE hold SET ended_at = ? WHERE mirror = ? AND ended_at IS NULL"
            " AND NOT EXISTS(SELECT 1 FROM hold_item WHERE hold = hold.id)"
            " AND NOT EXISTS(SELECT 1 FROM renewal r WHERE r.mirror = hold.mirror AND r.hold = hold.id)",
            (now, mirror),
        )

    def approve(self, hold: int, now: float) -> None:
        """A person said yes to exactly this hold."""
        self._db.execute("UPDATE hold SET approved_at = ? WHERE id = ?", (now, hold))

    def unapprove_before(self, mirror: int, before: float) -> None:
        """An approval that could not be used for a week is no approval any more."""
        self._db.execute(
            "UPDATE hold SET approved_at = NULL WHERE mirror = ? AND ended_at IS NULL AND approved_at < ?",
            (mirror, before),
        )

    def log(self, mirror: int, now: float, n: int) -> None:
        """So many deletions were let through without asking."""
        self._db.execute("INSERT INTO deletion_log(mirror, at, n) VALUES(?, ?, ?)", (mirror, now, n))

    def executed_since(self, mirror: int, since: float) -> int:
        """As `logged_since`, for readers: forgets nothing."""
        row = self._db.execute(
            "SELECT coalesce(sum(n), 0) FROM deletion_log WHERE mirror = ? AND at >= ?", (mirror, since)
        ).fetchone()
        return int(row[0])  # type: ignore[index]

    def logged_since(self, mirror: int, since: float) -> int:
        """Deletions let through without asking since then; older ones are forgotten."""
        self._db.execute("DELETE FROM deletion_log WHERE mirror = ? AND at < ?", (mirror, since))
        row = self._db.execute(
            "SELECT coalesce(sum(n), 0) FROM deletion_log WHERE mirror = ?", (mirror,)
        ).fetchone()
        return int(row[0])  # type: ignore[index]
