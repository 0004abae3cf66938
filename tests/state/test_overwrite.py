"""Tests that rows which SQLite moved to other pages leave nothing in the file when they are deleted."""

from __future__ import annotations

import os
import random
import re
import shutil
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import apsw
import pytest

from kbsync.state import overwrite
from kbsync.state.db import empty_wal, open_file, open_writer, transaction
from kbsync.state.overwrite import PAGE, OverwritingConnection, unused_space

ROWS = 3_000
ALL_ROWS = "SELECT * FROM t, (SELECT count(text), sum(length(text)) FROM long)"
FULL = 2_000  # rows that fill a page each: enough for three pages with the parents of others


def open_plainly(path: Path) -> apsw.Connection:
    """Return a connection with `secure_delete`, but without anything of kbsync's."""
    connection = apsw.Connection(str(path))
    connection.pragma("secure_delete", True)
    connection.pragma("journal_mode", "wal")
    return connection


def fill(connection: apsw.Connection) -> set[bytes]:
    """Insert rows with random keys, and delete half of them. Return the names of the others."""
    chance, rows = random.Random(3), list[int]()
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, key TEXT UNIQUE, text TEXT)")
    with transaction(connection):
        for number in range(ROWS):
            key, text = f"{chance.random()} z{number}z", "w " * chance.randint(1, 600)
            connection.execute("INSERT INTO t VALUES (?, ?, ?)", (number, key, f"{text} z{number}z"))
            rows.append(number)
            if number % 2:
                gone = rows.pop(chance.randrange(len(rows)))
                connection.execute("DELETE FROM t WHERE id = ?", (gone,))
    return {f"z{number}z".encode() for number in rows}


def names_in(path: Path) -> set[bytes]:
    return set(re.findall(rb"z\d+z", path.read_bytes()))


@pytest.mark.parametrize(
    ("open_it", "leaves_traces"), [(open_plainly, True), (open_writer, False)], ids=["SQLite alone", "kbsync"]
)
def test_nothing_remains_of_deleted_rows_that_were_moved_before(
    tmp_path: Path, open_it: Callable[[Path], apsw.Connection], leaves_traces: bool
) -> None:
    path = tmp_path / "a.db"
    with closing(open_it(path)) as connection:
        kept = fill(connection)
        connection.close()
        assert names_in(path) >= kept
        assert bool(names_in(path) - kept) is leaves_traces
    with closing(apsw.Connection(str(path))) as connection:
        assert connection.pragma("integrity_check") == "ok"


def test_database_stays_the_same_without_its_unused_space(tmp_path: Path) -> None:
    """Among its pages are all kinds: of tables, indexes, long texts, and free ones."""
    path, cleaned = tmp_path / "a.db", tmp_path / "cleaned.db"
    with closing(open_plainly(path)) as connection:
        fill(connection)
        connection.execute("CREATE TABLE long (text TEXT)")
        connection.execute("INSERT INTO long SELECT ? FROM t LIMIT 300", ("long " * 3_000,))
        connection.execute("DELETE FROM long WHERE rowid % 2")
        connection.execute("DELETE FROM t WHERE id % 3 = 0")
        assert connection.pragma("freelist_count") > 0
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        rows = list(connection.execute(ALL_ROWS))
    content = path.read_bytes()
    pages = [content[start : start + PAGE] for start in range(0, len(content), PAGE)]
    unused = [unused_space(page, 100 if page is pages[0] else 0) for page in pages]
    clean_pages = [
        page[: part.start] + bytes(part.stop - part.start) + page[part.stop :]
        for page, part in zip(pages, unused, strict=True)
    ]
    assert sum(page != clean for page, clean in zip(pages, clean_pages, strict=True)) > 50
    cleaned.write_bytes(b"".join(clean_pages))
    with closing(apsw.Connection(str(cleaned))) as connection:
        assert connection.pragma("integrity_check") == "ok"
        assert list(connection.execute(ALL_ROWS)) == rows


@pytest.mark.parametrize("recognizes_map", [True, False])
def test_pages_with_the_parents_of_other_pages_stay_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recognizes_map: bool
) -> None:
    if not recognizes_map:
        monkeypatch.setattr(overwrite, "_MAP_EVERY", 1 << 32)
    path = tmp_path / "a.db"
    with closing(open_file(path)) as connection:
        connection.pragma("auto_vacuum", 2)
        connection.pragma("journal_mode", "wal")
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, text TEXT)")
        with transaction(connection):
            connection.executemany("INSERT INTO t VALUES (?, ?)", [(n, "w" * 3_000) for n in range(FULL)])
            connection.execute("DELETE FROM t WHERE id % 3")
        assert empty_wal(connection)
    with closing(open_file(path)) as connection:
        connection.execute("PRAGMA incremental_vacuum(100)").fetchall()
        assert empty_wal(connection)
    with closing(apsw.Connection(str(path))) as connection:
        assert (connection.pragma("integrity_check") == "ok") is recognizes_map
        assert connection.execute("SELECT count(*), sum(length(text)) FROM t").get == (667, 667 * 3_000)


def test_pages_with_parents_are_recognized_while_the_first_page_in_the_file_is_older(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with closing(open_writer(path)) as connection, closing(apsw.Connection(str(path))) as reader:
        connection.wal_autocheckpoint(1 << 30)
        connection.pragma("auto_vacuum", 2)
        connection.execute("VACUUM")
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, text TEXT)")
        with transaction(connection):
            connection.executemany("INSERT INTO t VALUES (?, ?)", [(n, "w" * 3_000) for n in range(FULL)])
            connection.execute("DELETE FROM t WHERE id % 3")
        connection.execute("PRAGMA incremental_vacuum(100)").fetchall()
        with transaction(reader):
            assert reader.execute("SELECT count(*) FROM t").get == 667
            connection.pragma("user_version", 3)  # changes the first page
            connection.copy_wal()
        assert empty_wal(connection)
    with closing(apsw.Connection(str(path))) as connection:
        assert connection.pragma("integrity_check") == "ok"


def raising(error: type[Exception]) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize("error", [OSError, MemoryError])
def test_commit_succeeds_if_unused_space_cannot_be_overwritten_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    path = tmp_path / "a.db"
    with closing(open_writer(path)) as connection:
        connection.wal_autocheckpoint(1)
        with monkeypatch.context() as patch:
            patch.setattr(overwrite, "_overwrite", raising(error))
            kept = fill(connection)
        assert names_in(path) > kept
        assert empty_wal(connection)
        assert names_in(path) == kept


class ReadOnlyWal(apsw.VFS):
    """Opens WALs read-only, as on a file system that has just become read-only."""

    def __init__(self) -> None:
        super().__init__("read-only-wal", "", makedefault=True)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        if flags[0] & apsw.SQLITE_OPEN_WAL:
            flags[0] = apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_READONLY
        return apsw.VFSFile("unix", name, flags)


def test_wal_that_became_read_only_is_emptied_later(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with closing(open_plainly(path)) as connection:
        kept = fill(connection)
        shutil.copytree(tmp_path, tmp_path / "killed")
    path = tmp_path / "killed" / "a.db"
    vfs = ReadOnlyWal()
    try:
        with closing(open_file(path)) as connection:
            assert list(connection.execute("SELECT count(*) FROM t"))
            assert not empty_wal(connection)
    finally:
        vfs.unregister()
    with closing(open_writer(path)) as connection:
        assert empty_wal(connection)
        assert names_in(path) == kept


def test_unused_space_is_overwritten_after_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, killed = tmp_path / "a.db", tmp_path / "killed"
    with closing(open_writer(path)) as connection, monkeypatch.context() as patch:
        patch.setattr(overwrite, "_overwrite", raising(OSError))
        kept = fill(connection)
        assert not empty_wal(connection)
        killed.mkdir()
        for file in tmp_path.glob("a.db*"):
            shutil.copy(file, killed)
    assert names_in(killed / "a.db") > kept
    with closing(open_writer(killed / "a.db")):
        assert names_in(killed / "a.db") == kept


def test_rows_that_another_process_adds_meanwhile_are_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For example, `kbsync retry` opens the state while a daemon writes to it."""
    path, chance = tmp_path / "a.db", random.Random(3)
    with closing(open_writer(path)) as daemon, closing(open_writer(path)) as command:
        daemon.execute("CREATE TABLE t (key TEXT PRIMARY KEY) WITHOUT ROWID")

        def insert(count: int) -> None:
            with transaction(daemon):
                for _ in range(count):
                    daemon.execute("INSERT INTO t VALUES (?)", (f"{chance.random()} {'w' * 100}",))

        def find_unused(page: bytes, header: int) -> slice:
            part = unused_space(page, header)
            if page[part].strip(b"\0"):
                monkeypatch.setattr(overwrite, "unused_space", unused_space)
                insert(20)
                with suppress(OSError):
                    daemon.copy_wal()
            return part

        monkeypatch.setattr(overwrite, "unused_space", find_unused)
        insert(100)
        command.copy_wal()
        assert overwrite.unused_space is unused_space
        assert empty_wal(daemon)
    with closing(apsw.Connection(str(path))) as connection:
        assert connection.pragma("integrity_check") == "ok"
        assert connection.execute("SELECT count(*) FROM t").get == 120


def test_wal_is_copied_after_a_commit_that_leaves_enough_pages_in_it(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with closing(open_writer(path)) as connection:
        connection.execute("CREATE TABLE t (text TEXT)")
        connection.wal_autocheckpoint(20)
        for number in range(40):
            connection.execute("INSERT INTO t VALUES (?)", (f"z{number}z {'w' * 3_000}",))
        content = path.read_bytes()
    assert b"z15z" in content and b"z39z" not in content


def test_database_below_a_folder_whose_name_is_not_utf_8(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"odd\xff") / "a.db"
    path.parent.mkdir()
    with closing(open_writer(path)) as connection:
        kept = fill(connection)
    assert names_in(path) == kept


def test_descriptor_is_that_of_the_open_file(tmp_path: Path) -> None:
    path, link = tmp_path / "a.db", tmp_path / "link.db"
    link.symlink_to(path)
    path.touch()
    with closing(open_plainly(tmp_path / "other.db")), path.open("rb"), closing(open_writer(link)) as writer:
        assert isinstance(writer, OverwritingConnection)
        descriptor = writer._descriptor
        assert os.readlink(f"/proc/self/fd/{descriptor}") == str(path)
        os.pwrite(descriptor, b"", 0)  # it can be written
