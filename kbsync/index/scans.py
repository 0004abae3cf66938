"""Recognizes the scanned pages of documents, one page at a time, while the target has nothing else to do. A
document with unread pages is indexed at once with the text that it has. Until its pages are read, its status
is indexing. The text of each page is stored under the digest of its document until the last document with
these bytes is deleted. So no page has to be recognized again because a process was killed or the chunker
changed.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw

from kbsync.contract.target import Body, DocState, DocStatus
from kbsync.core.model import NO_TEXT
from kbsync.errors import KbsyncError, Rejected, StateError, TargetError
from kbsync.index.document import Entry, Parsed
from kbsync.index.errors import storage_error
from kbsync.permissions import exists
from kbsync.source.read import Spooled, copy_stable
from kbsync.source.stat import stamp_of
from kbsync.state.db import DamagedError, delete_database, empty_wal, open_reader, open_writer, transaction
from kbsync.state.overwrite import OverwritingConnection
from kbsync.state.schema import refuse_damaged

Recognize = Callable[[str, Body, int], str]
"""Returns the text of a page, given the document's path and bytes and the page number. Raises
`TargetError`."""

FILE = "scans.db"
_PACKAGES = ("rapidocr", "onnxruntime")
_PAUSE = 0.2  # seconds between checks whether the target is idle
_PAUSE_AFTER_ERROR = 30.0

_log = logging.getLogger(__name__)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS base (uuid TEXT);
CREATE TABLE IF NOT EXISTS scan (
    upload INTEGER PRIMARY KEY,
    document INTEGER,          -- its id in the index, NULL while it is being stored
    digest TEXT NOT NULL,
    is_read INTEGER NOT NULL,  -- all of its text is in the index
    entry TEXT NOT NULL        -- JSON, for those still to be read
);
CREATE INDEX IF NOT EXISTS scan_document ON scan (document);
CREATE INDEX IF NOT EXISTS scan_digest ON scan (digest);
CREATE TABLE IF NOT EXISTS page (
    digest TEXT, number INTEGER, text TEXT NOT NULL, PRIMARY KEY (digest, number)
) WITHOUT ROWID;
"""


def is_installed() -> bool:
    """Return whether the `ocr` extra is installed."""
    return all(importlib.util.find_spec(package) is not None for package in _PACKAGES)


def with_pages(parsed: Parsed, texts: Mapping[int, str]) -> Parsed:
    """Return the document with the texts of its scanned pages inserted where they belong.

    `texts`: the texts, keyed by page number.
    """
    pages = max((len(parsed.page_starts), *texts), default=0)
    ends = [*parsed.page_starts, *[len(parsed.text)] * (pages + 1 - len(parsed.page_starts))]
    pieces, starts, offset = list[str](), list[int](), 0
    for number in range(1, pages + 1):
        piece = texts.get(number) or parsed.text[ends[number - 1] : ends[number]].strip("\n")
        if piece and pieces:
            pieces.append("\n\n")
            offset += 2
        starts.append(offset)
        if piece:
            pieces.append(piece)
            offset += len(piece)
    return replace(parsed, text="".join(pieces), page_starts=tuple(starts), scanned_pages=())


class _Unread:
    """A document in the index whose scanned pages haven't all been read yet."""

    def __init__(self, document: int, fields: Mapping[str, Any]) -> None:
        self.document = document
        self.entry = Entry(**{**fields, "scanned_pages": tuple(fields["scanned_pages"])})


_FIELDS = ("upload_id", "path", "name", "digest", "size", "recipe", "modified", "replaces", "scanned_pages")
_PARTLY, _PENDING, _READ = 0, 1, 2
"""States of a document's scanned pages: waiting for the `ocr` extra, waiting for their turn, or read and
in the index.
"""


class Scans:
    """The documents of an index that have scanned pages, and the text of those pages. Thread-safe.

    `recognize` is None without the extra. `finish(entry, body, texts)` stores a document with the texts of
    its pages in place of the one without them, and returns its id or error. Methods may raise `TargetError`
    if the file can't be used.
    """

    def __init__(
        self,
        folder: Path,
        root: Path,
        spool_dir: Path,
        recognize: Recognize | None,
        finish: Callable[[Entry, Body, Mapping[int, str]], int | TargetError],
        is_idle: Callable[[], bool],
    ) -> None:
        """Set up without opening any file.

        `folder`: the folder of the index. `root`: the folder of the mirror.
        """
        self._file, self._root, self._spool_dir = folder / FILE, root, spool_dir
        self._recognize, self._finish, self._is_idle = recognize, finish, is_idle
        self._connection: apsw.Connection | None = None
        self._base = ""  # the id of its index, if the file may be changed
        self._using = threading.RLock()
        self.changing = threading.RLock()
        """A lock held while a document is finished or deleted, so that a deleted document doesn't
        reappear."""
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()
        self._failed = dict[int, DocStatus]()

    @property
    def can_recognize(self) -> bool:
        """Whether scanned pages can be recognized."""
        return self._recognize is not None

    @property
    def is_reading(self) -> bool:
        """Whether pages are waiting to be read."""
        return self._thread is not None

    def open(
        self,
        base: str,
        find_existing: Callable[[Iterable[int]], set[int]],
        find_uploads: Callable[[], Mapping[int, int]],
    ) -> None:
        """Open the file for the index with the id `base`, and continue what an earlier process started.

        If the file is damaged, replace it, because its texts can be recognized again. `find_existing`
        returns the documents that are in the index. `find_uploads` returns a dict from upload ids to
        documents, for uploads that may have scanned pages.
        """
        with self._use():
            if base == self._base:
                return
            if self._connection is None:
                try:
                    self._connection = self._open_writer()
                except (apsw.CorruptError, apsw.NotADBError, DamagedError) as error:
                    delete_database(self._file)
                    why = error.what if isinstance(error, DamagedError) else error
                    _log.warning("%s was damaged and is created again: %s", self._file, why)
                    self._connection = self._open_writer()
            with transaction(self._connection, "BEGIN IMMEDIATE"):
                if self._execute("SELECT uuid FROM base") != [(base,)]:
                    self._connection.execute("DELETE FROM base; DELETE FROM scan; DELETE FROM page")
                    self._connection.execute("INSERT INTO base VALUES (?)", (base,))
                    # Nothing is known about documents that are already in the index, so they are sent again.
                    self._connection.executemany(
                        "INSERT INTO scan VALUES (?, ?, '', ?, '{}')",
                        ((upload, document, _PARTLY) for upload, document in find_uploads().items()),
                    )
                announced = [u for (u,) in self._execute("SELECT upload FROM scan WHERE document IS NULL")]
                documents = find_uploads() if announced else {}  # an earlier process was killed
                for upload in announced:
                    values = documents.get(upload), upload
                    self._execute("UPDATE scan SET document = ? WHERE upload = ?", values)
                known = [
                    document for (document,) in self._execute("SELECT document FROM scan WHERE document")
                ]
                existing = find_existing(known)
                missing = [(document,) for document in known if document not in existing]
                self._connection.executemany("UPDATE scan SET document = NULL WHERE document = ?", missing)
                self._execute("DELETE FROM scan WHERE document IS NULL")
                self._drop_pages()
            self._base = base
            self.scrub()
        self._begin()

    def _open_writer(self) -> OverwritingConnection:
        connection = open_writer(self._file)
        with transaction(connection, "BEGIN IMMEDIATE"):
            connection.execute(_SCHEMA)
        refuse_damaged(connection, self._file)
        return connection

    def open_to_read(self) -> None:
        """Open the file, if it exists, without changing anything.

        Ignore a damaged file, and one without tables: the process that created it may have been killed.
        """
        with self._use(), suppress(apsw.CorruptError, apsw.NotADBError, DamagedError):
            if self._connection is None and exists(self._file):
                connection = open_reader(self._file)
                if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'page'").get:
                    self._connection = connection

    def texts(self, digest: str) -> dict[int, str]:
        """Return the texts of the pages that have been read, by page number."""
        return dict(self._execute("SELECT number, text FROM page WHERE digest = ?", (digest,)))

    def announce(self, entry: Entry, *, is_read: bool) -> None:
        """Record a document with scanned pages that is about to be stored.

        `is_read`: whether it includes the text of those pages.
        """
        state = _READ if is_read else _PENDING if self.can_recognize else _PARTLY
        fields = {name: getattr(entry, name) for name in _FIELDS} if state == _PENDING else {}
        self._execute(
            "REPLACE INTO scan VALUES (?, NULL, ?, ?, ?)",
            (entry.upload_id, entry.digest, state, json.dumps(fields)),
        )

    def stored(self, upload_id: int, document: int | TargetError) -> None:
        """Record the id of a document that has been stored, or record that it wasn't stored."""
        if isinstance(document, int):
            self._execute("UPDATE scan SET document = ? WHERE upload = ?", (document, upload_id))
            self._begin()
        else:
            self._execute("DELETE FROM scan WHERE upload = ? AND document IS NULL", (upload_id,))

    def forget(self, documents: Iterable[int]) -> None:
        """Erase the stored texts of documents that are no longer in the index."""
        if self._connection is None:
            return
        with self._use(), transaction(self._connection, "BEGIN IMMEDIATE"):
            for document in documents:
                self._failed.pop(document, None)
                self._execute("DELETE FROM scan WHERE document = ?", (document,))
            changed = self._connection.changes() > 0
            self._drop_pages()
        if changed:
            self.scrub()

    def statuses(self) -> Mapping[int, DocStatus]:
        """Return the states, by id, of the documents whose pages are waiting to be read."""
        waiting = DocStatus(DocState.INDEXING)
        if not self.can_recognize:
            waiting = DocStatus(
                DocState.FAILED, "the scanned pages can't be read unless kbsync[ocr] is installed"
            )
        rows = self._execute("SELECT document FROM scan WHERE is_read = ? AND document", (_PENDING,))
        return {document: self._failed.get(document, waiting) for (document,) in rows}

    def is_pending(self, upload_id: int) -> bool:
        """Return whether a document's pages are waiting to be read."""
        return self._execute("SELECT is_read FROM scan WHERE upload = ?", (upload_id,)) == [(_PENDING,)]

    def partly_read(self) -> list[int]:
        """Return the documents whose pages can be read now that the `ocr` extra is installed."""
        rows = self._execute("SELECT document FROM scan WHERE is_read = ?", (_PARTLY,))
        return [document for (document,) in rows] if self.can_recognize else []

    def scrub(self) -> bool:
        """Erase deleted texts from the file. Return False if that must be retried."""
        with self._using:
            connection = self._connection
            if not isinstance(connection, OverwritingConnection) or not self._base:
                return True
            return empty_wal(connection)

    def stop(self) -> None:
        """Don't begin another page."""
        self._stopped.set()

    def close(self) -> None:
        """Close the file after waiting for the page that is being read.

        The wait is short, because the parser is already closed.
        """
        self.stop()
        thread = self._thread
        if thread is not None:
            thread.join()
        with self._using:
            if self._connection is not None:
                self.scrub()
                self._connection.close()
                self._connection = None

    def _execute(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """Return the rows of the statement, or none if no file is open."""
        with self._use():
            return [] if self._connection is None else list(self._connection.execute(statement, values))

    @contextmanager
    def _use(self) -> Iterator[None]:
        """Lock the connection inside the block, and turn errors from the file into a `TargetError`."""
        with self._using:
            try:
                yield
            except (apsw.Error, OSError, StateError) as error:
                raise storage_error(self._file.parent, error) from error

    def _drop_pages(self) -> None:
        self._execute("DELETE FROM page WHERE digest NOT IN (SELECT digest FROM scan)")

    def _begin(self) -> None:
        with self._using:
            if self._thread is None and self._recognize and not self._stopped.is_set() and self._next():
                self._thread = threading.Thread(target=self._run, name="kbsync-scans", daemon=True)
                self._thread.start()

    def _next(self) -> _Unread | None:
        rows = self._execute(
            "SELECT document, entry FROM scan WHERE is_read = ? AND document ORDER BY rowid", (_PENDING,)
        )
        row = next((row for row in rows if row[0] not in self._failed), None)
        return None if row is None else _Unread(row[0], json.loads(row[1]))

    def _run(self) -> None:
        while True:
            unread = None
            try:
                with self._using:
                    unread = None if self._stopped.is_set() else self._next()
                    if unread is None:
                        self._thread = None
                        return
                self._read(unread)
            except KbsyncError as error:  # the machine is to blame, not the document
                path = "documents" if unread is None else unread.entry.path
                _log.warning("scanned pages of %s could not be read: %s", path, error)
                self._stopped.wait(_PAUSE_AFTER_ERROR)
            except Exception as error:
                if unread is None:
                    raise
                _log.exception("scanned pages could not be read: %s", unread.entry.path)
                self._fail(unread, f"the scanned pages could not be read ({type(error).__name__}: {error})")

    def _read(self, unread: _Unread) -> None:
        """Read a document's remaining pages, and add their text to the index."""
        assert self._recognize is not None
        entry = unread.entry
        body = copy_stable(self._root, entry.path, self._spool_dir, entry.digest)
        if not isinstance(body, Spooled):
            return self._fail(unread, "the file changed before its scanned pages were read")
        with body:
            texts = self.texts(entry.digest)
            for page in entry.scanned_pages:
                if page in texts:
                    continue
                while not self._is_idle() and not self._stopped.wait(_PAUSE):
                    pass
                if self._stopped.is_set() or not self._is_pending(unread):
                    return None
                if not self._is_unchanged(entry.path, body):
                    return self._fail(unread, "the file changed while its scanned pages were being read")
                try:
                    texts[page] = self._recognize(entry.path, body, page)
                except Rejected as error:
                    texts[page] = ""
                    if error.code != NO_TEXT:
                        _log.warning("page %d of %s: %s", page, entry.path, error.reason)
                with self.changing:
                    if self._is_pending(unread):
                        self._execute("REPLACE INTO page VALUES (?, ?, ?)", (entry.digest, page, texts[page]))
            with self.changing:
                if self._stopped.is_set() or not self._is_pending(unread):
                    return None
                outcome = self._finish(entry, body, texts)
                if isinstance(outcome, Rejected):
                    return self._fail(unread, outcome.reason, outcome.code, is_final=True)
                if isinstance(outcome, TargetError):
                    raise outcome
                self.forget([] if entry.replaces is None else [entry.replaces])
                self._execute(
                    "UPDATE scan SET is_read = ?, entry = '{}' WHERE upload = ?", (_READ, entry.upload_id)
                )
        return None

    def _is_pending(self, unread: _Unread) -> bool:
        return bool(
            self._execute(
                "SELECT 1 FROM scan WHERE document = ? AND upload = ?",
                (unread.document, unread.entry.upload_id),
            )
        )

    def _is_unchanged(self, path: str, body: Spooled) -> bool:
        with suppress(OSError):
            stamp = stamp_of((self._root / path).stat(follow_symlinks=False))
            return (stamp.size, stamp.mtime_ns) == (body.size, body.stamp.mtime_ns)
        return False

    def _fail(self, unread: _Unread, reason: str, code: str = "", *, is_final: bool = False) -> None:
        self._failed[unread.document] = DocStatus(DocState.FAILED, reason, code, is_final=is_final)
