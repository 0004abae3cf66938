"""Holds that ask a person; of deletions also the candidates to be weighed, and the log of what went.

Documents that are to be made anew because settings changed: to be weighed, let go, or held.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import apsw

from kbsync.state.db import bind, unbind

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


LET_GO = 0
"""In place of a hold: nobody has to be asked."""


@dataclass(frozen=True, slots=True)
class Renewal:
    """A serving upload and the recipe it is wanted under. `hold` None: to be weighed."""

    upload: int
    recipe: str
    hold: int | None


@dataclass(frozen=True, slots=True)
class Extent:
    """How much a hold is about. `recipes`: pairs of what is and what is wanted."""

    documents: int
    size: int
    recipes: tuple[tuple[str, str], ...] = ()


class Renewals:
    """Renewal rows of one connection."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._db = connection

    def nominate(self, mirror: int, upload: int, recipe: str) -> None:
        """To be weighed; saying it twice changes nothing. Another recipe is weighed anew."""
        self._db.execute(
            "INSERT INTO renewal(upload, mirror, recipe) VALUES(?, ?, ?) ON CONFLICT DO UPDATE"
            " SET recipe = excluded.recipe, hold = NULL, told = 0 WHERE recipe <> excluded.recipe",
            (upload, mirror, recipe),
        )

    def drop(self, upload: int) -> None:
        """It is not to be made anew, or has been let go."""
        self._db.execute("DELETE FROM renewal WHERE upload = ?", (upload,))

    def forget_all(self, mirror: int) -> None:
        """The mirror has another base now: nothing of what was asked about the last one counts any more."""
        ended = "DELETE FROM hold WHERE mirror = ? AND kind = 'renewals'"
        void = (
            "UPDATE upload SET asked = '', allowed = '' WHERE mirror = ? AND (asked <> '' OR allowed <> '')"
        )
        for statement in ("DELETE FROM renewal WHERE mirror = ?", ended, void):
            self._db.execute(statement, (mirror,))

    def of(self, upload: int) -> Renewal | None:
        """What is known about this upload."""
        sql = "SELECT upload, recipe, hold FROM renewal WHERE upload = ?"
        row = self._db.execute(sql, (upload,)).fetchone()
        return None if row is None else Renewal(*row)

    def waiting(self, mirror: int) -> int:
        """How many are to be weighed."""
        return self._count("SELECT count(*) FROM renewal WHERE mirror = ? AND hold IS NULL", mirror)

    def held(self, mirror: int) -> int:
        """How many wait for a person who was not asked in vain."""
        return self._count(
            "SELECT count(*) FROM renewal r JOIN hold h ON h.id = r.hold"
            " WHERE r.mirror = ? AND h.approved_at IS NULL",
            mirror,
        )

    def is_busy(self, mirror: int) -> bool:
        """Something is to be weighed, or rows of documents are yet to say what was decided."""
        sql = "SELECT 1 FROM renewal WHERE mirror = ? AND (hold IS NULL OR told = 0) LIMIT 1"
        return self._db.execute(sql, (mirror,)).fetchone() is not None

    def assign(self, mirror: int, hold: int) -> None:
        """What waits to be weighed was: it is let go, or held."""
        self._db.execute("UPDATE renewal SET hold = ? WHERE mirror = ? AND hold IS NULL", (hold, mirror))

    def untold(self, mirror: int, limit: int) -> list[Renewal]:
        """Some that were weighed and whose documents' rows do not say so yet."""
        sql = (
            "SELECT upload, recipe, hold FROM renewal"
            " WHERE mirror = ? AND hold IS NOT NULL AND told = 0 ORDER BY upload LIMIT ?"
        )
        return [Renewal(*row) for row in self._db.execute(sql, (mirror, limit))]

    def tell(self, upload: int) -> None:
        """The document's row says so."""
        self._db.execute("UPDATE renewal SET told = 1 WHERE upload = ?", (upload,))

    def items(self, mirror: int, hold: int, after: int = 0, limit: int = -1) -> list[Renewal]:
        """What a hold is about, by upload, from the one after `after`."""
        sql = (
            "SELECT upload, recipe, hold FROM renewal WHERE mirror = ? AND hold = ? AND upload > ?"
            " ORDER BY upload LIMIT ?"
        )
        return [Renewal(*row) for row in self._db.execute(sql, (mirror, hold, after, limit))]

    def members(self, mirror: int, hold: int) -> Iterator[tuple[str, Renewal]]:
        """What a hold is about, by path, as far as it has one."""
        sql = (
            "SELECT u.path, r.upload, r.recipe, r.hold FROM renewal r JOIN upload u ON u.id = r.upload"
            " WHERE r.mirror = ? AND r.hold = ? AND u.path IS NOT NULL ORDER BY u.path"
        )
        for path, *row in self._db.execute(sql, (mirror, hold)):
            yield unbind(path), Renewal(*row)

    def paths(self, mirror: int) -> list[str]:
        """The files that any of them is about."""
        sql = "SELECT u.path FROM renewal r JOIN upload u ON u.id = r.upload WHERE r.mirror = ?"
        rows = self._db.execute(sql + " AND u.path IS NOT NULL ORDER BY u.path", (mirror,))
        return [unbind(path) for (path,) in rows]

    def paths_in(self, mirror: int, holds: Iterable[int]) -> list[str]:
        """The files that these holds are about."""
        sql = (
            "SELECT u.path FROM renewal r JOIN upload u ON u.id = r.upload WHERE r.mirror = ? AND r.hold = ?"
        )
        rows = (row for hold in holds for row in self._db.execute(sql, (mirror, hold)))
        return sorted(unbind(path) for (path,) in rows if path is not None)

    def extent(self, mirror: int, hold: int | None) -> Extent:
        """How much a hold, or what waits to be weighed, is about."""
        where = "FROM renewal r JOIN upload u ON u.id = r.upload WHERE r.mirror = ? AND r.hold IS ?"
        sums = f"SELECT count(*), coalesce(sum(u.size), 0) {where}"
        documents, size = self._db.execute(sums, (mirror, hold)).get
        pairs = f"SELECT DISTINCT u.recipe, r.recipe {where} ORDER BY 1, 2 LIMIT 20"
        return Extent(int(documents), int(size), tuple(self._db.execute(pairs, (mirror, hold))))

    def _count(self, sql: str, mirror: int) -> int:
        return int(self._db.execute(sql, (mirror,)).get)
