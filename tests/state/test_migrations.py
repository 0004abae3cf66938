"""Tests that this version opens states of all earlier schemas, and sends nothing again for them."""

from __future__ import annotations

import hashlib
import itertools
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from kbsync.engine.status import LastAudit, last_audit
from kbsync.errors import LockedError
from kbsync.state import lock, schema
from kbsync.state.db import DamagedError, open_writer
from kbsync.state.read_only import ReadOnlyState
from kbsync.state.store import StateStore
from tests.engine.world import World

OLDEST_STATE = Path(__file__).with_name("schema12.sql")
SERVED = {
    2108600000000000002: ("café.md", "odd name", 523623516717219),
    2108600000000000005: ("kitchen/coffee.md", "text on coffee", 523623516717221),
    2108600000000000006: ("badges.md", "Lost your badge? Ring the bell.", 523623516717222),
}
"""The contents of the oldest state's knowledge base: remote ids with path, text and upload id."""

RELEASED = ()
"""The digests of released scripts, which must never change."""


def kinds_of(connection: apsw.Connection) -> set[tuple[str, str, str]]:
    """Return the parts of the schema, ignoring the scripts' white space."""
    rows = connection.execute("SELECT type, name, coalesce(sql, '') FROM sqlite_schema").get
    return {(kind, name, " ".join(text.split())) for kind, name, text in rows}


def open_oldest_state(path: Path, folder: Path) -> None:
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute(OLDEST_STATE.read_text().replace("/srv/handbook", str(folder)))
        connection.pragma("user_version", schema.OLDEST)
        connection.pragma("journal_mode", "wal")


@pytest.fixture
def world(tmp_path: Path) -> World:
    """The oldest state's folder and knowledge base, on another disk: inodes and times differ."""
    world = World(tmp_path)
    world.base._ids = itertools.chain(SERVED, itertools.count(max(SERVED) + 1))  # type: ignore[assignment]
    for path, text, upload in SERVED.values():
        world.write(path, text)
        world.base.add(path, text.encode(), path=path, upload_id=upload, foreign=False)
    open_oldest_state(world.state / "state.db", world.root)
    return world


async def test_state_of_the_oldest_schema_sends_and_deletes_nothing(world: World) -> None:
    await world.once()
    assert world.puts() == 0
    assert world.base.effects_of("delete") == []
    assert world.searchable_texts() == world.on_disk()
    assert world.statuses() == {"ready": 3}


async def test_work_continues_from_a_state_of_the_oldest_schema(world: World) -> None:
    world.write("badges.md", "An edit made while kbsync was upgraded.")
    world.delete("café.md")  # held, since the folder is another one than the state knew
    await world.once()
    assert world.puts() == 1
    assert world.searchable_texts() == {**world.on_disk(), "café.md": "odd name"}
    assert world.statuses() == {"ready": 2, "held": 1}


def leave_deletions(world: World, *, is_approved: bool) -> None:
    """Leave three missing files: one document is held, one still joins its hold, and one may be deleted.

    This is how schemas before `REMOVALS` stored them when kbsync was killed in a batch.
    """
    for path in world.on_disk():
        world.delete(path)
    with closing(open_writer(world.state / "state.db")) as db:
        for number, script in enumerate(schema.MIGRATIONS[: schema.MIGRATIONS.index(schema.REMOVALS)]):
            db.execute(script)
            db.pragma("user_version", schema.OLDEST + number + 1)
        [mirror] = [number for (number,) in db.execute("SELECT id FROM mirror")]
        held, joining, free = (upload for _, _, upload in SERVED.values())
        now = world.clock.wall()
        db.execute("UPDATE entry SET presence = 2")
        db.execute("UPDATE upload SET state = 6 WHERE id = ?", (held,))
        db.execute(
            "INSERT INTO hold(id, mirror, made_at, approved_at) VALUES(7, ?, ?, ?)",
            (mirror, now, now if is_approved else None),
        )
        db.execute(
            "INSERT INTO hold_item SELECT 7, path, id, digest, 'gone' FROM upload WHERE id = ?", (held,)
        )
        candidate = "INSERT INTO candidate SELECT mirror, path, id, 'gone', ?, ?, ? FROM upload WHERE id = ?"
        db.execute(candidate, (now, False, 7, joining))
        db.execute(candidate, (now, True, None, free))


@pytest.mark.parametrize("is_approved", [False, True])
async def test_held_deletions_and_their_approval_survive_the_upgrade(world: World, is_approved: bool) -> None:
    leave_deletions(world, is_approved=is_approved)
    await world.once()
    held, joining, _ = (path for path, _, _ in SERVED.values())
    assert set(world.searchable_texts()) == (set() if is_approved else {held, joining})
    assert world.statuses() == ({} if is_approved else {"held": 2})
    hold_ids = world.look_up(lambda tx: [hold.id for hold in tx.holds.current(world.run.id)])
    assert hold_ids == ([] if is_approved else [7])
    assert world.puts() == 0


def test_migrated_schema_equals_a_new_one(tmp_path: Path) -> None:
    open_oldest_state(tmp_path / "old.db", tmp_path)
    with closing(open_writer(tmp_path / "new.db")) as new, closing(open_writer(tmp_path / "old.db")) as old:
        schema.migrate(new)
        schema.migrate(old)
        assert schema.version_of(old) == schema.VERSION
        assert kinds_of(old) == kinds_of(new)


def test_last_audit_of_an_older_state_is_read(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    open_oldest_state(path, tmp_path)
    stored = '{"binding": 1, "ended": 5.0, "duplicate": 0, "orphaned": 0, "mended": 3, "is_audit": true}'
    with closing(open_writer(path)) as db:
        db.execute("INSERT OR REPLACE INTO meta VALUES('audit:1', ?)", (stored,))
        schema.migrate(db)
    with closing(ReadOnlyState(path)) as state:
        audit = state.read(lambda tx: last_audit(tx, 1))
    assert audit == LastAudit(1, 5.0, repaired=3, is_audit=True)


def test_message_for_an_older_kbsync_does_not_modify_its_state(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    open_oldest_state(path, tmp_path)
    with closing(open_writer(path)) as db:
        with lock.held(tmp_path), pytest.raises(LockedError, match="restart it first"):
            StateStore(path, check=False)
        assert schema.version_of(db) == schema.OLDEST
        StateStore(path, check=False).close()
        assert schema.version_of(db) == schema.VERSION


def test_state_from_before_the_first_release_is_set_aside(world: World) -> None:
    state = world.state / "state.db"
    with closing(apsw.Connection(str(state))) as connection:
        connection.pragma("user_version", schema.OLDEST - 1)
    for open_it in (StateStore, ReadOnlyState):
        with pytest.raises(DamagedError, match="before its first release"):
            open_it(state)


def test_released_migration_scripts_are_unchanged() -> None:
    digests = [hashlib.sha256(script.encode()).hexdigest() for script in schema.MIGRATIONS]
    assert len(digests) >= len(RELEASED)
    for digest, begin in zip(digests, RELEASED, strict=False):
        assert digest.startswith(begin), "add a script instead"
