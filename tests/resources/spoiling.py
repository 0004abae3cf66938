"""Ways to damage a state file while no process has it open."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import apsw

Spoil = Callable[[Path], None]


def without_wal(file: Path) -> None:
    for suffix in ("-wal", "-shm"):
        file.with_name(file.name + suffix).unlink(missing_ok=True)


def checkpointed(file: Path) -> None:
    connection = apsw.Connection(str(file))
    connection.pragma("user_version")  # only now it knows that there is a WAL
    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    connection.close()


def truncated(file: Path) -> None:
    checkpointed(file)
    os.truncate(file, file.stat().st_size // 2)


def emptied(file: Path) -> None:
    without_wal(file)
    file.write_bytes(b"")


def garbage_header(file: Path) -> None:
    checkpointed(file)
    with file.open("r+b") as opened:
        opened.write(b"garbage!" * 12)


def flipped_pages(file: Path) -> None:
    checkpointed(file)
    raw, dice = bytearray(file.read_bytes()), random.Random(3)
    for page in range(1, len(raw) // 4096):
        for _ in range(40):
            raw[page * 4096 + dice.randrange(4096)] ^= 0xFF
    file.write_bytes(raw)


def no_database(file: Path) -> None:
    without_wal(file)
    file.write_bytes(b"somebody's notes, in a file of this name\n" * 200)


def deleted(file: Path) -> None:
    without_wal(file)
    file.unlink()


def another_database(version: int) -> Spoil:
    def spoil(file: Path) -> None:
        deleted(file)
        connection = apsw.Connection(str(file))
        connection.execute("CREATE TABLE meta(x); CREATE TABLE notes(x)")
        connection.pragma("user_version", version)
        connection.close()

    return spoil


def table_missing(file: Path) -> None:
    connection = apsw.Connection(str(file))
    connection.execute("DROP TABLE removal")
    connection.close()


def directory(file: Path) -> None:
    deleted(file)
    file.mkdir()


def pipe(file: Path) -> None:
    deleted(file)
    os.mkfifo(file)


def dangling_link(file: Path) -> None:
    deleted(file)
    file.symlink_to(file.with_name("nowhere.db"))


SPOILT: dict[str, Spoil] = {
    "truncated": truncated,
    "garbage header": garbage_header,
    "flipped pages": flipped_pages,
    "no database": no_database,
    "another database": another_database(0),
    "another database, numbered as ours": another_database(2),
    "another database, numbered as newer": another_database(99),
    "a table missing": table_missing,
    "a directory": directory,
    "a pipe": pipe,
    "a dangling link": dangling_link,
}
"""Damage that is noticed at once; the state is set aside."""

LOST: dict[str, Spoil] = {"emptied": emptied, "deleted": deleted, "wal deleted": without_wal}
"""Looks like a state with few rows; the rest is in the knowledge base."""


def copy_closed(file: Path) -> Path:
    """Copy the file while no process has it open, for a later restore without its WAL."""
    checkpointed(file)
    return Path(shutil.copy(file, file.with_name("kept.db")))


def put_back(copy: Path, file: Path) -> None:
    deleted(file)
    shutil.copy(copy, file)
