"""Tests what replaces failover (ADR 29): after a lost state, and after a daemon was suspended too long."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.sandbox import eventually
from tests.postgres.base import leftover_rows
from tests.postgres.server import Server
from tests.postgres.test_mirror import Host, documents
from tests.share import enumerated, long


@pytest.fixture
def host(tmp_path: Path, postgres: Server) -> Iterator[Host]:
    host = Host(tmp_path / "one", postgres, postgres.database(), "one/")
    for number in range(4):
        host.write(f"{number}.md", f"The kestrel, number {number}.\n")
    assert host.once()["uploaded"] == 4
    yield host
    host.close()


def rows(host: Host) -> list[Any]:
    """Return every row of documents, passages, words and vectors, by its position and transaction."""
    tables = ("document", "passage", "words", "vector")
    selects = (f"SELECT '{table}', ctid::text, xmin::text FROM kbsync.{table}" for table in tables)
    return host.server.run(host.database, " UNION ALL ".join(selects) + " ORDER BY 1, 2")


@long
def test_completely_lost_state_is_rebuilt_from_the_base_without_embedding(host: Host) -> None:
    before = rows(host)
    shutil.rmtree(host.state)  # including the mirror's token: its prefix proves its ownership
    assert host.once()["uploaded"] == 0
    assert rows(host) == before
    assert host.run("verify").code == 0


@long
@enumerated()
@pytest.mark.parametrize("state", ["none", "a copy"])
def test_daemon_that_slept_while_replaced_changes_nothing(host: Host, state: str) -> None:
    daemon = host.watch(hurried=True)
    daemon.wait_for_event("watch.started")
    daemon.send_signal(signal.SIGSTOP)
    other = ("--state-dir", host.root / "other state")
    if state == "a copy":  # with the token: only the generation distinguishes the two
        shutil.copytree(host.state, other[1])
    assert host.run("--once", "--json", *other).json["uploaded"] == 0
    before = rows(host)
    host.write("4.md", "The heron.\n")
    (host.docs / "0.md").unlink()
    daemon.send_signal(signal.SIGCONT)
    eventually(lambda: (host.status()["halt"] or {}).get("reason") == "superseded")
    assert rows(host) == before
    result = host.run("--once", "--json", *other)
    assert (result.json["uploaded"], result.json["deleted"]) == (1, 1)
    names = [f"{number}.md" for number in range(1, 5)]
    assert [path for _, path in documents(host.server, host.database)] == names
    assert leftover_rows(host.server, host.database) == []
    assert daemon.end() == 0
