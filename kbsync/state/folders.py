"""The directories of a mirror, as a tree of rows.

Subtrees are walked by `parent`, not by path prefix: a path that is not UTF-8 is a BLOB, and BLOBs do not sort
among TEXT.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import apsw

from kbsync.state.connection import bind, unbind

SUBTREE = (
    "WITH RECURSIVE tree(id) AS (SELECT id FROM folder WHERE mirror = ? AND path = ?"
    " UNION ALL SELECT folder.id FROM folder JOIN tree ON folder.parent = tree.id) "
)
"""Begins a statement that may use `tree(id)`; binds (mirror, path)."""
_UNSETTLED = "UPDATE folder SET version = substr(version, 1, instr(version, '.')) WHERE "


@dataclass(frozen=True, slots=True)
class FolderRow:
    """One stored directory. `shut`: selection no longer enters it."""

    id: int
    path: str
    version: str
    is_mount: bool
    problem: str
    shut: bool


def split(path: str) -> tuple[str, str]:
    """Directory and name of a path; the directory of a top-level name is ''."""
    folder, _, name = path.rpartition("/")
    return folder, name


def join(folder: str, name: str) -> str:
    """The inverse of `split`."""
    return f"{folder}/{name}" if folder else name


class Folders:
    """Folder rows of one connection."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._db = connection
        self._ids: dict[tuple[int, str], int] = {}

    def id(self, mirror: int, path: str) -> int | None:
        """The row's id; asked once for each directory in a transaction."""
        known = self._ids.get((mirror, path))
        if known is None:
            row = self._db.execute(
                "SELECT id FROM folder WHERE mirror = ? AND path = ?", (mirror, bind(path))
            ).fetchone()
            if row is None:
                return None
            known = self._ids[mirror, path] = int(row[0])
        return known

    def get(self, mirror: int, path: str) -> FolderRow | None:
        """The stored directory at this path."""
        row = self._db.execute(
            "SELECT id, path, version, is_mount, problem, shut FROM folder WHERE mirror = ? AND path = ?",
            (mirror, bind(path)),
        ).fetchone()
        return None if row is None else _read(row)

    def ensure(self, mirror: int, path: str) -> int:
        """The row's id, made with its ancestors when it is new."""
        known = self.id(mirror, path)
        if known is not None:
            return known
        above, name = split(path)
        parent = self.ensure(mirror, above) if path else None
        self._db.execute(
            "INSERT INTO folder(mirror, parent, path, name) VALUES(?, ?, ?, ?)",
            (mirror, parent, bind(path), bind(name)),
        )
        return self._db.last_insert_rowid()

    def seen(self, mirror: int, path: str, version: str, is_mount: bool) -> int:
        """The directory was listed under these rules."""
        number = self.ensure(mirror, path)
        self._db.execute(
            "UPDATE folder SET version = ?, is_mount = ?, problem = '', shut = 0, gone = 0 WHERE id = ?",
            (version, is_mount, number),
        )
        return number

    def trouble(self, mirror: int, path: str, problem: str) -> None:
        """The directory could not be listed: what is below it is unknown."""
        self._db.execute("UPDATE folder SET problem = ? WHERE id = ?", (problem, self.ensure(mirror, path)))

    def unsettle(self, mirror: int, path: str) -> None:
        """Its files are about to be judged by other rules: who is cut off half way judges all of them anew.

        Of the version, the person's part stays, for what it says of who changed the rules.
        """
        self._db.execute(_UNSETTLED + "mirror = ? AND path = ?", (mirror, bind(path)))

    def unsettle_tree(self, mirror: int, path: str) -> None:
        """The same of a directory and everything below it."""
        sql = SUBTREE + _UNSETTLED + "id IN (SELECT id FROM tree)"  # noqa: S608
        self._db.execute(sql, (mirror, bind(path)))

    def shut(self, mirror: int, path: str) -> None:
        """Selection does not enter it any more; entered again, everything in it is judged anew."""
        sql = "UPDATE folder SET shut = 1, version = '' WHERE id IN (SELECT id FROM tree)"
        self._db.execute(SUBTREE + sql, (mirror, bind(path)))

    def mounts_over(self, mirror: int, path: str) -> list[str]:
        """Directories at or above a path in which something was mounted when they were listed last."""
        above = itertools.accumulate(path.split("/"), join)
        known = (self.get(mirror, place) for place in above)
        return [row.path for row in known if row is not None and row.is_mount]

    def below(self, mirror: int, path: str) -> list[FolderRow]:
        """The stored directories directly below one, without the shut ones."""
        sql = (
            "SELECT c.id, c.name, c.version, c.is_mount, c.problem, c.shut FROM folder c"
            " JOIN folder p ON c.parent = p.id WHERE p.mirror = ? AND p.path = ? AND c.shut = 0"
        )
        return [_read(row) for row in self._db.execute(sql, (mirror, bind(path)))]

    def problems(self, mirror: int) -> list[FolderRow]:
        """Directories that could not be listed."""
        sql = (
            "SELECT id, path, version, is_mount, problem, shut FROM folder"
            " WHERE mirror = ? AND problem <> '' ORDER BY path"
        )
        return [_read(row) for row in self._db.execute(sql, (mirror,))]

    def tree(self, mirror: int, path: str) -> Iterator[tuple[int, str]]:
        """(id, path) of a directory and everything below it."""
        sql = "SELECT id, path FROM folder WHERE id IN (SELECT id FROM tree)"
        for number, found in list(self._db.execute(SUBTREE + sql, (mirror, bind(path)))):
            yield number, unbind(found)

    def gone(self, mirror: int, path: str) -> None:
        """A look did not find the directory: it is forgotten once nothing in it is known any more."""
        sql = "UPDATE folder SET gone = 1, problem = '' WHERE id IN (SELECT id FROM tree)"
        self._db.execute(SUBTREE + sql, (mirror, bind(path)))

    def remove_gone(self, mirror: int) -> None:
        """Forget directories that are gone and hold nothing that is still known."""
        sql = (
            "DELETE FROM folder WHERE mirror = ? AND gone = 1 AND parent IS NOT NULL"
            " AND NOT EXISTS(SELECT 1 FROM entry WHERE folder = folder.id)"
            " AND NOT EXISTS(SELECT 1 FROM folder c WHERE c.parent = folder.id)"
        )
        self._ids.clear()
        self._db.execute(sql, (mirror,))
        while self._db.changes():
            self._db.execute(sql, (mirror,))


def _read(row: tuple[object, ...]) -> FolderRow:
    number, path, version, mount, problem, shut = row
    return FolderRow(number, unbind(path), str(version), bool(mount), str(problem), bool(shut))  # type: ignore[arg-type]


def folder_label(path: str) -> str:
    """How a directory is told from a file in a list of paths."""
    return f"{path}/" if path else "./"
