"""The reading side of the index: what is in it, without its writer and without a trace on the disk."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import apsw

from kbsync.errors import StateError, UnmadeError
from kbsync.index.sqlite import vectors
from kbsync.index.sqlite.schema import APPLICATION_ID, FILE, READABLE, identity, is_empty
from kbsync.index.store import Stored
from kbsync.state.db import open_reader, told, unbind

_COLUMNS = "id, upload_id, path, name, digest, size, recipe, created"
_NO_FILE = (-1, -1)
_TEXTS = """
SELECT text FROM run JOIN chunk ON chunk.id BETWEEN first AND first + chunks - 1
  WHERE document = ? ORDER BY place, chunk.id
"""


class Reading:
    """A reading connection to the index in `folder`, used by one caller at a time.

    A file that was replaced since is opened anew, so every look is at the index that is there now.
    """

    _identity: tuple[int, int]

    def __init__(self, folder: Path) -> None:
        """Raises `UnmadeError` where nothing was mirrored yet, `StateError` where it cannot be read."""
        self._folder = folder
        self._guard = threading.Lock()
        self._is_closed = False
        self._open()

    def close(self) -> None:
        """Let go of the file; repeatable."""
        with self._guard:
            self._is_closed = True
            self._connection.close()

    @contextmanager
    def _snapshot(self) -> Iterator[apsw.Connection]:
        """All reads inside see one commit."""
        with self._guard, told(self._folder / FILE):
            if self._is_closed:
                raise StateError(f"{self._folder / FILE} is closed")
            if identity(self._folder) != self._identity:
                self._connection.close()
                self._identity = _NO_FILE  # should opening fail: a new file may get the old one's number
                self._open()
            with _transaction(self._connection):
                yield self._connection

    def _open(self) -> None:
        """Open the file that is there now."""
        self._connection = _connect(self._folder)
        self._identity = identity(self._folder) or _NO_FILE


class Reader(Reading):
    """Looks documents up."""

    def uuid(self) -> str:
        """Which index this is."""
        with self._snapshot() as connection:
            return connection.execute("SELECT value FROM meta WHERE key = 'uuid'").get  # type: ignore[no-any-return]

    def count(self) -> int:
        """Number of documents."""
        with self._snapshot() as connection:
            return connection.execute("SELECT count(*) FROM document").get  # type: ignore[no-any-return]

    def known(self, model: str, keys: Iterable[str]) -> set[str]:
        """Those of `keys` that have a vector of `model`."""
        with self._snapshot() as connection:
            found = vectors.find_model(connection, model)
            raw = (bytes.fromhex(key) for key in keys)
            return {key.hex() for key in vectors.find_slots(connection, found, raw)} if found else set()

    def present(self, documents: Iterable[int]) -> set[int]:
        """Those of `documents` that are in the index."""
        with self._snapshot() as connection:
            find = "SELECT id FROM document WHERE id = ?"
            return {each for each in documents if connection.execute(find, (each,)).get is not None}

    def page(self, after: int, limit: int) -> Sequence[Stored]:
        """Up to `limit` documents with ids greater than `after`, in order."""
        with self._snapshot() as connection:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM document WHERE id > ? ORDER BY id LIMIT ?",  # noqa: S608
                (after, limit),
            )
            return [Stored(row[0], row[1], unbind(row[2]), unbind(row[3]), *row[4:]) for row in rows]

    def texts(self, document: int) -> Sequence[str] | None:
        """The texts of a document's chunks in order; None for an unknown one."""
        with self._snapshot() as connection:
            if connection.execute("SELECT 1 FROM document WHERE id = ?", (document,)).get is None:
                return None
            return [text for (text,) in connection.execute(_TEXTS, (document,))]


@contextmanager
def _transaction(connection: apsw.Connection) -> Iterator[None]:
    """A transaction for reading."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("COMMIT")


def _connect(folder: Path) -> apsw.Connection:
    """A reading connection to the index in `folder`."""
    path = folder / FILE
    if not path.exists():
        raise UnmadeError(f"nothing has been mirrored yet: there is no {path}")
    with told(path):
        connection = open_reader(path)
        with connection:  # all as of one moment: it may be being made just now
            marks = connection.pragma("application_id"), connection.pragma("user_version")
            nothing_yet = is_empty(connection)
    if marks[0] == APPLICATION_ID and marks[1] in READABLE:
        return connection
    connection.close()
    if nothing_yet:
        raise UnmadeError(f"nothing has been mirrored yet: {path} is empty")
    raise UnmadeError(f"{path} is not an index of this kbsync, and the next pass makes a new one")
