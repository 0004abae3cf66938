"""Tests the statements of a pass without changes."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.sandbox import eventually
from tests.postgres.server import Server
from tests.postgres.test_mirror import Host
from tests.share import long

PASSES = 4


@pytest.fixture(scope="module")
def talking() -> Iterator[Server]:
    """A server that logs each statement."""
    with Server(log_statement="all", log_min_messages="log", log_line_prefix="%d ") as server:
        yield server


def statements(server: Server, database: str) -> list[str]:
    """Return all statements sent to a database so far, including transaction control."""
    logged = (server.folder / "log").read_text()
    return re.findall(rf"^{database} LOG:  (?:statement|execute [^:]*): (.*)", logged, re.MULTILINE)


@long
@pytest.mark.parametrize("number", [200, 1_000])
def test_pass_without_changes_sends_at_most_three_statements_per_directory_page(
    tmp_path: Path, talking: Server, number: int
) -> None:
    """The number of documents doesn't matter: the state knows what was sent."""
    host = Host(tmp_path / "one", talking, talking.database(), "one/")
    host.config.write_text(host.config.read_text() + "    rescan: 1s\n")
    for file_number in range(number):
        host.write(f"{file_number}.md", f"kestrel {file_number}\n")
    assert host.once()["uploaded"] == number
    daemon = host.watch()

    def ended(passes: int) -> None:
        for _ in range(passes):
            last = host.status()["last_pass"]
            eventually(lambda last=last: host.status()["last_pass"] != last)  # type: ignore[misc]

    ended(2)
    before, since = len(statements(talking, host.database)), time.monotonic()
    ended(PASSES)
    statements_sent = statements(talking, host.database)[before:]
    passes = time.monotonic() - since + 1  # on a busy machine, `ended` doesn't see every pass
    assert len(statements_sent) <= 3 * passes, statements_sent
    assert daemon.end() == 0
    # A new process claims its row as well.
    before = len(statements(talking, host.database))
    assert host.once()["uploaded"] == 0
    statements_sent = statements(talking, host.database)[before:]
    assert len(statements_sent) <= 20, statements_sent
    host.close()
