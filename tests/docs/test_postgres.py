"""Runs the statements of the page on PostgreSQL as printed, with a mirror that needs them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import psycopg
import pytest

from tests.docs.pages import ROOT, Block, blocks
from tests.index.entries import entry
from tests.postgres.base import find, open_store, put
from tests.postgres.server import Server, programs
from tests.share import long

PAGE = ROOT / "docs/targets/postgres.md"


@pytest.fixture
def server(postgres: Server) -> Iterator[Server]:
    yield postgres
    postgres.run("postgres", "DROP DATABASE IF EXISTS kb WITH (FORCE)")
    for role in ("kbsync", "reader"):
        postgres.run("postgres", f"DROP ROLE IF EXISTS {role}")


def block_with(language: str, words: str) -> Block:
    [block] = [candidate for candidate in blocks(PAGE, language) if words in candidate.text]
    return block


def run_sql(server: Server, block: Block, database: str) -> None:
    command = [programs() / "psql", "-h", server.folder, "-U", "postgres", "-d", database]
    subprocess.run(
        [*command, "-v", "ON_ERROR_STOP=1"], input=block.text, text=True, check=True, capture_output=True
    )


@long
@pytest.mark.parametrize("by_hand", [False, True], ids=["kbsync makes the tables", "an administrator does"])
def test_database_set_up_as_documented_can_be_filled_and_read(server: Server, by_hand: bool) -> None:
    run_sql(server, block_with("sql", "CREATE DATABASE kb OWNER kbsync"), "postgres")
    if by_hand:
        server.run("kb", "ALTER DATABASE kb OWNER TO postgres")
        environ = {"PATH": f"{programs()}:/usr/bin:/bin", "PGHOST": str(server.folder), "PGUSER": "postgres"}
        script = block_with("sh", "tables.sql").text
        subprocess.run(
            ["sh", "-euc", script], cwd=ROOT, env=environ, check=True, capture_output=True, text=True
        )
        statement = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'kbsync'"
        assert server.run("kb", statement) == [("kbsync",)]
        assert server.run("kb", "SELECT has_database_privilege('kbsync', 'kb', 'CREATE')") == [(False,)]
    with open_store(server, "kb", user="kbsync") as store:
        [number] = put(store, entry(1, "kestrel"))
        run_sql(server, block_with("sql", "CREATE ROLE reader"), "kb")
        run_sql(server, block_with("sql", "autovacuum"), "kb")
        with open_store(server, "kb", user="reader", read_only=True) as reader:
            assert find(reader, "kestrel") == {number}
    # A table that a later kbsync adds.
    with psycopg.connect(server.direct("kb", "kbsync"), autocommit=True) as owner:
        owner.execute("CREATE TABLE kbsync.later ()")
    with psycopg.connect(server.direct("kb", "reader")) as reading:
        reading.execute("SELECT FROM kbsync.later")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reading.execute("DELETE FROM kbsync.document")


def test_every_statement_of_the_page_is_run() -> None:
    assert len(list(blocks(PAGE, "sql"))) == 3
    assert len(list(blocks(PAGE, "sh", "console"))) == 1
