"""Tests unusable databases through the program: exit codes, messages, and that it continues afterwards."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.sandbox import eventually
from tests.postgres.server import Server
from tests.postgres.test_mirror import Host
from tests.share import long

pytestmark = long

SECRET = "hush-hush"


@pytest.fixture
def host(tmp_path: Path, postgres: Server) -> Iterator[Host]:
    host = Host(tmp_path / "one", postgres, postgres.database(), "one/")
    host.write("a.md", "The kestrel.\n")
    yield host
    host.close()


def aim(host: Host, dsn: str) -> None:
    """Let the config name another database."""
    host.configure(f'prefix: "one/"\ntarget: {{type: postgres, dsn: {json.dumps(dsn)}}}\n')


def keep(host: Host, dsn: str) -> Path:
    """Store the dsn in a separate file."""
    file = host.root / "dsn"
    file.write_text(dsn)
    file.chmod(0o600)
    host.configure(f'prefix: "one/"\ntarget: {{type: postgres, dsn_file: {file}}}\n')
    return file


def with_password(server: Server, role: str) -> str:
    """Create a role that needs its password; return its dsn without that."""
    rules = server.folder / "data" / "pg_hba.conf"
    if role not in rules.read_text():
        rules.write_text(f"local all {role} scram-sha-256\n{rules.read_text()}")
        server.run("postgres", f"CREATE ROLE {role} SUPERUSER LOGIN PASSWORD '{SECRET}'")
        server.run("postgres", "SELECT pg_reload_conf()")
    return f"host={server.folder} user={role}"


@dataclass(frozen=True)
class BadDatabase:
    """A problem of the database, the message of `--once`, and its fix."""

    name: str
    code: int
    words: str
    halt: str
    make: Callable[[Host], object]
    mend: Callable[[Host], object]


def unreachable(host: Host) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    aim(host, f"postgresql://ada:{SECRET}@127.0.0.1:{port}/kb")


def aimed_right(host: Host) -> None:
    aim(host, host.server.dsn(host.database))


def wrong_password(host: Host) -> None:
    aim(host, f"{with_password(host.server, 'keeper')} dbname={host.database} password=not-{SECRET}")


def right_password(host: Host) -> None:
    aim(host, f"{with_password(host.server, 'keeper')} dbname={host.database} password={SECRET}")


def statement(text: str) -> Callable[[Host], object]:
    return lambda host: host.server.run(host.database, text.replace("@", host.database))


NO_EXTENSION = statement("DROP EXTENSION vector CASCADE; DROP SCHEMA IF EXISTS kbsync CASCADE")
READ_ONLY = statement("ALTER DATABASE @ SET default_transaction_read_only = on")
WRITABLE = statement("SET transaction_read_only = off; ALTER DATABASE @ RESET default_transaction_read_only")
TROUBLES = (
    BadDatabase("unreachable", 4, "cannot be reached", "target-down", unreachable, aimed_right),
    BadDatabase("password", 3, "refuses the user", "credentials", wrong_password, right_password),
    BadDatabase(
        "extension",
        3,
        "CREATE EXTENSION vector",
        "unsuitable-server",
        NO_EXTENSION,
        statement("CREATE EXTENSION vector"),
    ),
    BadDatabase("read-only", 3, "target.dsn to the primary server", "index-read-only", READ_ONLY, WRITABLE),
    BadDatabase(
        "newer",
        3,
        "is from a newer kbsync",
        "newer-index",
        statement("UPDATE kbsync.base SET version = version + 1"),
        statement("UPDATE kbsync.base SET version = version - 1"),
    ),
)


@pytest.mark.parametrize("problem", TROUBLES, ids=lambda problem: problem.name)
def test_pass_reports_the_database_problem_and_the_next_one_continues(
    host: Host, problem: BadDatabase
) -> None:
    assert host.once()["uploaded"] == 1
    problem.make(host)
    host.write("b.md", "The heron.\n")
    refused = host.go("--once", hurried=True)
    assert refused.code == problem.code, refused.err
    assert problem.words in refused.err
    assert host.status()["halt"]["reason"] == problem.halt
    status_report = refused.err + refused.out + host.run("status", "--json", "--documents").out
    assert SECRET not in status_report
    # Commands other than passes say the same, and no more.
    assert SECRET not in (host.run("search", "kestrel").err + host.run("verify").err)
    problem.mend(host)
    assert host.go("--once", hurried=True).code == 0
    assert host.status()["halt"] is None
    assert (host.having("kestrel"), host.having("heron")) == (["a.md"], ["b.md"])


def test_missing_psycopg_is_reported_with_its_install_command(host: Host, tmp_path: Path) -> None:
    missing = tmp_path / "missing" / "psycopg"
    missing.mkdir(parents=True)
    (missing / "__init__.py").write_text("raise ImportError('no psycopg here')\n")
    result = subprocess.run(
        [sys.executable, "-m", "kbsync", "--once"],
        capture_output=True,
        text=True,
        check=False,
        cwd=host.root,
        env=host.environ({"PYTHONPATH": os.pathsep.join([str(missing.parent), *sys.path])}),
    )
    assert result.returncode == 2
    assert "postgres needs the `psycopg` package (no psycopg here)" in result.stderr
    assert "pip install" in result.stderr
    assert "Traceback" not in result.stderr


def test_daemon_continues_once_the_password_is_fixed_at_the_server_or_in_its_file(host: Host) -> None:
    server = host.server
    dsn = f"{with_password(server, 'keeper')} dbname={host.database}"
    file = keep(host, f"{dsn} password=not-{SECRET}")
    daemon = host.watch(hurried=True)
    try:
        eventually(lambda: (host.status()["halt"] or {}).get("reason") == "credentials")
        server.run("postgres", f"ALTER ROLE keeper PASSWORD 'not-{SECRET}'")
        daemon.wait_for_event("document.ready", path="a.md")
        assert eventually(lambda: host.status()["halt"] is None)
        # Existing connections continue; after a restart the new password counts.
        server.run("postgres", f"ALTER ROLE keeper PASSWORD '{SECRET}'")
        server.stop(signal.SIGINT)
        server.start()
        host.write("b.md", "The heron.\n")
        eventually(lambda: (host.status()["halt"] or {}).get("reason") == "credentials")
        file.write_text(f"{dsn} password={SECRET}")
        daemon.wait_for_event("document.ready", path="b.md")
        assert eventually(lambda: host.status()["halt"] is None)
    finally:
        server.run("postgres", f"ALTER ROLE keeper PASSWORD '{SECRET}'")
    assert daemon.end() == 0
    assert SECRET not in daemon.log.read_text()


def test_dsn_file_naming_another_database_fills_that_one(host: Host) -> None:
    server, other = host.server, host.server.database()
    file = keep(host, server.dsn(host.database))
    daemon = host.watch(hurried=True)
    daemon.wait_for_event("document.ready", path="a.md")
    file.write_text(server.dsn(other))
    daemon.send_signal(signal.SIGHUP)
    daemon.wait_for_event("document.ready", times=2, path="a.md")
    assert host.having("kestrel") == ["a.md"]
    for database in (host.database, other):  # documents in the old one stay
        assert server.run(database, "SELECT shown FROM kbsync.document") == [("a.md",)]
    assert daemon.end() == 0
