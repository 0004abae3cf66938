"""Tests the only vector index of a base: when it is created, by whom, and that searches use it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest

from kbsync.contract.searching import Query
from kbsync.errors import TargetError
from kbsync.index.postgres import searching
from kbsync.index.postgres import store as module
from kbsync.index.postgres.connections import Connection
from kbsync.index.postgres.store import QUIET, PostgresStore
from kbsync.index.search import Search
from tests.index.entries import Numbers, entry
from tests.postgres.base import open_store, put
from tests.postgres.server import Server
from tests.share import long

pytestmark = long

MANY = 600
INDEX = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('kbsync.vector_hnsw_1')"
OF_VECTORS = "SELECT count(*)::int FROM pg_indexes WHERE schemaname = 'kbsync' AND indexdef LIKE '%hnsw%'"
PROGRESS = "SELECT phase FROM pg_stat_progress_create_index WHERE phase LIKE 'waiting%'"


@pytest.fixture(autouse=True)
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HNSW_FROM", MANY)
    monkeypatch.setattr(searching, "HNSW_FROM", MANY)


def fill(store: PostgresStore, host: str = "") -> None:
    """Insert half as many rows as make an index worthwhile."""
    texts = [f"word{number} kestrel {host}" for number in range(MANY // 2)]
    put(
        store,
        *(
            entry(number + 1, *texts[number : number + 100], path=f"{number}.md")
            for number in range(0, len(texts), 100)
        ),
    )


@contextmanager
def a_writer_that_does_not_end(postgres: Server, database: str) -> Iterator[None]:
    """Keep a writer's transaction open, for which index creation waits."""
    with psycopg.connect(postgres.dsn(database)) as holding:
        holding.execute("LOCK TABLE kbsync.vector IN ROW EXCLUSIVE MODE")
        yield


def test_vector_index_is_built_after_the_fill_and_serves_all_owners(
    postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, now = postgres.database(), 0.0
    with (
        open_store(postgres, database, "a/", clock=lambda: now) as ours,
        open_store(postgres, database, "b/") as its,
    ):
        ours.check()
        assert not ours.tidy()
        fill(its)
        assert its.purge()  # with few rows, nothing waits
        fill(ours, "again")
        now += QUIET - 1
        assert ours.tidy()  # there is work for `purge`
        assert not ours.purge()
        put(ours, entry(99, "merlin"))
        now += QUIET - 1
        assert not ours.purge()
        assert postgres.run(database, INDEX) == []
        queries = [
            Query(f"word{n} kestrel", paths=(path,) if path else (), own=own_only)
            for n in (5, 250)
            for path in (None, "200.md")
            for own_only in (False, True)
        ]
        before = [Search(ours, Numbers()).search(query) for query in queries]
        now += 1
        assert ours.purge()
        assert postgres.run(database, INDEX) == [(True,)]
        assert [Search(ours, Numbers()).search(query) for query in queries] == before
        matching = [[hit.remote_id for hit in hits] for hits in before]
        for few, most in ((50, 1), (1, 0)):  # the depth of its search for passages depends on them
            monkeypatch.setattr(searching, "FEW", few)
            monkeypatch.setattr(searching, "MAX_LISTED_DOCUMENTS", most)
            hits_of_each = [Search(ours, Numbers()).search(query) for query in queries]
            assert [[hit.remote_id for hit in hits] for hits in hits_of_each] == matching
        assert not ours.tidy()
        assert its.purge()
        assert postgres.run(database, OF_VECTORS) == [(1,)]


def test_vector_index_matches_the_query(postgres: Server, database: str) -> None:
    with open_store(postgres, database, "a/") as store, open_store(postgres, database, "b/") as other:
        fill(store)
        fill(other, "again")
    with open_store(postgres, database, "a/") as store:
        store.check()
        assert not store.tidy()  # a new pass creates it and waits
    # With so few, comparing all is faster.
    with psycopg.connect(postgres.dsn(database)) as connection:
        connection.execute(
            "SET search_path = kbsync, public; SET enable_seqscan = off; SET enable_sort = off"
        )
        distance = searching._distance(8)
        statement = searching._NEAREST.replace("@order", distance).replace("@distance", distance)
        values = {"model": 1, "limit": 150, "vector": "[1,0,0,0,0,0,0,0]"}
        plan = connection.execute("EXPLAIN " + statement.replace("@scope", ""), values).fetchall()
        assert any("vector_hnsw_1" in line for (line,) in plan), plan


def test_index_build_may_be_silent_for_longer_than_other_statements(
    postgres: Server, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_store(postgres, database, "a/") as store, ThreadPoolExecutor(1) as pool:
        fill(store)
        put(store, entry(99, *(f"heron {number}" for number in range(MANY // 2))))
        store._last_put = 0.0
        monkeypatch.setattr(Connection, "max_silence", 1.5)
        with a_writer_that_does_not_end(postgres, database):
            making = pool.submit(store.purge)
            while not postgres.run(database, PROGRESS):
                assert not making.done()
            with pytest.raises(TimeoutError):
                making.result(3.0)
        assert making.result(30)
        assert postgres.run(database, INDEX) == [(True,)]


def test_interrupted_index_build_is_repeated(postgres: Server, database: str) -> None:
    with open_store(postgres, database, "a/") as store, ThreadPoolExecutor(1) as pool:
        fill(store)
        put(store, entry(99, *(f"heron {number}" for number in range(MANY // 2))))
        store._last_put = 0.0
        with a_writer_that_does_not_end(postgres, database):
            making = pool.submit(store.purge)
            while not postgres.run(database, PROGRESS):
                assert not making.done()
            store.stop()
            with pytest.raises(TargetError):
                making.result(30)
        assert postgres.run(database, INDEX) == [(False,)]
    with open_store(postgres, database, "a/") as reopened:
        reopened.check()
        assert not reopened.tidy()
        assert postgres.run(database, INDEX) == [(True,)]


@pytest.mark.parametrize("is_orphan", [True, False])
def test_index_is_not_built_twice_concurrently(postgres: Server, database: str, is_orphan: bool) -> None:
    """Even if the host that started it was killed, or its role is invisible to ours."""
    maker, other = f"maker_{database}", f"other_{database}"
    with open_store(postgres, database, "a/") as store, open_store(postgres, database, "b/") as second:
        fill(store)
        fill(second, "again")
    owner = f"owner_{database}"
    postgres.run(database, f"CREATE ROLE {owner}")
    for role in (maker, other):
        postgres.run(database, f"CREATE ROLE {role} LOGIN IN ROLE {owner}")
    for table in ("base", "owner", "model", "document", "passage", "words", "vector"):
        postgres.run(database, f"ALTER TABLE kbsync.{table} OWNER TO {owner}")
    postgres.run(database, f"ALTER SCHEMA kbsync OWNER TO {owner}")
    with (
        open_store(postgres, database, "a/", user=maker) as store,
        open_store(postgres, database, "b/", user=other) as second,
        ThreadPoolExecutor(1) as pool,
    ):
        store.check()
        second.check()
        with a_writer_that_does_not_end(postgres, database):
            making = pool.submit(store.tidy)
            while not postgres.run(database, PROGRESS):
                assert not making.done()
            [(statement,)] = postgres.run(database, "SELECT 'kbsync.vector_hnsw_1'::regclass::oid::int")
            if is_orphan:
                guards = "SELECT pid FROM pg_locks WHERE locktype = 'advisory'"
                postgres.run(database, f"SELECT pg_terminate_backend(pid, 5000) FROM ({guards}) AS guard")
            assert not second.tidy()
            assert second.purge()
            assert not making.done()
        if is_orphan:
            with pytest.raises(TargetError):
                making.result(30)
        else:
            assert not making.result(30)
        assert postgres.run(database, INDEX) == [(True,)]
        [(still,)] = postgres.run(database, "SELECT 'kbsync.vector_hnsw_1'::regclass::oid::int")
        assert still == statement


def test_role_without_index_privileges_says_so_once_and_continues(
    postgres: Server, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    role = f"writer_{database}"
    with open_store(postgres, database, "a/") as store:
        fill(store)
        fill(store, "again")
        put(store, entry(99, *(f"heron {number}" for number in range(MANY))))
    postgres.run(database, f"CREATE ROLE {role} LOGIN")
    postgres.run(database, f"GRANT USAGE ON SCHEMA kbsync TO {role}")
    for kind in ("TABLES", "SEQUENCES"):
        postgres.run(database, f"GRANT ALL ON ALL {kind} IN SCHEMA kbsync TO {role}")
    with open_store(postgres, database, "b/", user=role) as store, caplog.at_level(logging.WARNING):
        store.check()
        for _ in range(3):
            assert not store.tidy()
            assert store.purge()
        put(store, entry(1, "merlin"))
        assert [record.message for record in caplog.records if "without an index" in record.message] == [
            "searching vectors without an index: kbsync needs a permission that the database "
            f"{database} at {postgres.folder} denies {role} (must be owner of table vector)"
        ]
