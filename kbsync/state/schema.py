"""The tables of `state.db`, migrations from older schemas, and checks that refuse unusable files.

Paths and names are TEXT if they are valid Unicode and BLOB if they are not (see `db.bind`). Enumerations are
stored as the integers of `core.model`, phases as words. `folder.is_mount` is 0 or 1, or 2 for a mount point
that may be unmounted; `folder.mount` is what is mounted there (see `files.FolderRow`).
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import apsw

from kbsync.errors import UsageError
from kbsync.permissions import exists
from kbsync.state import lock
from kbsync.state.db import DamagedError, transaction

DELETIONS_AFTER_UPLOADS = """
CREATE INDEX upload_on_the_way ON upload(mirror, binding, digest) WHERE state IN (0, 1, 2, 4);
CREATE INDEX upload_retiring ON upload(mirror, binding, digest) WHERE state = 7;
CREATE TRIGGER upload_ended AFTER UPDATE OF state ON upload
WHEN OLD.state IN (0, 1, 2, 4) AND NEW.state NOT IN (0, 1, 2, 4) AND NOT EXISTS(
  SELECT 1 FROM upload
    WHERE mirror = NEW.mirror AND binding = NEW.binding AND digest = NEW.digest AND state IN (0, 1, 2, 4))
BEGIN
  UPDATE upload SET due_at = 0
    WHERE mirror = NEW.mirror AND binding = NEW.binding AND digest = NEW.digest AND state = 7;
END;
"""
"""When the last upload of a text ends, makes the deletions of documents with that text due."""

OUTDATED_DIGESTS = """
CREATE TRIGGER files_added AFTER INSERT ON entry BEGIN
  UPDATE folder SET files_digest = NULL WHERE id = NEW.folder AND files_digest IS NOT NULL;
END;
CREATE TRIGGER files_removed AFTER DELETE ON entry BEGIN
  UPDATE folder SET files_digest = NULL WHERE id = OLD.folder AND files_digest IS NOT NULL;
END;
CREATE TRIGGER files_changed AFTER UPDATE OF size, mtime_ns, ctime_ns, ino, presence ON entry
WHEN (OLD.size, OLD.mtime_ns, OLD.ctime_ns, OLD.ino, OLD.presence = 2)
  <> (NEW.size, NEW.mtime_ns, NEW.ctime_ns, NEW.ino, NEW.presence = 2)
BEGIN
  UPDATE folder SET files_digest = NULL WHERE id = NEW.folder AND files_digest IS NOT NULL;
END;
"""
"""Removes a directory's digest when one of the rows in it changes (`files.Entries.rows`)."""

TABLES = (
    """
CREATE TABLE meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;

CREATE TABLE binding(
  id INTEGER PRIMARY KEY, target TEXT NOT NULL, address TEXT NOT NULL, base TEXT NOT NULL,
  prefix TEXT NOT NULL, adopted INTEGER NOT NULL DEFAULT 0,
  UNIQUE(target, address, base, prefix));

CREATE TABLE mirror(
  id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, folder NOT NULL, target TEXT NOT NULL DEFAULT '',
  root_dev INTEGER, root_ino INTEGER, root_fs TEXT, root_is_mount INTEGER,
  binding INTEGER REFERENCES binding(id),
  halt_reason TEXT, halt_detail TEXT, halt_cure TEXT, hold_all INTEGER NOT NULL DEFAULT 0,
  note TEXT, last_pass REAL, last_deep REAL, location TEXT NOT NULL DEFAULT '',
  root_mount TEXT NOT NULL DEFAULT '');

CREATE TABLE folder(
  id INTEGER PRIMARY KEY, mirror INTEGER NOT NULL REFERENCES mirror(id), parent INTEGER REFERENCES folder(id),
  path NOT NULL, name NOT NULL, version TEXT NOT NULL DEFAULT '', is_mount INTEGER NOT NULL DEFAULT 0,
  problem TEXT NOT NULL DEFAULT '', is_excluded INTEGER NOT NULL DEFAULT 0, gone INTEGER NOT NULL DEFAULT 0,
  mount TEXT NOT NULL DEFAULT '', files_digest BLOB, UNIQUE(mirror, path));
CREATE INDEX folder_parent ON folder(parent);
CREATE INDEX folder_problem ON folder(mirror) WHERE problem <> '';
CREATE INDEX folder_gone ON folder(mirror) WHERE gone = 1;

CREATE TABLE entry(
  folder INTEGER NOT NULL, name NOT NULL,
  size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL, ino INTEGER NOT NULL,
  digest BLOB, choice INTEGER NOT NULL, reason TEXT, rule TEXT, by_person INTEGER NOT NULL DEFAULT 1,
  presence INTEGER NOT NULL DEFAULT 0, status INTEGER NOT NULL, since REAL NOT NULL,
  racy INTEGER NOT NULL DEFAULT 0, missed_at REAL, missed_by_scan INTEGER,
  PRIMARY KEY(folder, name)) WITHOUT ROWID;
CREATE INDEX entry_racy ON entry(folder) WHERE racy = 1;
CREATE INDEX entry_missing ON entry(missed_at) WHERE presence = 1;
CREATE INDEX entry_ino ON entry(ino) WHERE digest IS NOT NULL;
CREATE INDEX entry_open ON entry(since) WHERE status IN (1, 2);
CREATE INDEX entry_noted ON entry(status) WHERE status IN (1, 2, 3, 4);

CREATE TABLE tally(mirror INTEGER NOT NULL, status INTEGER NOT NULL, n INTEGER NOT NULL,
  PRIMARY KEY(mirror, status)) WITHOUT ROWID;
CREATE TRIGGER entry_added AFTER INSERT ON entry BEGIN
  INSERT INTO tally SELECT mirror, NEW.status, 1 FROM folder WHERE id = NEW.folder
    ON CONFLICT(mirror, status) DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER entry_removed AFTER DELETE ON entry BEGIN
  UPDATE tally SET n = n - 1
    WHERE mirror = (SELECT mirror FROM folder WHERE id = OLD.folder) AND status = OLD.status;
END;
CREATE TRIGGER entry_turned AFTER UPDATE OF status ON entry WHEN OLD.status <> NEW.status BEGIN
  UPDATE tally SET n = n - 1
    WHERE mirror = (SELECT mirror FROM folder WHERE id = OLD.folder) AND status = OLD.status;
  INSERT INTO tally SELECT mirror, NEW.status, 1 FROM folder WHERE id = NEW.folder
    ON CONFLICT(mirror, status) DO UPDATE SET n = n + 1;
END;

CREATE TABLE upload(
  id INTEGER PRIMARY KEY AUTOINCREMENT, mirror INTEGER NOT NULL, binding INTEGER NOT NULL,
  path, label NOT NULL, name NOT NULL, digest TEXT NOT NULL, size INTEGER NOT NULL, recipe TEXT NOT NULL,
  state INTEGER NOT NULL, purpose INTEGER NOT NULL DEFAULT 0, remote_id TEXT, predecessor INTEGER,
  attempts INTEGER NOT NULL DEFAULT 0, repairs INTEGER NOT NULL DEFAULT 0, checks INTEGER NOT NULL DEFAULT 0,
  absences INTEGER NOT NULL DEFAULT 0, created_at REAL NOT NULL, sent_at REAL, accepted_at REAL,
  elapsed REAL NOT NULL DEFAULT 0, checked_at REAL, due_at REAL, rank REAL NOT NULL DEFAULT 0,
  reason TEXT NOT NULL DEFAULT '', code TEXT NOT NULL DEFAULT '', wanted_recipe TEXT NOT NULL DEFAULT '',
  phase TEXT NOT NULL DEFAULT '', names_tried INTEGER NOT NULL DEFAULT 0,
  postponed INTEGER NOT NULL DEFAULT 0, reappeared INTEGER NOT NULL DEFAULT 0,
  losses INTEGER NOT NULL DEFAULT 0);
CREATE INDEX upload_place ON upload(mirror, path);
CREATE INDEX upload_due ON upload(mirror, state, rank) WHERE due_at IS NOT NULL;
CREATE INDEX upload_state ON upload(mirror, binding, state, id);
CREATE INDEX upload_remote ON upload(binding, remote_id) WHERE remote_id IS NOT NULL;
CREATE INDEX upload_wanted ON upload(mirror, wanted_recipe) WHERE wanted_recipe <> '';
CREATE INDEX upload_named ON upload(binding, name)
  WHERE (name <> label OR path <> label) AND state NOT IN (11, 12);
CREATE INDEX upload_final ON upload(created_at) WHERE state IN (11, 12);
CREATE UNIQUE INDEX upload_one_server ON upload(mirror, binding, path) WHERE state IN (5, 6);
CREATE UNIQUE INDEX upload_one_flight ON upload(mirror, binding, path, digest, recipe)
  WHERE state IN (1, 2, 4) AND purpose = 0;
CREATE TABLE serving(mirror INTEGER NOT NULL, binding INTEGER NOT NULL, n INTEGER NOT NULL,
  PRIMARY KEY(mirror, binding)) WITHOUT ROWID;
CREATE TRIGGER upload_added AFTER INSERT ON upload WHEN NEW.state IN (5, 6) BEGIN
  INSERT INTO serving VALUES(NEW.mirror, NEW.binding, 1) ON CONFLICT DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER upload_turned AFTER UPDATE OF state ON upload
WHEN (OLD.state IN (5, 6)) <> (NEW.state IN (5, 6)) BEGIN
  INSERT INTO serving VALUES(NEW.mirror, NEW.binding, CASE WHEN NEW.state IN (5, 6) THEN 1 ELSE -1 END)
    ON CONFLICT DO UPDATE SET n = n + excluded.n;
END;

CREATE TABLE removal(mirror INTEGER NOT NULL, path NOT NULL, upload INTEGER NOT NULL, cause TEXT NOT NULL,
  at REAL NOT NULL, missed_at REAL, hold INTEGER NOT NULL, held INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY(mirror, path)) WITHOUT ROWID;
CREATE INDEX removal_hold ON removal(hold, held);
CREATE INDEX removal_open ON removal(mirror, at) WHERE held = 0;
CREATE INDEX removal_upload ON removal(upload);
CREATE TABLE hold(id INTEGER PRIMARY KEY AUTOINCREMENT, mirror INTEGER NOT NULL, made_at REAL NOT NULL,
  approved_at REAL, kind TEXT NOT NULL DEFAULT 'deletions', detail TEXT NOT NULL DEFAULT '',
  state TEXT NOT NULL DEFAULT 'asked');
CREATE TABLE deletion_log(id INTEGER PRIMARY KEY, mirror INTEGER NOT NULL, at REAL NOT NULL,
  n INTEGER NOT NULL);
CREATE TABLE inbox(id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, verb TEXT NOT NULL,
  mirror TEXT, args TEXT NOT NULL DEFAULT '{}');
CREATE TABLE recipe_change(mirror INTEGER NOT NULL, recipe TEXT NOT NULL, hold INTEGER,
  documents INTEGER NOT NULL DEFAULT 0, PRIMARY KEY(mirror, recipe)) WITHOUT ROWID;
CREATE TABLE forgotten(id INTEGER PRIMARY KEY, name TEXT NOT NULL, target TEXT NOT NULL,
  address TEXT NOT NULL, base TEXT NOT NULL, prefix TEXT NOT NULL,
  UNIQUE(name, target, address, base, prefix));
CREATE TABLE forgotten_document(forgotten INTEGER NOT NULL REFERENCES forgotten(id),
  remote_id TEXT NOT NULL, PRIMARY KEY(forgotten, remote_id)) WITHOUT ROWID;
CREATE TABLE history(id INTEGER PRIMARY KEY, mirror INTEGER NOT NULL, at REAL NOT NULL, event TEXT NOT NULL,
  path NOT NULL DEFAULT '', former NOT NULL DEFAULT '', document_id TEXT, size INTEGER,
  reason NOT NULL DEFAULT '', by TEXT NOT NULL DEFAULT '');
"""  # noqa: S608
    + DELETIONS_AFTER_UPLOADS
    + OUTDATED_DIGESTS
)

IDENTITIES_OF_MOUNTS = """
ALTER TABLE folder ADD COLUMN mount TEXT NOT NULL DEFAULT '';
"""
"""Records which disk is mounted at a mount point, so that a different disk in its place is noticed."""

IDENTITIES_OF_ROOTS = """
ALTER TABLE mirror ADD COLUMN root_mount TEXT NOT NULL DEFAULT '';
"""
"""Records which disk is mounted at a mirror's folder."""

DIGESTS_OF_FILES = f"""
ALTER TABLE folder ADD COLUMN files_digest BLOB;
{OUTDATED_DIGESTS}
"""
"""Adds a digest of a directory's rows, so that a scan of an unchanged directory doesn't read them."""

OLDEST = 17
"""The oldest schema that this kbsync reads. Earlier ones were never released."""

MIGRATIONS: tuple[str, ...] = (
    IDENTITIES_OF_MOUNTS,
    IDENTITIES_OF_ROOTS,
    DELETIONS_AFTER_UPLOADS,
    DIGESTS_OF_FILES,
)
"""Script i upgrades schema `OLDEST` + i to the next one.

Never edit a released script; only append new ones.
"""

VERSION = OLDEST + len(MIGRATIONS)
"""The schema version of `TABLES`."""


def version_of(connection: apsw.Connection) -> int:
    """Return the schema version of the file (0 for an empty file)."""
    return int(connection.pragma("user_version"))


def is_older(connection: apsw.Connection) -> bool:
    """Return whether an older version of kbsync created the tables, so that this one must upgrade them."""
    return 0 < version_of(connection) < VERSION


def migrate(connection: apsw.Connection) -> None:
    """Upgrade the file to `VERSION`, with one transaction per step, so that a crash leaves a complete older
    schema.
    """
    while (version := version_of(connection)) < VERSION:
        with transaction(connection, "BEGIN IMMEDIATE"):
            if version_of(connection) != version:
                continue  # another process has done this step
            if version:
                connection.execute(MIGRATIONS[version - OLDEST])
                connection.pragma("user_version", version + 1)
            else:
                connection.execute(TABLES)
                choose_next_upload(connection)
                connection.pragma("user_version", VERSION)


def choose_next_upload(connection: apsw.Connection) -> None:
    """Make the upload ids of each state start at a random number."""
    # Upload ids mark our documents at a target, so no other document may ever get an id from a lost state
    # (promise 6).
    import secrets

    connection.execute("DELETE FROM sqlite_sequence WHERE name = 'upload'")
    start = secrets.randbelow(2**51) + 2**32
    highest = connection.execute("SELECT coalesce(max(id), 0) FROM upload").get
    connection.execute("INSERT INTO sqlite_sequence(name, seq) VALUES('upload', ?)", (highest + start,))


CHECK_UP_TO = 64 * 1024 * 1024
"""Maximum size in bytes of a file that is checked for damage at each start; checking a larger one takes too
long. A state of this size has about half a million files.
"""

CHECK_LARGE_EVERY = 24 * 3600.0
"""Minimum number of seconds between two checks of a larger state file."""

_CREATED_NAMES = set(re.findall(r"CREATE (?:TABLE|INDEX|UNIQUE INDEX|TRIGGER) (\w+)", TABLES))


def refuse_unfit(connection: apsw.Connection, path: Path) -> None:
    """Raise `DamagedError` for a foreign file or missing tables, or `UsageError` for a file from a newer
    kbsync version.
    """
    with transaction(connection):  # one snapshot: another process may be creating the file
        version = version_of(connection)
        existing = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
    # In other schemas, only these three tables are certain to exist.
    required = _CREATED_NAMES if version == VERSION else {"meta", "mirror", "upload"} if version else set()
    if (existing and not version) or not required <= existing:
        damage = f"{path} is not a kbsync state file, or lacks some of its tables"
        raise DamagedError(damage, is_foreign=not {"mirror", "upload"} & existing)
    if 0 < version < OLDEST:
        raise DamagedError(f"{path} was written by kbsync before its first release")
    if version > VERSION:
        raise UsageError(
            f"{path} was written by a newer kbsync; use that version, or choose another --state-dir"
        )


_CHECKED_AT = "checked_at"
"""The key in `meta` of the time at which a large file was last checked for damage."""


def refuse_damaged_state(connection: apsw.Connection, path: Path) -> None:
    """Raise `DamagedError` if the state file is damaged.

    A large file is checked once a day; in between, SQLite detects damage only in the parts that it reads.
    """
    if refuse_damaged(connection, path):
        return
    now = time.time()
    checked = connection.execute("SELECT value FROM meta WHERE key = ?", (_CHECKED_AT,)).get
    if checked is None or not 0 <= now - float(checked) < CHECK_LARGE_EVERY:
        refuse_damaged(connection, path, even_large=True)
        with suppress(apsw.FullError, apsw.IOError):
            connection.execute("REPLACE INTO meta(key, value) VALUES(?, ?)", (_CHECKED_AT, now))


def refuse_damaged(connection: apsw.Connection, path: Path, *, even_large: bool = False) -> bool:
    """Raise `DamagedError` if the file is damaged, before kbsync uses it. Raise `apsw.IOError` if the disk
    fails.

    Return False if the file is too large to be checked at each start.
    """
    if not even_large and path.stat().st_size > CHECK_UP_TO:
        return False
    verdict = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict is None or verdict[0] != "ok":
        if verdict is not None and _is_read_failure(verdict[0]):
            raise apsw.IOError("disk I/O error")
        raise DamagedError(f"{path} is damaged ({verdict[0] if verdict else 'unreadable'})")
    return True


def _is_read_failure(verdict: str) -> bool:
    """Return whether SQLite's check of the file ended at a page that it couldn't read."""
    code = verdict.rpartition("error code=")[2]
    return (code.isdecimal() and int(code) & 0xFF == apsw.SQLITE_IOERR) or "failed to get page" in verdict


def is_restored(path: Path) -> bool:
    """Return whether the file is older than its last use, as after restoring a backup."""
    # kbsync always leaves its WAL file next to it. Without one, the file comes from a backup, or the WAL was
    # removed together with the newest changes.
    return exists(path) and path.stat().st_size > 0 and not exists(path.with_name(f"{path.name}-wal"))


_LOCKED_AT = "locked_at"
"""The key in `meta` of the time at which the last process that used the file acquired the lock."""


def is_outdated(connection: apsw.Connection, state_dir: Path, *, holds_lock: bool) -> bool:
    """Return whether the last process with the lock used another file, as after restoring a copy of the file
    with its WAL, or of the whole directory. `holds_lock`: whether the caller holds the lock.
    """
    if not holds_lock and lock.holding(state_dir):
        return False  # the holder has checked this
    recorded = connection.execute("SELECT value FROM meta WHERE key = ?", (_LOCKED_AT,)).get
    if recorded is None or not (changes := lock.last_changes(state_dir)):
        return False
    # The caller may have recorded its own time already: taking over a trial opens the file twice.
    return recorded not in (changes if holds_lock else changes[:1])


def record_use(connection: apsw.Connection, changes: Sequence[int]) -> None:
    """Record that the process with the lock uses this file. `changes`: from `lock.last_changes`."""
    if changes:
        connection.execute("REPLACE INTO meta(key, value) VALUES(?, ?)", (_LOCKED_AT, changes[0]))


def catch_up(connection: apsw.Connection) -> None:
    """Prepare a restored file, which lacks the changes since it was written."""
    # Adopt the bases' documents again, and don't reuse the id of an upload that was created since then.
    connection.execute("UPDATE binding SET adopted = 0")
    choose_next_upload(connection)
