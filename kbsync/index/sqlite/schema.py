"""The tables of the index, and opening its file: a sound one as it is, any other set aside.

`index.db` is one SQLite file. Texts stand in `chunk` as they are; `words` is the full-text index over
them and holds no text of its own; vectors lie in `block`, many to a row, so that all of them can be read
without a step for each (100,000 rows take ten times as long as 400 blocks).
"""

from __future__ import annotations

import logging
import uuid
from pathlib import Path

import apsw

from kbsync.errors import StateError
from kbsync.index.words import SQLITE_TOKENISER
from kbsync.state import db as files
from kbsync.state.db import open_writer, state_errors, transaction

FILE = "index.db"
APPLICATION_ID = 0x6B62_7379  # "kbsy"
VERSION = 3
READABLE = (2, VERSION)  # layout 2 lacks `run.digest`, which only writing needs
INCREMENTAL = 2
"""SQLite's number for an `auto_vacuum` that is asked for."""


_log = logging.getLogger(__name__)

_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE document (
  id INTEGER PRIMARY KEY AUTOINCREMENT,  -- the remote id; never given twice
  upload_id INTEGER UNIQUE,
  label ANY NOT NULL,                    -- the path as it was put; renames leave it
  path ANY NOT NULL, name ANY NOT NULL,  -- BLOB where the bytes are not UTF-8
  digest TEXT NOT NULL, size INTEGER NOT NULL, recipe TEXT NOT NULL,
  title TEXT, tags TEXT NOT NULL,
  modified REAL NOT NULL, created REAL NOT NULL
) STRICT;
CREATE TABLE chunk (
  id INTEGER PRIMARY KEY, slot INTEGER,
  text TEXT NOT NULL, headings TEXT NOT NULL, page INTEGER, line INTEGER
) STRICT;
CREATE INDEX chunk_slot ON chunk(slot);
@runs
CREATE VIRTUAL TABLE words USING fts5(
  name, headings, body, content='', tokenize='@tokeniser');
INSERT INTO words(words, rank) VALUES ('secure-delete', 1);
CREATE TABLE model (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, dimensions INTEGER NOT NULL) STRICT;
CREATE TABLE segment (id INTEGER PRIMARY KEY, model INTEGER NOT NULL, version INTEGER NOT NULL) STRICT;
CREATE TABLE block (id INTEGER PRIMARY KEY, vectors BLOB NOT NULL) STRICT;
CREATE TABLE slot (id INTEGER PRIMARY KEY, model INTEGER NOT NULL, key BLOB) STRICT;  -- no key: free
CREATE UNIQUE INDEX slot_key ON slot(model, key);
"""

_RUNS = """
CREATE TABLE run (
  first INTEGER PRIMARY KEY, chunks INTEGER NOT NULL,  -- chunks first, first + 1, …
  document INTEGER, place INTEGER,                  -- whose they are, in which order; NULL: no owner
  lines INTEGER NOT NULL, pages INTEGER NOT NULL,   -- to be added to what its chunks say
  named TEXT NOT NULL, tokeniser INTEGER NOT NULL,  -- title, tags and file stem as they were indexed
  digest BLOB                                       -- of its chunks; NULL where layout 1 or 2 made it
) STRICT;
CREATE INDEX run_document ON run(document, place);
"""

# In layout 1 the chunks of a document followed each other, and each said whose it was.
_FROM_1 = """
INSERT INTO run SELECT first, chunks, id, 0, 0, 0, words, tokeniser, NULL FROM document WHERE chunks > 0;
ALTER TABLE document DROP COLUMN words;
ALTER TABLE document DROP COLUMN tokeniser;
ALTER TABLE document DROP COLUMN first;
ALTER TABLE document DROP COLUMN chunks;
ALTER TABLE chunk DROP COLUMN document;
"""

_FROM_2 = "ALTER TABLE run ADD COLUMN digest BLOB"

# Changes no layout: an older kbsync keeps it up to date.
_BY_PATH = "CREATE INDEX IF NOT EXISTS document_path ON document(path)"

# Other indexes are counted than the one that holds the texts: these are small.
_LOST = """
SELECT coalesce(nullif(runs - (SELECT count(*) FROM chunk), 0), runs - (SELECT count(*) FROM words_docsize))
FROM (SELECT coalesce(sum(chunks), 0) AS runs FROM run)
"""

WHOLE = """(
  EXISTS (SELECT 1 FROM run WHERE run.document = document.id)
  AND NOT EXISTS (
    SELECT 1 FROM run WHERE run.document = document.id AND run.chunks > (
      SELECT count(*) FROM chunk JOIN words_docsize USING (id)
      WHERE chunk.id BETWEEN run.first AND run.first + run.chunks - 1)))"""
"""A condition of a row of `document`: all its chunks are there to be found."""


def identity(folder: Path) -> tuple[int, int] | None:
    """Which file is the index in `folder` now; None: there is none."""
    try:
        found = (folder / FILE).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def open_index(folder: Path) -> apsw.Connection:
    """The writing connection to the index in `folder`, made where there is none.

    A file that is damaged or not an index of ours is renamed to `index.db.damaged-<n>` and a new one, with
    a new uuid, takes its place. Raises `StateError` where neither can be had.
    """
    path = folder / FILE
    with state_errors(path):
        connection = _sound(path) or open_writer(path)
        if is_empty(connection):
            _create(connection)
        elif (version := connection.pragma("user_version")) < VERSION:
            with transaction(connection):  # nothing is read or indexed again
                connection.execute(_RUNS + _FROM_1 if version == 1 else _FROM_2)
                connection.pragma("user_version", VERSION)
        connection.execute(_BY_PATH)
        return connection


def _sound(path: Path) -> apsw.Connection | None:
    """The connection to `path` if it is an index of ours or empty; else None, and `path` is free."""
    if not path.exists():
        return None
    connection = None
    try:
        connection = open_writer(path)
        if reason := _objection(connection, path):
            connection.close()
        else:
            return connection
    except (apsw.CorruptError, apsw.NotADBError, apsw.SQLError) as error:
        reason = str(error)
        if connection is not None:
            connection.close()
    set_aside(path, reason)
    return None


def _objection(connection: apsw.Connection, path: Path) -> str:
    """Why the open file cannot be used as the index; "" where it can. Raises `StateError`."""
    if is_empty(connection):  # killed while it was made
        return ""
    if connection.pragma("application_id") != APPLICATION_ID:
        return "it is not an index of kbsync"
    version = connection.pragma("user_version")
    if version > VERSION:
        raise newer(path, version)
    if version < 1:
        return f"its layout {version} is from an older kbsync"
    connection.execute("SELECT value FROM meta WHERE key = 'uuid'").fetchall()
    connection.execute("SELECT rowid FROM words WHERE words MATCH 'a' LIMIT 1").fetchall()
    if version > 1 and (lost := connection.execute(_LOST).get):
        return f"{abs(lost)} of its passages are gone"
    return ""


def newer(path: Path, version: int) -> StateError:
    """The error of a file that has a layout of later."""
    return StateError(
        f"{path} was written by a newer kbsync (layout {version}, this one knows {VERSION}); upgrade"
    )


def set_aside(path: Path, reason: str) -> None:
    """Make room for a new index and say so."""
    aside = files.set_aside(path)
    told = {"event": "index.set_aside"}
    _log.error("index set aside as %s, a new one is built: %s", aside, reason, extra=told)


def is_empty(connection: apsw.Connection) -> bool:
    """Nothing was ever put into this file."""
    return connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").get is None


def _create(connection: apsw.Connection) -> None:
    """Make the tables of a new index, all of them or none; what it frees one day can be given back."""
    connection.pragma("auto_vacuum", INCREMENTAL)
    connection.execute("VACUUM")  # the file has its first page already, and would stay as it is
    with transaction(connection):
        tables = _TABLES.replace("@runs", _RUNS)
        connection.execute(tables.replace("@tokeniser", " ".join(SQLITE_TOKENISER)))
        connection.execute("INSERT INTO meta VALUES ('uuid', ?), ('changes', 0)", (str(uuid.uuid4()),))
        connection.pragma("application_id", APPLICATION_ID)
        connection.pragma("user_version", VERSION)
