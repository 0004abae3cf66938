"""The tables of the index (ADR 27). The first process that connects creates or upgrades them."""

from __future__ import annotations

from pathlib import Path

from kbsync.errors import Halted
from kbsync.index.postgres.connections import Connection
from kbsync.index.postgres.errors import Database

VERSION = 3
NAMED = 3
"""The first layout that stores the words of names in `document`."""

TABLES = Path(__file__).with_name("tables.sql")
UPGRADES = {before: Path(__file__).with_name(f"upgrade-{before + 1}.sql") for before in (1, 2)}
"""The upgrade scripts: each one upgrades from the layout in its key to the next."""

_LOCK = (0x6B62_7379, 1)  # "kbsy"; held while the schema is created or changed

# Tables of another role can be written, but not altered.
_FOREIGN_OWNER = """
SELECT tableowner FROM pg_tables
WHERE schemaname = 'kbsync' AND NOT pg_has_role(tableowner, 'USAGE') LIMIT 1
"""


def make(connection: Connection, database: Database) -> None:
    """Create the tables if they are missing, and upgrade tables with an older layout. Call inside a
    transaction.

    Raises `Halted` if the role may not upgrade them, or if a newer kbsync created or changed them.
    """
    # If two processes connect at once, the second waits here and finds the tables.
    connection.execute("SELECT pg_advisory_xact_lock(%s, %s)", _LOCK)
    # Query the catalogue itself: `to_regclass` may have cached their absence before the wait.
    if connection.execute("SELECT 1 FROM pg_tables WHERE schemaname = 'kbsync'").fetchone() is None:
        connection.execute(TABLES.read_bytes())
    [(version,)] = connection.execute("SELECT version FROM base")
    require_version(version, database)
    if version == VERSION:
        return
    if row := connection.execute(_FOREIGN_OWNER).fetchone():
        raise Halted(
            "older-index",
            f"the tables in {database} have layout {version}, but this kbsync needs layout {VERSION}, and "
            f"they belong to {row[0]}: run kbsync once with that role, or upgrade them as that role",
            fix=database.psql_files((UPGRADES[before] for before in range(version, VERSION)), row[0]),
        )
    connection.execute("SELECT set_config('statement_timeout', '0', true)")  # a large base takes minutes
    while version < VERSION:
        connection.execute(UPGRADES[version].read_bytes())
        version += 1


def require_version(version: int, database: Database) -> None:
    """Raise `Halted` for tables that a newer kbsync created or changed."""
    if version > VERSION:
        raise Halted(
            "newer-index",
            f"the index in {database} was created by a newer kbsync "
            f"(layout {version}, this one knows {VERSION})",
            fix="upgrade this kbsync",
        )
