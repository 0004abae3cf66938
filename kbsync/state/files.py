"""The rows of a mirror's directories, as a tree, and of its files, including skipped and excluded ones.

Subtrees are walked by `parent`, not by path prefix: a path that isn't UTF-8 is a BLOB, and BLOBs don't sort
among TEXT.
"""

from __future__ import annotations

import hashlib
import itertools
from array import array
from collections.abc import Collection, Iterable, Iterator
from operator import itemgetter
from typing import Any

import apsw

from kbsync.core.model import SELECTED, FileChoice, Presence, Stamp, Status, Verdict
from kbsync.dataclass import dataclass
from kbsync.state.db import bind, unbind

SUBTREE = (
    "WITH RECURSIVE tree(id) AS (SELECT id FROM folder WHERE mirror = ? AND path = ?"
    " UNION ALL SELECT folder.id FROM folder JOIN tree ON folder.parent = tree.id) "
)
"""The start of an SQL statement that may use `tree(id)`. Its parameters are the mirror and the path."""
_FOLDER = "SELECT path, version, is_mount, problem, is_excluded, mount, gone FROM folder "
_UNDECIDED = "UPDATE folder SET version = substr(version, 1, instr(version, '.')) WHERE "


@dataclass(frozen=True, slots=True)
class FolderRow:
    """A stored directory, as a scan last listed it.

    `is_excluded`: whether the rules now exclude it. `may_be_unmounted`: whether its files are known even
    while nothing is mounted there, although it is a mount point. `mount` identifies what was mounted there
    ("": unknown). `is_gone`: whether the last check didn't find it.
    """

    path: str
    version: str
    is_mount: bool
    problem: str
    is_excluded: bool = False
    may_be_unmounted: bool = False
    mount: str = ""
    is_gone: bool = False

    @property
    def needs_mount(self) -> bool:
        """Return whether the state of the directory's files is unknown while its disk isn't mounted."""
        return self.is_mount and not self.may_be_unmounted


EntryRow = tuple[str, int, int, int, int]
"""(name, size, mtime_ns, ctime_ns, ino) of an entry that is not a folder."""


def digest_of(rows: Iterable[EntryRow]) -> bytes | None:
    """Return a digest of the rows of a directory's files, regardless of their order.

    Return None if there are names that aren't UTF-8 or numbers of more than 64 bits.
    """
    try:
        by_name = sorted(rows, key=itemgetter(0))
        names, *columns = zip(*by_name, strict=True) if by_name else [()]
        digest = hashlib.blake2b("\0".join(names).encode(), digest_size=16)
        for column in columns:
            digest.update(array("q", column))
    except (TypeError, UnicodeEncodeError, OverflowError):
        return None
    return digest.digest()


def split(path: str) -> tuple[str, str]:
    """Split a path into directory and name. The directory of a top-level name is ''."""
    folder, _, name = path.rpartition("/")
    return folder, name


def join(folder: str, name: str) -> str:
    """Return the path of a name in a directory. This is the inverse of `split`."""
    return f"{folder}/{name}" if folder else name


class Folders:
    """Reads and writes folder rows on one connection."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._db = connection
        self._ids: dict[tuple[int, str], int] = {}

    def id(self, mirror: int, path: str) -> int | None:
        """Return the id of the directory's row. The id is queried only once per directory and transaction."""
        number = self._ids.get((mirror, path))
        if number is None:
            row = self._db.execute(
                "SELECT id FROM folder WHERE mirror = ? AND path = ?", (mirror, bind(path))
            ).fetchone()
            if row is None:
                return None
            number = self._ids[mirror, path] = int(row[0])
        return number

    def get(self, mirror: int, path: str) -> FolderRow | None:
        """Return the row of the directory at this path."""
        row = self._db.execute(_FOLDER + "WHERE mirror = ? AND path = ?", (mirror, bind(path))).fetchone()
        return None if row is None else _read_folder(row)

    def ensure(self, mirror: int, path: str) -> int:
        """Return the id of the directory's row. If there is no row yet, create it along with the rows of its
        ancestors.
        """
        number = self.id(mirror, path)
        if number is not None:
            return number
        above, name = split(path)
        parent = self.ensure(mirror, above) if path else None
        self._db.execute(
            "INSERT INTO folder(mirror, parent, path, name) VALUES(?, ?, ?, ?)",
            (mirror, parent, bind(path), bind(name)),
        )
        return self._db.last_insert_rowid()

    def record_listing(self, mirror: int, path: str, version: str, is_mount: bool, mount: str = "") -> None:
        """Record that the directory was listed under these rules, and what was mounted there."""
        number = self.ensure(mirror, path)
        self._db.execute(
            "UPDATE folder SET version = ?, is_mount = ? * max(is_mount, 1), mount = ?, problem = '',"
            " is_excluded = 0, gone = 0 WHERE id = ?",
            (version, is_mount, mount, number),
        )

    def record_problem(self, mirror: int, path: str, problem: str) -> None:
        """Record that the directory couldn't be listed, which makes everything below it unknown."""
        number = self.ensure(mirror, path)
        self._db.execute("UPDATE folder SET problem = ? WHERE id = ?", (bind(problem), number))

    def allow_unmounting(self, mirror: int, path: str) -> None:
        """If the directory is a mount point, record that its files are known even while nothing is mounted
        there.
        """
        sql = "UPDATE folder SET is_mount = 2 WHERE is_mount = 1 AND mirror = ? AND path = ?"
        self._db.execute(sql, (mirror, bind(path)))

    def mark_mounts_changed(self, mirror: int, path: str) -> None:
        """Mark the mounts in the directory's subdirectories as changed. The mark lasts until these
        subdirectories are listed again.
        """
        where = "is_mount = 0 AND path <> ? AND id IN (SELECT id FROM tree)"
        sql = f"{SUBTREE} UPDATE folder SET is_mount = 2 WHERE {where}"  # noqa: S608 - ours
        self._db.execute(sql, (mirror, bind(path), bind(path)))

    def mark_undecided(self, mirror: int, path: str) -> None:
        """Mark the directory's files as undecided before applying new rules.

        That way, all of them are re-evaluated even after an interruption.
        """
        # Keep the user's part of the version, to distinguish changes by users from upgrades.
        self._db.execute(_UNDECIDED + "mirror = ? AND path = ?", (mirror, bind(path)))

    def mark_tree_undecided(self, mirror: int, path: str) -> None:
        """Mark the files of a directory, and of everything below it, as undecided."""
        sql = SUBTREE + _UNDECIDED + "id IN (SELECT id FROM tree)"  # noqa: S608
        self._db.execute(sql, (mirror, bind(path)))

    def exclude(self, mirror: int, path: str) -> None:
        """Record that the rules now exclude the directory.

        If they stop excluding it later, everything in it is re-evaluated.
        """
        sql = "UPDATE folder SET is_excluded = 1, version = '' WHERE id IN (SELECT id FROM tree)"
        self._db.execute(SUBTREE + sql, (mirror, bind(path)))

    def check_again(self, mirror: int, path: str) -> None:
        """Make the next scan report the directory and those above it, even if the rules exclude them."""
        sql = "UPDATE folder SET is_excluded = 0 WHERE mirror = ? AND path = ? AND is_excluded = 1"
        above = itertools.accumulate(path.split("/"), join)
        self._db.executemany(sql, [(mirror, bind(folder)) for folder in above])

    def mounts_over(self, mirror: int, path: str) -> dict[str, str]:
        """Return the directories at or above a path that were mount points when last listed, and what was
        mounted there.
        """
        above = itertools.accumulate(path.split("/"), join)
        rows = (self.get(mirror, folder) for folder in above)
        return {row.path: row.mount for row in rows if row is not None and row.is_mount}

    def below(self, mirror: int, path: str) -> list[FolderRow]:
        """Return the stored subdirectories of a directory, except for excluded ones.

        Each `path` contains only the name.
        """
        sql = (
            "SELECT c.name, c.version, c.is_mount, c.problem, c.is_excluded, c.mount, c.gone FROM folder c"
            " JOIN folder p ON c.parent = p.id WHERE p.mirror = ? AND p.path = ? AND c.is_excluded = 0"
        )
        return [_read_folder(row) for row in self._db.execute(sql, (mirror, bind(path)))]

    def problems(self, mirror: int) -> list[FolderRow]:
        """Return the directories that couldn't be listed."""
        # Without the hint, SQLite reads all directories in the order of their paths.
        with_problem = "INDEXED BY folder_problem WHERE mirror = ? AND problem <> '' ORDER BY path"
        rows = self._db.execute(_FOLDER + with_problem, (mirror,))
        return [_read_folder(row) for row in rows]

    def tree(self, mirror: int, path: str) -> list[str]:
        """Return the paths of a directory and of everything below it."""
        sql = "SELECT path FROM folder WHERE id IN (SELECT id FROM tree)"
        return [unbind(below) for (below,) in self._db.execute(SUBTREE + sql, (mirror, bind(path)))]

    def record_gone(self, mirror: int, path: str) -> None:
        """Record that the directory is absent. If nothing is known about its content, remove its row."""
        sql = (
            "UPDATE folder SET gone = 1, problem = '', is_mount = iif(is_mount = 2, 0, is_mount)"
            " WHERE id IN (SELECT id FROM tree)"
        )
        self._db.execute(SUBTREE + sql, (mirror, bind(path)))

    def remove_gone(self, mirror: int) -> None:
        """Remove absent directories without known content."""
        sql = (
            "DELETE FROM folder WHERE mirror = ? AND gone = 1 AND parent IS NOT NULL"
            " AND NOT EXISTS(SELECT 1 FROM entry WHERE folder = folder.id)"
            " AND NOT EXISTS(SELECT 1 FROM folder c WHERE c.parent = folder.id)"
        )
        self._ids.clear()
        self._db.execute(sql, (mirror,))
        while self._db.changes():
            self._db.execute(sql, (mirror,))


def _read_folder(row: tuple[Any, ...]) -> FolderRow:
    path, version, is_mount, problem, is_excluded, mount, gone = row
    return FolderRow(
        unbind(path),
        version,
        bool(is_mount),
        unbind(problem),
        bool(is_excluded),
        may_be_unmounted=is_mount == 2,
        mount=mount,
        is_gone=bool(gone),
    )


def folder_label(path: str) -> str:
    """Return the path of a directory as lists show it: with a final slash, unlike the path of a file."""
    return f"{path}/" if path else "./"


@dataclass(frozen=True, slots=True)
class FileRow:
    """A file as last recorded.

    `digest` belongs to `stamp`. `since`: when `status` last changed. `racy`: whether the bytes were read so
    soon after the stamp's time that a later change might not alter the stamp.
    """

    path: str
    stamp: Stamp
    digest: str | None
    verdict: Verdict
    by_person: bool
    presence: Presence
    status: Status
    since: float
    racy: bool = False


_FIELDS = (
    "e.name, e.size, e.mtime_ns, e.ctime_ns, e.ino, e.digest, e.choice, e.reason, e.rule, e.by_person,"
    " e.presence, e.status, e.since, e.racy"
)
_JOINED = "entry e JOIN folder f ON e.folder = f.id"
_BY_FOLDER = "folder f CROSS JOIN entry e ON e.folder = f.id"
_NOTED = "entry e INDEXED BY entry_noted CROSS JOIN folder f ON e.folder = f.id"
_RACY = "entry e INDEXED BY entry_racy CROSS JOIN folder f ON e.folder = f.id"
_BY_INO = "entry e INDEXED BY entry_ino CROSS JOIN folder f ON e.folder = f.id"
# Repeats the condition of the index literally, so that SQLite uses the index.
_IS_NOTED = "e.status IN (1, 2, 3, 4)"
_MISSED = (
    "FROM entry e INDEXED BY entry_missing CROSS JOIN folder f ON e.folder = f.id"
    " WHERE e.presence = 1 AND f.mirror = ?"
)
"""Files that were missing in one check."""
_READ_WITH_INO = (
    f"SELECT f.path, e.name FROM {_BY_INO} WHERE e.ino = ? AND e.digest IS NOT NULL AND f.mirror = ?"  # noqa: S608
)
"""Files that kbsync has read and that have the given inode number."""
_UPSERT = (
    "INSERT INTO entry(folder, name, size, mtime_ns, ctime_ns, ino, digest, choice, reason, rule, by_person,"
    " presence, status, since, racy) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT DO UPDATE SET size = excluded.size, mtime_ns = excluded.mtime_ns,"
    " ctime_ns = excluded.ctime_ns, ino = excluded.ino, digest = excluded.digest, choice = excluded.choice,"
    " reason = excluded.reason, rule = excluded.rule, by_person = excluded.by_person,"
    " presence = excluded.presence, status = excluded.status, since = excluded.since, racy = excluded.racy,"
    " missed_at = NULL, missed_by_scan = NULL"
)

NOTED = (Status.INDEXING, Status.PENDING, Status.FAILED, Status.HELD)
"""Statuses whose files are worth listing, because few files have them."""

_PRESENCES = {int(presence): presence for presence in Presence}
_STATUSES = {int(status): status for status in Status}


def _read_entry(folder: str, row: tuple[Any, ...]) -> FileRow:
    name, size, mtime, ctime, ino, digest, choice, reason, rule, person, presence, status, since, racy = row
    return FileRow(
        path=join(folder, unbind(name)),
        stamp=Stamp(size, mtime, ctime, ino),
        digest=None if digest is None else digest.hex(),
        verdict=SELECTED
        if not choice and not rule
        else Verdict(FileChoice(choice), unbind(reason or ""), unbind(rule or "")),
        by_person=bool(person),
        presence=_PRESENCES[presence],
        status=_STATUSES[status],
        since=since,
        racy=bool(racy),
    )


class Entries:
    """Reads and writes file rows on one connection."""

    def __init__(self, connection: apsw.Connection, folders: Folders) -> None:
        self._db = connection
        self._folders = folders

    def get(self, mirror: int, path: str) -> FileRow | None:
        """Return a file's row."""
        folder, name = split(path)
        number = self._folders.id(mirror, folder)
        if number is None:
            return None
        sql = f"SELECT {_FIELDS} FROM entry e WHERE e.folder = ? AND e.name = ?"  # noqa: S608
        row = self._db.execute(sql, (number, bind(name))).fetchone()
        return None if row is None else _read_entry(folder, row)

    def put(self, mirror: int, entry: FileRow) -> None:
        """Write the whole row."""
        folder, name = split(entry.path)
        s = entry.stamp
        values = (
            self._folders.ensure(mirror, folder),
            bind(name),
            s.size,
            s.mtime_ns,
            s.ctime_ns,
            s.ino,
            None if entry.digest is None else bytes.fromhex(entry.digest),
            int(entry.verdict.choice),
            bind(entry.verdict.reason) or None,
            bind(entry.verdict.rule) or None,
            entry.by_person,
            int(entry.presence),
            int(entry.status),
            entry.since,
            entry.racy,
        )
        self._db.execute(_UPSERT, values)

    def set_status(self, mirror: int, path: str, status: Status, now: float) -> None:
        """Set the file's status."""
        self._update(mirror, path, "status = ?, since = ?", (int(status), now))

    def set_presence(self, mirror: int, path: str, presence: Presence) -> None:
        """Record the result of checking the disk."""
        self._update(mirror, path, "presence = ?, missed_at = NULL, missed_by_scan = NULL", (int(presence),))
        if presence is Presence.UNKNOWN:  # this changes `rows`, but the trigger doesn't notice
            sql = "UPDATE folder SET files_digest = NULL WHERE id = ? AND files_digest IS NOT NULL"
            self._db.execute(sql, (self._folders.id(mirror, split(path)[0]),))

    def doubt(self, mirror: int, path: str) -> None:
        """Make the next scan check this file, regardless of its stamp."""
        self._update(mirror, path, "size = -1, presence = 0, missed_at = NULL, missed_by_scan = NULL", ())

    def _update(self, mirror: int, path: str, assignments: str, values: tuple[object, ...]) -> None:
        folder, name = split(path)
        self._db.execute(
            f"UPDATE entry SET {assignments} WHERE folder = ? AND name = ?",  # noqa: S608
            (*values, self._folders.id(mirror, folder), bind(name)),
        )

    def remove(self, mirror: int, path: str) -> None:
        """Remove the row, because both the file and its document were deleted."""
        folder, name = split(path)
        self._db.execute(
            "DELETE FROM entry WHERE folder = ? AND name = ?", (self._folders.id(mirror, folder), bind(name))
        )

    def miss(
        self, mirror: int, folder: str, names: Iterable[str], since: float | None, scan: int | None = None
    ) -> None:
        """Record the first check that didn't find these names.

        `since` is in monotonic seconds, and valid only in this process. It is None while the `scan` (its
        number) is still running. The scan may find the files elsewhere, so the time of the check is set only
        when the scan has ended (`scans_ended`).
        """
        number = self._folders.id(mirror, folder)
        if number is not None:
            self._db.executemany(
                "UPDATE entry SET presence = 1, missed_at = ?, missed_by_scan = ?"
                " WHERE folder = ? AND name = ? AND presence IN (0, 3)",
                ((since, scan, number, bind(name)) for name in names),
            )

    def miss_tree(self, mirror: int, folder: str, since: float | None, scan: int | None = None) -> None:
        """Record the first check that didn't find this directory. See `miss`."""
        self._db.execute(
            SUBTREE + "UPDATE entry SET presence = 1, missed_at = ?, missed_by_scan = ?"  # noqa: S608
            " WHERE presence IN (0, 3) AND folder IN (SELECT id FROM tree)",
            (mirror, bind(folder), since, scan),
        )

    def forget_first_misses(self, mirror: int) -> None:
        """Discard the times of first checks, because a new process has to make both checks itself."""
        # Check pending files again, regardless of their stamp: files that a check missed start no work.
        self._db.execute(
            "UPDATE entry INDEXED BY entry_missing SET presence = 0, missed_at = NULL, missed_by_scan = NULL,"
            " size = iif(status = ?, -1, size) WHERE presence = 1"
            " AND folder IN (SELECT id FROM folder WHERE mirror = ?)",
            (int(Status.PENDING), mirror),
        )

    def scans_ended(self, mirror: int, scans: Iterable[int], now: float) -> None:
        """Record that these scans have ended. Files that they didn't find have been missing since `now`."""
        self._db.executemany(
            "UPDATE entry INDEXED BY entry_missing SET missed_at = ?, missed_by_scan = NULL"
            " WHERE presence = 1 AND missed_by_scan = ? AND missed_at IS NULL"
            " AND folder IN (SELECT id FROM folder WHERE mirror = ?)",
            ((now, scan, mirror) for scan in scans),
        )

    def miss_from(self, mirror: int, path: str, now: float) -> None:
        """Treat the first check that missed a file as if it had taken place at `now`."""
        self._update(mirror, path, "missed_at = iif(presence = 1, ?, NULL), missed_by_scan = NULL", (now,))

    def missed_before(self, mirror: int, deadline: float, limit: int) -> list[tuple[str, int, float]]:
        """Return the paths that were first missed at or before `deadline`, with their inodes and the time of
        that check.
        """
        sql = f"SELECT f.path, e.name, e.ino, e.missed_at {_MISSED} AND e.missed_at <= ? LIMIT ?"
        rows = self._db.execute(sql, (mirror, deadline, limit))
        return [(join(unbind(folder), unbind(name)), ino, missed) for folder, name, ino, missed in rows]

    def missed_at(self, mirror: int, path: str) -> float | None:
        """Return when a check first missed this file, or None if the file isn't waiting for its second
        check.
        """
        folder, name = split(path)
        row = self._db.execute(
            "SELECT missed_at FROM entry WHERE folder = ? AND name = ? AND presence = 1",
            (self._folders.id(mirror, folder), bind(name)),
        ).fetchone()
        return None if row is None else row[0]

    def is_missed_by_scan(self, mirror: int) -> bool:
        """Return whether a running scan has missed a file that it may still find elsewhere."""
        sql = f"SELECT 1 {_MISSED} AND e.missed_at IS NULL AND e.missed_by_scan IS NOT NULL LIMIT 1"
        return self._db.execute(sql, (mirror,)).fetchone() is not None

    def first_missed(self, mirror: int) -> float | None:
        """Return the time of the earliest first check among the files that are waiting for the second check.

        Files missed by scans that are still running are ignored (`is_missed_by_scan`).
        """
        sql = f"SELECT e.missed_at {_MISSED} AND e.missed_at IS NOT NULL ORDER BY e.missed_at LIMIT 1"
        row = self._db.execute(sql, (mirror,)).fetchone()
        return None if row is None else row[0]

    def waiting(self, mirror: int, limit: int) -> list[FileRow]:
        """Return pending or indexing files, starting with those that have waited longest."""
        source = "entry e INDEXED BY entry_open CROSS JOIN folder f ON e.folder = f.id"
        where = "e.status IN (1, 2) AND f.mirror = ? ORDER BY e.since"
        return list(self._select(source, where, (mirror,), limit))

    def page(self, mirror: int, after: str, limit: int, statuses: Collection[Status] = ()) -> list[FileRow]:
        """Return a page of the files that `visible` returns, starting after this path ('': the first).

        `statuses`: return only files with one of these statuses. For `NOTED` statuses, an index finds the
        files; for others, every row up to the end of the page is read.
        """
        folder, name = split(after)
        source = _BY_FOLDER
        where = "f.mirror = ? AND f.path >= ? AND (f.path > ? OR e.name > ?) AND e.status <> 6"
        if statuses:
            where += f" AND e.status IN ({', '.join(str(int(status)) for status in statuses)})"
        if statuses and all(status in NOTED for status in statuses):
            source, where = _NOTED, f"{_IS_NOTED} AND {where}"
        values = (mirror, bind(folder), bind(folder), bind(name))
        return list(self._select(source, f"{where} ORDER BY f.path, e.name", values, limit))

    def present_paths(self, mirror: int, limit: int, name: str | None = None) -> list[str]:
        """Return the paths of at most `limit` present files.

        With `name`, return only files with this name.
        """
        where = "e.status <> 6 AND e.presence = 0 AND f.mirror = ? AND (? IS NULL OR e.name = ?)"
        sql = f"SELECT f.path, e.name FROM {_JOINED} WHERE {where} LIMIT ?"  # noqa: S608 - ours
        bound_name = None if name is None else bind(name)
        rows = self._db.execute(sql, (mirror, bound_name, bound_name, limit))
        return [join(unbind(folder), unbind(file_name)) for folder, file_name in rows]

    def racy(self, mirror: int, limit: int) -> list[FileRow]:
        """Return present files that may have changed without a new stamp (`racy`)."""
        return list(self._select(_RACY, "e.racy = 1 AND e.presence = 0 AND f.mirror = ?", (mirror,), limit))

    def with_ino(self, mirror: int, ino: int, digest: str) -> list[FileRow]:
        """Return the files whose last stamp has this inode and whose bytes have this digest."""
        where = "e.ino = ? AND e.digest = ? AND f.mirror = ?"
        return list(self._select(_BY_INO, where, (ino, bytes.fromhex(digest), mirror)))

    def paths_with_ino(self, mirror: int, ino: int) -> list[str]:
        """Return the paths of files that were read and whose last stamp has this inode."""
        rows = self._db.execute(_READ_WITH_INO, (ino, mirror))
        return [join(unbind(folder), unbind(name)) for folder, name in rows]

    def outdated_links(self, mirror: int, stamp: Stamp, limit: int) -> list[str]:
        """Return the paths with this inode whose files were last read when the inode had a different
        stamp.
        """
        sql = f"{_READ_WITH_INO} AND e.size >= 0 AND (e.size, e.mtime_ns, e.ctime_ns) <> (?, ?, ?) LIMIT ?"
        values = (stamp.ino, mirror, stamp.size, stamp.mtime_ns, stamp.ctime_ns, limit)
        return [join(unbind(folder), unbind(name)) for folder, name in self._db.execute(sql, values)]

    def unread(
        self, mirror: int, after: tuple[int, str] = (0, ""), limit: int = -1
    ) -> list[tuple[tuple[int, str], str]]:
        """Return the files that couldn't be read at the last check, each with its sort key in this list.

        `after`: the key of the last file on the previous page.
        """
        sql = (
            f"SELECT e.folder, e.name, f.path FROM {_NOTED} WHERE {_IS_NOTED} AND e.status = ? AND e.size < 0"  # noqa: S608
            " AND f.mirror = ? AND (e.folder, e.name) > (?, ?) ORDER BY e.folder, e.name LIMIT ?"
        )
        folder, name = after
        rows = self._db.execute(sql, (int(Status.FAILED), mirror, folder, bind(name), limit))
        return [((number, unbind(name)), join(unbind(path), unbind(name))) for number, name, path in rows]

    def of_status(
        self, mirror: int, status: Status, limit: int = -1, *, in_order: bool = True
    ) -> Iterator[FileRow]:
        """Yield the files that have this status, by directory. All of them are kept in memory for sorting.

        For `NOTED` statuses, an index finds the files; for others, every row is read.
        """
        source, where = _JOINED, f"e.status = {int(status)} AND f.mirror = ?"
        if status in NOTED:
            source, where = _NOTED, f"{_IS_NOTED} AND {where}"
        order = " ORDER BY f.path, e.name" if in_order else ""
        return self._select(source, where + order, (mirror,), limit)

    def folders_with(self, mirror: int, statuses: Collection[Status]) -> list[str]:
        """Return the directories that directly contain a file with one of these statuses."""
        sql = (
            "SELECT DISTINCT f.path FROM entry e JOIN folder f ON e.folder = f.id"  # noqa: S608 (only numbers)
            f" WHERE f.mirror = ? AND e.status IN ({', '.join(str(int(status)) for status in statuses)})"
        )
        return [unbind(path) for (path,) in self._db.execute(sql, (mirror,))]

    def _select(
        self, source: str, where: str, values: tuple[object, ...], limit: int = -1
    ) -> Iterator[FileRow]:
        """Yield at most `limit` rows, or all rows if `limit` is -1."""
        sql = f"SELECT f.path, {_FIELDS} FROM {source} WHERE {where} LIMIT ?"  # noqa: S608
        rows = self._db.execute(sql, (*values, limit))
        return (_read_entry(unbind(row[0]), row[1:]) for row in rows)

    def below(self, mirror: int, folder: str) -> Iterator[FileRow]:
        """Yield every file in a directory and below it, with only one row in memory at a time."""
        where = f"f.id IN ({SUBTREE}SELECT id FROM tree)"  # noqa: S608
        return self._select(_BY_FOLDER, where, (mirror, bind(folder)))

    def visible(self, mirror: int) -> Iterator[FileRow]:
        """Yield every file except for excluded ones, by directory and name, with only one row in memory at a
        time.
        """
        return self._select(_BY_FOLDER, "f.mirror = ? AND e.status <> 6 ORDER BY f.path, e.name", (mirror,))

    def rows(self, mirror: int, folder: str) -> Iterator[tuple[Any, ...]]:
        """Yield (name, size, mtime_ns, ctime_ns, ino) of every file directly in a directory, as SQLite
        returns them.

        If a check couldn't determine whether a file exists, its size is -1, so that the next scan checks it.
        """
        # Skip deleted files: if a file comes back, even unchanged when its disk is mounted again, that is a
        # change.
        return self._db.execute(
            "SELECT name, iif(presence = 3, -1, size), mtime_ns, ctime_ns, ino FROM entry WHERE presence <> 2"
            " AND folder = (SELECT id FROM folder WHERE mirror = ? AND path = ?)",
            (mirror, bind(folder)),
        )

    def digest(self, mirror: int, folder: str) -> bytes | None:
        """Return the digest of `rows`, or None if it isn't known."""
        sql = "SELECT files_digest FROM folder WHERE mirror = ? AND path = ?"
        digest: bytes | None = self._db.execute(sql, (mirror, bind(folder))).get
        return digest

    def record_digest(self, mirror: int, folder: str) -> None:
        """Record the digest of `rows`. When a row changes, a trigger removes the digest."""
        sql = "UPDATE folder SET files_digest = ? WHERE mirror = ? AND path = ?"
        self._db.execute(sql, (digest_of(self.rows(mirror, folder)), mirror, bind(folder)))

    def names(self, mirror: int, folder: str, limit: int = -1) -> list[str]:
        """Return the paths of the files directly in a directory, at most `limit` if it isn't -1."""
        sql = "SELECT name FROM entry WHERE folder = (SELECT id FROM folder WHERE mirror = ? AND path = ?)"
        rows = self._db.execute(f"{sql} LIMIT ?", (mirror, bind(folder), limit))
        return [join(folder, unbind(row[0])) for row in rows]

    def oldest_since(self, mirror: int) -> float | None:
        """Return the time since which the longest-waiting file has been pending or indexing, or None if no
        file is waiting.
        """
        return next((row.since for row in self.waiting(mirror, 1)), None)
