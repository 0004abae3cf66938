"""Shared code for tests of the store: documents, vectors of no model, and pauses between two statements."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

import psycopg
import pytest

from kbsync.contract.searching import Query
from kbsync.index.document import Entry
from kbsync.index.postgres.store import Owner, PostgresStore
from kbsync.index.search import Search
from tests.index.entries import Numbers
from tests.postgres.server import Server


def put(store: PostgresStore, *entries: Entry) -> list[int]:
    outcomes = store.put(entries, Numbers())
    assert all(isinstance(outcome, int) for outcome in outcomes), outcomes
    return [outcome for outcome in outcomes if isinstance(outcome, int)]


def find(store: PostgresStore, word: str) -> set[int]:
    """Return the owner's documents with a word in their passages."""
    hits = Search(store, Numbers()).search(Query(word, top_k=50, own=True))
    return {int(hit.remote_id) for hit in hits if any(word in passage.text for passage in hit.passages)}


def token(prefix: str) -> UUID:
    """Return the token of a state that always used this prefix."""
    return uuid5(NAMESPACE_URL, prefix)


@contextmanager
def open_store(
    server: Server,
    database: str,
    prefix: str = "",
    *,
    user: str = "postgres",
    read_only: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[PostgresStore]:
    owner = Owner(prefix, None if read_only else token(prefix))
    dsn = server.dsn(database, user)
    with closing(PostgresStore(dsn, owner, read_only=read_only, clock=clock)) as store:
        yield store


def between(monkeypatch: pytest.MonkeyPatch, step: Callable[[psycopg.Connection[Any], str], None]) -> None:
    """Call `step` before each statement of a store, with the connection and the statement."""

    def is_of_a_store(connection: Any) -> bool:
        return not connection.closed and "application_name" in connection.info.get_parameters()

    execute, copy = psycopg.Connection.execute, psycopg.Cursor.copy

    def execute_watched(connection: Any, statement: Any, *values: Any, **options: Any) -> Any:
        if is_of_a_store(connection):
            step(connection, str(statement))
        return execute(connection, statement, *values, **options)

    def report_copy(cursor: Any, statement: Any, *values: Any, **options: Any) -> Any:
        if is_of_a_store(cursor.connection):
            step(cursor.connection, str(statement))
        return copy(cursor, statement, *values, **options)

    monkeypatch.setattr(psycopg.Connection, "execute", execute_watched)
    monkeypatch.setattr(psycopg.Cursor, "copy", report_copy)


def session_of(connection: psycopg.Connection[Any]) -> int:
    """Return the server process that works for a connection: a pooler reports another one."""
    pid = connection.pgconn.exec_(b"SELECT pg_backend_pid()").get_value(0, 0)
    assert pid is not None
    return int(pid)


@contextmanager
def commits_without_an_answer(server: Server) -> Iterator[None]:
    """Let each COMMIT reach the disk and wait for a missing standby, until its session ends."""

    def wait_for(standby: str) -> None:
        server.run("postgres", f"ALTER SYSTEM SET synchronous_standby_names = '{standby}'")
        server.run("postgres", "SELECT pg_reload_conf()")

    wait_for("nobody")
    try:
        while server.run("postgres", "SHOW synchronous_standby_names") != [("nobody",)]:
            pass
        yield
    finally:
        wait_for("")


def committing(server: Server, database: str) -> list[int]:
    """Return the server processes that wait so."""
    waiting = "SELECT pid FROM pg_stat_activity WHERE datname = %s AND wait_event = 'SyncRep'"
    return [pid for (pid,) in server.run("postgres", waiting, database)]


def leftover_rows(server: Server, database: str) -> list[Any]:
    """Return rows without an owner, and wrong counts."""
    return server.run(
        database,
        """
        SET search_path = kbsync;
        SELECT 'passage', id FROM passage WHERE content NOT IN (SELECT content FROM document)
        UNION ALL SELECT 'words', passage FROM words WHERE passage NOT IN (SELECT id FROM passage)
        UNION ALL SELECT 'vector', passage FROM vector WHERE passage NOT IN (SELECT id FROM passage)
        UNION ALL SELECT 'no words', id FROM passage WHERE id NOT IN (SELECT passage FROM words)
        UNION ALL SELECT 'no vector', id FROM passage WHERE id NOT IN (SELECT passage FROM vector)
        UNION ALL SELECT 'count', o.id FROM owner o WHERE (documents, passages, words) IS DISTINCT FROM (
          (SELECT count(*) FROM document d WHERE d.owner = o.id),
          (SELECT count(*) FROM words w WHERE w.owner = o.id),
          (SELECT coalesce(sum(length), 0) FROM words w WHERE w.owner = o.id))
        """,
    )
