"""Tests one base that several hosts fill: a search on any host finds all documents and names their owners."""

from __future__ import annotations

import contextlib
import datetime
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kbsync.engine.status import clock_time
from tests.mcp.assistant import choose_installation, error_of, run_tool, text_of, within
from tests.postgres.base import between
from tests.postgres.server import Server
from tests.postgres.test_mirror import Host
from tests.share import enumerated, long


class Named(Host):
    """Gives this host another name, for code in the test's process."""

    def __init__(self, root: Path, server: Server, database: str, name: str, user: str = "postgres") -> None:
        self.name = name
        super().__init__(root / name, server, database, f"{name}/")
        self.config.write_text(self.config.read_text().replace("user=postgres", f"user={user}"))

    @contextlib.contextmanager
    def _inside(self, cwd: Path, env: dict[str, str]) -> Iterator[None]:
        with super()._inside(cwd, env), pytest.MonkeyPatch.context() as patch:
            patch.setattr(socket, "gethostname", lambda: self.name)
            yield

    def hits(self, *words: str) -> dict[str, dict[str, Any]]:
        """Return the hits of a search by the absolute path of their files; none may appear twice."""
        result = self.run("search", *words, "--json")
        assert result.code == 0, result.err
        hits = {hit["abs_path"]: hit for hit in result.json["hits"]}
        assert len(hits) == len(result.json["hits"])
        return hits


@pytest.fixture
def hosts(tmp_path: Path, postgres: Server) -> tuple[Named, Named]:
    database = postgres.database()
    first, second = (Named(tmp_path, postgres, database, name) for name in ("files-1", "files-2"))
    second.config.write_text(second.config.read_text().replace("name: handbook", "name: news"))
    for host in (first, second):
        host.write("birds/a.md", f"# Falcons\n\nThe kestrel of {host.name}.\n")
        host.write("b.txt", "The kestrel, the same everywhere.\n")
        assert host.run("--once").code == 0
    return first, second


@long
def test_search_finds_documents_of_every_host_and_names_their_owner(
    hosts: tuple[Named, Named], postgres: Server
) -> None:
    first, second = hosts
    day = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    postgres.run(first.database, "UPDATE kbsync.owner SET seen = %s WHERE host = 'files-2'", day)
    hits = first.hits("kestrel")
    assert set(hits) == {str(host.docs / path) for host in hosts for path in ("birds/a.md", "b.txt")}
    theirs, local = hits[str(second.docs / "birds/a.md")], hits[str(first.docs / "birds/a.md")]
    assert (theirs["path"], theirs["mirror"], theirs["host"]) == ("birds/a.md", "news", "files-2")
    assert theirs["as_of"] == "2026-01-02T03:04:05Z"
    assert (local["path"], local["mirror"], local["host"]) == ("birds/a.md", "handbook", "files-1")
    age = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(local["as_of"])
    assert age < datetime.timedelta(minutes=5)
    assert "kestrel of files-2" in theirs["text"]


@long
async def test_assistant_sees_document_owners_and_reads_only_local_ones(hosts: tuple[Named, Named]) -> None:
    first, _ = hosts
    with first._inside(first.root, {}):
        async with within(choose_installation(first, config=first.config)) as client:
            results = {
                (hit["host"], hit["path"]): hit
                for hit in (await run_tool(client, "search", query="kestrel"))["hits"]
            }
            assert set(results) == {(host.name, path) for host in hosts for path in ("birds/a.md", "b.txt")}
            theirs, local = results["files-2", "birds/a.md"], results["files-1", "birds/a.md"]
            assert theirs["mirror"] == "news" and not theirs["here"] and "state" not in theirs
            assert theirs["as_of"] is not None and "kestrel of files-2" in theirs["passages"][0]["text"]
            assert (local["abs_path"], local["state"]) == (str(first.docs / "birds/a.md"), "ready")
            text = text_of(await client.call_tool("search", {"query": "kestrel"}))
            assert "news on files-2: birds/a.md" in text
            read = await run_tool(client, "get", document_id=local["document_id"])
            assert "kestrel of files-1" in read["text"]
            message = await error_of(client, "get", document_id=theirs["document_id"])
            assert "Documents from other machines are available only as passages" in message


@long
def test_remote_hits_show_their_host_and_time(hosts: tuple[Named, Named], postgres: Server) -> None:
    first, second = hosts
    postgres.run(
        first.database, "UPDATE kbsync.owner SET seen = '2026-01-02T03:04:05Z' WHERE host = 'files-2'"
    )
    run_tool = first.run("search", "kestrel", tty=True).out
    headings = [line for line in run_tool.splitlines() if "a.md" in line or "b.txt" in line]
    away = [line for line in headings if "news on files-2: " in line]
    assert (len(headings), len(away)) == (4, 2)
    assert all(f"as of {clock_time(1767323045)}" in line for line in away)
    assert not any("as of" in line or "handbook" in line for line in headings if line not in away)
    assert str(second.docs) not in run_tool  # no link to a path on another machine
    paths = first.run("search", "kestrel", "--files").out.splitlines()
    assert sorted(paths) == sorted(str(first.docs / path) for path in ("birds/a.md", "b.txt"))


@enumerated()
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--mirror", "handbook"), ["files-1/birds/a.md", "files-1/b.txt"]),
        (("--path", "birds/"), ["files-1/birds/a.md", "files-2/birds/a.md"]),
        (("--path", "/birds"), ["files-1/birds/a.md", "files-2/birds/a.md"]),
        (("--type", "txt"), ["files-1/b.txt", "files-2/b.txt"]),
        (("--mirror", "handbook", "--type", "txt"), ["files-1/b.txt"]),
        # A path on this machine means this machine's files.
        (("--path", "{docs}"), ["files-1/birds/a.md", "files-1/b.txt"]),
        (('"kestrel"', "--path", "{docs}"), ["files-1/birds/a.md", "files-1/b.txt"]),
        (("--path", "{docs}/birds"), ["files-1/birds/a.md"]),
        (("--path", "./birds"), ["files-1/birds/a.md"]),
        (("--after", "2999-01-01"), []),
    ],
    ids=" ".join,
)
def test_options_narrow_to_paths_below_each_folder(
    hosts: tuple[Named, Named], words: tuple[str, ...], expected: list[str]
) -> None:
    first, _ = hosts
    result = first.run(
        "search", "kestrel", "--json", *(w.format(docs=first.docs) for w in words), cwd=first.docs
    )
    assert result.code == 0
    folders = {str(host.docs): host.name for host in hosts}
    run_tool = [
        hit["abs_path"].replace(folder, name)
        for hit in result.json["hits"]
        for folder, name in folders.items()
        if hit["abs_path"].startswith(folder)
    ]
    assert sorted(run_tool) == sorted(expected)


@long
def test_no_note_is_made_about_unchecked_documents(hosts: tuple[Named, Named]) -> None:
    first, second = hosts
    second.write("c.rst", "The kestrel.\n")
    assert second.run("--once").code == 0
    words = ("search", "zyzzyva", "--type", "rst")
    run_tool = first.run(*words)
    assert (run_tool.code, "no document matches" in run_tool.err) == (0, False)
    assert "no document matches --type rst" in first.run(*words, "--mirror", "handbook").err


def reader(hosts: tuple[Named, Named], postgres: Server, tmp_path: Path, name: str) -> Named:
    """A machine with a config and read access that has never mirrored anything."""
    database = hosts[0].database
    postgres.run(database, f"CREATE ROLE reader_{database} LOGIN")
    postgres.run(database, f"GRANT USAGE ON SCHEMA kbsync TO reader_{database}")
    postgres.run(database, f"GRANT SELECT ON ALL TABLES IN SCHEMA kbsync TO reader_{database}")
    return Named(tmp_path, postgres, database, name, f"reader_{database}")


@long
def test_searching_needs_only_a_config_and_read_privileges(
    hosts: tuple[Named, Named], postgres: Server, tmp_path: Path
) -> None:
    desk = reader(hosts, postgres, tmp_path, "desk")
    assert {(hit["host"], hit["path"]) for hit in desk.hits("kestrel").values()} == {
        (host.name, path) for host in hosts for path in ("birds/a.md", "b.txt")
    }
    assert desk.run("search", "kestrel", "--files").out == ""
    before = desk.files()
    assert desk.run("search", "kestrel").code == 0
    assert desk.files() == before
    result = desk.run("search", "kestrel", "--mirror", "handbook")
    assert (result.code, "desk/" in result.err, "--once" in result.err) == (2, True, True)
    # With another mirror's prefix in the config, this means that mirror's documents, which remain its own.
    desk.config.write_text(desk.config.read_text().replace('"desk/"', '"files-2/"'))
    hits = desk.hits("kestrel", "--mirror", "handbook")
    assert {hit["mirror"] for hit in hits.values()} == {"news"}
    assert set(hits) == {str(hosts[1].docs / path) for path in ("birds/a.md", "b.txt")}
    run_tool = desk.run("plan")
    assert (run_tool.code, "the mirror news on files-2" in run_tool.out) == (3, True), run_tool


@long
def test_missing_tables_are_reported_with_the_command_that_creates_them(
    tmp_path: Path, postgres: Server
) -> None:
    result = Named(tmp_path, postgres, postgres.database(), "desk").run("search", "kestrel")
    assert (result.code, "--once" in result.err) == (2, True)


def configured(host: Named, *mirrors: dict[str, Any]) -> None:
    dsn = host.server.dsn(host.database)
    several = [
        {"settle": "100ms", "target": {"type": "postgres", "dsn": dsn}} | mirror_entry
        | {"folder": str(host.docs / mirror_entry["name"]), "prefix": f"{host.name}/{mirror_entry['name']}/"}
        for mirror_entry in mirrors
    ]  # fmt: skip
    host.config.write_text(json.dumps({"mirrors": several}))


@long
def test_mirrors_of_one_base_are_answered_by_one_search(
    hosts: tuple[Named, Named], postgres: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Named(tmp_path, postgres, hosts[0].database, "home")
    configured(home, {"name": "garden"}, {"name": "kitchen"})
    for name in ("garden", "kitchen"):
        home.write(f"{name}/{name}.md", "The kestrel at home.\n")
    assert home.run("--once").code == 0
    statements = list[str]()
    with monkeypatch.context() as patch:
        between(patch, lambda _connection, statement: statements.append(statement))
        hits = home.hits("kestrel")
    assert sum("weighed" in statement for statement in statements) == 1
    local = {(hit["mirror"], hit["host"]) for hit in hits.values() if "/home/" in hit["abs_path"]}
    assert (len(hits), local) == (6, {("garden", "home"), ("kitchen", "home")})
    run_tool = home.run("search", "kestrel").out
    assert "garden: garden.md" in run_tool and "news on files-2: b.txt" in run_tool
    # An absolute pattern inside one of them applies to each mirror's own documents.
    only = home.hits("kestrel", "--path", str(home.docs / "garden"))
    assert [hit["path"] for hit in only.values()] == ["garden.md"]
    assert {hit["mirror"] for hit in home.hits("kestrel", "--mirror", "kitchen").values()} == {"kitchen"}

    # A mirror that hasn't mirrored anything yet is left out.
    configured(home, {"name": "garden"}, {"name": "attic"})
    local = home.hits("kestrel", "--mirror", "garden", "--mirror", "attic")
    assert [hit["mirror"] for hit in local.values()] == ["garden"]
    assert home.run("search", "kestrel", "--mirror", "attic").code == 2

    # With two addresses of one database, or different vectors, there are two searches, but each document
    # appears once.
    dsn = postgres.dsn(home.database) + " application_name=other"
    configured(home, {"name": "garden"}, {"name": "kitchen", "target": {"type": "postgres", "dsn": dsn}})
    assert len(home.hits("kestrel")) == 6


@long
def test_search_after_forgetting_the_last_mirror_finds_nothing(tmp_path: Path, postgres: Server) -> None:
    host = Named(tmp_path, postgres, postgres.database(), "home")
    host.write("a.md", "The kestrel at home.\n")
    assert host.run("--once").code == 0
    assert host.run("forget", "handbook", "--delete-documents", "--yes").code == 0
    assert postgres.run(host.database, "SELECT count(*) FROM kbsync.owner") == [(0,)]
    assert host.hits("kestrel") == {}


@long
def test_path_too_long_to_search_for_is_a_usage_error(hosts: tuple[Named, Named]) -> None:
    for path in ("a" * 50_000, "é" * 50_000, "*a" * 20_000):
        result = hosts[0].run("search", "kestrel", "--path", path)
        assert (result.code, "the path pattern is too long" in result.err) == (2, True), result.err[-300:]
    for path in ("a" * 4_000, "*" + "é" * 1_000, "**/" * 300 + "x"):
        assert hosts[0].hits("kestrel", "--path", path) == {}


@long
def test_mirrors_of_a_renamed_machine_are_still_its_own(tmp_path: Path, postgres: Server) -> None:
    home = Named(tmp_path, postgres, postgres.database(), "home")
    configured(home, {"name": "garden"}, {"name": "kitchen"})
    for name in ("garden", "kitchen"):
        home.write(f"{name}/{name}.md", "The kestrel at home.\n")
    assert home.run("--once").code == 0
    home.name = "renamed"
    files = home.run("search", "kestrel", "--files").out.splitlines()
    assert sorted(files) == [str(home.docs / name / f"{name}.md") for name in ("garden", "kitchen")]
    run_tool = home.run("search", "kestrel").out
    assert "garden.md" in run_tool and "kitchen.md" in run_tool and "on home" not in run_tool
