"""A mirror moves from one state into another, with all that is known of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import apsw

from kbsync.state.db import open_writer, state_errors, transaction
from kbsync.state.store import StateStore

_NUMBERED = ("binding", "mirror", "folder", "hold")
"""Their rows get new numbers: each goes up by the highest that is there already."""

_MOVED: dict[str, dict[str, str]] = {
    "binding": {"id": "id + :binding"},
    "mirror": {"id": "id + :mirror", "binding": "binding + :binding"},
    "folder": {"id": "id + :folder", "mirror": "mirror + :mirror", "parent": "parent + :folder"},
    "entry": {"folder": "folder + :folder"},
    "upload": {"mirror": "mirror + :mirror", "binding": "binding + :binding"},
    "candidate": {"mirror": "mirror + :mirror", "hold": "hold + :hold"},
    "hold": {"id": "id + :hold", "mirror": "mirror + :mirror"},
    "hold_item": {"hold": "hold + :hold"},
    "recipe_change": {"mirror": "mirror + :mirror", "hold": "hold + :hold"},
    "deletion_log": {"id": "NULL", "mirror": "mirror + :mirror"},
}
"""Tables in the order in which they are filled, and what becomes of their numbers.

Uploads keep theirs, which are marks at the target: they begin at random in each state. `tally` and `serving`
are counted by triggers.
"""


def obstacle(source: Path, state: Path, name: str) -> str:
    """Why the mirror of the state `source`, to be called `name`, cannot move into `state`; '' where it can.

    The caller holds the locks of both. Raises `StateError`.
    """
    with _both(source, state) as connection:
        known = connection.execute(
            "SELECT m.name FROM main.mirror m LEFT JOIN source.mirror s"
            " ON m.name = s.name OR m.folder = s.folder WHERE m.name = ? OR s.id IS NOT NULL",
            (name,),
        ).get
    return "" if known is None else f"the state in {state.parent} has a mirror {known} of it already"


def move_mirror(source: Path, state: Path) -> None:
    """Copy what the state `source` knows into `state`, which knows none of its mirrors (see `obstacle`).

    The caller holds the locks of both. Raises `StateError`.
    """
    with _both(source, state) as connection:
        highest = {
            table: connection.execute(f"SELECT coalesce(max(id), 0) FROM main.{table}").get  # noqa: S608
            for table in _NUMBERED
        }
        with transaction(connection):
            for table, changed in _MOVED.items():
                _copy(connection, table, changed, highest)


@contextmanager
def _both(source: Path, state: Path) -> Iterator[apsw.Connection]:
    """One connection to both, `source` under that name."""
    for path in (source, state):
        StateStore(path).close()  # both have the tables of today
    with state_errors(state), closing(open_writer(state)) as connection:
        connection.execute("ATTACH ? AS source", (str(source),))
        yield connection


def _copy(connection: apsw.Connection, table: str, changed: dict[str, str], highest: dict[str, int]) -> None:
    columns = [row[1] for row in connection.execute(f"PRAGMA main.table_info({table})")]
    values = ", ".join(changed.get(column, column) for column in columns)
    into = f"INSERT INTO main.{table}({', '.join(columns)})"
    connection.execute(f"{into} SELECT {values} FROM source.{table}", highest)  # noqa: S608
