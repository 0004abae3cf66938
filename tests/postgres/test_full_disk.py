"""Tests full disks of the server, for its tables and for its log; root only."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from kbsync.errors import Halted, Unavailable, Unsure
from kbsync.index.postgres.store import PostgresStore
from tests.cli.sandbox import eventually
from tests.cli.test_mounts import can_mount, mounted
from tests.index.entries import Numbers, entry
from tests.postgres.base import find, leftover_rows, open_store, put
from tests.postgres.server import NOBODY, Server
from tests.share import long

pytestmark = [
    long,
    pytest.mark.skipif(
        os.geteuid() != 0 or not can_mount(), reason="mounting needs root and the right to mount"
    ),
]


def fill(disk: Path) -> Path:
    """Write a file that uses up the remaining space."""
    filler = disk / "filler"
    with filler.open("wb", 0) as stream, suppress(OSError):
        while True:
            stream.write(bytes(4096))
    return filler


def test_full_table_disk_halts_and_recovers_automatically(postgres: Server) -> None:
    disk = postgres.folder / "small"
    with mounted(disk, "40m"):
        os.chown(disk, *(postgres.user.get(kind, -1) for kind in ("user", "group")))
        postgres.run("postgres", f"CREATE TABLESPACE small LOCATION '{disk}'")
        postgres.run("postgres", "CREATE DATABASE small TABLESPACE small")
        postgres.run("small", "CREATE EXTENSION vector")
        with open_store(postgres, "small") as store:
            [first] = put(store, entry(1, "kestrel"))
            filler = fill(disk)
            texts = [f"heron {number} " + os.urandom(1000).hex() for number in range(200)]
            for upload in (2, 3):
                [halted] = store.put([entry(upload, *texts, replaces=first)], Numbers())
                assert isinstance(halted, Halted), halted
                assert halted.halt == "disk-full"
                assert find(store, "kestrel") == {first}
            filler.unlink()
            [second] = put(store, entry(2, *texts, replaces=first))
            assert (find(store, "kestrel"), find(store, "heron")) == (set(), {second})
            assert leftover_rows(postgres, "small") == []
        postgres.run("postgres", "DROP DATABASE small WITH (FORCE)")
        postgres.run("postgres", "DROP TABLESPACE small")


def test_full_server_log_disk_causes_a_pause_and_loses_nothing() -> None:
    """The server ends with a panic, and starts again when there is room."""
    with Server(min_wal_size="32MB", max_wal_size="48MB") as server:
        database, wal, disk = server.database(), server.folder / "data" / "pg_wal", server.folder / "small"
        server.stop()
        with mounted(disk, "90m"):
            shutil.copytree(wal, disk / "wal")
            shutil.rmtree(wal)
            wal.symlink_to(disk / "wal")
            subprocess.run(["chown", "--recursive", f"{NOBODY}:{NOBODY}", disk], check=True)
            server.start()
            with open_store(server, database) as store:
                [first] = put(store, entry(1, "kestrel"))
                filler = fill(disk)
                done, failed = [first], None
                for upload in range(2, 60):
                    texts = [f"heron {upload} {number} " + os.urandom(1000).hex() for number in range(200)]
                    [failed] = store.put([entry(upload, *texts)], Numbers())
                    if not isinstance(failed, int):
                        break
                    done.append(failed)
                assert isinstance(failed, Unavailable | Unsure), failed
                assert "No space left" in (server.folder / "log").read_text()
                filler.unlink()
                if server.process.poll() is not None:  # it couldn't even recover
                    server.start()
                eventually(lambda: is_there(store, done))
                put(store, entry(100, "merlin"))
                assert leftover_rows(server, database) == []
            server.stop()


def is_there(store: PostgresStore, documents: list[int]) -> bool:
    try:
        return store.find_existing(documents) == set(documents)
    except Unavailable:
        return False
