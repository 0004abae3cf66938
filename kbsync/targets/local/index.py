"""The index: one folder, one writer. Every document goes in, changes and leaves in one transaction.

Several documents are committed together, with one sync of the disk; one that cannot be stored leaves the
others as they are. What a deletion takes out is overwritten:
in the tables (`secure_delete`), in the full-text index (`secure-delete`) and in the WAL (`scrub`).
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import apsw

from kbsync.errors import Rejected, StateError
from kbsync.secrecy import make_private_folder
from kbsync.state.connection import BUSY_MS, bind
from kbsync.targets.local import slots
from kbsync.targets.local.pieces import Chunk
from kbsync.targets.local.rows import Entry
from kbsync.targets.local.schema import FILE, forget_set_aside, identity, open_index, set_aside
from kbsync.targets.local.tokens import TOKENISER, words
from kbsync.targets.local.trouble import trouble_with

LOCK = "index.lock"

_UNSTORABLE = (apsw.TooBigError, apsw.ConstraintError, apsw.MismatchError, ValueError, OverflowError)
"""What SQLite and its binding raise over a value; anything else is trouble with the disk."""

_SCRUB_MS = 200
_CACHE_KIB = 32_000
_WAL_PAGES = 4_000  # 16 MB between checkpoints: a first index of many files syncs less often


class Vectors(Protocol):
    """Makes vectors of one model. `kbsync.targets.local.encoder` has the one that is used."""

    @property
    def model(self) -> str:
        """Names the model."""

    @property
    def dimensions(self) -> int:
        """Length of a vector."""

    def of(self, chunks: Sequence[Chunk]) -> Mapping[str, bytes]:
        """The float16 bytes of each chunk's vector, by key."""


class Index:
    """The writing side of the index in `folder`. All calls block and may come from any thread."""

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.time) -> None:
        """Open or make it. Raises `StateError` where another process writes or the file cannot be used, and
        `TargetError` where the folder cannot be written.
        """
        self._folder, self._clock = folder, clock
        self._guard = threading.RLock()
        self._lock = _locked(folder)
        try:
            self._connection = open_index(folder)
        except BaseException as error:
            os.close(self._lock)
            if isinstance(error, OSError):
                raise trouble_with(folder, error) from error
            raise
        self._connection.pragma("cache_size", -_CACHE_KIB)
        self._connection.pragma("temp_store", 2)  # a temporary file would hold text outside of the folder
        self._connection.wal_autocheckpoint(_WAL_PAGES)
        self._identity = identity(folder)
        self._is_open = True
        self.uuid: str = self._connection.execute("SELECT value FROM meta WHERE key = 'uuid'").get
        self.scrub()

    @property
    def is_current(self) -> bool:
        """The folder still holds the file that is open."""
        return self._is_open and identity(self._folder) == self._identity

    def store(self, entries: Sequence[Entry], vectors: Vectors) -> list[int | Rejected]:
        """Store each document; its id, or why not. `vectors` makes what went away meanwhile."""
        try:
            with self._transaction() as version:
                return [self._store(entry, vectors, version) for entry in entries]
        except _UNSTORABLE:  # which one? A savepoint for each would cost a third more time in good batches
            with self._transaction() as version:
                return [self._try_store(entry, vectors, version) for entry in entries]

    def rename(self, document: int, path: str, name: str, modified: float) -> None:
        """Change path, name and time; the words of the file's stem where they differ."""
        with self._transaction():
            row = self._row(document)
            if row is None:
                raise Rejected(f"the index holds no document {document}", code="unknown-document")
            self._connection.execute(
                "UPDATE document SET path = ?, name = ?, modified = ? WHERE id = ?",
                (bind(path), bind(name), modified, document),
            )
            named = _named(row.title, row.tags, path)
            if named != row.words:
                self._reword(document, row, named)

    def delete(self, documents: Sequence[int]) -> bool:
        """Remove those that are there; False where `scrub` has yet to take the text out of the WAL."""
        with self._transaction() as version:
            for document in documents:
                slots.release(self._connection, self._remove(document), version)
        forget_set_aside(self._folder / FILE)
        return self.scrub()

    def scrub(self) -> bool:
        """Copy the WAL into the database and empty it; False where a reader or a full disk is in the way."""
        with self._guard:
            if not self._is_open:
                return True
            self._connection.set_busy_timeout(_SCRUB_MS)
            try:
                self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            except (apsw.BusyError, apsw.LockedError, apsw.FullError, apsw.IOError):
                return False
            finally:
                self._connection.set_busy_timeout(BUSY_MS)
            return True

    def discard(self, reason: str) -> None:
        """Close a damaged index and put its files aside; another `Index` starts anew."""
        with self._guard:
            self._connection.close()
            if self.is_current:
                set_aside(self._folder / FILE, reason)
            self._let_go()

    def close(self) -> None:
        """Empty the WAL and let go of file and lock, whatever the disk says; repeatable."""
        with self._guard:
            if self._is_open:
                self.scrub()
                with suppress(apsw.FullError, apsw.IOError):  # the WAL stays, and is emptied another time
                    self._connection.close()
                self._let_go()

    def _let_go(self) -> None:
        """Give up the lock."""
        self._is_open = False
        os.close(self._lock)

    @contextmanager
    def _transaction(self) -> Iterator[int]:
        """All or nothing; gives the number of this change."""
        with self._guard:
            if not self._is_open:
                raise StateError(f"{self._folder / FILE} is closed")
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection.execute(
                    "UPDATE meta SET value = value + 1 WHERE key = 'changes' RETURNING value"
                ).get
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def _try_store(self, entry: Entry, vectors: Vectors, version: int) -> int | Rejected:
        """Store one document, or leave everything as it was before it."""
        self._connection.execute("SAVEPOINT one")
        try:
            document = self._store(entry, vectors, version)
        except _UNSTORABLE as error:
            self._connection.execute("ROLLBACK TO one; RELEASE one")
            return Rejected(f"it cannot be stored in the index: {error}", code="unstorable")
        self._connection.execute("RELEASE one")
        return document

    def _store(self, entry: Entry, vectors: Vectors, version: int) -> int:
        """Take out what the document replaces and put it in; vectors of both stay where they are."""
        document = self._own_earlier(entry)
        released = [
            slot for old in {entry.replaces, document} if old is not None for slot in self._remove(old)
        ]
        taken = self._slots(entry, vectors, version)
        first = self._connection.execute("SELECT coalesce(max(id), 0) + 1 FROM chunk").get
        document = self._insert_document(entry, document, first)
        self._connection.executemany(
            "INSERT INTO chunk VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                (first + at, document, taken[each.key], each.text, _dump(each.headings), each.page, each.line)
                for at, each in enumerate(entry.chunks)
            ),
        )
        named = words(_named(entry.title, entry.tags, entry.path))
        self._connection.executemany(
            "INSERT INTO words(rowid, name, headings, body) VALUES (?, ?, ?, ?)",
            (
                (first + at, named, words("\n".join(each.headings)), words(each.text))
                for at, each in enumerate(entry.chunks)
            ),
        )
        slots.release(self._connection, released, version)
        return document

    def _own_earlier(self, entry: Entry) -> int | None:
        """The document an earlier try of the same upload left.

        A number alone does not prove that: with a new state file the numbers start again. A document of a
        former state with the same number keeps its place and loses the number.
        """
        row = self._connection.execute(
            "SELECT id, digest, label FROM document WHERE upload_id = ?", (entry.upload_id,)
        ).get
        if row is None:
            return None
        if row[1:] == (entry.digest, bind(entry.path)):
            return row[0]  # type: ignore[no-any-return]
        self._connection.execute("UPDATE document SET upload_id = NULL WHERE id = ?", (row[0],))
        return None

    def _insert_document(self, entry: Entry, document: int | None, first: int) -> int:
        """The row of a document; its id."""
        path = bind(entry.path)
        self._connection.execute(
            "INSERT INTO document VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(document, entry.upload_id, path, path, bind(entry.name), entry.digest, entry.size),
                *(entry.recipe, entry.title, _dump(entry.tags), entry.modified, self._clock()),
                *(_named(entry.title, entry.tags, entry.path), TOKENISER, first, len(entry.chunks)),
            ),
        )
        return self._connection.last_insert_rowid()

    def _slots(self, entry: Entry, vectors: Vectors, version: int) -> dict[str, int]:
        """A slot for the key of every chunk."""
        model = slots.ensure_model(self._connection, vectors.model, vectors.dimensions)
        keys = {each.key: bytes.fromhex(each.key) for each in entry.chunks}
        found = slots.find_slots(self._connection, model, keys.values())
        absent = {key for key, raw in keys.items() if raw not in found}
        made = {**entry.vectors}
        if lost := [each for each in entry.chunks if each.key in absent and each.key not in made]:
            made.update(vectors.of(lost))
        found |= slots.fill(
            self._connection, model, {keys[key]: made[key] for key in sorted(absent)}, version
        )
        return {key: found[raw] for key, raw in keys.items()}

    def _row(self, document: int) -> _Row | None:
        """What is needed to take a document's words out again."""
        row = self._connection.execute(
            "SELECT title, tags, words, tokeniser, first, chunks FROM document WHERE id = ?", (document,)
        ).get
        return _Row(*row) if row else None

    def _reword(self, document: int, row: _Row, named: str) -> None:
        """Index a document's chunks under another name."""
        chunks = list(self._indexed(row))
        self._unindex(chunks)
        name = words(named, row.tokeniser)
        self._connection.executemany(
            "INSERT INTO words(rowid, name, headings, body) VALUES (?, ?, ?, ?)",
            ((rowid, name, headings, body) for rowid, _, headings, body in chunks),
        )
        self._connection.execute("UPDATE document SET words = ? WHERE id = ?", (named, document))

    def _remove(self, document: int) -> list[int]:
        """Take a document out, if it is there; the slots it had, which are still to be released."""
        row = self._row(document)
        if row is None:
            return []
        own = (row.first, row.first + row.chunks - 1)
        used = [
            slot
            for (slot,) in self._connection.execute(
                "SELECT DISTINCT slot FROM chunk WHERE id BETWEEN ? AND ? AND slot NOTNULL", own
            )
        ]
        self._unindex(self._indexed(row))
        self._connection.execute("DELETE FROM chunk WHERE id BETWEEN ? AND ?", own)
        self._connection.execute("DELETE FROM document WHERE id = ?", (document,))
        return used

    def _indexed(self, row: _Row) -> Iterator[tuple[int, str, str, str]]:
        """The words of a document's chunks exactly as they went in: (rowid, name, headings, body)."""
        name = words(row.words, row.tokeniser)
        own = (row.first, row.first + row.chunks - 1)
        for rowid, headings, text in self._connection.execute(
            "SELECT id, headings, text FROM chunk WHERE id BETWEEN ? AND ?", own
        ):
            joined = "\n".join(json.loads(headings))
            yield rowid, name, words(joined, row.tokeniser), words(text, row.tokeniser)

    def _unindex(self, chunks: Iterable[tuple[int, str, str, str]]) -> None:
        """Take words out of the full-text index."""
        self._connection.executemany(
            "INSERT INTO words(words, rowid, name, headings, body) VALUES ('delete', ?, ?, ?, ?)", chunks
        )


@dataclass(frozen=True, slots=True)
class _Row:
    """Columns of `document`."""

    title: str | None
    tags: str
    words: str
    tokeniser: int
    first: int
    chunks: int


def _named(title: str | None, tags: Sequence[str] | str, path: str) -> str:
    """What a document is found by besides its text: title, tags and the stem of its file name."""
    listed = json.loads(tags) if isinstance(tags, str) else tags
    stem = path.rpartition("/")[2].rpartition(".")[0] or path.rpartition("/")[2]
    return "\n".join([title or "", *listed, stem.encode("utf-8", "replace").decode()]).strip()


def _dump(texts: Sequence[str]) -> str:
    """A list of texts as JSON, readable as it stands."""
    return json.dumps(texts, ensure_ascii=False)


def _locked(folder: Path) -> int:
    """A descriptor that holds the lock of `folder`, which is made where it is missing."""
    path = folder / LOCK
    try:
        make_private_folder(folder)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise trouble_with(folder, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise StateError(f"{folder} is in use by another kbsync; end it or wait for it") from error
    return descriptor
