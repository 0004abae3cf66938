"""Tests whole lives of mirrors into one database, through the program, on several hosts and with kills."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.sandbox import Sandbox, eventually
from tests.postgres.base import leftover_rows
from tests.postgres.server import Server, programs
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


@pytest.mark.parametrize("is_moved", [True, False])
def test_backup_made_while_a_daemon_writes_is_brought_up_to_date(
    hosts: list[Host], postgres: Server, is_moved: bool
) -> None:
    host, database = hosts[0], hosts[0].database
    for number in range(8):
        host.write(f"{number}.md", f"The kestrel {number}.\n")
    assert host.run("--once").code == 0
    daemon = host.watch(hurried=True)
    host.write("changed.md", "The heron.\n")
    eventually(lambda: len(documents(postgres, database)) == 9)
    dump = postgres.dump(database)
    # The same writer goes on, so the backup has the same claim, but fewer changes.
    host.write("new.md", "The merlin.\n")
    host.write("changed.md", "The tern.\n")
    (host.docs / "0.md").unlink()
    now = [("one/", path) for path in sorted(file.name for file in host.docs.iterdir())]
    eventually(lambda: documents(postgres, database) == now and host.having("tern") == ["changed.md"])
    assert daemon.end() == 0
    restored = postgres.database() if is_moved else database
    postgres.run(restored, "DROP SCHEMA IF EXISTS kbsync CASCADE")
    subprocess.run([programs() / "pg_restore", "--dbname", postgres.direct(restored)], input=dump, check=True)
    host.config.write_text(
        host.config.read_text().replace(
            json.dumps(postgres.dsn(database)), json.dumps(postgres.dsn(restored))
        )
    )
    assert host.run("--once").code == 0
    verified = host.run("verify")
    assert verified.code == 0, verified.out
    assert documents(postgres, restored) == now
    assert [host.having(word) for word in ("tern", "heron", "merlin")] == [["changed.md"], [], ["new.md"]]
    assert leftover_rows(postgres, restored) == []


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
