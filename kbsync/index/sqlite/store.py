"""The store in one SQLite file: one connection writes, one looks documents up, one searches."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import apsw

from kbsync.errors import Halted, Rejected, StateError, TargetError, Unavailable, UnmadeError, UsageError
from kbsync.index.document import Entry
from kbsync.index.embed.encoder import Encoder
from kbsync.index.errors import trouble_with
from kbsync.index.sqlite import vectors
from kbsync.index.sqlite.reader import Reader
from kbsync.index.sqlite.writer import Writer
from kbsync.index.store import Stored
from kbsync.state.db import DamagedError, unbind

_COLUMNS = "id, upload_id, path, name, digest, size, recipe, created"
_TEXTS = """
SELECT text FROM run JOIN chunk ON chunk.id BETWEEN first AND first + chunks - 1
  WHERE document = ? ORDER BY place, chunk.id
"""


class SqliteStore:
    """`Store` in `folder`."""

    def __init__(self, folder: Path, *, writer: Callable[[Path], Writer] | None = Writer) -> None:
        """Open it, or make it. Without a `writer` nothing is locked or written.

        Raises `UnmadeError` where there is nothing to read yet, `StateError` where another process writes or
        the file cannot be used, and `TargetError` where the folder cannot be written.
        """
        self._folder = folder
        self._open_writer = writer
        self._writer = None if writer is None else writer(folder)
        self._reader = Reader(folder)
        self._finder: Reader | None = None  # most of the time nobody searches in a process that writes
        self._opening = threading.Lock()
        self._damage = ""  # what was found broken: the file is put aside by the next look

    def look(self) -> tuple[str, int]:
        """The id of the file and its number of documents."""
        with self._translated():
            if self._open_writer and self._writer and (self._damage or not self._writer.is_current):
                if self._damage:
                    self._writer.discard(self._damage)
                else:
                    self._writer.close()
                self._writer = self._open_writer(self._folder)
                self._damage = ""
        with self._looked() as connection:
            known = "SELECT (SELECT value FROM meta WHERE key = 'uuid'), count(*) FROM document"
            uuid, count = connection.execute(known).get
            return uuid, count

    def put(self, entries: Sequence[Entry], encoder: Encoder) -> list[int | Rejected]:
        """Store each document."""
        with self._translated():
            outcomes = self._current().put(entries, encoder)
            # What went into a file that somebody removed meanwhile is not stored, whatever SQLite says.
            self._current()
            return outcomes

    def delete(self, documents: Sequence[int]) -> bool:
        """Remove those that are there."""
        with self._translated():
            return self._current().delete(documents)

    def rename(self, document: int, path: str, name: str, modified: float) -> None:
        """Change path, name and time."""
        with self._translated():
            self._current().rename(document, path, name, modified)

    def page(self, after: int, limit: int) -> Sequence[Stored]:
        """Documents in the order of their ids."""
        with self._looked() as connection:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM document WHERE id > ? ORDER BY id LIMIT ?",  # noqa: S608
                (after, limit),
            )
            return [Stored(row[0], row[1], unbind(row[2]), unbind(row[3]), *row[4:]) for row in rows]

    def present(self, documents: Iterable[int]) -> set[int]:
        """Those that are there."""
        with self._looked() as connection:
            find = "SELECT id FROM document WHERE id = ?"
            return {each for each in documents if connection.execute(find, (each,)).get is not None}

    def known(self, model: str, keys: Iterable[str]) -> set[str]:
        """Those keys that have a vector."""
        with self._looked() as connection:
            found = vectors.find_model(connection, model)
            raw = (bytes.fromhex(key) for key in keys)
            return {key.hex() for key in vectors.find_slots(connection, found, raw)} if found else set()

    def texts(self, document: int) -> Sequence[str] | None:
        """The texts of a document."""
        with self._looked() as connection:
            if connection.execute("SELECT 1 FROM document WHERE id = ?", (document,)).get is None:
                return None
            return [text for (text,) in connection.execute(_TEXTS, (document,))]

    @contextmanager
    def snapshot(self) -> Iterator[Reader]:
        """The store as of one commit."""
        with self._translated():
            with self._opening:
                if self._finder is None:
                    self._finder = Reader(self._folder)
            with self._finder.snapshot():
                yield self._finder

    def tidy(self) -> bool:
        """One step of what is left to be done."""
        with self._translated():
            return self._writer is not None and self._writer.tidy()

    def purge(self) -> bool:
        """Take out all that is left, and empty the WAL.

        Taking words out of a large index takes long: the texts are taken out of the WAL before that as well.
        """
        if self._writer is None:
            return True
        with self._translated():
            is_clear = self._writer.scrub()
            if not self._writer.tidy():
                return is_clear
            while self._writer.tidy():
                pass
            return self._writer.scrub()

    def stop(self) -> None:
        """Begin no further step."""
        if self._writer is not None:
            self._writer.stop()

    def close(self) -> None:
        """Readers go first: they would be in the way of emptying the WAL."""
        for each in (self._finder, self._reader, self._writer):
            if each is not None:
                each.close()

    def _current(self) -> Writer:
        """What writes, if it may and its file is still the one in the folder."""
        if self._writer is None:
            raise Halted("read-only", f"{self._folder} was opened for reading only")
        if self._damage or not self._writer.is_current:
            raise self._gone()
        return self._writer

    def _gone(self) -> Unavailable:
        return Unavailable(f"the index in {self._folder} is gone; it is made anew", code="index-gone")

    @contextmanager
    def _looked(self) -> Iterator[apsw.Connection]:
        """For a look at what is there; all reads inside see one commit."""
        with self._translated(), self._reader.snapshot() as connection:
            yield connection

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Trouble with the file as a `TargetError`."""
        try:
            yield
        except UnmadeError as error:
            if self._writer is None:
                raise
            raise self._gone() from error
        except (TargetError, UsageError):
            raise
        except (apsw.CorruptError, apsw.NotADBError, DamagedError) as error:
            self._damage = error.what if isinstance(error, DamagedError) else str(error)
            raise Unavailable(
                f"the index in {self._folder} is damaged ({self._damage}); it is put aside and made anew",
                code="index-damaged",
            ) from error
        except (apsw.Error, OSError, StateError) as error:
            raise trouble_with(self._folder, error) from error
