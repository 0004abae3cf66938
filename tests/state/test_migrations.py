"""Tests that an upgrade of the state loses nothing, and that a state from before 0.1.0 is replaced."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import apsw
import pytest

from kbsync.core.model import RootIdentity
from kbsync.errors import LockedError
from kbsync.once import open_or_set_aside
from kbsync.state import lock, schema
from kbsync.state.db import DamagedError, open_writer
from kbsync.state.read_only import ReadOnlyState, Tx
from kbsync.state.store import StateStore
from tests.engine.world import World
from tests.share import long

OWN = schema.VERSION


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the state of this version, as a version two schemas later finds it."""
    path = tmp_path / "state.db"
    with closing(StateStore(path)) as store:
        store.submit(lambda tx: tx.mirrors.add("m", "/srv/m", "local")).result()
    script = "ALTER TABLE mirror ADD COLUMN colour TEXT NOT NULL DEFAULT 'blue';"
    renamed = "UPDATE mirror SET name = 'renamed';"
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, script, renamed))
    monkeypatch.setattr(schema, "VERSION", OWN + 2)
    return path


def stored_version(path: Path) -> int:
    with closing(apsw.Connection(str(path))) as connection:
        return schema.version_of(connection)


def names(tx: Tx) -> list[str]:
    return [record.name for record in tx.mirrors.all()]


def test_state_is_readable_before_its_upgrade(path: Path) -> None:
    with closing(ReadOnlyState(path)) as state:
        assert state.read(names) == ["renamed"]
    assert stored_version(path) == OWN
    with closing(StateStore(path)) as store:
        assert store.read_now(names) == ["renamed"]
    assert stored_version(path) == OWN + 2


def parts_of(connection: apsw.Connection) -> set[tuple[str, tuple[str, ...]]]:
    """Return each table, index and trigger of the schema, with the columns of tables."""
    rows = connection.execute("SELECT type, name FROM sqlite_schema").get
    columns = "SELECT name || type || coalesce(dflt_value, '') FROM pragma_table_info(?) ORDER BY name"
    return {(name, tuple(text for (text,) in connection.execute(columns, (name,)))) for _, name in rows}


LATER = (
    "  mount TEXT NOT NULL DEFAULT '',",
    ",\n  root_mount TEXT NOT NULL DEFAULT ''",
    schema.DELETIONS_AFTER_UPLOADS,
    " files_digest BLOB,",
    schema.OUTDATED_DIGESTS,
)
"""What the oldest schema lacks."""


def oldest_tables() -> str:
    tables = schema.TABLES
    for part in LATER:
        assert tables.count(part) == 1
        tables = tables.replace(part, "")
    return tables


def test_state_of_the_oldest_schema_becomes_equal_to_a_new_one(tmp_path: Path) -> None:
    with closing(open_writer(tmp_path / "new.db")) as new, closing(open_writer(tmp_path / "old.db")) as old:
        old.execute(oldest_tables())
        old.pragma("user_version", schema.OLDEST)
        schema.migrate(new)
        schema.migrate(old)
        assert schema.version_of(old) == schema.VERSION
        assert parts_of(old) == parts_of(new)


def test_mount_points_of_the_oldest_schema_have_no_known_disk(tmp_path: Path) -> None:
    """So kbsync records the disks mounted there and at the root, and holds nothing."""
    path = tmp_path / "state.db"
    with closing(open_writer(path)) as old:
        old.execute(oldest_tables())
        columns = "id, name, folder, root_dev, root_ino, root_fs, root_is_mount"
        old.execute(f"INSERT INTO mirror({columns}) VALUES(1, 'm', '/srv/m', 1, 2, 'ext4', 1)")
        old.execute("INSERT INTO folder(mirror, path, name, is_mount) VALUES(1, 'disk', 'disk', 2)")
        old.pragma("user_version", schema.OLDEST)
    with closing(StateStore(path)) as store:
        row = store.read_now(lambda tx: tx.folders.get(1, "disk"))
        root = store.read_now(lambda tx: tx.mirrors.get(1).root)
    assert root == RootIdentity(1, 2, "ext4", is_mount=True, mount="")
    assert row is not None and (row.is_mount, row.may_be_unmounted, row.mount) == (True, True, "")


def test_crash_during_an_upgrade_leaves_a_complete_older_schema(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete = schema.MIGRATIONS
    monkeypatch.setattr(schema, "MIGRATIONS", (*complete[:-1], complete[-1] + "SELECT no_such_column"))
    with closing(open_writer(path)) as connection:
        with pytest.raises(apsw.Error):
            schema.migrate(connection)
        assert connection.execute("SELECT name, colour FROM mirror").get == ("m", "blue")
    assert stored_version(path) == OWN + 1
    monkeypatch.setattr(schema, "MIGRATIONS", complete)
    with closing(StateStore(path)) as store:
        assert store.read_now(names) == ["renamed"]


@pytest.mark.parametrize("is_new", [True, False])
def test_two_processes_may_create_or_upgrade_the_state_at_once(path: Path, is_new: bool) -> None:
    if is_new:
        path = path.with_name("new.db")
    with closing(open_writer(path)) as connection:

        def overtake(_cursor: apsw.Cursor, statement: str, _values: object) -> bool:
            if statement.startswith("BEGIN"):
                connection.exec_trace = None
                StateStore(path).close()
            return True

        connection.exec_trace = overtake
        schema.migrate(connection)
    with closing(StateStore(path)) as store:
        assert store.read_now(names) == ([] if is_new else ["renamed"])


def test_message_for_an_older_kbsync_does_not_upgrade_its_state(path: Path) -> None:
    with lock.held(path.parent), pytest.raises(LockedError, match="restart it first"):
        StateStore(path, check=False)
    assert stored_version(path) == OWN
    StateStore(path, check=False).close()
    assert stored_version(path) == OWN + 2


@long
async def test_state_from_before_the_first_release_is_replaced_without_losing_documents(
    tmp_path: Path,
) -> None:
    world = World(tmp_path)
    await world.mirrored(10)
    world.delete_many(6)
    await world.once()
    state, sent = world.state / "state.db", world.puts()
    with closing(apsw.Connection(str(state))) as connection:
        connection.pragma("user_version", schema.OLDEST - 1)
    with pytest.raises(DamagedError, match="before its first release"):
        ReadOnlyState(state)
    reports: list[str] = []
    open_or_set_aside(state, reports.append).close()
    assert "set aside as state.db.damaged-1" in reports[0]
    await world.once()
    assert world.puts() == sent and world.base.effects_of("delete") == []
    assert world.statuses() == {"ready": 4, "held": 6}
