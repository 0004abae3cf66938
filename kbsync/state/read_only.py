"""The tables of the state, and the state as commands see it that only look: no lock, no thread, no loop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

import apsw

from kbsync.state import schema
from kbsync.state.approvals import Holds, Recipes
from kbsync.state.db import identity, open_reader, state_errors, transaction
from kbsync.state.files import Entries, Folders
from kbsync.state.forgotten import Forgotten
from kbsync.state.inbox import Messages, Meta
from kbsync.state.mirrors import Mirrors
from kbsync.state.uploads import Uploads

T = TypeVar("T")


class Tx:
    """The tables, within one transaction."""

    def __init__(self, connection: apsw.Connection) -> None:
        self.folders = Folders(connection)
        self.entries = Entries(connection, self.folders)
        self.uploads = Uploads(connection)
        self.mirrors = Mirrors(connection)
        self.holds = Holds(connection)
        self.recipes = Recipes(connection)
        self.forgotten = Forgotten(connection)
        self.inbox = Messages(connection)
        self.meta = Meta(connection)


class ReadsState(Protocol):
    """Runs a function on one consistent state: a command's read-only state, or the store of a daemon.

    Raises `StateError`.
    """

    async def __call__(self, look: Callable[[Tx], T], /) -> T:
        """What `look` returns."""


def within(connection: apsw.Connection, work: Callable[[Tx], T]) -> T:
    """What `work` gives; it sees one consistent state. Where it raises, nothing is kept of what it wrote."""
    with transaction(connection):
        return work(Tx(connection))


def copy_into(source: apsw.Connection, destination: apsw.Connection) -> None:
    """Copy a whole database, consistent as of one moment."""
    with destination.backup("main", source, "main") as copy:
        while not copy.done:
            copy.step(1000)


class ReadOnlyState:
    """The state file for commands that only look: takes no lock, writes nothing, makes no file."""

    exists = True

    def __init__(self, path: Path) -> None:
        self.path = path
        with state_errors(path):
            schema.refuse_no_file(path)
            opened = open_reader(path)
            schema.refuse_unfit(opened, path)
            self._reader = _as_of_now(opened)
        self._identity = identity(path) if self._reader is opened else None

    @property
    def is_made(self) -> bool:
        """It has its tables; for a moment of its first run it has not."""
        return schema.version_of(self._reader) > 0

    @property
    def version(self) -> int:
        """Another number whenever somebody has written since it was last asked for."""
        with state_errors(self.path):
            return int(self._reader.pragma("data_version"))

    @property
    def is_there(self) -> bool:
        """The file under that name is still the one that is open; never so of a copy."""
        return self._identity is not None and identity(self.path) == self._identity

    def read(self, work: Callable[[Tx], T]) -> T:
        """Run `work` on one consistent state."""
        with state_errors(self.path):
            return within(self._reader, work)

    def backup(self, destination: apsw.Connection) -> None:
        """Copy a consistent state into an open, empty database."""
        copy_into(self._reader, destination)

    def close(self) -> None:
        """Let go of the file."""
        self._reader.close()


def _as_of_now(reader: apsw.Connection) -> apsw.Connection:
    """The state itself, or a copy in memory with today's tables: an upgrade has not begun its first pass."""
    if not schema.is_older(reader):
        return reader
    copy = apsw.Connection(":memory:")
    copy_into(reader, copy)
    reader.close()
    schema.migrate(copy)
    return copy


class EmptyState(ReadOnlyState):
    """The state before there is one: every table is empty, and nothing lies on disk."""

    exists = False

    def __init__(self) -> None:
        self.path, self._identity = Path("the state in memory"), None
        self._reader = apsw.Connection(":memory:")
        schema.migrate(self._reader)


def opened(path: Path) -> ReadOnlyState:
    """The state, or an empty one where there is none yet, or one that is being made at this moment.

    Raises `StateError`.
    """
    if path.exists():
        found = ReadOnlyState(path)
        if found.is_made:
            return found
        found.close()
    return EmptyState()
