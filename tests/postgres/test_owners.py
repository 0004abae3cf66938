"""Tests who owns a prefix: takeover, refusal, release, and when a host was last seen."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import psycopg
import pytest

from kbsync.errors import Halted
from kbsync.index.postgres.store import Owner, PostgresStore
from tests.index.entries import entry
from tests.postgres.base import between, put, token
from tests.postgres.server import Server
from tests.postgres.test_failures import follow_fix, outcome
from tests.share import long

PREFIX = "it's \\ours/"


@contextmanager
def open_as(
    server: Server,
    database: str,
    state: str,
    *,
    host: str = "files-1",
    folder: str = "/srv/docs",
    prefix: str = PREFIX,
    read_only: bool = False,
) -> Iterator[PostgresStore]:
    """Return the store as a mirror with this state sees it. `state` "": none, as on a machine that only
    reads.
    """
    owner = Owner(prefix, token(state) if state else None, "news", folder, host)
    with closing(PostgresStore(server.dsn(database), owner, read_only=read_only)) as store:
        yield store


def refused(store: PostgresStore) -> Halted:
    """Return the error of each kind of write; none of them may change anything."""
    halts = [outcome(store, 9, "heron")]
    for write in (lambda: store.delete([1]), lambda: store.rename(1, "b.md", "b.md", 1.0), store.check):
        with pytest.raises(Halted) as caught:
            write()
        halts.append(caught.value)
    assert {(halt.halt, str(halt), halt.fix) for halt in halts} == {
        (halts[0].halt, str(halts[0]), halts[0].fix)
    }
    assert isinstance(halts[0], Halted)
    return halts[0]


def rows(server: Server, database: str) -> list[Any]:
    columns = "prefix, token, host, convert_from(folder, 'UTF8'), mirror"
    return server.run(database, f"SELECT {columns} FROM kbsync.owner ORDER BY id")


@long
def test_state_lost_on_the_same_machine_reclaims_its_prefix(postgres: Server, database: str) -> None:
    with open_as(postgres, database, "first") as before, open_as(postgres, database, "second") as after:
        [number] = put(before, entry(1, "kestrel"))
        with open_as(postgres, database, "", read_only=True) as looking:
            assert looking.check()[1] == 1
        assert after.check()[1] == 1
        put(after, entry(2, "heron"))
        assert after.find_existing([number]) == {number}
        # Two processes with one prefix on one machine: the one that started last continues.
        assert refused(before).halt == "superseded"
    assert rows(postgres, database) == [(PREFIX, token("second"), "files-1", "/srv/docs", "news")]


@long
@pytest.mark.parametrize("elsewhere", [{"host": "files-2"}, {"folder": "/srv/other"}], ids=str)
def test_prefix_of_another_owner_is_refused_until_released(
    postgres: Server, database: str, elsewhere: dict[str, str]
) -> None:
    other = {"host": "files-1", "folder": "/srv/docs"} | elsewhere
    with (
        open_as(postgres, database, "first") as theirs,
        open_as(postgres, database, "second", **other) as ours,
    ):
        [number] = put(theirs, entry(1, "kestrel"))
        halted = refused(ours)
        assert halted.halt == "prefix-taken"
        year = postgres.run(database, "SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-')")[0][0]
        for phrase in ("the mirror news on files-1 (/srv/docs)", f"seen {year}", "its own prefix"):
            assert phrase in str(halted)
        # A reader gets the same message before the first pass.
        for state in ("second", ""):
            with open_as(postgres, database, state, **other, read_only=True) as looking:
                with pytest.raises(Halted) as caught:
                    looking.check()
                assert (caught.value.halt, caught.value.fix) == ("prefix-taken", halted.fix)
        # The other one hasn't noticed anything.
        put(theirs, entry(2, "merlin"))
        assert theirs.find_existing([number]) == {number}

        follow_fix(postgres, halted)
        put(theirs, entry(3, "heron"))  # released is not taken yet
        assert ours.check()[1] == 3
        put(ours, entry(4, "osprey"))
        assert (len(ours.page(0, 9)), theirs.page(0, 9), theirs.find_existing([number])) == (4, [], set())
        # The former owner's next request, and the first one after a restart, say who took it.
        assert refused(theirs).halt == "prefix-taken"
        with open_as(postgres, database, "first") as reopened:
            assert f"on {other['host']} ({other['folder']})" in str(refused(reopened))
        # The command releases only that owner's row, not one that another owner has taken since.
        before = rows(postgres, database)
        follow_fix(postgres, halted)
        assert rows(postgres, database) == before


def test_one_of_two_concurrent_claims_of_a_prefix_succeeds(postgres: Server, database: str) -> None:
    ready = threading.Barrier(2)

    def come(host: str) -> str:
        with open_as(postgres, database, host, host=host) as store:
            ready.wait()
            try:
                store.check()
            except Halted as halted:
                return halted.halt
            return "has it"

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(come, ("files-1", "files-2"))) == ["has it", "prefix-taken"]


@long
def test_owner_returning_before_its_released_prefix_is_taken_keeps_it(
    postgres: Server, database: str
) -> None:
    with (
        open_as(postgres, database, "first") as theirs,
        open_as(postgres, database, "second", host="files-2") as ours,
    ):
        put(theirs, entry(1, "kestrel"))
        follow_fix(postgres, refused(ours))
        with open_as(postgres, database, "first") as reopened:
            put(reopened, entry(2, "heron"))
        assert refused(ours).halt == "prefix-taken"


@long
def test_state_moved_to_another_machine_keeps_its_documents(postgres: Server, database: str) -> None:
    with open_as(postgres, database, "first") as before:
        put(before, entry(1, "kestrel"))
        with open_as(postgres, database, "first", host="files-2", folder="/data") as after:
            assert after.check()[1] == 1
        assert rows(postgres, database) == [(PREFIX, token("first"), "files-2", "/data", "news")]
        halted = outcome(before, 2, "heron")
        assert (halted.halt, "on files-2" in str(halted)) == ("superseded", True)


@long
def test_owner_with_documents_cannot_move_to_a_foreign_prefix(postgres: Server, database: str) -> None:
    with (
        open_as(postgres, database, "first", prefix="a/") as ours,
        open_as(postgres, database, "second") as theirs,
    ):
        [our_id], [other] = put(ours, entry(1, "kestrel")), put(theirs, entry(1, "heron"))
    before = rows(postgres, database)
    # The same machine and folder prove nothing here: each of the two prefixes has documents.
    # A reader gets the same message before the first pass.
    with open_as(postgres, database, "first", read_only=True) as looking, pytest.raises(Halted) as caught:
        looking.check()
    with open_as(postgres, database, "first") as moved:
        halted = refused(moved)
    assert (halted.halt, str(halted)) == ("prefix-taken", str(caught.value))
    assert rows(postgres, database) == before
    assert postgres.run(database, "SELECT id FROM kbsync.document ORDER BY id") == [(our_id,), (other,)]


@long
def test_owner_with_documents_can_move_to_a_released_prefix(postgres: Server, database: str) -> None:
    # The state was lost before its mirror got another prefix. Now it has the first one again.
    with open_as(postgres, database, "lost") as lost, open_as(postgres, database, "now", prefix="b/") as now:
        [before], [our_id] = put(lost, entry(1, "kestrel")), put(now, entry(1, "heron"))
        with open_as(postgres, database, "now") as back:
            follow_fix(postgres, refused(back))
            put(lost, entry(2, "merlin"))  # released is not taken yet
            assert back.check()[1] == 1
            assert [row.id for row in back.page(0, 9)] == [our_id]
            put(back, entry(2, "osprey"))
        # One that wakes up changes nothing, and is refused when it starts again.
        assert outcome(lost, 3, "merlin").halt == "superseded"
        with open_as(postgres, database, "lost") as reopened:
            assert refused(reopened).halt == "prefix-taken"
    assert [(prefix, which, host) for prefix, which, host, *_ in rows(postgres, database)] == [
        ("b/", token("lost"), ""),
        (PREFIX, token("now"), "files-1"),
    ]
    # Its documents are unchanged, and the next owner of the former prefix gets them.
    with open_as(postgres, database, "third", prefix="b/", folder="/srv/other") as other:
        assert other.check()[1] == 2
        assert before in {row.id for row in other.page(0, 9)}


AGE = "SELECT extract(epoch FROM now() - seen) < 30 FROM kbsync.owner"
A_WHILE_AGO = "UPDATE kbsync.owner SET seen = now() - interval '2 minutes'"


@long
def test_writer_check_updates_its_last_seen_time_once_a_minute(
    postgres: Server, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_as(postgres, database, "first") as before, open_as(postgres, database, "first") as writer:
        put(before, entry(1, "kestrel"))
        writer.check()
        postgres.run(database, A_WHILE_AGO)
        with open_as(postgres, database, "first", read_only=True) as looking:
            looking.check()
        before.check()  # its place was taken
        assert postgres.run(database, AGE) == [(False,)]
        writer.check()
        assert postgres.run(database, AGE) == [(True,)]
        statements = list[str]()
        between(monkeypatch, lambda _connection, statement: statements.append(statement))
        writer.check()
        assert not any("UPDATE" in statement for statement in statements)
        postgres.run(database, A_WHILE_AGO)
        writer.delete([])
        assert postgres.run(database, AGE) == [(True,)]


@long
def test_check_waits_for_no_write(postgres: Server, database: str) -> None:
    with open_as(postgres, database, "first") as writer, psycopg.connect(postgres.dsn(database)) as holding:
        put(writer, entry(1, "kestrel"))
        postgres.run(database, A_WHILE_AGO)
        holding.execute("SELECT FROM kbsync.owner FOR UPDATE")
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(writer.check).result(20)[1] == 1


@long
def test_folder_may_have_any_name(postgres: Server, database: str) -> None:
    odd = "/srv/caf\udce9\n"
    with open_as(postgres, database, "first", folder=odd) as theirs:
        put(theirs, entry(1, "kestrel"))
    with open_as(postgres, database, "second", folder=odd) as ours:
        assert ours.check()[1] == 1
    with open_as(postgres, database, "third") as other, pytest.raises(Halted) as caught:
        other.check()
    assert "\n" not in str(caught.value)


# -- prefixes that begin each other


@long
@pytest.mark.parametrize(("first", "second"), [("", "b/"), ("b/", ""), ("b/", "b/c/"), ("b/c/", "b/")])
def test_prefix_overlapping_another_owners_is_refused_until_released(
    postgres: Server, database: str, first: str, second: str
) -> None:
    with (
        open_as(postgres, database, "1", folder="/srv/one", prefix=first) as first_store,
        open_as(postgres, database, "2", folder="/srv/two", prefix=second) as second_store,
        open_as(postgres, database, "2", folder="/srv/two", prefix=second, read_only=True) as plan,
    ):
        put(first_store, entry(1, "kestrel"))
        halted = refused(second_store)
        assert halted.halt == "prefix-taken"
        assert repr(first) in halted.reason and repr(second) in halted.reason and "/srv/one" in halted.reason
        with pytest.raises(Halted) as caught:
            plan.check()
        assert str(caught.value) == str(halted)
        follow_fix(postgres, halted)
        put(second_store, entry(1, "heron"))
    with open_as(postgres, database, "1", folder="/srv/one", prefix=first) as returning:
        assert refused(returning).halt == "prefix-taken"


@long
def test_mirror_whose_new_prefix_overlaps_another_owners_keeps_its_own(
    postgres: Server, database: str
) -> None:
    with open_as(postgres, database, "1", folder="/srv/one", prefix="a/") as first_store:
        put(first_store, entry(1, "kestrel"))
    with open_as(postgres, database, "2", folder="/srv/two", prefix="b/") as second_store:
        put(second_store, entry(1, "heron"))
    with open_as(postgres, database, "2", folder="/srv/two", prefix="a/b/") as second_store:
        assert refused(second_store).halt == "prefix-taken"
    assert postgres.run(database, "SELECT prefix FROM kbsync.owner ORDER BY 1") == [("a/",), ("b/",)]


@long
def test_two_mirrors_exchange_prefixes_by_way_of_a_third(postgres: Server, database: str) -> None:

    def move(state: str, prefix: str) -> Halted | None:
        with open_as(postgres, database, state, folder=f"/srv/{state}", prefix=prefix) as store:
            try:
                store.check()
            except Halted as halted:
                return halted
            assert len(store.page(0, 9)) == 1
            return None

    for state, prefix in (("1", "a/"), ("2", "b/")):
        with open_as(postgres, database, state, folder=f"/srv/{state}", prefix=prefix) as store:
            put(store, entry(1, "kestrel"))
    for state, prefix in (("1", "b/"), ("2", "a/")):
        halted = move(state, prefix)
        assert halted is not None and str(halted).endswith("change one of them to a third prefix first")
    assert [move("1", "third/"), move("2", "a/"), move("1", "b/")] == [None, None, None]
    assert {row[0] for row in rows(postgres, database)} == {"a/", "b/"}
