"""Tests the database's own constraints, and what `verify` finds after somebody changed the tables."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from kbsync.contract.searching import Query
from kbsync.errors import Halted
from kbsync.index.postgres import schema, writing
from kbsync.index.postgres.store import Owner, PostgresStore
from kbsync.index.postgres.writing import term_of
from kbsync.index.search import Search
from kbsync.index.words import TOKENISER
from tests.postgres.base import Numbers, between, entry, find, left_over, open_store, put
from tests.postgres.server import Server
from tests.postgres.test_mirror import Host
from tests.share import long

LAYOUT_1 = Path(__file__).with_name("layout-1.sql")


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
    ran = host.run("verify", "--json")
    assert (ran.code, ran.json["mirrors"][0]["missing"]) == (1, missing)
    assert host.run("verify", "--repair").code == 1
    assert host.run("--once").code == 0
    assert [host.having(word) for word in ("kestrel", "heron", "tern")] == [["a.md"], ["a.md"], ["b.md"]]
    assert host.run("verify").code == 0
    assert paths(postgres, host.database) == ["a.md", "b.md"]
    assert left_over(postgres, host.database) == []


@long
@pytest.mark.parametrize("table", ["passage", "words", "vector"])
def test_document_without_its_passages_counts_as_absent(postgres: Server, table: str) -> None:
    database = postgres.database()
    with open_store(postgres, database) as store:
        lost, whole = put(store, entry(1, "kestrel", "heron"), entry(2, "merlin"))
        column = "id" if table == "passage" else "passage"
        first = f"SELECT min({column}) FROM kbsync.{table}"
        postgres.run(database, f"DELETE FROM kbsync.{table} WHERE {column} = ({first})")
        assert [row.id for row in store.page(0, 9)] == [whole]
        assert store.find_existing([lost, whole]) == {whole}


@pytest.mark.parametrize("table", ["words", "vector"])
def test_new_version_restores_passages_the_old_one_lost(postgres: Server, table: str) -> None:
    database = postgres.database()
    with open_store(postgres, database) as store:
        [old] = put(store, entry(1, "kestrel", "heron", path="a.md"))
        postgres.run(database, f"TRUNCATE kbsync.{table}")
        [new] = put(store, entry(2, "kestrel", "merlin", path="a.md", replaces=old))
        assert store.find_existing([old, new]) == {new}
    assert left_over(postgres, database) == []


# -- constraints of the tables


@long
def test_dependent_rows_are_deleted_with_their_document(postgres: Server) -> None:
    database = postgres.database()
    with open_store(postgres, database) as store:
        put(store, entry(1, "kestrel", "heron"))
    postgres.run(database, "DELETE FROM kbsync.document")
    for table in ("passage", "words", "vector"):
        assert postgres.run(database, f"SELECT count(*) FROM kbsync.{table}") == [(0,)]


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
def test_orphan_rows_and_second_documents_of_a_path_are_refused(postgres: Server, statement: str) -> None:
    database = postgres.database()
    with open_store(postgres, database) as store:
        put(store, entry(1, "kestrel", path="a.md"), entry(2, "heron", path="b.md"))
    with pytest.raises(psycopg.errors.IntegrityError):
        postgres.run(database, statement)


# -- one document for each path


@long
def test_alternating_states_leave_one_document_per_path(postgres: Server) -> None:
    database = postgres.database()
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
    assert left_over(postgres, database) == []


@long
def test_document_of_another_state_is_replaced_by_a_renamed_one(postgres: Server) -> None:
    database = postgres.database()
    with closing(state(postgres, database, 1)) as first:
        put(first, entry(1, "kestrel", path="b.md"))
    with closing(state(postgres, database, 2)) as second:
        [renamed] = put(second, entry(1, "merlin", path="a.md"))
        second.rename(renamed, "b.md", "b", 2.0)
        assert [(row.id, row.path) for row in second.page(0, 9)] == [(renamed, "b.md")]
    assert left_over(postgres, database) == []


@long
def test_documents_swapping_paths_are_searchable_throughout(postgres: Server) -> None:
    database = postgres.database()

    def words() -> list[set[int]]:
        return [find(store, word) for word in ("kestrel", "heron")]

    with closing(state(postgres, database, 1)) as store:
        one, two = put(store, entry(1, "kestrel", path="a.md"), entry(2, "heron", path="b.md"))
        store.rename(one, "b.md", "b", 2.0)
        assert words() == [{one}, {two}]
        store.rename(two, "a.md", "a", 2.0)
        assert words() == [{one}, {two}]
        assert {row.id: row.path for row in store.page(0, 9)} == {one: "b.md", two: "a.md"}
        # A new file replaces one that is being renamed: searches find that one until its own turn comes.
        [three] = put(store, entry(3, "merlin", path="a.md"))
        assert words() == [{one}, {two}] and find(store, "merlin") == {three}
        store.rename(two, "c.md", "c", 3.0)
        assert {row.id: row.path for row in store.page(0, 9)} == {one: "b.md", two: "c.md", three: "a.md"}
    with pytest.raises(psycopg.errors.IntegrityError):
        postgres.run(database, "UPDATE kbsync.document SET path = 'a.md'")


# -- bases of an older kbsync


@pytest.fixture
def older(postgres: Server) -> str:
    database = postgres.database()
    postgres.run(database, LAYOUT_1.read_text())
    return database


@long
def test_layout_1_base_is_upgraded_and_keeps_its_documents(postgres: Server, older: str) -> None:
    owner = Owner("one/", UUID(int=1), "handbook", "/srv/docs", "files")
    with closing(PostgresStore(postgres.dsn(older), owner)) as store:
        uuid, _ = store.check()
        assert uuid == "c67e3590-13bb-4a26-8fda-1d8d10457c5a"
        assert store.check() == (uuid, 2)
        # Of two documents with one path, the latest remains.
        assert [row.path for row in store.page(0, 9)] == ["b.md", "a.md"]
        [hit] = Search(store, Numbers()).search(Query("kestrel", top_k=1, own=True))
        assert hit.passages[0].text == "The kestrel, once more."
        both = f"ARRAY[{term_of('a')}, {term_of('kestrel')}]"
        words = f"SELECT count(*) FROM kbsync.words WHERE terms @> {both}"
        assert postgres.run(older, words) == [(1,)]
        assert store.tidy() and store.purge()
        assert postgres.run(older, words) == [(0,)], "the name is the document's"
        assert postgres.run(older, "SELECT DISTINCT tokeniser FROM kbsync.document") == [(TOKENISER,)]
        assert left_over(postgres, older) == []
        put(store, entry(4, "The kestrel and others.", path="a.md", replaces=int(hit.remote_id)))
        store.delete([row.id for row in store.page(0, 9) if row.path == "b.md"])
    assert paths(postgres, older) == ["a.md"]
    assert left_over(postgres, older) == []
    assert tables(postgres, older) == tables(postgres, create_database(postgres))


@long
def test_outdated_words_are_searched_once_however_many_steps_they_take(
    postgres: Server, older: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "_REWORDED_TOGETHER", 1)
    requests, steps = list[str](), list[str]()

    def step(_: psycopg.Connection[Any], statement: str) -> None:
        requests.extend([statement] if "SELECT EXISTS(SELECT 1 FROM document" in statement else [])
        steps.extend([statement] if "SET tokeniser = " in statement else [])

    between(monkeypatch, step)
    owner = Owner("one/", UUID(int=1), "handbook", "/srv/docs", "files")
    with closing(PostgresStore(postgres.dsn(older), owner)) as store:
        _, documents = store.check()
        store.tidy()
        store.purge()
    assert (len(requests), len(steps)) == (1, documents) and documents > 1


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
def test_reader_works_with_a_base_not_upgraded_yet(postgres: Server, older: str) -> None:
    with open_store(postgres, older, "one/", read_only=True) as reader:
        assert find(reader, "merlin")
        assert len(reader.page(0, 9)) == 3
        assert len(reader.find_existing([row.id for row in reader.page(0, 9)])) == 3
    assert postgres.run(older, "SELECT version FROM kbsync.base") == [(1,)]


@long
def test_older_running_kbsync_writes_nothing_after_the_upgrade(postgres: Server, older: str) -> None:
    [(before,)] = postgres.run(older, "SELECT generation FROM kbsync.owner")
    with open_store(postgres, older, "two/") as other:
        other.check()
    [(after,)] = postgres.run(older, "SELECT generation FROM kbsync.owner WHERE prefix = 'one/'")
    assert after > before


@long
def test_role_without_upgrade_privileges_names_the_role_that_has_them(postgres: Server, older: str) -> None:
    role = f"writer_{older}"
    postgres.run(
        older,
        f"CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA kbsync TO {role};"
        f" GRANT ALL ON ALL TABLES IN SCHEMA kbsync TO {role};"
        f" GRANT ALL ON ALL SEQUENCES IN SCHEMA kbsync TO {role}",
    )
    with open_store(postgres, older, "two/", user=role) as store:
        with pytest.raises(Halted) as caught:
            store.check()
        assert "layout 1" in caught.value.reason and "belong to postgres" in caught.value.reason
        assert "-U postgres" in caught.value.fix and "upgrade-2.sql" in caught.value.fix
        assert "\n" not in caught.value.fix
        words = shlex.split(caught.value.fix)
        for upgrade in [Path(after) for word, after in itertools.pairwise(words) if word == "-f"]:
            postgres.run(older, upgrade.read_text())
        postgres.run(older, f"GRANT ALL ON ALL TABLES IN SCHEMA kbsync TO {role}")
        assert store.check()[0]
        put(store, entry(1, "kestrel"))


@long
def test_administrator_scripts_create_what_kbsync_creates(postgres: Server) -> None:
    database = postgres.database()
    postgres.run(database, schema.TABLES.read_text())
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
