"""Decides whether a path's document may be deleted: one row for each deletion that hasn't been carried out
yet.

    missed ──▶ waiting ──▶ released ──▶ the document is deleted
                       └─▶ asked ──▶ held ──▶ approved: the document is deleted

- missed: a check of the disk didn't find the file. That is a fact about the disk, even while its deletion is
  held, and is recorded in the file's own row (`Presence.MISSING`). One check is not enough (promise 1).
- waiting: two checks didn't find the file, or a user deselected or emptied it. All waiting deletions form one
  batch, with one decision (promise 5).
- released or asked: kbsync decided about the batch. One row of `hold` records that first, so a kill leaves no
  part of it undecided. Then its documents are deleted or held, in batches of rows.
- held: the document serves until a user approves; the user is asked once the whole batch is held.

The row ends and the document stays when the file is back, another document serves the path, or the mirror
uses a different base (promise 2). An upload that replaces a document in place inherits its deletion, except a
released one, about which kbsync decides again.
"""

from __future__ import annotations

from collections.abc import Iterator

from kbsync.dataclass import dataclass
from kbsync.state.approvals import Hold
from kbsync.state.db import Table, bind, unbind


@dataclass(frozen=True, slots=True)
class Removal:
    """The deletion of a path's document.

    `cause`: gone, deselected or emptied. `hold`: the batch that it belongs to.
    """

    path: str
    upload: int
    cause: str
    hold: int


class Removals(Table):
    """Reads and writes removals, and the log of those that were carried out without approval."""

    def nominate(self, mirror: int, path: str, upload: int, cause: str, now: float, batch: int) -> None:
        """Add the deletion of this document to this batch.

        If the path already has a pending deletion, its time stays the same.
        """
        self._db.execute(
            "INSERT INTO removal(mirror, path, upload, cause, at, hold) VALUES(?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET upload = excluded.upload, cause = excluded.cause, held = 0,"
            # A deletion that needs approval still needs it if another version serves (promise 5).
            " hold = iif(held OR upload <> excluded.upload AND"
            " (SELECT state FROM hold WHERE id = removal.hold) = 'released', excluded.hold, hold)",
            (mirror, bind(path), upload, cause, now, batch),
        )

    def missed_since(self, mirror: int, path: str, missed: float) -> None:
        """Record when a check first missed the file, by this process's monotonic clock."""
        sql = "UPDATE removal SET missed_at = ? WHERE mirror = ? AND path = ?"
        self._db.execute(sql, (missed, mirror, bind(path)))

    def forget_first_misses(self, mirror: int) -> None:
        """Discard the monotonic times of an earlier process, which are meaningless in this one."""
        self._db.execute("UPDATE removal SET missed_at = NULL WHERE mirror = ? AND held = 0", (mirror,))

    def drop(self, mirror: int, path: str) -> None:
        """Cancel the pending removal, because the path needs its document again or the document is already
        being deleted.
        """
        self._db.execute("DELETE FROM removal WHERE mirror = ? AND path = ?", (mirror, bind(path)))

    def release(self, upload: int) -> None:
        """Cancel the pending removal of a held document that no longer exists."""
        self._db.execute("DELETE FROM removal WHERE upload = ? AND held = 1", (upload,))

    def drop_all(self, mirror: int) -> None:
        """Cancel all pending removals, because the mirror now uses a different base."""
        self._db.execute("DELETE FROM removal WHERE mirror = ?", (mirror,))

    def drop_in(self, mirror: int, binding: int) -> None:
        """Cancel the pending removals of documents in this binding, because the documents now belong to
        another mirror.
        """
        in_binding = "(SELECT binding FROM upload WHERE id = removal.upload) = ?"
        self._db.execute(f"DELETE FROM removal WHERE mirror = ? AND {in_binding}", (mirror, binding))  # noqa: S608

    def inherit(self, old_upload: int, new_upload: int) -> None:
        """Move the hold to the version that is now serving the path."""
        self._db.execute("UPDATE removal SET upload = ? WHERE upload = ?", (new_upload, old_upload))

    def hold(self, mirror: int, path: str) -> None:
        """Record that the deletion of the document is waiting for the user's approval."""
        self._db.execute("UPDATE removal SET held = 1 WHERE mirror = ? AND path = ?", (mirror, bind(path)))

    def get(self, mirror: int, path: str) -> Removal | None:
        """Return the removal of this path's document."""
        return next(self._select("mirror = ? AND path = ?", (mirror, bind(path))), None)

    def page(self, hold: Hold, after: str = "", limit: int = -1, *, held: bool) -> list[Removal]:
        """Return a page of a batch's removals, either those that are held or the others, ordered by path.

        The page starts after `after`.
        """
        where = "hold = ? AND held = ? AND mirror = ? AND path > ? ORDER BY path LIMIT ?"
        return list(self._select(where, (hold.id, held, hold.mirror, bind(after), limit)))

    def _select(self, where: str, values: tuple[object, ...]) -> Iterator[Removal]:
        sql = f"SELECT path, upload, cause, hold FROM removal WHERE {where}"  # noqa: S608
        return (Removal(unbind(path), *columns) for path, *columns in self._db.execute(sql, values))

    def count(self, hold: Hold, *, held: bool) -> int:
        """Return how many removals of a batch are held, or how many aren't."""
        sql = "SELECT count(*) FROM removal WHERE hold = ? AND held = ?"
        return int(self._db.execute(sql, (hold.id, held)).get)

    def times(self, mirror: int) -> tuple[int, float, float]:
        """Return how many removals are neither held nor carried out, and when the first and the last were
        added (0.0 for none).
        """
        sql = (
            "SELECT count(*), coalesce(min(at), 0.0), coalesce(max(at), 0.0) FROM removal"
            " WHERE mirror = ? AND held = 0"
        )
        n, first, last = self._db.execute(sql, (mirror,)).get
        return n, first, last

    def began(self, hold: Hold, ahead: float) -> float:
        """Return the monotonic time at which the first file of a batch went missing.

        `ahead`: wall time minus monotonic time.
        """
        sql = "SELECT min(coalesce(missed_at, at - ?)) FROM removal WHERE hold = ?"
        return float(self._db.execute(sql, (ahead, hold.id)).get)

    def log(self, mirror: int, now: float, n: int) -> None:
        """Record that `n` deletions were released without approval."""
        self._db.execute("INSERT INTO deletion_log(mirror, at, n) VALUES(?, ?, ?)", (mirror, now, n))

    def logged_since(self, mirror: int, since: float) -> int:
        """Return the number of deletions released without approval since `since`, and discard older
        entries.
        """
        # Kept on disk, so that a restart doesn't reopen the window (promise 5).
        self._db.execute("DELETE FROM deletion_log WHERE mirror = ? AND at < ?", (mirror, since))
        sql = "SELECT coalesce(sum(n), 0) FROM deletion_log WHERE mirror = ?"
        return int(self._db.execute(sql, (mirror,)).get)
