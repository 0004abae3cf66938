"""Runs the commands and statements of the page about several machines, with a real PostgreSQL."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.rows import dict_row

from tests.cli.sandbox import eventually
from tests.docs.pages import ROOT, blocks
from tests.index.entries import entry
from tests.postgres.base import leftover_rows, open_store, put
from tests.postgres.server import Server, programs
from tests.postgres.test_mirror import Host, documents
from tests.programs import run_program, write_program
from tests.share import long

pytestmark = long

PAGE = ROOT / "docs" / "scale.md"
BACK_UP, RESTORE, REPAIR = (block.text for block in blocks(PAGE, "sh"))
STATEMENTS = [
    statement for block in blocks(PAGE, "sql") for statement in block.text.split(";\n") if statement.strip()
]


@pytest.fixture
def host(tmp_path: Path, postgres: Server) -> Iterator[Host]:
    """A host with a database named as on the page."""
    postgres.run("postgres", "CREATE ROLE kbsync LOGIN SUPERUSER")
    postgres.run("postgres", "CREATE DATABASE kb OWNER kbsync")
    postgres.run("kb", "CREATE EXTENSION vector")
    host = Host(tmp_path / "one", postgres, "kb", "one/")
    yield host
    host.close()
    for name in ("kb", "kb_restored", "kb_before"):
        postgres.run("postgres", f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    postgres.run("postgres", "DROP ROLE kbsync")


def run_block(host: Host, text: str, *codes: int) -> None:
    """Run a block in the host's shell; each line must exit with one of `codes`."""
    tools = host.root / "tools"
    write_program(tools / "kbsync", f'exec "{sys.executable}" -m kbsync "$@"')
    environ = host.environ({"PGHOST": str(host.server.folder), "PGUSER": "postgres", "PYTHONPATH": str(ROOT)})
    environ["PATH"] = f"{tools}:{programs()}:{os.environ['PATH']}"
    for line in text.splitlines():
        completed = run_program("sh", "-c", line, cwd=host.root, env=environ)
        assert completed.returncode in (codes or (0,)), (line, completed.stdout, completed.stderr)


def ids(host: Host) -> dict[str, int]:
    return dict(host.server.run("kb", "SELECT shown, id FROM kbsync.document"))


def test_restored_older_dump_is_repaired_in_both_directions(host: Host) -> None:
    for number in range(4):
        host.write(f"{number}.md", f"The kestrel, number {number}.\n")
    host.once()
    before = ids(host)
    run_block(host, BACK_UP)
    host.write("1.md", "The merlin, changed since.\n")
    host.write("4.md", "The heron, new since.\n")
    (host.docs / "0.md").unlink()
    host.once()
    run_block(host, RESTORE)
    host.write("5.md", "The wren, new after that.\n")
    passed = host.once()
    assert (passed["uploaded"], passed["replaced"], passed["deleted"]) == (2, 1, 1)
    assert (host.having("heron"), host.having("merlin")) == (["4.md"], ["1.md"])
    run_block(host, REPAIR, 0, 1)  # 1: something was found
    assert host.run("verify").code == 0
    assert [path for _, path in documents(host.server, "kb")] == [f"{number}.md" for number in range(1, 6)]
    kept_ids = {path: ids(host)[path] for path in ("2.md", "3.md")}
    assert kept_ids.items() <= before.items()
    assert leftover_rows(host.server, "kb") == []


def test_older_dump_with_its_old_uuid_loses_nothing_once_repaired(host: Host) -> None:
    """As after a fail-over to a replica that lagged: the states don't notice."""
    for number in range(2):
        host.write(f"{number}.md", f"The kestrel, number {number}.\n")
    host.once()
    run_block(host, BACK_UP)
    host.write("2.md", "The heron, new since.\n")
    host.write("3.md", "The merlin, new since.\n")
    host.once()
    lost = [ids(host)[f"{number}.md"] for number in (2, 3)]
    run_block(host, "\n".join(line for line in RESTORE.splitlines() if "uuid" not in line))
    host.write("4.md", "The wren, new after that.\n")
    host.write("5.md", "The robin, new after that.\n")
    host.once()
    assert not {ids(host)["4.md"], ids(host)["5.md"]} & set(lost)  # or they would look like those
    run_block(host, REPAIR, 0, 1)
    assert host.run("verify").code == 0
    assert [path for _, path in documents(host.server, "kb")] == [f"{number}.md" for number in range(6)]
    assert host.having("heron") == ["2.md"]


def test_daemon_continues_in_a_restored_database(host: Host) -> None:
    host.write("0.md", "The kestrel.\n")
    daemon = host.watch(hurried=True)
    daemon.wait_for_event("document.ready", path="0.md")
    run_block(host, BACK_UP)
    host.write("1.md", "The heron.\n")
    daemon.wait_for_event("document.ready", path="1.md")
    run_block(host, RESTORE)
    host.write("2.md", "The wren.\n")
    daemon.wait_for_event("document.ready", path="2.md")
    eventually(lambda: set(ids(host)) == {"0.md", "1.md", "2.md"})
    assert daemon.end() == 0


def test_every_statement_runs_and_returns_what_the_page_says(host: Host) -> None:
    server = host.server
    with open_store(server, "kb", "one/") as first, open_store(server, "kb", "two/") as second:
        put(first, entry(1, "alpha", "beta"), entry(2, "gamma"))
        put(second, entry(1, "delta"))
        server.run("kb", "VACUUM ANALYZE")
        server.run("kb", "SELECT pg_stat_force_next_flush()")
        questions = [statement for statement in STATEMENTS if statement.startswith("SELECT")]
        for statement in STATEMENTS:
            if statement not in questions:
                server.run("kb", statement)
        with first.snapshot(), psycopg.connect(server.dsn("kb"), row_factory=dict_row) as connection:
            results = [connection.execute(statement).fetchall() for statement in questions]
    owners, indexes, tables, transactions = results
    assert [(owner["prefix"], owner["documents"], owner["passages"]) for owner in owners] == [
        ("one/", 2, 3),
        ("two/", 1, 1),
    ]
    assert {"vector_pkey", "words_terms"} <= {index["relname"] for index in indexes if index["indisvalid"]}
    assert {"passage", "words", "vector", "document"} <= {table["relname"] for table in tables}
    assert [transaction["state"] for transaction in transactions] == ["idle in transaction"]
