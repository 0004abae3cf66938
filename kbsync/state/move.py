"""Moves a mirror from one state to another, with all its rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import apsw

from kbsync.state.db import open_writer, state_errors, transaction
from kbsync.state.store import StateStore

_NUMBERED = ("binding", "mirror", "folder", "hold")
"""Tables whose rows get new ids: each id is increased by the highest one already in use."""

_COPIED_TABLES: dict[str, dict[str, str]] = {
    "binding": {"id": "id + :binding"},
    "mirror": {"id": "id + :mirror", "name": ":name", "binding": "binding + :binding"},
    "folder": {"id": "id + :folder", "mirror": "mirror + :mirror", "parent": "parent + :folder"},
    "entry": {"folder": "folder + :folder"},
    "upload": {"mirror": "mirror + :mirror", "binding": "binding + :binding"},
    "removal": {"mirror": "mirror + :mirror", "hold": "hold + :hold"},
    "hold": {"id": "id + :hold", "mirror": "mirror + :mirror"},
    "recipe_change": {"mirror": "mirror + :mirror", "hold": "hold + :hold"},
    "deletion_log": {"id": "NULL", "mirror": "mirror + :mirror"},
    "history": {"id": "NULL", "mirror": "mirror + :mirror"},
}
"""Tables in the order in which they are copied, and the new values of their ids. Uploads keep their ids,
which mark documents in the target and start at a random number in each state. Triggers maintain `tally` and
`serving`.
"""


def obstacle(source: Path, state: Path, name: str) -> str:
    """Return why the mirror in the state `source` can't move into `state` under the name `name`, or '' if it
    can.

    The caller holds the locks of both states. Raises `StateError`.
    """
    with _both(source, state) as connection:
        conflict = connection.execute(
            "SELECT m.name FROM main.mirror m LEFT JOIN source.mirror s"
            " ON m.name = s.name OR m.folder = s.folder WHERE m.name = ? OR s.id IS NOT NULL",
            (name,),
        ).get
    return (
        ""
        if conflict is None
        else f"the state in {state.parent} already has a mirror, {conflict}, with the same name or folder"
    )


def is_moved(source: Path, state: Path) -> bool:
    """Return whether `move_mirror` has already copied the rows of `source`. Raises `StateError`."""
    with _both(source, state) as connection:
        # Uploads keep their ids.
        both = "SELECT 1 FROM main.upload JOIN source.upload USING(id) LIMIT 1"
        return connection.execute(both).get is not None


def move_mirror(source: Path, state: Path, name: str) -> None:
    """Copy all rows of the state `source`, which has one mirror, into `state` under the name `name`.

    `state` has no such mirror (see `obstacle`). The caller holds the locks of both states. Raises
    `StateError`.
    """
    with _both(source, state) as connection:
        highest = {
            table: connection.execute(f"SELECT coalesce(max(id), 0) FROM main.{table}").get  # noqa: S608
            for table in _NUMBERED
        }
        with transaction(connection):
            for table, new_values in _COPIED_TABLES.items():
                columns = [row[1] for row in connection.execute(f"PRAGMA main.table_info({table})")]
                values = ", ".join(new_values.get(column, column) for column in columns)
                into = f"INSERT INTO main.{table}({', '.join(columns)})"
                connection.execute(f"{into} SELECT {values} FROM source.{table}", {**highest, "name": name})  # noqa: S608


@contextmanager
def _both(source: Path, state: Path) -> Iterator[apsw.Connection]:
    """Yield one connection to both states. The state `source` is attached as the database `source`."""
    for path in (source, state):
        StateStore(path).close()  # upgrades both to the current tables
    with state_errors(state), closing(open_writer(state)) as connection:
        connection.execute("ATTACH ? AS source", (source.as_uri(),))
        yield connection
