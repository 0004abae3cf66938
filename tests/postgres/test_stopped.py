"""Tests a process that is suspended in the middle of a transaction while another takes its place."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.cli.sandbox import eventually
from tests.index.entries import Numbers, entry
from tests.postgres import drowsy
from tests.postgres.base import between, leftover_rows, open_store, put
from tests.postgres.server import Server
from tests.postgres.test_mirror import Host
from tests.share import long

pytestmark = long


class Drowsy(Host):
    """A host whose processes stop in the middle of their first change, on request."""

    modules = (drowsy.__name__, drowsy.__name__)


@pytest.fixture
def pair(tmp_path: Path, postgres: Server) -> Iterator[tuple[Drowsy, Drowsy]]:
    """Two machines with one folder on shared storage; the second has had its first pass."""
    database = postgres.database()
    first = Drowsy(tmp_path / "one", postgres, database, "docs/")
    second = Drowsy(tmp_path / "two", postgres, database, "docs/")
    second.config.write_text(first.config.read_text())
    for name in ("changed", "kept", "renamed"):
        first.write(f"{name}.md", f"The {name} falcon.\n")
    assert second.once()["uploaded"] == 3
    shutil.copytree(second.state, first.state)
    yield first, second
    for machine in (first, second):
        machine.close()


def texts(server: Server, database: str) -> list[tuple[str, str]]:
    """Return the base's texts, by path."""
    return server.run(
        database, "SELECT shown, text FROM kbsync.document JOIN kbsync.passage USING (content) ORDER BY 1"
    )


def is_stopped(process: int) -> bool:
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "T"


@pytest.mark.parametrize("stop_at", [*range(13), "copy"])
def test_paused_writer_past_its_deadline_stores_nothing_when_resumed(
    pair: tuple[Drowsy, Drowsy], postgres: Server, stop_at: int | str
) -> None:
    first, second = pair
    first.write("changed.md", "The first merlin.\n")
    first.write("new.md", "The first hobby.\n")
    (first.docs / "renamed.md").rename(first.docs / "moved.md")
    process = first.start("--once", env={"DROWSY": str(stop_at)})
    eventually(lambda: is_stopped(process.pid))
    first.write("changed.md", "The second merlin.\n")
    (first.docs / "new.md").unlink()
    assert second.go("--once").code == 0
    after = [
        ("changed.md", "The second merlin."),
        ("kept.md", "The kept falcon."),
        ("moved.md", "The renamed falcon."),
    ]
    assert texts(postgres, second.database) == after
    stamps = postgres.run(second.database, "SELECT xmin::text, id FROM kbsync.document ORDER BY id")
    process.send_signal(signal.SIGCONT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 3, err
    assert b"another kbsync" in err
    assert texts(postgres, second.database) == after
    assert postgres.run(second.database, "SELECT xmin::text, id FROM kbsync.document ORDER BY id") == stamps
    assert leftover_rows(postgres, second.database) == []
    result = second.once()
    assert (result["uploaded"], result["replaced"], result["renamed"]) == (0, 0, 0)


def test_writer_must_lock_its_own_row_to_avoid_a_unique_violation_on_waking(
    postgres: Server, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both take over the passages of the old version, and both insert their own in its place."""
    asleep, wake = threading.Event(), threading.Event()
    with open_store(postgres, database) as store:
        [first] = put(store, entry(1, "kestrel", "heron"))

        def doze(_: Any, statement: str) -> None:
            if threading.current_thread().name.startswith("stalled") and "DELETE FROM document" in statement:
                asleep.set()
                assert wake.wait(30)

        with monkeypatch.context() as patch, ThreadPoolExecutor(1, "stalled") as stalled:
            between(patch, doze)
            with ThreadPoolExecutor(1) as other:
                slow = stalled.submit(store.put, [entry(2, "kestrel", "merlin", replaces=first)], Numbers())
                assert asleep.wait(30)
                quick = other.submit(store.put, [entry(3, "kestrel", "hobby", replaces=first)], Numbers())
                waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock'"
                eventually(lambda: quick.done() or postgres.run("postgres", waiting, database))
                wake.set()
                outcomes = [future.result(30)[0] for future in (slow, quick)]
        assert all(isinstance(outcome, int) for outcome in outcomes), outcomes
        assert leftover_rows(postgres, database) == []


@pytest.mark.parametrize(
    ("stop_at", "state"), [("1", "idle in transaction"), ("copy", "active")], ids=["between", "in-a-copy"]
)
def test_sleeping_writer_in_a_transaction_does_not_block_takeover(
    postgres: Server, pair: tuple[Drowsy, Drowsy], stop_at: str, state: str
) -> None:
    """The server ends a session that sleeps between two statements; its successor ends one in the middle
    of a COPY.
    """
    first, second = pair
    first.write("changed.md", "The first merlin.\n")
    process = first.start("--once", env={"DROWSY": stop_at})
    eventually(lambda: is_stopped(process.pid))
    holding = "SELECT state FROM pg_stat_activity WHERE datname = %s AND backend_xid IS NOT NULL"
    assert postgres.run("postgres", holding, second.database) == [(state,)]
    long_ago = f"{holding} AND state_change < now() - interval '1 s'"
    eventually(lambda: stop_at != "copy" or postgres.run("postgres", long_ago, second.database))
    assert second.go("--once").code == 0
    assert is_stopped(process.pid)
    assert ("changed.md", "The first merlin.") in texts(postgres, second.database)


@pytest.mark.parametrize("words", [["forget", "handbook", "--delete-documents", "--yes"], ["verify"]])
def test_ctrl_c_ends_a_command_although_the_server_is_suspended(
    tmp_path: Path, postgres: Server, words: list[str]
) -> None:
    host = Host(tmp_path, postgres, postgres.database(), "docs/")
    host.write("a.md", "A falcon.\n")
    assert host.once()["uploaded"] == 1

    def is_connecting() -> bool:
        names = Path(f"/proc/{process.pid}/fd").iterdir()
        # The event loop has two sockets of its own.
        return sum(os.readlink(name).startswith("socket:") for name in names if name.is_symlink()) > 2

    postgres.process.send_signal(signal.SIGSTOP)
    try:
        process = host.start(*words)
        eventually(is_connecting)
        process.send_signal(signal.SIGINT)
        assert process.wait(5.0) == 130
    finally:
        postgres.process.send_signal(signal.SIGCONT)
    assert host.having("falcon") == ["a.md"]
    assert host.go("verify").code == 0
    host.close()
