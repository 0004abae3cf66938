"""A PgBouncer for tests between kbsync and the tests' PostgreSQL, in transaction mode."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import psycopg

from tests import programs
from tests.postgres.server import Server

PORT = 6432

_CONFIG = """\
[databases]
* = host={server}
[pgbouncer]
listen_addr =
listen_port = {port}
unix_socket_dir = {folder}
auth_type = trust
auth_file = {folder}/users
pool_mode = transaction
default_pool_size = 20
max_client_conn = 100
query_wait_timeout = 1
server_login_retry = 0.1
logfile = {folder}/log
{more}
"""


class Pooler:
    """A running PgBouncer before a server. `close` ends it; the server removes its files."""

    def __init__(self, server: Server, **more: str) -> None:
        """Start with `more` lines of pgbouncer.ini."""
        self.server = server
        self.folder = Path(server.folder, "pool")
        self.folder.mkdir()
        lines = "\n".join(f"{key} = {value}" for key, value in more.items())
        config = _CONFIG.format(server=server.folder, folder=self.folder, port=PORT, more=lines)
        (self.folder / "ini").write_text(config)
        (self.folder / "users").write_text('"postgres" ""\n"gate" "hush-hush"\n')
        if server.user:
            shutil.chown(self.folder, server.user["user"], server.user["group"])
        self.start()

    def start(self) -> None:
        """Start it and wait until it responds."""
        program = programs.find_program("pgbouncer")
        assert program is not None
        for remaining in self.folder.glob(
            ".s.*"
        ):  # left by a killed one; they would look like a running one's
            remaining.unlink()
        command = [program, "--quiet", self.folder / "ini"]
        self.process = subprocess.Popen(
            command, stderr=subprocess.DEVNULL, cwd=self.folder, **self.server.user
        )
        self.wait()

    def wait(self) -> None:
        """Wait until it and the server behind it respond."""
        until = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self.dsn("postgres")).close()
                return
            except psycopg.OperationalError:
                assert self.process.poll() is None, (self.folder / "log").read_text()
                assert time.monotonic() < until, "PgBouncer does not answer"
                time.sleep(0.02)

    def stop(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End it, with every connection through it."""
        self.process.send_signal(number)
        self.process.wait(30)

    def close(self) -> None:
        """End it."""
        if self.process.poll() is None:
            self.stop()

    def dsn(self, database: str, user: str = "postgres") -> str:
        """Return the dsn of a database through it."""
        return f"host={self.folder} port={PORT} dbname={database} user={user}"


class Pooled(Server):
    """A server whose `dsn` leads through a PgBouncer; `run` connects directly."""

    def __init__(self, pooler: Mapping[str, str] | None = None) -> None:
        """Start with more lines of pgbouncer.ini in `pooler`."""
        super().__init__()
        self.pooler = Pooler(self, **(pooler or {}))

    def dsn(self, database: str, user: str = "postgres") -> str:
        """Return the dsn of one of its databases through the pooler."""
        return self.pooler.dsn(database, user)

    def start(self) -> None:
        """Start the server; the pooler runs already, or starts after it."""
        super().start()
        if hasattr(self, "pooler"):
            self.pooler.wait()

    def close(self) -> None:
        """End both and remove their files."""
        if hasattr(self, "pooler"):
            self.pooler.close()
        super().close()
