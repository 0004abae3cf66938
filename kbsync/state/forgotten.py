"""Documents that forgotten mirrors left behind in their knowledge bases.

The state keeps only ids and bases, which prove that kbsync may still delete these documents (promise 6). It
doesn't keep file names.
"""

from __future__ import annotations

from collections.abc import Iterable

from kbsync.core.model import PROVEN
from kbsync.dataclass import dataclass
from kbsync.state.db import Table, bind
from kbsync.state.mirrors import BindingRecord


@dataclass(frozen=True, slots=True)
class ForgottenBase:
    """The `documents` of the forgotten mirror `name` that are still in one knowledge base."""

    id: int
    name: str
    base: BindingRecord
    documents: int


_PROVEN = f"IN ({', '.join(str(int(state)) for state in PROVEN)})"
_UNCLAIMED = (
    "NOT EXISTS (SELECT 1 FROM binding b CROSS JOIN upload u"  # noqa: S608
    " ON u.binding = b.id AND u.remote_id = d.remote_id"
    " WHERE b.target = f.target AND b.address = f.address AND b.base = f.base"
    f" AND u.state {_PROVEN})"
)
"""Rows of documents that no mirror has adopted since then.

Once a mirror has adopted a document, only that mirror's row proves that the document is ours.
"""


class Forgotten(Table):
    """Reads and writes the remaining documents of forgotten mirrors on one connection."""

    def keep(self, mirror: int, name: str, binding: int | None = None) -> None:
        """Keep the ids of a mirror's documents under its `name`, for one binding or for all."""
        owned = f"u.mirror = :mirror AND u.remote_id IS NOT NULL AND u.state {_PROVEN}"
        owned += " AND (:binding IS NULL OR u.binding = :binding)"
        values = {"mirror": mirror, "name": name, "binding": binding}
        self._db.execute(
            "INSERT OR IGNORE INTO forgotten(name, target, address, base, prefix)"  # noqa: S608
            " SELECT :name, target, address, base, prefix FROM binding"
            f" WHERE id IN (SELECT u.binding FROM upload u WHERE {owned})",
            values,
        )
        self._db.execute(
            "INSERT OR IGNORE INTO forgotten_document(forgotten, remote_id)"  # noqa: S608
            " SELECT f.id, u.remote_id FROM upload u JOIN binding b ON b.id = u.binding"
            " JOIN forgotten f USING (target, address, base, prefix)"
            f" WHERE {owned} AND f.name = :name",
            values,
        )

    def add(self, name: str, base: BindingRecord, remote_ids: Iterable[str]) -> None:
        """Keep the ids of documents in a base whose mirror isn't in the state."""
        key = (name, base.target, base.address, base.base, base.prefix)
        self._db.execute(
            "INSERT OR IGNORE INTO forgotten(name, target, address, base, prefix) VALUES(?, ?, ?, ?, ?)", key
        )
        self._db.executemany(
            "INSERT OR IGNORE INTO forgotten_document(forgotten, remote_id) SELECT id, ? FROM forgotten"
            " WHERE name = ? AND target = ? AND address = ? AND base = ? AND prefix = ?",
            ((remote_id, *key) for remote_id in remote_ids),
        )

    def bases(self, name: str | None = None) -> list[ForgottenBase]:
        """Return the bases that still have documents, for one mirror or all, ordered by name."""
        rows = self._db.execute(
            "SELECT f.id, f.name, f.target, f.address, f.base, f.prefix, count(*)"  # noqa: S608
            " FROM forgotten f JOIN forgotten_document d ON d.forgotten = f.id"
            f" WHERE (?1 IS NULL OR f.name = ?1) AND {_UNCLAIMED} GROUP BY f.id ORDER BY f.name, f.id",
            (None if name is None else bind(name),),
        )
        return [
            ForgottenBase(number, owner, BindingRecord(0, *base), documents)
            for number, owner, *base, documents in rows
        ]

    def documents(self, base: int, after: str = "", limit: int = 500) -> list[str]:
        """Return a page of ids above `after`, in ascending order."""
        rows = self._db.execute(
            "SELECT d.remote_id FROM forgotten_document d JOIN forgotten f ON f.id = d.forgotten"  # noqa: S608
            f" WHERE f.id = ? AND d.remote_id > ? AND {_UNCLAIMED} ORDER BY d.remote_id LIMIT ?",
            (base, after, limit),
        )
        return [remote_id for (remote_id,) in rows]

    def remove(self, base: int, remote_ids: Iterable[str]) -> None:
        """Remove these ids, because the documents were deleted."""
        self._db.executemany(
            "DELETE FROM forgotten_document WHERE forgotten = ? AND remote_id = ?",
            ((base, remote_id) for remote_id in remote_ids),
        )
        self._remove_empty()

    def take_over(self, name: str, binding: int, *, whole: bool) -> None:
        """Remove the ids of documents that a mirror adopted because it now uses this base.

        `whole`: the mirror adopts everything that a mirror with its name left there.
        """
        if self._db.execute("SELECT 1 FROM forgotten LIMIT 1").fetchone() is None:
            return
        claimed = f"(f.name = ? AND ?) OR NOT {_UNCLAIMED}"
        self._db.execute(
            "DELETE FROM forgotten_document WHERE (forgotten, remote_id) IN (SELECT f.id, d.remote_id"  # noqa: S608
            " FROM binding own JOIN forgotten f USING (target, address, base)"
            f" JOIN forgotten_document d ON d.forgotten = f.id WHERE own.id = ? AND ({claimed}))",
            (binding, name, whole),
        )
        self._remove_empty()

    def claim(self, binding: int, remote_id: str) -> None:
        """Remove the id of a document that a mirror with this binding has just adopted."""
        if self._db.execute("SELECT 1 FROM forgotten LIMIT 1").fetchone() is None:
            return
        self._db.execute(
            "DELETE FROM forgotten_document WHERE remote_id = ? AND forgotten IN (SELECT f.id"
            " FROM binding own JOIN forgotten f USING (target, address, base) WHERE own.id = ?)",
            (remote_id, binding),
        )
        self._remove_empty()

    def _remove_empty(self) -> None:
        self._db.execute("DELETE FROM forgotten WHERE id NOT IN (SELECT forgotten FROM forgotten_document)")
