"""A state of any version before this one is opened by this one, and nothing is sent for it again."""

from __future__ import annotations

import hashlib
import itertools
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from kbsync.core.model import Phase, UploadState
from kbsync.engine.settings import DeletionLimits
from kbsync.errors import LockedError, UsageError
from kbsync.state import lock, schema
from kbsync.state.db import open_writer
from kbsync.state.store import StateStore
from tests.engine.world import World

FIRST_STATE = Path(__file__).with_name("schema1.sql")
SERVED = {
    2108600000000000002: ("café.md", "odd name", 523623516717219),
    2108600000000000005: ("kitchen/coffee.md", "text on coffee", 523623516717221),
    2108600000000000006: ("badges.md", "Lost your badge? Ring the bell.", 523623516717222),
}
"""What the knowledge base of the first state holds: remote ids with path, text and upload id."""

RELEASED = (
    "e6b8074f50fc",
    "182ca8491902",
    "e875b178e416",
    "87b0c531dc2e",
    "322dacf9772d",
    "bbe07a679cf4",
    "c76fb351dbde",
    "91c7e6debe11",
)
"""How the digests of the scripts begin; a script that states were made with is never changed."""


def kinds_of(connection: apsw.Connection) -> set[tuple[str, str, str]]:
    """What the schema consists of, whatever the scripts' white space."""
    rows = connection.execute("SELECT type, name, coalesce(sql, '') FROM sqlite_schema").get
    return {(kind, name, " ".join(text.split())) for kind, name, text in rows}


def opened_first_state(path: Path, folder: Path) -> None:
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute(FIRST_STATE.read_text().replace("/srv/handbook", str(folder)))
        connection.pragma("user_version", 1)
        connection.pragma("journal_mode", "wal")


@pytest.fixture
def world(tmp_path: Path) -> World:
    """The folder and knowledge base of the first state, on another disk: no inode and no time is the same."""
    world = World(tmp_path)
    world.base._ids = itertools.chain(SERVED, itertools.count(max(SERVED) + 1))  # type: ignore[assignment]
    for path, text, upload in SERVED.values():
        world.write(path, text)
        world.base.add(path, text.encode(), path=path, upload_id=upload, foreign=False)
    opened_first_state(world.state / "state.db", world.root)
    return world


async def test_a_state_of_the_first_schema_sends_and_deletes_nothing(world: World) -> None:
    await world.once()
    assert world.puts() == 0
    assert world.base.effects_of("delete") == []
    assert world.served() == world.on_disk()
    assert world.statuses() == {"ready": 3}


async def test_work_goes_on_where_the_first_schema_left_it(world: World) -> None:
    world.write("badges.md", "An edit made while kbsync was upgraded.")
    world.delete("café.md")  # held, since the folder is another one than the state knew
    await world.once()
    assert world.puts() == 1
    assert world.served() == {**world.on_disk(), "café.md": "odd name"}
    assert world.statuses() == {"ready": 2, "held": 1}


@pytest.mark.parametrize("number", range(schema.VERSION))
def test_every_older_schema_becomes_the_one_of_a_new_state(tmp_path: Path, number: int) -> None:
    with closing(open_writer(tmp_path / "new.db")) as new, closing(open_writer(tmp_path / "old.db")) as old:
        schema.migrate(new)
        for script in schema.MIGRATIONS[:number]:
            old.execute(script)
        old.pragma("user_version", number)
        schema.migrate(old)
        assert schema.version_of(old) == schema.VERSION
        assert kinds_of(old) == kinds_of(new)


def test_a_message_for_an_older_kbsync_changes_nothing_under_it(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with closing(open_writer(path)) as db:
        for script in schema.MIGRATIONS[:-1]:
            db.execute(script)
        db.pragma("user_version", schema.VERSION - 1)
        with lock.held(tmp_path), pytest.raises(LockedError, match="restart it first"):
            StateStore(path, check=False)
        assert schema.version_of(db) == schema.VERSION - 1
        StateStore(path, check=False).close()
        assert schema.version_of(db) == schema.VERSION


@pytest.mark.parametrize("number", range(1, 8))
async def test_an_earlier_kbsync_refuses_a_state_in_which_documents_are_kept(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The status of such a file is one that it does not know."""
    world = World(tmp_path)
    world.settings = replace(world.settings, deletions=DeletionLimits(never=True))
    await world.mirrored(2)
    world.delete("f0.md")
    await world.once()
    assert world.statuses() == {"ready": 1, "kept": 1}
    monkeypatch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:number])
    monkeypatch.setattr(schema, "VERSION", number)
    with pytest.raises(UsageError, match="written by a newer kbsync"):
        StateStore(world.state / "state.db")


def test_what_serves_at_a_service_waits_for_no_refresh_any_more(tmp_path: Path) -> None:
    upload = (
        "INSERT INTO upload(mirror, binding, label, name, digest, size, recipe, state, created_at,"
        " next_look_at, looks, code) VALUES(1, ?, 'a.url', 'a.url', '', 1, '', ?, 0, 9, 2, ?)"
    )
    with closing(open_writer(tmp_path / "old.db")) as db:
        for script in schema.MIGRATIONS[:3]:
            db.execute(script)
        db.pragma("user_version", 3)
        db.execute("INSERT INTO binding VALUES(1, 'zhipu', 'a', 'b', '', 0), (2, 'local', 'a', 'b', '', 0)")
        for binding, state, code in ((1, 5, "refreshing"), (1, 4, "quota"), (2, 5, "")):
            db.execute(upload, (binding, state, code))
        schema.migrate(db)
        found = db.execute("SELECT next_look_at, looks, code || phase FROM upload ORDER BY id").fetchall()
    assert found == [(None, 0, ""), (9, 2, "quota"), (9, 2, "")]


OVERLOADED: list[tuple[UploadState, str | None, str, int, dict[str, object]]] = [
    (UploadState.INTENDED, None, "", 2, {"names_tried": 2}),
    (UploadState.SENDING, None, "", 3, {"names_tried": 3}),
    (UploadState.UNSURE, None, "", 4, {"looks": 4}),
    (UploadState.PRESUMED_LOST, None, "", 5, {"looks": 5}),
    (UploadState.INDEXING, "id", "", 6, {"looks": 6}),
    (UploadState.INDEXING, "id", "reembedding", 1, {"phase": Phase.ASKED_AGAIN, "looks": 1}),
    (UploadState.INDEXING, "id", "quota", 0, {"phase": Phase.NO_ROOM}),
    (UploadState.INDEXING, "id", "reslice", 0, {"phase": Phase.TO_CUT}),
    (UploadState.SERVING, "id", "", 0, {}),
    (UploadState.RETIRING, "id", "10003", 2, {"code": "10003", "postponed": 2, "reappeared": 1}),
    (UploadState.FAILED, None, "quota", 2, {"code": "quota", "names_tried": 2}),  # a target's own word
    (UploadState.FAILED, "id", "no-text", 7, {"code": "no-text", "looks": 7}),
    (UploadState.ADOPTING, "id", "ready", 0, {"phase": Phase.LISTED_READY}),
    (UploadState.ADOPTING, "id", "", 0, {}),
]
"""Rows as earlier schemas had them: state, remote id, code and looks, and what they mean."""


@pytest.mark.parametrize("version", range(1, 6))
def test_what_an_overloaded_column_meant_is_kept(tmp_path: Path, version: int) -> None:
    path = tmp_path / "state.db"
    with closing(open_writer(path)) as db:
        for script in schema.MIGRATIONS[:version]:
            db.execute(script)
        db.pragma("user_version", version)
        db.execute("INSERT INTO mirror(id, name, folder) VALUES(1, 'm', '/srv/m')")
        db.execute("INSERT INTO folder(id, mirror, path, name) VALUES(1, 1, '', '')")
        for number, (state, remote, code, looks, _) in enumerate(OVERLOADED, 1):
            db.execute(
                "INSERT INTO upload(id, mirror, binding, path, label, name, digest, size, recipe,"
                " created_at, state, remote_id, code, looks, repairs)"
                " VALUES(?, 1, 1, ?, 'l', 'n', 'd', 3, 'r', 1, ?, ?, ?, ?, ?)",
                (number, f"{number}.md", int(state), remote, code, looks, state is UploadState.RETIRING),
            )
        for name, presence, missed in (("here", 0, None), ("first", 1, 7.5), ("scanned", 1, 1e12 + 3)):
            db.execute(
                "INSERT INTO entry(folder, name, size, mtime_ns, ctime_ns, ino, choice, presence, status,"
                " since, missed_at) VALUES(1, ?, 1, 1, 1, 1, 0, ?, 0, 0, ?)",
                (name, presence, missed),
            )
    store = StateStore(path)
    meant = {"code": "", "phase": Phase.PLAIN, "names_tried": 0, "postponed": 0, "looks": 0, "reappeared": 0}
    for number, row in enumerate(OVERLOADED, 1):
        upload = store.read_now(lambda tx, number=number: tx.uploads.get(number))  # type: ignore[misc]
        assert {key: getattr(upload, key) for key in meant} == {**meant, **row[4]}, row
    assert store.read_now(lambda tx: tx.entries.missed_before(1, 1e15, 9)) == [("first", 1, 7.5)]
    assert store.read_now(lambda tx: tx.entries.is_missed_by_scan(1))
    store.submit(lambda tx: tx.entries.scans_ended(1, {3}, 8.0)).result()
    assert len(store.read_now(lambda tx: tx.entries.missed_before(1, 8.0, 9))) == 2
    store.close()


def test_the_frozen_state_has_the_first_schema(tmp_path: Path) -> None:
    opened_first_state(tmp_path / "frozen.db", tmp_path)
    with (
        closing(apsw.Connection(str(tmp_path / "frozen.db"))) as frozen,
        closing(open_writer(tmp_path / "first.db")) as first,
    ):
        first.execute(schema.FIRST)
        assert kinds_of(frozen) == kinds_of(first)


def test_released_scripts_were_not_changed() -> None:
    digests = [hashlib.sha256(script.encode()).hexdigest() for script in schema.MIGRATIONS]
    assert len(digests) >= len(RELEASED)
    for digest, begin in zip(digests, RELEASED, strict=False):
        assert digest.startswith(begin), "add a script instead"
