"""Writes the index file: one process, one connection, every change atomic.

Short documents are committed together, because each commit waits for the disk. A long one is stored over
several transactions, the last of which makes it visible. So short ones don't wait for it, and readers see the
old text or the new one, never a mixture.

Deleted data is overwritten (promise 11): in the tables by `secure_delete` and `kbsync.state.overwrite`, in
the full-text index by its own `secure-delete`, and in the write-ahead log by `scrub`.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import json
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw

from kbsync.dataclass import dataclass
from kbsync.errors import ForeignError, Rejected, StateError
from kbsync.index.document import Chunk, Entry
from kbsync.index.embed import NUMBER_BYTES, Encoder, VectorsLackingError
from kbsync.index.errors import storage_error, unknown_document
from kbsync.index.scans import FILE as SCANS
from kbsync.index.sqlite import vectors
from kbsync.index.sqlite.schema import FILE, INCREMENTAL, VERSION, WHOLE, open_index, set_aside
from kbsync.index.words import TOKENISER, as_stored, naming_text, words, words_and_forms
from kbsync.permissions import make_private_folder, open_private
from kbsync.state.db import (
    DamagedError,
    bind,
    delete_database,
    empty_wal,
    forget_set_aside,
    identity,
    transaction,
    unbind,
)
from kbsync.threads import searches_first

LOCK = "index.lock"

STEP = 512
"""Maximum number of chunks in a run, and of chunks added or removed in one transaction, which then takes at
most about a second."""

# A run ends after a chunk whose key says so, once it has a few: 1 in 64 gives runs of about 80 chunks. Longer
# runs make appending a line more expensive; with shorter ones, a long text needs too many rows in `run`.
_MIN_RUN_LENGTH = 16
_ENDS_RUN = 64

_UNSTORABLE = (apsw.TooBigError, apsw.ConstraintError, apsw.MismatchError, ValueError, OverflowError)
"""Errors that SQLite or its Python binding raises because of a bad value. Any other error indicates a disk
problem.
"""

_Words = tuple[int, str, str, str]
"""A chunk's row in the full-text index: its id and the words of its `name`, `headings` and `body`."""

_CACHE_KIB = 32_000
_WAL_PAGES = 4_000  # 16 MB between checkpoints: indexing many files at first syncs less often
_TOGETHER = 2_048  # chunks of short documents in one commit
_SPARE_PAGES = 1_024  # free pages (4 MB) to keep for later, and to return in one step
_MERGED_PAGES = 1_000  # pages (4 KB) of the full-text index written in one transaction

# Beyond an eighth of all chunks, marking words as deleted and rewriting the full-text index without them is
# ten times as fast as removing the words of each chunk.
_FEW = 8


@dataclass(frozen=True, slots=True)
class Run:
    """A row of `run`: chunks `first`, `first + 1`, … of one document, kept or replaced as a whole.

    `lines` and `pages` are offsets that are added to the lines and pages of its chunks. Like the texts,
    `tokeniser` is part of the full-text index's input.
    """

    first: int
    chunks: int
    lines: int
    pages: int
    tokeniser: int
    digest: bytes

    @property
    def last(self) -> int:
        """Return the run's last chunk."""
        return self.first + self.chunks - 1


class FairLock:
    """A fair reentrant lock, which goes to the thread that has waited longest.

    With `threading.RLock`, the thread that has just released the lock nearly always gets it again, so a long
    document stored in many steps would block all other threads until its end.
    """

    def __init__(self) -> None:
        self._queue, self._held = threading.Lock(), threading.Lock()
        self._owner: int | None = None
        self._depth = 0

    def __enter__(self) -> None:
        if self._owner != threading.get_ident():
            with self._queue:  # the last owner waits here behind the thread that waits for `_held`
                self._held.acquire()
            self._owner = threading.get_ident()
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if not self._depth:
            self._owner = None
            self._held.release()


class _Incoming:
    """A document that is being stored, with its runs, including those that are already in the file without an
    owner.
    """

    outcome: int | Rejected

    def __init__(self, entry: Entry, model: str) -> None:
        self.entry, self.model = entry, model
        self.vectors = dict(entry.vectors)
        self.pieces = [(_digest(chunks, model), chunks) for chunks in _cut_into_runs(entry.chunks)]
        self.ready = dict[int, Run]()  # by place

    @property
    def is_long(self) -> bool:
        return len(self.entry.chunks) > STEP


def _cut_into_runs(chunks: Sequence[Chunk]) -> Iterator[Sequence[Chunk]]:
    """Divide chunks into runs whose boundaries depend on the chunks' content, so that an edit moves only a
    few boundaries.
    """
    start = 0
    for index, chunk in enumerate(chunks, 1):
        size = index - start
        is_end = size >= _MIN_RUN_LENGTH and int(chunk.key[:8], 16) % _ENDS_RUN == 0
        if is_end or size == STEP or index == len(chunks):
            yield chunks[start:index]
            start = index


def _digest(chunks: Sequence[Chunk], model: str) -> bytes:
    """Return a digest that is the same for chunks that can share their rows.

    Lines and pages are counted from those of the first chunk.
    """
    first = chunks[0]
    parts = [model]
    for chunk in chunks:
        line = "" if chunk.line is None else chunk.line - (first.line or 0)
        page = "" if chunk.page is None else chunk.page - (first.page or 0)
        parts += (chunk.key, _dump(chunk.headings), f"{line} {page}", chunk.text)
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).digest()


class Writer:
    """Makes changes to the index in `folder`. Calls block, and may come from any thread."""

    def __init__(self, folder: Path) -> None:
        """Open or create the index.

        Raises `StateError` if another process is writing or the file can't be used, and `TargetError` if the
        folder isn't writable.
        """
        self._folder = folder
        self._guard = FairLock()
        self._is_merging = self._is_erasing = False
        self._staged = set[int]()  # runs without an owner whose document is being stored
        # Two states that write here alternately must notice each other.
        self.name, self._is_named = os.urandom(8).hex(), False
        self._lock = _lock_folder(folder)
        self._is_open, self._is_closing = True, False
        try:
            self._connection = connection = open_index(folder)
            connection.pragma("cache_size", -_CACHE_KIB)
            connection.wal_autocheckpoint(_WAL_PAGES)
            self._identity = identity(folder / FILE)
            self.former: str = connection.execute("SELECT value FROM meta WHERE key = 'writer'").get or ""
            self.revision: int = connection.execute("SELECT value FROM meta WHERE key = 'changes'").get
            self.scrub()
        except BaseException as error:
            self._release()
            if isinstance(error, OSError | apsw.Error | ForeignError):
                raise storage_error(folder, error) from error
            raise

    @property
    def is_current(self) -> bool:
        """Return whether the open file is still the one in the folder."""
        return self._is_open and identity(self._folder / FILE) == self._identity

    def put(self, entries: Sequence[Entry], encoder: Encoder) -> list[int | Rejected]:
        """Store each document.

        Return its id, or why it wasn't stored. `encoder` recomputes vectors that have disappeared.
        """
        documents = [_Incoming(entry, encoder.model) for entry in entries]
        obsolete = list[int]()
        # Short ones first, because a note just saved must not wait for a book of the same batch.
        for group in _groups(sorted(documents, key=lambda document: document.is_long)):
            try:
                self._put_together(group, encoder, obsolete)
            except (*_UNSTORABLE, Rejected):
                # Find the bad document. A savepoint for each would make good batches a third slower.
                for document in group:
                    document.ready.clear()
                    try:
                        self._put_together([document], encoder, obsolete)
                    except Rejected as error:
                        document.outcome = error
                    except _UNSTORABLE as error:
                        reason = f"the document cannot be stored in the index: {error}"
                        document.outcome = Rejected(reason, code="unstorable")
        self._clear(obsolete)
        return [document.outcome for document in documents]

    def rename(self, document: int, path: str, name: str, modified: float) -> None:
        """Change a document's path, name and time, along with the words of its name. Raises `Rejected`."""
        with self._transaction():
            row = self._connection.execute(
                "UPDATE document SET path = ?, name = ?, modified = ? WHERE id = ? RETURNING title, tags",
                (bind(path), bind(name), modified, document),
            ).get
            if row is None:
                raise unknown_document(document)
            self._index_name(document, row[0], json.loads(row[1]), path)

    def delete(self, documents: Sequence[int]) -> bool:
        """Remove these documents if they exist. Return False if `scrub` still has to remove text from the
        WAL.
        """
        with self._transaction() as version:
            self._remove(documents)
            # Include what a killed process left: after a kill, the same deletion is repeated.
            obsolete = self._find_ownerless()
            self._clear_step(obsolete, version)
        is_clear = self._clear(obsolete)
        # A damaged file that was set aside may hold the same text (promise 11).
        forget_set_aside(self._folder / FILE)
        return self.scrub() and is_clear

    def put_better(self, model: str, better: str, new_vectors: Mapping[bytes, bytes]) -> None:
        """Store vectors from the model `better` for the passages that still exist. A passage is identified
        by the key of its vector from `model`.
        """
        with self._transaction() as version:
            first = vectors.find_model(self._connection, model)
            if first is not None and new_vectors:
                dimensions = len(next(iter(new_vectors.values()))) // NUMBER_BYTES
                other = vectors.ensure_model(self._connection, better, dimensions)
                vectors.fill_better(self._connection, first, other, new_vectors, version)

    def tidy(self) -> bool:
        """Do one step of the work that an interrupted change left behind.

        Return whether there may be more.
        """
        with self._guard:
            if not self._is_open or self._is_closing or self._is_erasing:
                return False
            obsolete = self._find_ownerless()
            if not obsolete:
                return self._reword_step() or self._merge() or self._shrink() or self._convert_step()
            with self._transaction() as version:
                self._clear_step(obsolete, version)
            return True

    def erase(self) -> None:
        """Erase all deleted texts, even if other texts still have outdated words. Meanwhile, `tidy` does
        nothing.
        """
        self._is_erasing = True
        try:
            while self._erase_step():
                pass
        finally:
            self._is_erasing = False
        self.scrub()

    def _erase_step(self) -> bool:
        """Do one step of erasing deleted texts. Return whether there may be more."""
        with self._guard:
            if not self._is_open or self._is_closing:
                return False
            if obsolete := self._find_ownerless():
                with self._transaction() as version:
                    self._clear_step(obsolete, version)
            elif self._is_marked(_GONE):
                self._merge_step()
            else:
                return False
        return True

    def scrub(self) -> bool:
        """Copy the WAL into the database, and empty it.

        Return False if a reader or a full disk prevents that.
        """
        with self._guard:
            return not self._is_open or empty_wal(self._connection)

    def discard(self, reason: str) -> None:
        """Close a damaged index, and set its files aside. The next `Writer` creates a new index.

        Safe to call more than once.
        """
        with self._guard:
            if not self._is_open:
                return
            try:
                self._connection.close()
                if self.is_current:
                    set_aside(self._folder / FILE, reason)
            finally:
                self._release()

    def stop(self) -> None:
        """Stop after the current step. Data that is stored but not yet searchable is removed later."""
        self._is_closing = True

    def close(self) -> None:
        """Empty the WAL, and release the file and its lock even if the disk fails.

        Safe to call more than once.
        """
        self.stop()
        with self._guard:
            if not self._is_open:
                return
            try:
                self.scrub()
                with suppress(apsw.FullError, apsw.IOError):  # the WAL stays, and is emptied later
                    self._connection.close()
            finally:
                self._release()

    def remove_if_empty(self) -> None:
        """If the index has no documents, close it and remove its files, and the folder if it is then empty.

        Do nothing if a reader is using the index. Raises OSError.
        """
        with self._guard:
            has_documents = self._connection.execute("SELECT EXISTS (SELECT 1 FROM document)").get
            # Without its WAL, the file would be an earlier version of itself.
            if has_documents or not self.scrub():
                return
            self._connection.close()
            try:
                # The lock goes last. After a kill before that, the index is still whole, or there is none.
                for name in (SCANS, FILE):
                    delete_database(self._folder / name)
                (self._folder / LOCK).unlink(missing_ok=True)
            finally:
                self._release()
        with suppress(OSError):  # another file is in it
            self._folder.rmdir()

    def _release(self) -> None:
        self._is_open, self._is_closing = False, True
        os.close(self._lock)

    @contextmanager
    def _transaction(self) -> Iterator[int]:
        """Run the block in a transaction, which stores everything or nothing. Yield the number of this
        change.
        """
        with self._guard:
            if not self._is_open:
                raise StateError(f"{self._folder / FILE} is closed")
            # Lock for writing from the start: a lock requested later can fail in the middle.
            with transaction(self._connection, "BEGIN IMMEDIATE"):
                version = self._connection.execute(
                    "UPDATE meta SET value = value + 1 WHERE key = 'changes' RETURNING value"
                ).get
                yield version
                if not self._is_named:
                    self._connection.execute("REPLACE INTO meta VALUES ('writer', ?)", (self.name,))
            self._is_named, self.revision = True, version

    # Storing

    def _put_together(self, group: Sequence[_Incoming], encoder: Encoder, obsolete: list[int]) -> None:
        """Store short documents in one transaction, or a long document in as many transactions as needed."""
        try:
            while True:
                try:
                    with self._guard:
                        with self._transaction() as version:
                            steps = [self._put_batch(document, version, obsolete) for document in group]
                            self._clear_step(obsolete, version)
                        # Only after the commit, and before another thread may tidy up.
                        for document, (document_id, placed) in zip(group, steps, strict=True):
                            document.ready |= placed
                            self._staged.update(run.first for run in placed.values())
                            if document_id is not None:
                                document.outcome = document_id
                    if all(document_id is not None for document_id, _ in steps):
                        return
                    if self._is_closing:
                        raise StateError(f"{self._folder / FILE} is being closed")
                except VectorsLackingError as lacking:
                    lacking.compute(encoder)
        finally:
            for document in group:
                firsts = [run.first for run in document.ready.values()]
                self._staged.difference_update(firsts)
                obsolete += firsts

    def _put_batch(
        self, document: _Incoming, version: int, obsolete: list[int]
    ) -> tuple[int | None, dict[int, Run]]:
        """Store up to `STEP` missing chunks. If none is missing afterwards, make the whole document
        searchable.

        Return the document's id once it is searchable, and the runs stored for later, by position. Runs with
        the same content in the replaced version are reused.
        """
        entry = document.entry
        # Left by an earlier attempt at the same upload. The upload id alone doesn't prove that, because a new
        # state file may reuse the ids. A document of a former state with the same upload id keeps its place
        # and loses the id.
        earlier: int | None = self._connection.execute(
            "SELECT id FROM document WHERE upload_id = ? AND digest = ? AND label = ?",
            (entry.upload_id, entry.digest, bind(entry.path)),
        ).get
        replaced = [number for number in dict.fromkeys((entry.replaces, earlier)) if number is not None]
        if not document.ready:
            self._check_complete(bind(entry.path), replaced)
        old_runs = [run for number in replaced for run in self._runs_of(number)]
        # Runs with words of an earlier version would match differently, so they aren't kept; the digest
        # covers the model.
        keepable = dict[bytes, list[Run]]()
        for run in reversed(old_runs):
            if run.tokeniser == TOKENISER:
                keepable.setdefault(run.digest, []).append(run)
        runs, placed, room = list[Run](), dict[int, Run](), STEP
        for index, (digest, chunks) in enumerate(document.pieces):
            if index in document.ready:
                runs.append(document.ready[index])
            elif keepable.get(digest):
                reused, first = keepable[digest].pop(), chunks[0]
                position = self._connection.execute(
                    "SELECT line, page FROM chunk WHERE id = ?", (reused.first,)
                )
                line, page = position.get
                lines, pages = (first.line or 0) - (line or 0), (first.page or 0) - (page or 0)
                runs.append(replace(reused, lines=lines, pages=pages))
            elif len(chunks) <= room:
                placed[index] = self._insert_run(document, index, version)
                runs.append(placed[index])
                room -= len(chunks)
            else:
                return None, placed
        # This one commit removes the old version and shows the new one: there is no moment with neither
        # (promise 2).
        own_firsts = {run.first for run in runs}
        obsolete += [run.first for run in old_runs if run.first not in own_firsts]
        self._remove(replaced)
        self._connection.execute(
            "UPDATE document SET upload_id = NULL WHERE upload_id = ?", (entry.upload_id,)
        )
        path = bind(entry.path)
        self._connection.execute(
            "INSERT INTO document VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(earlier, entry.upload_id, path, path, bind(entry.name), entry.digest, entry.size),
                *(entry.recipe, entry.title, _dump(entry.tags), entry.modified, time.time(), TOKENISER),
            ),
        )
        # AUTOINCREMENT never reuses a number, so a deleted document's id never names another document
        # (promise 6).
        document_id = self._connection.last_insert_rowid()
        self._index_name(document_id, entry.title, entry.tags, entry.path)
        self._connection.executemany(
            "UPDATE run SET document = ?, place = ?, lines = ?, pages = ? WHERE first = ?",
            ((document_id, position, run.lines, run.pages, run.first) for position, run in enumerate(runs)),
        )
        return document_id, {}

    def _check_complete(self, path: str | bytes, documents: Sequence[int]) -> None:
        """Raise `DamagedError` if one of `documents`, or the document at `path`, has lost chunks.

        Without a chunk's text, its words can't be removed. They would then match the next chunk that gets
        the same number.
        """
        find = f"SELECT id FROM document WHERE id = ? AND NOT {WHOLE}"  # noqa: S608
        at_path = f"SELECT id FROM document WHERE path = ? AND NOT {WHOLE}"  # noqa: S608
        for query, value in ((at_path, path), *((find, document) for document in documents)):
            damaged_id = self._connection.execute(query, (value,)).get
            if damaged_id is not None:
                raise DamagedError(f"document {damaged_id} is missing passages")

    def _remove(self, documents: Iterable[int]) -> None:
        """Make these documents unsearchable. Their runs no longer belong to any document."""
        for document in documents:
            self._connection.execute("UPDATE run SET document = NULL WHERE document = ?", (document,))
            self._connection.execute("DELETE FROM names WHERE rowid = ?", (document,))
            self._connection.execute("DELETE FROM document WHERE id = ?", (document,))

    def _runs_of(self, document: int) -> list[Run]:
        query = f"SELECT {_COLUMNS} FROM run WHERE document = ? ORDER BY place, first"  # noqa: S608
        return [Run(*row) for row in self._connection.execute(query, (document,))]

    def _insert_run(self, document: _Incoming, position: int, version: int) -> Run:
        """Store the chunks of a run. No search finds them until the run belongs to a document.

        Raises `VectorsLackingError`.
        """
        digest, chunks = document.pieces[position]
        slots = self._slots(document, chunks, version)
        first = self._connection.execute("SELECT coalesce(max(id), 0) + 1 FROM chunk").get
        run = Run(first, len(chunks), 0, 0, TOKENISER, digest)
        self._connection.executemany(
            "INSERT INTO chunk(id, slot, text, headings, page, line) VALUES (?, ?, ?, ?, ?, ?)",
            (
                (rowid, slots[chunk.key], chunk.text, _dump(chunk.headings), chunk.page, chunk.line)
                for rowid, chunk in enumerate(chunks, first)
            ),
        )
        texts = ((id_, chunk.headings, chunk.text) for id_, chunk in enumerate(chunks, first))
        self._index_words(_words_of(texts, run.tokeniser))
        self._connection.execute(
            "INSERT INTO run VALUES (?, ?, NULL, NULL, 0, 0, '', ?, ?)",
            (run.first, run.chunks, run.tokeniser, run.digest),
        )
        return run

    def _slots(self, document: _Incoming, chunks: Sequence[Chunk], version: int) -> dict[str, int]:
        """Return the slot of each key's vector. Raises `VectorsLackingError`."""
        keys = {chunk.key: bytes.fromhex(chunk.key) for chunk in chunks}
        model = vectors.find_model(self._connection, document.model)
        slots = vectors.find_slots(self._connection, model, keys.values()) if model else {}
        absent = sorted(key for key, raw in keys.items() if raw not in slots)
        if unmade := [chunk for chunk in chunks if chunk.key in absent and chunk.key not in document.vectors]:
            raise VectorsLackingError(unmade, document.vectors)
        if absent:
            dimensions = len(document.vectors[absent[0]]) // NUMBER_BYTES
            model = vectors.ensure_model(self._connection, document.model, dimensions)
            fresh = {keys[key]: document.vectors[key] for key in absent}
            slots |= vectors.fill(self._connection, model, fresh, version)
        return {key: slots[raw] for key, raw in keys.items()}

    def _index_words(self, rows: Iterable[_Words]) -> None:
        self._connection.executemany(
            "INSERT INTO words(rowid, name, headings, body) VALUES (?, ?, ?, ?)", rows
        )

    def _unindex_words(self, rows: Iterable[_Words]) -> None:
        """Remove words from the full-text index.

        The full-text index doesn't contain the texts, so SQLite needs the same words again to find the
        entries.
        """
        self._connection.executemany(
            "INSERT INTO words(words, rowid, name, headings, body) VALUES ('delete', ?, ?, ?, ?)", rows
        )

    def _index_name(self, document: int, title: str | None, tags: Sequence[str], path: str) -> None:
        named = words(naming_text(title, tags, path))
        self._connection.execute("REPLACE INTO names(rowid, name) VALUES (?, ?)", (document, named))

    def _reword_step(self) -> bool:
        """Update the outdated words of up to `STEP` stored chunks, of one document or several. Return whether
        any were outdated."""
        stale: list[Any] = self._connection.execute(_STALE, (TOKENISER, STEP)).fetchall()
        if not stale:
            return False
        with self._transaction():
            room = STEP
            for document, title, tags, path in stale:
                room = self._reword(document, title, tags, unbind(path), room)
                if room < 0:
                    break
        return True

    def _reword(self, document: int, title: str | None, tags: str, path: str, room: int) -> int:
        """Update the words of a document: first the words of up to `room` of its chunks, then those of its
        name.

        Return the remaining room, or -1 if chunks are left.
        """
        for run in self._runs_of(document):
            if run.tokeniser == TOKENISER:
                continue
            if run.chunks > room:
                return -1
            room -= run.chunks
            rows = self._connection.execute(
                "SELECT id, headings, text FROM chunk WHERE id BETWEEN ? AND ?", (run.first, run.last)
            )
            chunks = [(rowid, json.loads(headings), text) for rowid, headings, text in rows]
            before, after = (list(_words_of(chunks, version)) for version in (run.tokeniser, TOKENISER))
            if before != after:
                self._mark()
                self._unindex_words(before)
                self._index_words(after)
            self._connection.execute("UPDATE run SET tokeniser = ? WHERE first = ?", (TOKENISER, run.first))
        self._index_name(document, title, json.loads(tags), path)
        self._connection.execute("UPDATE document SET tokeniser = ? WHERE id = ?", (TOKENISER, document))
        return room

    # Removing

    def _clear(self, obsolete: list[int]) -> bool:
        """Remove all runs in `obsolete`, step by step, and free their space.

        Return False if part of this work must wait.
        """
        while obsolete and not self._is_closing:
            with self._transaction() as version:
                self._clear_step(obsolete, version)
        while not self._is_closing and (self._merge() or self._shrink()):
            pass
        with self._guard:
            return not obsolete and self._is_open and not self._is_marked()

    def _clear_step(self, obsolete: list[int], version: int) -> None:
        """Remove up to `STEP` chunks of the ownerless runs in `obsolete`.

        Once a run has no chunks left, drop it from `obsolete`.
        """
        query = f"SELECT {_COLUMNS} FROM run WHERE first = ? AND document IS NULL"  # noqa: S608
        runs = {
            first: Run(*row)
            for first in obsolete
            if first not in self._staged
            for row in self._connection.execute(query, (first,))
        }
        total = sum(run.chunks for run in runs.values())
        # If these are a large share of all chunks, their words are only marked as deleted; `_merge` removes
        # them.
        if total > STEP and total * _FEW > self._connection.execute("SELECT sum(chunks) FROM run").get:
            self._mark()
        room = STEP
        while obsolete and room:
            run = runs.get(obsolete[-1])
            if run is None:
                obsolete.pop()
                continue
            count = min(run.chunks, room)
            self._delete_chunks(run, count, version)
            room -= count
            runs[run.first] = replace(run, chunks=run.chunks - count)
            if count == run.chunks:
                del runs[obsolete.pop()]

    def _mark(self) -> None:
        if self._connection.execute("SELECT v FROM words_config WHERE k = 'secure-delete'").get == 0:
            return  # setting it again would write all pending words to a segment of their own
        self._connection.execute("INSERT INTO words(words, rank) VALUES ('secure-delete', 0)")
        self._connection.execute("INSERT OR IGNORE INTO meta VALUES ('marked', ?)", (_OUTDATED,))
        self._is_merging = False

    def _delete_chunks(self, run: Run, count: int, version: int) -> None:
        """Remove `count` chunks at the end of a run, along with their words and the vectors that only they
        use.
        """
        rowids = (run.last + 1 - count, run.last)
        rows: list[Any] = self._connection.execute(
            "SELECT id, headings, text, slot FROM chunk WHERE id BETWEEN ? AND ?", rowids
        ).fetchall()
        if len(rows) < count:
            raise DamagedError(f"{count - len(rows)} passages are missing")
        texts = ((rowid, json.loads(headings), text) for rowid, headings, text, _ in rows)
        self._unindex_words(_words_of(texts, run.tokeniser))
        self._connection.execute("UPDATE meta SET value = ? WHERE key = 'marked'", (_GONE,))
        self._connection.execute("DELETE FROM chunk WHERE id BETWEEN ? AND ?", rowids)
        if count == run.chunks:
            self._connection.execute("DELETE FROM run WHERE first = ?", (run.first,))
        else:
            self._connection.execute("UPDATE run SET chunks = chunks - ? WHERE first = ?", (count, run.first))
        slots = sorted({slot for *_, slot in rows if slot is not None})
        vectors.release(self._connection, slots, version)

    def _convert_step(self) -> bool:
        """Store a few vectors of a large index in planes. Return whether there were any to convert."""
        segments = vectors.find_convertible(self._connection)
        if segments:
            with self._transaction():
                vectors.convert(self._connection, segments)
                self._connection.pragma("user_version", VERSION)  # older programs can't read planes
        return bool(segments)

    def _find_ownerless(self) -> list[int]:
        """Return the runs without an owner whose document isn't being stored."""
        rows = self._connection.execute("SELECT first FROM run WHERE document IS NULL")
        return [first for (first,) in rows if first not in self._staged]

    def _is_marked(self, least: int = 0) -> bool:
        """Return whether the full-text index may still contain words that are marked as deleted but not yet
        erased: outdated ones (`_OUTDATED`) or even those of deleted texts (`_GONE`).
        """
        query = "SELECT 1 FROM meta WHERE key = 'marked' AND value >= ?"
        return self._connection.execute(query, (least,)).get is not None

    def _merge(self) -> bool:
        """Do one step of erasing words that are only marked as deleted.

        Return whether there was anything to do.
        """
        with self._guard:
            if not self._is_open or not self._is_marked():
                return False
            is_stale = self._connection.execute(_STALE, (TOKENISER, 1)).get is not None
            if is_stale or (not self._is_merging and self._find_ownerless()):
                return False  # the steps that reword or remove these continue the merge, too
            self._merge_step()
            return True

    def _merge_step(self) -> None:
        with self._transaction():
            if not self._is_merging:
                self._connection.execute(
                    "INSERT INTO words(words, rank) VALUES ('secure-delete', 1), ('usermerge', 2)"
                )
                self._connection.execute(_MERGE, (-_MERGED_PAGES,))
            else:
                before = self._connection.total_changes()
                self._connection.execute(_MERGE, (_MERGED_PAGES,))
                if self._connection.total_changes() - before < 2:  # SQLite's sign that nothing is left
                    self._connection.execute("DELETE FROM meta WHERE key = 'marked'")
        self._is_merging = True

    def _shrink(self) -> bool:
        """If there is a lot of free space, release part of it. Return whether there was any to release."""
        with self._guard:
            if not self._is_open or self._connection.pragma("auto_vacuum") != INCREMENTAL:
                return False
            free = self._connection.pragma("freelist_count")
            if free <= max(_SPARE_PAGES, self._connection.pragma("page_count") // 4):
                return False
            self._connection.execute(f"PRAGMA incremental_vacuum({_SPARE_PAGES})").fetchall()
            return True


_COLUMNS = "first, chunks, lines, pages, tokeniser, digest"
_STALE = "SELECT id, title, tags, path FROM document WHERE tokeniser < ? ORDER BY tokeniser, id LIMIT ?"
_OUTDATED, _GONE = 1, 2
"""Whose words are marked as deleted: texts that are still stored, or also texts that aren't."""
_MERGE = "INSERT INTO words(words, rank) VALUES ('merge', ?)"


def _words_of(chunks: Iterable[tuple[int, Sequence[str], str]], version: int) -> Iterator[_Words]:
    """Return the words of chunks (rowid, headings, text). The other forms of words go into `name`."""
    for rowid, headings, text in searches_first.pace(chunks):
        above, forms_above = words_and_forms("\n".join(headings), version)
        body, forms = words_and_forms(text, version)
        name = " ".join(filter(None, (forms_above, forms)))
        yield rowid, as_stored(name, version), as_stored(above, version), as_stored(body, version)


_ENCODER = json.JSONEncoder(ensure_ascii=False)  # `json.dumps` would create one for each call


@functools.lru_cache(maxsize=64)  # the chunks of a section have the same headings, and each needs them twice
def _dump(texts: tuple[str, ...]) -> str:
    """Return strings as a JSON array, without escaping non-ASCII characters."""
    return _ENCODER.encode(texts)


def _groups(documents: Iterable[_Incoming]) -> Iterator[list[_Incoming]]:
    """Yield groups of short documents to commit together, and each long document on its own."""
    group, chunks = list[_Incoming](), 0
    for document in documents:
        if group and (document.is_long or chunks + len(document.entry.chunks) > _TOGETHER):
            yield group
            group, chunks = [], 0
        group.append(document)
        chunks += len(document.entry.chunks)
    if group:
        yield group


def _lock_folder(folder: Path) -> int:
    """Return a descriptor that holds the lock on `folder`. If the folder is missing, create it."""
    path = folder / LOCK
    try:
        make_private_folder(folder)
        descriptor = open_private(path, os.O_RDWR | os.O_NOFOLLOW)
    except OSError as error:
        raise storage_error(folder, error) from error
    # The kernel releases its lock with the process, however that ends, so nothing needs cleaning up.
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise StateError(f"{folder} is in use by another kbsync; stop it or wait for it") from error
    try:
        is_current = os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        is_current = False
    if not is_current:
        # Another process has removed the empty index, with the lock file that it held.
        os.close(descriptor)
        return _lock_folder(folder)
    return descriptor
