"""Tests the database's own constraints, and what `verify` finds after somebody changed the tables."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from kbsync.contract.searching import Query, UnknownWords
from kbsync.index.postgres import writing
from kbsync.index.postgres.store import TABLES, Owner, PostgresStore
from kbsync.index.postgres.writing import term_of
from kbsync.index.search import Search
from kbsync.index.words import TOKENISER
from tests.index.entries import Numbers, entry
from tests.postgres.base import between, find, leftover_rows, open_store, put
from tests.postgres.server import Server
from tests.postgres.test_mirror import Host
from tests.share import long


@pytest.fixture
def host(tmp_path: Path, postgres: Server) -> Iterator[Host]:
    host = Host(tmp_path / "one", postgres, postgres.database(), "one/")
    yield host
    host.close()


def state(server: Server, database: str, number: int) -> PostgresStore:
    """Return one of several states of the same mirror on the same host."""
    return PostgresStore(server.dsn(database), Owner("one/", UUID(int=number), "handbook", "/docs", "files"))


def paths(server: Server, database: str) -> list[str]:
    return [path for (path,) in server.run(database, "SELECT shown FROM kbsync.document ORDER BY shown")]


# -- verify


@long
@pytest.mark.parametrize(
    ("damage", "missing"),
    [
        ("TRUNCATE kbsync.passage CASCADE", ["a.md", "b.md"]),
        ("TRUNCATE kbsync.words", ["a.md", "b.md"]),
        ("TRUNCATE kbsync.vector", ["a.md", "b.md"]),
        ("DELETE FROM kbsync.passage WHERE text LIKE '%%kestrel%%'", ["a.md"]),
    ],
)
def test_documents_without_their_passages_are_missing_and_repaired(
    host: Host, postgres: Server, damage: str, missing: list[str]
) -> None:
    host.write("a.md", "# Falcons\n\nThe kestrel.\n\n# Waders\n\nThe heron.\n")
    host.write("b.md", "# Gulls\n\nThe tern.\n")
    assert host.run("--once").code == 0
    assert host.run("verify").code == 0
    postgres.run(host.database, damage)
    result = host.run("verify", "--json")
    assert (result.code, result.json["mirrors"][0]["missing"]) == (1, missing)
    assert host.run("verify", "--repair").code == 1
    assert host.run("--once").code == 0
    assert [host.having(word) for word in ("kestrel", "heron", "tern")] == [["a.md"], ["a.md"], ["b.md"]]
    assert host.run("verify").code == 0
    assert paths(postgres, host.database) == ["a.md", "b.md"]
    assert leftover_rows(postgres, host.database) == []


@long
@pytest.mark.parametrize("table", ["passage", "words", "vector"])
def test_document_without_its_passages_counts_as_absent(postgres: Server, database: str, table: str) -> None:
    with open_store(postgres, database) as store:
        lost, complete = put(store, entry(1, "kestrel", "heron"), entry(2, "merlin"))
        column = "id" if table == "passage" else "passage"
        first = f"SELECT min({column}) FROM kbsync.{table}"
        postgres.run(database, f"DELETE FROM kbsync.{table} WHERE {column} = ({first})")
        assert [row.id for row in store.page(0, 9)] == [complete]
        assert store.find_existing([lost, complete]) == {complete}


@pytest.mark.parametrize("table", ["words", "vector"])
def test_new_version_restores_passages_the_old_one_lost(postgres: Server, database: str, table: str) -> None:
    with open_store(postgres, database) as store:
        [old] = put(store, entry(1, "kestrel", "heron", path="a.md"))
        postgres.run(database, f"TRUNCATE kbsync.{table}")
        [new] = put(store, entry(2, "kestrel", "merlin", path="a.md", replaces=old))
        assert store.find_existing([old, new]) == {new}
    assert leftover_rows(postgres, database) == []


# -- constraints of the tables


@long
@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO kbsync.passage (content, place, digest, text, headings) VALUES (0, 0, '', 'x', '{}')",
        "INSERT INTO kbsync.words VALUES (0, 1, 1, '{1}', '')",
        "INSERT INTO kbsync.vector VALUES (0, 1, 1, '', '[1]')",
        "UPDATE kbsync.document SET path = 'b.md'",
    ],
)
def test_orphan_rows_and_second_documents_of_a_path_are_refused(
    postgres: Server, database: str, statement: str
) -> None:
    with open_store(postgres, database) as store:
        put(store, entry(1, "kestrel", path="a.md"), entry(2, "heron", path="b.md"))
    with pytest.raises(psycopg.errors.IntegrityError):
        postgres.run(database, statement)


# -- one document for each path


@long
def test_alternating_states_leave_one_document_per_path(postgres: Server, database: str) -> None:
    with closing(state(postgres, database, 1)) as first:
        [old] = put(first, entry(1, "kestrel", path="a.md"))
    with closing(state(postgres, database, 2)) as second:
        [newer] = put(second, entry(1, "merlin", path="a.md"))
        assert second.find_existing([old, newer]) == {newer}
    with closing(state(postgres, database, 1)) as reopened:
        # It doesn't know what the other one stored.
        [newest] = put(reopened, entry(2, "heron", path="a.md", replaces=old))
        assert [row.id for row in reopened.page(0, 9)] == [newest]
        assert (find(reopened, "merlin"), find(reopened, "heron")) == (set(), {newest})
    assert leftover_rows(postgres, database) == []


@long
def test_document_of_another_state_is_replaced_by_a_renamed_one(postgres: Server, database: str) -> None:
    with closing(state(postgres, database, 1)) as first:
        put(first, entry(1, "kestrel", path="b.md"))
    with closing(state(postgres, database, 2)) as second:
        [renamed] = put(second, entry(1, "merlin", path="a.md"))
        second.rename(renamed, "b.md", "b", 2.0)
        assert [(row.id, row.path) for row in second.page(0, 9)] == [(renamed, "b.md")]
    assert leftover_rows(postgres, database) == []


@long
def test_documents_swapping_paths_are_searchable_throughout(postgres: Server, database: str) -> None:

    def words() -> list[set[int]]:
        return [find(store, word) for word in ("kestrel", "heron")]

    with closing(state(postgres, database, 1)) as store:
        first, second = put(store, entry(1, "kestrel", path="a.md"), entry(2, "heron", path="b.md"))
        store.rename(first, "b.md", "b", 2.0)
        assert words() == [{first}, {second}]
        store.rename(second, "a.md", "a", 2.0)
        assert words() == [{first}, {second}]
        assert {row.id: row.path for row in store.page(0, 9)} == {first: "b.md", second: "a.md"}
        # A new file replaces one that is being renamed: searches find that one until its own turn comes.
        [three] = put(store, entry(3, "merlin", path="a.md"))
        assert words() == [{first}, {second}] and find(store, "merlin") == {three}
        store.rename(second, "c.md", "c", 3.0)
        assert {row.id: row.path for row in store.page(0, 9)} == {
            first: "b.md",
            second: "c.md",
            three: "a.md",
        }
    with pytest.raises(psycopg.errors.IntegrityError):
        postgres.run(database, "UPDATE kbsync.document SET path = 'a.md'")


# -- words of an older kbsync


@long
def test_outdated_words_are_replaced_once_however_many_steps_they_take(
    postgres: Server, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(state(postgres, database, 1)) as store:
        # Version 7 kept the ending of the Russian word.
        texts = "kestrel настройки", "heron настройки", "unchanged"
        put(store, *(entry(number, text, path=f"{number}.md") for number, text in enumerate(texts, 1)))
    postgres.run(database, "UPDATE kbsync.document SET tokeniser = 7, terms = '{1}'")
    unchanged = f"NOT terms @> ARRAY[{term_of('unchang')}]"
    postgres.run(database, f"UPDATE kbsync.words SET terms = '{{1}}', counts = '\\x02' WHERE {unchanged}")
    [(row,)] = postgres.run(database, f"SELECT ctid FROM kbsync.words WHERE NOT {unchanged}")
    monkeypatch.setattr(writing, "_REWORDED_TOGETHER", 1)
    requests, steps = list[str](), list[str]()

    def step(_: psycopg.Connection[Any], statement: str) -> None:
        requests.extend([statement] if "SELECT EXISTS(SELECT 1 FROM document" in statement else [])
        steps.extend([statement] if "SET tokeniser = " in statement else [])

    between(monkeypatch, step)
    with closing(state(postgres, database, 1)) as store:
        _, documents = store.check()
        store.tidy()
        store.purge()
        assert (len(requests), len(steps)) == (1, documents) and documents == 3
    for word in ("kestrel", "heron"):
        having = f"SELECT count(*) FROM kbsync.words WHERE terms @> ARRAY[{term_of(word)}]"
        assert postgres.run(database, having) == [(1,)]
    assert postgres.run(database, f"SELECT ctid FROM kbsync.words WHERE NOT {unchanged}") == [(row,)]
    assert postgres.run(database, "SELECT DISTINCT tokeniser FROM kbsync.document") == [(TOKENISER,)]
    assert leftover_rows(postgres, database) == []


def test_outdated_word_is_found_as_it_is(postgres: Server, database: str) -> None:
    with closing(state(postgres, database, 1)) as store:
        put(store, entry(1, "настройки", path="1.md"), entry(2, "heron", path="2.md"))
        stem, word = term_of("настройк"), term_of("настройки")
        postgres.run(database, f"UPDATE kbsync.words SET terms = array_replace(terms, {stem}, {word})")
        searcher = Search(store, Numbers())
        reasons = searcher.search(Query("настройки", explain=True))[0].reasons
        assert reasons is not None and [word.word for word in reasons.in_text] == ["настройки"]
        assert searcher.unknown_words(Query("настройки")) == UnknownWords({}, False)
        assert searcher.unknown_words(Query("настройка")).are_all


# -- tables


def create_database(server: Server) -> str:
    database = server.database()
    with open_store(server, database) as store:
        store.check()
    return database


def tables(server: Server, database: str) -> dict[str, object]:
    """Return columns, constraints and indexes, however they were created."""
    request = {
        "columns": "SELECT attrelid::regclass::text, attname, format_type(atttypid, atttypmod), attnotnull,"
        " attstattarget, pg_get_expr(adbin, adrelid) FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid"
        " LEFT JOIN pg_attrdef d ON (adrelid, adnum) = (attrelid, attnum)"
        " WHERE relnamespace = 'kbsync'::regnamespace AND attnum > 0 AND NOT attisdropped"
        " AND relkind IN ('r', 'i') ORDER BY 1, 2",
        "constraints": "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)"
        " FROM pg_constraint WHERE connamespace = 'kbsync'::regnamespace ORDER BY 1, 2",
        "indexes": "SELECT indexdef FROM pg_indexes WHERE schemaname = 'kbsync' ORDER BY 1",
        "options": "SELECT relname, reloptions FROM pg_class"
        " WHERE relnamespace = 'kbsync'::regnamespace ORDER BY 1",
        "version": "SELECT version FROM kbsync.base",
    }
    return {name: server.run(database, statement) for name, statement in request.items()}


@long
def test_administrator_scripts_create_what_kbsync_creates(postgres: Server, database: str) -> None:
    postgres.run(database, TABLES.read_text())
    role = f"filler_{database}"
    postgres.run(
        database,
        f"CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA kbsync TO {role};"
        f" GRANT ALL ON ALL TABLES IN SCHEMA kbsync TO {role};"
        f" GRANT ALL ON ALL SEQUENCES IN SCHEMA kbsync TO {role}",
    )
    assert tables(postgres, database) == tables(postgres, create_database(postgres))
    with open_store(postgres, database, user=role) as store:
        put(store, entry(1, "kestrel"))
