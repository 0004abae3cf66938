"""Defines the index's tables, and opens its file: a valid one is used, any other is set aside.

`index.db` is one SQLite file. `chunk` has the texts; `words` is the full-text index over them and contains no
text of its own; `names` has the words of each document's name; `block` has the vectors, many to a row, so
that reading all of them takes few steps (400 blocks take a tenth of the time of 100,000 rows). `better` has
the vectors of a better model, computed later, for some of the same passages: each at the same position in its
block as the first model's vector.

The blocks of a large index have a different layout (planes.py). They are listed in `planar_segment` and no
longer in `segment`, so that an older program that has the file open searches by words alone instead of
misreading them.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import apsw

from kbsync.core.text import printable
from kbsync.errors import Halted, Unavailable
from kbsync.index.words import OLDEST_TOKENISER, SQLITE_TOKENISER, TOKENISER
from kbsync.permissions import exists
from kbsync.state import db as files
from kbsync.state.db import DamagedError, open_writer, state_errors, transaction
from kbsync.state.overwrite import OverwritingConnection

FILE = "index.db"
APPLICATION_ID = 0x6B62_7379  # "kbsy"
VERSION = 6
"""The newest layout that this program reads."""
FIRST_VERSION = 5
"""The layout of an index until its first vectors are stored in planes (planes.py). Older programs can't
read planes.
"""
INCREMENTAL = 2
"""SQLite's number for incremental `auto_vacuum`."""


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
  modified REAL NOT NULL, created REAL NOT NULL,
  tokeniser INTEGER NOT NULL             -- the version of all its words
) STRICT;
CREATE INDEX document_tokeniser ON document(tokeniser);
CREATE VIRTUAL TABLE names USING fts5(name, tokenize='@tokeniser');  -- by the id of the document
INSERT INTO names(names, rank) VALUES ('secure-delete', 1);
CREATE TABLE chunk (
  id INTEGER PRIMARY KEY, slot INTEGER,
  text TEXT NOT NULL, headings TEXT NOT NULL, page INTEGER, line INTEGER
) STRICT;
CREATE INDEX chunk_slot ON chunk(slot);
CREATE TABLE run (
  first INTEGER PRIMARY KEY, chunks INTEGER NOT NULL,  -- chunks first, first + 1, …
  document INTEGER, place INTEGER,                  -- whose they are, in which order; NULL: no owner
  lines INTEGER NOT NULL, pages INTEGER NOT NULL,   -- to be added to what its chunks say
  named TEXT NOT NULL,                              -- always ''
  tokeniser INTEGER NOT NULL,                       -- the version of its chunks' words
  digest BLOB                                       -- of its chunks
) STRICT;
CREATE INDEX run_document ON run(document, place);
CREATE VIRTUAL TABLE words USING fts5(
  name, headings, body, content='', tokenize='@tokeniser');
INSERT INTO words(words, rank) VALUES ('secure-delete', 1);
CREATE TABLE model (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, dimensions INTEGER NOT NULL) STRICT;
CREATE TABLE segment (id INTEGER PRIMARY KEY, model INTEGER NOT NULL, version INTEGER NOT NULL) STRICT;
CREATE TABLE block (id INTEGER PRIMARY KEY, vectors BLOB NOT NULL) STRICT;
CREATE TABLE slot (id INTEGER PRIMARY KEY, model INTEGER NOT NULL, key BLOB) STRICT;  -- no key: free
CREATE UNIQUE INDEX slot_key ON slot(model, key);
CREATE TABLE better (
  id INTEGER PRIMARY KEY,  -- the segment's
  model INTEGER NOT NULL, version INTEGER NOT NULL,
  count INTEGER NOT NULL,  -- of its vectors; the others are zeros
  vectors BLOB NOT NULL
) STRICT;
"""

# Separate from the tables above, because files of earlier builds lack these two.
_LATER = """
CREATE INDEX IF NOT EXISTS document_path ON document(path);
CREATE TABLE IF NOT EXISTS planar_segment (  -- segments whose vectors are in planes (planes.py)
  id INTEGER PRIMARY KEY, model INTEGER NOT NULL, version INTEGER NOT NULL, factors BLOB NOT NULL
) STRICT;
"""

# Count in small indexes, not in the large table with the texts.
_CHECKED = f"""
SELECT coalesce(nullif(runs - (SELECT count(*) FROM chunk), 0), runs - (SELECT count(*) FROM words_docsize)),
  coalesce(oldest, {TOKENISER}), coalesce(newest, {TOKENISER})
FROM (
  SELECT coalesce(sum(chunks), 0) AS runs, min(tokeniser) AS oldest, max(tokeniser) AS newest FROM run)
"""  # noqa: S608

WHOLE = """(
  EXISTS (SELECT 1 FROM run WHERE run.document = document.id)
  AND NOT EXISTS (
    SELECT 1 FROM run WHERE run.document = document.id AND run.chunks > (
      SELECT count(*) FROM chunk JOIN words_docsize USING (id)
      WHERE chunk.id BETWEEN run.first AND run.first + run.chunks - 1)))"""
"""A condition on a row of `document`: all its chunks are present."""


def open_index(folder: Path) -> OverwritingConnection:
    """Return a connection for writing to the index in `folder`, creating the index if it doesn't exist.

    Anything that is damaged or too old is renamed to `index.db.damaged-<n>`, another program's database to
    `index.db.foreign-<n>`. A new index with a new UUID replaces it. Raises `StateError` if that fails, too,
    `Halted` if a newer kbsync wrote the file, or `Unavailable` for a broken link.
    """
    path = folder / FILE
    if path.is_symlink() and not exists(path):
        # A new index would cost all vectors again, and deleted text would stay in the old one.
        target = os.readlink(path)  # noqa: PTH115
        raise Unavailable(printable(f"{path} is a broken link; mount the disk with {target}"))
    with state_errors(path):
        connection: OverwritingConnection | None = None
        is_foreign = False
        try:
            connection = open_writer(path)
            reason = _objection(connection, path)
        except (apsw.CorruptError, apsw.NotADBError, apsw.SQLError) as error:
            reason = str(error)
        except DamagedError as error:
            reason, is_foreign = error.what, error.is_foreign
        if connection is None or reason:
            if connection is not None:
                connection.close()
            set_aside(path, reason, is_foreign=is_foreign)
            connection = open_writer(path)
        if is_empty(connection):
            _create(connection)
        connection.execute(_LATER)
        return connection


def _objection(connection: apsw.Connection, path: Path) -> str:
    """Return why the open file can't be used as the index, or "" if it can.

    Raises `DamagedError` if it is another program's, or `Halted` if it is from a newer kbsync.
    """
    if is_empty(connection):  # killed during creation
        return ""
    if connection.pragma("application_id") != APPLICATION_ID:
        raise DamagedError("it is not a kbsync index", is_foreign=True)
    version = connection.pragma("user_version")
    if version > VERSION:
        raise newer(path, version)
    if version < FIRST_VERSION:
        return f"the layout ({version}) is from an older kbsync"
    connection.execute("SELECT value FROM meta WHERE key = 'uuid'").fetchall()
    connection.execute("SELECT rowid FROM words WHERE words MATCH 'a' LIMIT 1").fetchall()
    lost_count, oldest, newest = connection.execute(_CHECKED).get
    if lost_count:
        return f"{abs(lost_count)} of the passages are missing"
    if oldest < OLDEST_TOKENISER:
        return f"the words (version {oldest}) are from an older kbsync"
    if newest > TOKENISER:
        raise newer(path, newest, TOKENISER, "words")
    return ""


def newer(path: Path, version: int, known: int = VERSION, what: str = "layout") -> Halted:
    """Return the error for a file whose layout or words are from a newer version of kbsync."""
    return Halted(
        "newer-index",
        f"{path} was written by a newer kbsync ({what} {version}, but this one only knows {known})",
        fix="upgrade this kbsync",
    )


def set_aside(path: Path, reason: str, *, is_foreign: bool = False) -> None:
    """Set the file aside to make room for a new index, and log an error."""
    aside = files.set_aside(path, is_foreign=is_foreign)
    fields = {"event": "index.set_aside"}
    _log.error("the index was set aside as %s, and a new one is being built: %s", aside, reason, extra=fields)


def is_empty(connection: apsw.Connection) -> bool:
    """Return whether the file contains no tables yet."""
    return connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").get is None


def _create(connection: apsw.Connection) -> None:
    """Create all tables of a new index, or none of them.

    The file is set up so that SQLite can release freed space later.
    """
    import uuid  # imports `platform`, which takes 3 ms

    connection.pragma("auto_vacuum", INCREMENTAL)
    connection.execute("VACUUM")  # applies the setting: the file already has its first page
    with transaction(connection):
        connection.execute(_TABLES.replace("@tokeniser", " ".join(SQLITE_TOKENISER)))
        connection.execute("INSERT INTO meta VALUES ('uuid', ?), ('changes', 0)", (str(uuid.uuid4()),))
        connection.pragma("application_id", APPLICATION_ID)
        connection.pragma("user_version", FIRST_VERSION)
