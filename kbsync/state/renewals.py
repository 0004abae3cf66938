"""Documents that are to be made anew because settings changed: to be weighed, let go, or held."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import apsw

from kbsync.state.connection import unbind

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
