"""Access to the tables of the state, and a view of the state for read-only commands.

The view needs no lock, thread or event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, TypeVar

import apsw

from kbsync.permissions import exists
from kbsync.state import schema
from kbsync.state.approvals import Holds, Recipes
from kbsync.state.db import identity, open_reader, state_errors, transaction
from kbsync.state.files import Entries, Folders
from kbsync.state.forgotten import Forgotten
from kbsync.state.history import History
from kbsync.state.inbox import Messages
from kbsync.state.mirrors import Meta, Mirrors, Pauses
from kbsync.state.removals import Removals
from kbsync.state.uploads import Uploads

T = TypeVar("T")


class Tx:
    """Access to all tables in one transaction."""

    def __init__(self, connection: apsw.Connection) -> None:
        self.folders = Folders(connection)
        self.entries = Entries(connection, self.folders)
        self.uploads = Uploads(connection)
        self.mirrors = Mirrors(connection)
        self.removals = Removals(connection)
        self.holds = Holds(connection)
        self.recipes = Recipes(connection)
        self.forgotten = Forgotten(connection)
        self.inbox = Messages(connection)
        self.meta = Meta(connection)
        self.pauses = Pauses(connection)
        self.history = History(connection)


class SnapshotReader(Protocol):
    """Runs a function on a consistent snapshot. Raises `StateError`.

    A command's read-only state implements this, and so does a daemon's store.
    """

    async def __call__(self, query: Callable[[Tx], T], /) -> T:
        """Return the result of `query`."""


def within(connection: apsw.Connection, work: Callable[[Tx], T]) -> T:
    """Return the result of `work`, which runs on a consistent snapshot.

    If `work` raises an exception, its writes are undone.
    """
    with transaction(connection):
        return work(Tx(connection))


def copy_into(source: apsw.Connection, destination: apsw.Connection) -> None:
    """Copy a whole database from a consistent snapshot."""
    with destination.backup("main", source, "main") as copy:
        while not copy.done:
            copy.step(1000)


class ReadOnlyState:
    """The state file for read-only commands. It takes no lock, writes nothing and creates no file.

    `is_restored`: the file is older than its last use, as after restoring a backup.
    """

    exists = True
    is_restored = False

    def __init__(self, path: Path) -> None:
        self.path = path
        with state_errors(path):
            self.is_restored = schema.is_restored(path)
            self._reader = open_reader(path, immutable=self.is_restored)
            schema.refuse_unfit(self._reader, path)
            self._identity = identity(path)
            if schema.is_older(self._reader):  # no pass has upgraded it yet: use an upgraded copy in memory
                original, self._reader = self._reader, apsw.Connection(":memory:")
                copy_into(original, self._reader)
                original.close()
                schema.migrate(self._reader)
                self._identity = None

    def rename_mirrors(self, names: Mapping[str, str]) -> None:
        """Show mirrors under new names.

        `names` maps each name in the file, which stays unchanged, to the new one.
        """
        # A temporary view hides the table of the same name from all queries of this connection.
        with state_errors(self.path):
            columns = [row[1] for row in self._reader.execute("PRAGMA main.table_info(mirror)")]
            quoted = {apsw.format_sql_value(old): apsw.format_sql_value(new) for old, new in names.items()}
            cases = " ".join(f"WHEN {old} THEN {new}" for old, new in quoted.items())
            name = f"CASE name {cases} ELSE name END AS name"
            values = ", ".join(name if column == "name" else column for column in columns)
            self._reader.pragma("query_only", False)
            self._reader.execute(f"CREATE TEMP VIEW mirror AS SELECT {values} FROM main.mirror")  # noqa: S608 - ours
            self._reader.pragma("query_only", True)

    @property
    def is_made(self) -> bool:
        """Return whether the tables exist. During the first run, they may still be missing."""
        return schema.version_of(self._reader) > 0

    @property
    def version(self) -> int:
        """Return a number that changes whenever another connection writes."""
        with state_errors(self.path):
            return int(self._reader.pragma("data_version"))

    @property
    def is_there(self) -> bool:
        """Whether the path still refers to the open file.

        False for a copy, and for a restored file once it is in use.
        """
        # A restored file is opened as one that nobody writes to.
        is_unchanged = not self.is_restored or schema.is_restored(self.path)
        return self._identity is not None and identity(self.path) == self._identity and is_unchanged

    def read(self, work: Callable[[Tx], T]) -> T:
        """Run `work` on a consistent snapshot."""
        with state_errors(self.path):
            return within(self._reader, work)

    def backup(self, destination: apsw.Connection) -> None:
        """Copy a consistent state into an open, empty database."""
        copy_into(self._reader, destination)

    def close(self) -> None:
        """Close the file."""
        self._reader.close()


class EmptyState(ReadOnlyState):
    """The state before its file exists. Every table is empty, and nothing is on disk."""

    exists = False

    def __init__(self) -> None:
        self.path, self._identity = Path("the state in memory"), None
        self._reader = apsw.Connection(":memory:")
        schema.migrate(self._reader)


def opened(path: Path) -> ReadOnlyState:
    """Return the state, or an empty one if there is none yet or its file is being created.

    Raises `StateError`.
    """
    if exists(path):
        state = ReadOnlyState(path)
        if state.is_made:
            return state
        state.close()
    return EmptyState()
