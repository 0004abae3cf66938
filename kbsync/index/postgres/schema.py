"""The tables of the index (ADR 27). The first process that connects creates them."""

from __future__ import annotations

from pathlib import Path

from kbsync.errors import Halted
from kbsync.index.postgres.connections import Connection
from kbsync.index.postgres.errors import Database

VERSION = 3
TABLES = Path(__file__).with_name("tables.sql")
_LOCK = (0x6B62_7379, 1)  # "kbsy"; held while the schema is created


def make(connection: Connection, database: Database) -> None:
    """Create the tables if they are missing. Call inside a transaction. Raises `Halted` for tables with
    another layout."""
    # If two processes connect at once, the second waits here and finds the tables.
    connection.execute("SELECT pg_advisory_xact_lock(%s, %s)", _LOCK)
    # Query the catalogue itself: `to_regclass` may have cached their absence before the wait.
    if connection.execute("SELECT 1 FROM pg_tables WHERE schemaname = 'kbsync'").fetchone() is None:
        connection.execute(TABLES.read_bytes())
    [(version,)] = connection.execute("SELECT version FROM base")
    require_version(version, database)


def require_version(version: int, database: Database) -> None:
    """Raise `Halted` for tables that another version of kbsync created."""
    if version > VERSION:
        raise Halted(
            "newer-index",
            f"the index in {database} was created by a newer kbsync "
            f"(layout {version}, this one knows {VERSION})",
            fix="upgrade this kbsync",
        )
    if version < VERSION:
        raise Halted(
            "older-index",
            f"the index in {database} was created by an older kbsync (layout {version}, this one needs "
            f"{VERSION}); rename its schema, and kbsync creates a new one and reindexes everything",
            fix=database.psql(f"ALTER SCHEMA kbsync RENAME TO kbsync_layout_{version}"),
        )
