"""Tests what happens when a real PgBouncer in transaction mode ends, refuses a setting or tidies up."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg
import pytest

from kbsync.errors import Halted, TargetError, Unavailable, Unsure
from kbsync.index.postgres.store import Owner, PostgresStore
from tests.cli.sandbox import eventually
from tests.index.entries import entry
from tests.postgres.base import (
    commits_without_an_answer,
    committing,
    find,
    leftover_rows,
    open_store,
    put,
    token,
)
from tests.postgres.pooler import Pooled
from tests.postgres.test_failures import outcome
from tests.programs import needs
from tests.share import enumerated, long

pytestmark = [needs("pgbouncer"), long]


@pytest.fixture(scope="module")
def postgres() -> Iterator[Pooled]:
    # If the pooler is set to clean up after each transaction, that must not remove anything that kbsync
    # needs.
    pooled = Pooled(pooler={"server_reset_query_always": "1", "server_reset_query": "DISCARD ALL"})
    yield pooled
    pooled.close()


@enumerated()
@pytest.mark.parametrize("ended", ["pooler", "session"])
def test_commit_whose_answer_is_lost_behind_a_pooler_is_unsure(
    postgres: Pooled, database: str, ended: str
) -> None:
    with open_store(postgres, database) as store, ThreadPoolExecutor(1) as pool:
        put(store, entry(1, "kestrel"))
        with commits_without_an_answer(postgres):
            storing = pool.submit(outcome, store, 2, "heron")
            [pid] = eventually(lambda: committing(postgres, database))
            if ended == "pooler":
                postgres.pooler.stop()
            else:
                postgres.run("postgres", "SELECT pg_terminate_backend(%s, 5000)", pid)
            unsure = storing.result(30)
            postgres.run("postgres", "SELECT pg_terminate_backend(%s, 5000)", pid)
        assert isinstance(unsure, Unsure), unsure
        if ended == "pooler":
            with pytest.raises(Unavailable):
                store.check()
            postgres.pooler.start()
        assert [row.upload_id for row in eventually(lambda: store.page(0, 9))] == [1, 2]
        put(store, entry(2, "heron"))
        assert [row.upload_id for row in store.page(0, 9)] == [1, 2]
        assert leftover_rows(postgres, database) == []


def test_server_restart_behind_a_pooler_causes_a_pause(postgres: Pooled) -> None:
    with open_store(postgres, postgres.database()) as store:
        [first] = put(store, entry(1, "kestrel"))
        for number in (signal.SIGINT, signal.SIGQUIT):
            postgres.stop(number)
            assert isinstance(outcome(store, 2), Unavailable)
            with pytest.raises(Unavailable):
                store.check()
            postgres.start()

            def is_found() -> bool:
                try:
                    return find(store, "kestrel") == {first}
                except Unavailable:  # the pooler pauses between its own tries
                    return False

            assert eventually(is_found)


@pytest.mark.parametrize(
    ("database", "more", "halt", "words"),
    [
        ("not_there", "", "knowledge-base-missing", "does not exist"),
        ("", "user=stranger", "credentials", "refuses the user"),
        ("", "user=gate", "credentials", "refuses the user"),  # the users that the pooler accepts
        ("", "options='-c search_path=mine'", "credentials", "unsupported startup parameter: options"),
    ],
)
def test_statements_a_pooler_refuses_halt(
    postgres: Pooled, database: str, more: str, halt: str, words: str
) -> None:
    dsn = f"{postgres.dsn(database or postgres.database())} password=hush {more}"
    with closing(PostgresStore(dsn, Owner("", token("")))) as store, pytest.raises(TargetError) as caught:
        store.check()
    assert isinstance(caught.value, Halted)
    assert caught.value.halt == halt
    assert words in str(caught.value)
    assert "hush" not in str(caught.value)


def test_two_owners_alternate_in_one_server_session(postgres: Pooled, database: str) -> None:
    """Settings of one transaction must not affect the next transaction of another client."""
    with open_store(postgres, database, "a/") as ours, open_store(postgres, database, "b/") as theirs:
        for number in range(3):
            put(ours, entry(number, f"kestrel {number}"))
            put(theirs, entry(number, f"heron {number}"))
        assert len(find(ours, "kestrel")) == len(find(theirs, "heron")) == 3
        with psycopg.connect(postgres.dsn(database), autocommit=True) as somebody:
            for setting, before in (("search_path", '"$user", public'), ("lock_timeout", "0")):
                assert somebody.execute(f"SHOW {setting}").fetchone() == (before,)
        sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s"
        assert postgres.run("postgres", sessions, database) == [(1,)]
