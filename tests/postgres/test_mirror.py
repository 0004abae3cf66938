"""Tests whole lives of mirrors into one database, through the program, on several hosts and with kills."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.sandbox import Sandbox, eventually
from tests.postgres.base import leftover_rows
from tests.postgres.server import Server
from tests.share import long

pytestmark = long


class Host(Sandbox):
    """A machine that mirrors its `docs` into a database under a prefix."""

    def __init__(self, root: Path, server: Server, database: str, prefix: str) -> None:
        root.mkdir(exist_ok=True)
        super().__init__(root)
        self.server, self.database, self.prefix = server, database, prefix
        self.configure(
            f"prefix: {json.dumps(prefix)}\n"
            f"target: {{type: postgres, dsn: {json.dumps(server.dsn(database))}}}\n"
        )

    def having(self, word: str) -> list[str]:
        """Return the paths of this host's files with a word in their passages."""
        hits = self.run("search", word, "--mirror", "handbook", "--json").json["hits"]
        return sorted(
            hit["path"] for hit in hits if any(word in passage["text"] for passage in hit["passages"])
        )


@pytest.fixture
def hosts(tmp_path: Path, postgres: Server) -> Iterator[list[Host]]:
    database = postgres.database()
    hosts = [Host(tmp_path / name, postgres, database, f"{name}/") for name in ("one", "two")]
    yield hosts
    for host in hosts:
        host.close()


def documents(server: Server, database: str) -> list[Any]:
    return server.run(
        database,
        "SELECT prefix, shown FROM kbsync.document d JOIN kbsync.owner o ON o.id = d.owner ORDER BY 1, 2",
    )


def test_folder_is_mirrored_into_a_shared_database(hosts: list[Host], postgres: Server) -> None:
    first, second = hosts
    assert first.run("plan").code == 0
    assert first.run("search", "kestrel").code == 2  # nothing was mirrored yet
    for host in hosts:
        host.write("a.md", f"# Falcons\n\nThe kestrel of {host.prefix}.\n")
        host.write("b.md", "# Waders\n\nThe heron, the same everywhere.\n")
        assert host.run("--once").code == 0
    assert first.having("kestrel") == second.having("kestrel") == ["a.md"]
    assert documents(postgres, first.database) == [
        *(("one/", "a.md"), ("one/", "b.md"), ("two/", "a.md"), ("two/", "b.md"))
    ]
    first.write("a.md", "# Falcons\n\nThe merlin.\n")
    (first.docs / "b.md").rename(first.docs / "c.md")
    result = first.run("--once", "--json")
    assert (result.code, result.json["replaced"], result.json["renamed"]) == (0, 1, 1)
    assert (first.having("kestrel"), first.having("merlin"), first.having("heron")) == (
        [],
        ["a.md"],
        ["c.md"],
    )
    (first.docs / "a.md").unlink()
    assert first.run("--once").code == 0
    assert documents(postgres, first.database) == [("one/", "c.md"), ("two/", "a.md"), ("two/", "b.md")]
    assert second.run("verify").code == 0
    assert leftover_rows(postgres, first.database) == []


def test_lost_state_takes_over_only_its_own_documents(hosts: list[Host], postgres: Server) -> None:
    for host in hosts:
        host.write("a.md", f"# Falcons\n\nThe kestrel of {host.prefix}.\n")
        assert host.run("--once").code == 0
    first, second = hosts
    before = postgres.run(first.database, "SELECT id FROM kbsync.document ORDER BY id")
    (first.state / "state.db").unlink()
    result = first.run("--once", "--json")
    assert (result.code, result.json["uploaded"]) == (0, 0)
    assert postgres.run(first.database, "SELECT id FROM kbsync.document ORDER BY id") == before
    assert second.run("--once", "--json").json["uploaded"] == 0


def halt_of(host: Host) -> Any:
    """Return why the host's mirror is halted, according to `status`."""
    return host.run("status", "--json").json["mirrors"][0]["halt"]


def test_changed_prefix_keeps_the_documents(hosts: list[Host], postgres: Server) -> None:
    first, second = hosts
    for host in hosts:
        host.write("a.md", "The kestrel.\n")
        assert host.run("--once").code == 0
    first.config.write_text(first.config.read_text().replace('"one/"', '"three/"'))
    result = first.run("--once", "--json")
    assert (result.code, result.json["uploaded"], result.json["renamed"]) == (0, 0, 1)
    assert documents(postgres, first.database) == [("three/", "a.md"), ("two/", "a.md")]
    # Another mirror's prefix is refused with a message.
    first.config.write_text(first.config.read_text().replace('"three/"', '"two/"'))
    planned = first.run("plan", "--json").json["mirrors"][0].get("halt")
    result = first.run("--once")
    assert result.code == 3
    assert "give each mirror its own prefix" in result.err
    assert planned == halt_of(first)
    assert second.run("verify").code == 0


def test_overlapping_prefixes_of_two_machines_create_no_duplicate_names(
    hosts: list[Host], postgres: Server
) -> None:
    first, second = hosts
    first.write("two/x.md", "The kestrel.\n")
    second.write("x.md", "The heron.\n")
    first.config.write_text(first.config.read_text().replace('"one/"', '""'))
    assert first.run("--once").code == 0
    planned = second.run("plan", "--json").json["mirrors"][0].get("halt")
    result = second.run("--once")
    assert result.code == 3 and "clash in one knowledge base" in result.err
    assert planned == halt_of(second)
    assert documents(postgres, first.database) == [("", "two/x.md")]


def test_recreated_database_is_filled_again(hosts: list[Host], postgres: Server) -> None:
    host, _ = hosts
    host.write("a.md", "# Falcons\n\nThe kestrel.\n")
    assert host.run("--once").code == 0
    postgres.run(host.database, "DROP SCHEMA kbsync CASCADE")
    assert host.run("--once", "--json").json["uploaded"] == 1
    assert host.having("kestrel") == ["a.md"]


def test_daemon_survives_a_server_restart(hosts: list[Host], postgres: Server) -> None:
    host, _ = hosts
    host.write("a.md", "The kestrel.\n")
    daemon = host.watch(hurried=True)
    daemon.wait_for_event("document.ready", path="a.md")
    postgres.stop(signal.SIGQUIT)
    host.write("b.md", "The heron.\n")
    eventually(lambda: any("cannot be reached" in item["reason"] for item in host.status()["items"]))
    postgres.start()
    daemon.wait_for_event("document.ready", path="b.md")
    assert host.having("heron") == ["b.md"]
    assert daemon.end() == 0
    assert leftover_rows(postgres, host.database) == []


@pytest.mark.parametrize("victim", ["host", "server"])
def test_kill_mid_pass_leaves_one_document_per_file(hosts: list[Host], postgres: Server, victim: str) -> None:
    host, _ = hosts
    database = host.database
    for number in range(150):
        host.write(f"{number}.md", f"The kestrel {number}.\n")
    postgres.run(database, "CREATE SCHEMA kbsync")
    for least in (1, 40, 90):
        process = host.start("--once")

        def is_in_the_middle(least: int = least, process: Any = process) -> bool:
            if process.poll() is not None:
                return True
            if postgres.run(database, "SELECT to_regclass('kbsync.document')") == [(None,)]:
                return False
            return bool(postgres.run(database, "SELECT count(*) FROM kbsync.document") >= [(least,)])

        eventually(is_in_the_middle)
        assert process.poll() is None
        if victim == "host":
            process.kill()
        else:
            postgres.stop(signal.SIGQUIT)
            postgres.start()
        process.communicate(timeout=60)
        host.write("0.md", f"The kestrel 0, version {least}.\n")
    assert host.once()["failed"] == 0
    assert host.run("verify").code == 0
    assert sorted(path for _, path in documents(postgres, database)) == sorted(
        f"{number}.md" for number in range(150)
    )
    assert leftover_rows(postgres, database) == []
