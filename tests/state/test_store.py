from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import stat
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from kbsync.core import lifecycle
from kbsync.core.model import SELECTED, FileChoice, Presence, Stamp, Status, Upload, UploadState, Verdict
from kbsync.errors import LockedError, StateError, UsageError
from kbsync.once import open_or_set_aside
from kbsync.state import lock, schema
from kbsync.state.db import (
    DamagedError,
    forget_set_aside,
    list_set_aside,
    open_reader,
    open_writer,
    set_aside,
    transaction,
)
from kbsync.state.files import FileRow, digest_of
from kbsync.state.mirrors import BindingRecord, MirrorFact
from kbsync.state.read_only import ReadOnlyState, Tx
from kbsync.state.store import StateStore
from tests.share import long
from tests.state.failing_disk import failing_reads

ODD = "caf\udce9/na\nme \udcff.md"


@pytest.fixture
def store(tmp_path: Path):  # type: ignore[no-untyped-def]
    store = StateStore(tmp_path / "state.db")
    yield store
    store.close()


def mirror(tx: Tx) -> int:
    return tx.mirrors.add("m", "/srv/m", "local").id


def test_large_state_is_checked_for_damage_once_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start() -> None:
        StateStore(path, check=True).close()

    def fill(tx: Tx) -> None:
        number = mirror(tx)
        for file in range(2_000):
            tx.entries.put(number, entry(f"{file}.md"))

    path = tmp_path / "state.db"
    with closing(StateStore(path, check=True)) as store:
        store.submit(fill).result()
    page = 4096 * (path.stat().st_size // 4096 - 40)
    monkeypatch.setattr(schema, "CHECK_UP_TO", 0)
    start()
    with path.open("r+b") as file:
        file.seek(page)
        file.write(b"damage" * 500)
    start()
    for limit, hours in ((0, 25), (0, -1), (1 << 40, 1)):
        with monkeypatch.context() as patch:
            patch.setattr(schema, "CHECK_UP_TO", limit)
            later = time.time() + hours * 3600
            patch.setattr(time, "time", lambda later=later: later)
            with pytest.raises(DamagedError, match="is damaged"):
                start()


def test_failed_read_of_any_page_is_not_mistaken_for_damage(tmp_path: Path) -> None:
    def fill(tx: Tx) -> None:
        number = mirror(tx)
        for file in range(300):
            tx.entries.put(number, entry(f"{file}.md"))

    path, failed = tmp_path / "state.db", 0
    with closing(StateStore(path)) as store:
        store.submit(fill).result()
    for offset in range(0, path.stat().st_size, 4096):
        with failing_reads(offset, times=1):
            try:
                open_or_set_aside(path, pytest.fail).close()
            except StateError as error:
                assert "disk I/O error" in str(error)
                failed += 1
    assert failed > 10
    with failing_reads(offset, times=9), pytest.raises(StateError, match="disk I/O error"):
        open_or_set_aside(path, pytest.fail)
    StateStore(path).close()


def test_restored_state_is_recognized_even_if_its_first_read_fails(tmp_path: Path) -> None:
    path, copy, opened = tmp_path / "state.db", tmp_path / "copy.db", 0
    with closing(StateStore(path)) as store:
        store.submit(mirror).result()
    for offset in range(0, path.stat().st_size, 4096):
        for file in tmp_path.glob("copy.db*"):
            file.unlink()
        shutil.copy(path, copy)  # without its WAL, like a backup
        with (
            failing_reads(offset, times=1),
            contextlib.suppress(StateError),
            closing(open_or_set_aside(copy, pytest.fail)) as store,
        ):
            assert store._is_behind
            opened += 1
    assert opened > 1


def test_database_that_cannot_be_read_is_not_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.symlink_to("/proc/self/mem")  # its first page can't be read
    with pytest.raises(OSError, match="Input/output error"):
        set_aside(path)
    assert list(tmp_path.iterdir()) == [path]


def test_links_read_before_the_file_changed_are_found_up_to_a_limit(store: StateStore) -> None:
    def write(tx: Tx) -> int:
        number, other = mirror(tx), tx.mirrors.add("other", "/srv/o", "local").id
        for path in ("a.md", "sub/b.md", f"{ODD}.md"):
            tx.entries.put(number, entry(path, ino=7))
        tx.entries.put(number, replace(entry("current.md"), stamp=Stamp(1, 2, 4, 7)))
        tx.entries.put(number, replace(entry("unread.md", ino=7), digest=None))
        tx.entries.put(number, entry("another.md", ino=8))
        tx.entries.put(other, entry("elsewhere.md", ino=7))
        return number

    number = store.submit(write).result()
    links = store.read_now(lambda tx: tx.entries.outdated_links(number, Stamp(1, 2, 4, 7), 10))
    assert sorted(links) == sorted(["a.md", "sub/b.md", f"{ODD}.md"])
    assert len(store.read_now(lambda tx: tx.entries.outdated_links(number, Stamp(1, 2, 4, 7), 2))) == 2


def test_mount_point_keeps_its_disk_when_it_may_be_unmounted(store: StateStore) -> None:
    def rows(tx: Tx) -> list[tuple[bool, bool, str]]:
        number, disks = mirror(tx), []

        def see() -> None:
            row = tx.folders.get(number, "disk")
            assert row is not None
            disks.append((row.is_mount, row.may_be_unmounted, row.mount))

        for disk in ("ext4 2 1f", ""):
            tx.folders.record_listing(number, "disk", "1", True, disk)
            see()
        tx.folders.record_listing(number, "disk", "1", True, "nfs4 2 nas:/a b")
        tx.folders.allow_unmounting(number, "disk")
        see()
        tx.folders.record_listing(number, "disk", "1", True, "ext4 2 1f")
        see()
        assert tx.folders.mounts_over(number, "disk/sub/a.md") == {"disk": "ext4 2 1f"}
        tx.folders.record_listing(number, "disk", "1", False)
        see()
        return disks

    assert store.submit(rows).result() == [
        (True, False, "ext4 2 1f"),
        (True, False, ""),
        (True, True, "nfs4 2 nas:/a b"),
        (True, True, "ext4 2 1f"),
        (False, False, ""),
    ]


def entry(path: str, status: Status = Status.READY, ino: int = 1) -> FileRow:
    return FileRow(path, Stamp(1, 2, 3, ino), "ab" * 32, SELECTED, True, Presence.PRESENT, status, 5.0)


def upload(m: int, path: str, state: UploadState, digest: str = "d") -> Upload:
    return Upload(0, m, 1, path, path, path, digest, 1, "r", state, remote_id="x", due_at=1.0)


async def test_write_returns_only_after_its_commit(tmp_path: Path) -> None:
    path, observed = tmp_path / "state.db", list[tuple[str, int]]()

    def count_from_outside(moment: str) -> None:
        with closing(open_reader(path)) as other:
            observed.append((moment, other.execute("SELECT count(*) FROM mirror").get))

    store = StateStore(path, on_commit=count_from_outside)
    await store.write(mirror)
    assert observed == [("before", 0), ("after", 1)]
    store.close()


def test_committed_data_survives_a_power_loss(tmp_path: Path) -> None:
    """tests/promises/test_power_loss.py tests it; this only checks SQLite's setting."""
    with closing(open_writer(tmp_path / "state.db")) as writer:
        assert (writer.pragma("journal_mode"), writer.pragma("synchronous")) == ("wal", 2)


async def test_concurrent_writes_share_a_commit(tmp_path: Path) -> None:
    gate, moments = threading.Event(), list[str]()

    def note(moment: str) -> None:
        gate.wait(5)
        moments.append(moment)

    store = StateStore(tmp_path / "state.db", on_commit=note)
    first = store.submit(mirror)
    rest = [store.submit(lambda tx, n=n: tx.meta.set(MirrorFact.NOTE, n, "v")) for n in range(50)]  # type: ignore[misc]
    gate.set()
    await asyncio.gather(*(asyncio.wrap_future(f) for f in (first, *rest)))
    assert len(moments) <= 4
    store.close()


async def test_messages_from_disk_or_service_are_stored_whatever_bytes_they_contain(
    store: StateStore,
) -> None:
    def record(tx: Tx) -> int:
        m = mirror(tx)
        tx.folders.record_problem(m, ODD, f"{ODD} cannot be read")
        tx.entries.put(m, replace(entry(ODD), verdict=Verdict(FileChoice.SKIPPED, ODD, f"{ODD}:3")))
        tx.uploads.add(replace(upload(m, ODD, UploadState.FAILED), reason=ODD, code=ODD))
        tx.uploads.add(replace(upload(m, "b.md", UploadState.FAILED), reason="half of a pair: \ud83d"))
        return m

    m = await store.write(record)
    [folder] = store.read_now(lambda tx: tx.folders.problems(m))
    assert folder.problem == f"{ODD} cannot be read"
    result = store.read_now(lambda tx: tx.entries.get(m, ODD))
    assert result is not None and result.verdict == Verdict(FileChoice.SKIPPED, ODD, f"{ODD}:3")
    [odd, cut] = store.read_now(lambda tx: tx.uploads.in_states(m, 1, (UploadState.FAILED,)))
    assert (odd.reason, odd.code, cut.reason) == (ODD, ODD, "half of a pair: \ufffd")


async def test_failing_write_does_not_undo_its_neighbours(store: StateStore) -> None:
    def fails(tx: Tx) -> None:
        tx.meta.set(MirrorFact.NOTE, 1, "done")
        raise ValueError("no")

    good, bad = store.submit(lambda tx: tx.meta.set(MirrorFact.NOTE, 2, "yes")), store.submit(fails)
    good.result(5)
    with pytest.raises(ValueError, match="no"):
        bad.result(5)
    assert store.read_now(lambda tx: (tx.meta.get(MirrorFact.NOTE, 2), tx.meta.get(MirrorFact.NOTE, 1))) == (
        "yes",
        "",
    )


async def test_cancelled_caller_does_not_stop_the_writer(store: StateStore) -> None:
    may_end = threading.Event()
    task = asyncio.create_task(store.write(lambda _: may_end.wait(40.0)))
    await asyncio.sleep(0)
    task.cancel()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    await store.write(lambda tx: tx.meta.set(MirrorFact.NOTE, 3, "alive"))
    assert await store.read(lambda tx: tx.meta.get(MirrorFact.NOTE, 3)) == "alive"


@pytest.mark.parametrize(
    ("first", "second"), [(UploadState.SERVING, UploadState.HELD), (UploadState.UNSURE, UploadState.SENDING)]
)
def test_two_uploads_can_never_serve_one_path_or_share_a_version_in_flight(
    store: StateStore, first: UploadState, second: UploadState
) -> None:
    m = store.submit(mirror).result()
    store.submit(lambda tx: tx.uploads.add(upload(m, "a", first))).result()
    with pytest.raises(apsw.ConstraintError):
        store.submit(lambda tx: tx.uploads.add(upload(m, "a", second))).result()


def test_upload_ids_of_two_states_do_not_collide(tmp_path: Path) -> None:
    first = []
    for name in ("a.db", "b.db"):
        store = StateStore(tmp_path / name)
        first.append(
            store.submit(lambda tx: tx.uploads.add(upload(1, "a", UploadState.INTENDED)).id).result()
        )
        store.close()
    assert abs(first[0] - first[1]) > 1000


def test_missing_tree_is_missed_completely_including_unusual_names(store: StateStore) -> None:
    m = store.submit(mirror).result()

    def work(tx: Tx) -> list[str]:
        for path in (f"top/{ODD}", "top/b.md", "topless.md"):
            tx.entries.put(m, entry(path))
        assert tx.entries.get(m, f"top/{ODD}") == entry(f"top/{ODD}")
        tx.entries.miss_tree(m, "top", 7.0)
        return sorted(path for path, *_ in tx.entries.missed_before(m, 7.0, 10))

    assert store.submit(work).result() == sorted([f"top/{ODD}", "top/b.md"])


def test_paths_missed_by_a_scan_are_missed_since_its_end(store: StateStore) -> None:
    m = store.submit(mirror).result()

    def work(tx: Tx) -> list[list[str]]:
        for name in ("seen.md", "first.md", "second.md"):
            tx.entries.put(m, entry(name))
        tx.entries.miss(m, "", ["first.md"], None, 1)
        tx.entries.miss(m, "", ["second.md"], None, 2)
        before = tx.entries.missed_before(m, 9.0, 10)
        tx.entries.scans_ended(m, {1}, 7.0)
        for name in ("seen.md", "second.md"):
            tx.entries.miss_from(m, name, 8.0)
        assert before == []
        return [[path for path, *_ in tx.entries.missed_before(m, then, 10)] for then in (7.0, 8.0)]

    assert store.submit(work).result() == [["first.md"], ["first.md", "second.md"]]


def traces(folder: Path) -> dict[str, bytes]:
    """Return every file with its bytes; for -shm, where readers lock, only its existence."""
    return {p.name: b"" if p.name.endswith("-shm") else p.read_bytes() for p in folder.iterdir()}


def test_reading_writes_nothing_and_creates_no_file(tmp_path: Path, store: StateStore) -> None:
    store.submit(mirror).result()
    before = traces(tmp_path)
    state = ReadOnlyState(tmp_path / "state.db")
    assert [r.name for r in state.read(lambda tx: tx.mirrors.all())] == ["m"]
    with pytest.raises(StateError, match="readonly"):
        state.read(mirror)
    state.close()
    assert traces(tmp_path) == before
    assert all((p.stat().st_mode & 0o077) == 0 for p in tmp_path.iterdir())


def test_reader_files_stay_after_the_writer_exits(tmp_path: Path) -> None:
    store = StateStore(tmp_path / "state.db")
    store.submit(mirror).result()
    store.close()
    assert {p.name for p in tmp_path.iterdir()} == {"state.db", "state.db-wal", "state.db-shm"}


def test_state_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    StateStore(path).close()
    connection = open_writer(path)
    connection.pragma("user_version", schema.VERSION + 1)
    connection.close()
    with pytest.raises(UsageError, match="newer kbsync"):
        StateStore(path)


def test_lock_holder_is_identified_or_reported_as_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lock.holding(tmp_path) is False  # nobody ever did
    locks = tmp_path / "locks"
    with lock.held(tmp_path):
        assert lock.holding(tmp_path) is True
        with pytest.raises(LockedError, match=str(os.getpid())), lock.held(tmp_path):
            pass
        number = (tmp_path / "lock").stat().st_ino
        locks.write_text(f"1: FLOCK  ADVISORY  WRITE {os.getpid()} 00:99:{number} 0 EOF\n")
        monkeypatch.setattr(lock, "LOCKS", locks)
        assert lock.holding(tmp_path) is True  # on btrfs a file has another device than its lock
        locks.write_text(f"1: FLOCK  ADVISORY  WRITE 1 00:99:{number} 0 EOF\n")
        assert lock.holding(tmp_path) is False
        monkeypatch.setattr(lock, "NAMESPACE", tmp_path / "lock")
        assert lock.holding(tmp_path) is None  # another container can't see it
        locks.unlink()
        assert lock.holding(tmp_path) is None
        assert not lock.is_held(tmp_path)
    with lock.held(tmp_path):
        pass


def test_deleted_lock_file_lets_no_second_process_in(tmp_path: Path) -> None:
    with lock.held(tmp_path):
        (tmp_path / "lock").unlink()
        assert lock.holding(tmp_path) is True
        with pytest.raises(LockedError, match=str(os.getpid())), lock.held(tmp_path):
            pass
        (tmp_path / "lock").touch()
        assert lock.holding(tmp_path) is True
    assert lock.holding(tmp_path) is False


def test_fifo_in_place_of_the_lock_file_keeps_nobody_waiting(tmp_path: Path) -> None:
    found: list[bool | None] = []
    with lock.held(tmp_path):
        (tmp_path / "lock").unlink()
        os.mkfifo(tmp_path / "lock")
        reading = threading.Thread(target=lambda: found.append(lock.holding(tmp_path)), daemon=True)
        reading.start()
        reading.join(5)
        is_waiting = reading.is_alive()
        os.close(os.open(tmp_path / "lock", os.O_RDWR))  # releases a waiting reader
    assert (found, is_waiting) == ([True], False)


def test_directory_that_had_the_name_of_a_database_is_not_deleted_with_its_wal(tmp_path: Path) -> None:
    file = tmp_path / "state.db"
    for write in (file.mkdir, lambda: file.write_bytes(b"junk"), lambda: file.symlink_to("nowhere")):
        write()
        file.with_name("state.db-wal").write_bytes(b"text")
        set_aside(file)
    kept, *damaged = (f"state.db.damaged-{number}" for number in (1, 2, 3))
    assert [path.name for path in list_set_aside(tmp_path)] == [f"{kept}-wal", *damaged]
    forget_set_aside(file)
    assert [path.name for path in tmp_path.iterdir()] == [kept]


def test_set_aside_link_is_not_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "state.db"
    for target in ("one", "other"):
        file.symlink_to(target)
        set_aside(file)
    links = [(path.name, str(path.readlink())) for path in sorted(tmp_path.iterdir())]
    assert links == [("state.db.damaged-1", "one"), ("state.db.damaged-2", "other")]


def test_lock_holder_names_the_mirrors_it_is_limited_to(tmp_path: Path) -> None:
    for only in ((), ("task", "handbook")):
        with lock.held(tmp_path, only=only):
            holder = lock.find_holder(tmp_path)
            assert holder is not None and holder.keeps_running
            assert holder.serves("handbook") and holder.serves("other") is not bool(only)


def test_lock_of_a_dead_process_is_free_and_of_another_user_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "LOCKS", tmp_path / "none")  # the kernel takes long to list them
    ended = subprocess.Popen(["true"])
    ended.wait()
    for process, is_held in ((ended.pid, False), (1, None), (os.getpid(), None)):
        (tmp_path / "lock").write_text(f"{process}\n{lock.NAMESPACE.stat().st_ino}\n")
        assert lock.holding(tmp_path) is is_held


def test_lock_file_cut_short_by_a_power_failure_is_harmless(tmp_path: Path) -> None:
    with lock.held(tmp_path, only=("handbook",)):
        note = (tmp_path / "lock").read_text()
    for length in range(len(note)):
        (tmp_path / "lock").write_text(note[:length])
        assert len(lock.last_changes(tmp_path)) in (0, 2)
        assert lock.find_holder(tmp_path) is None


def drop_upload(tx: Tx, m: int, path: str) -> bool:
    """End an upload; return whether another one of its text is on its way."""
    [row] = tx.uploads.at_path(m, 1, path)
    tx.uploads.save(lifecycle.drop(row))
    return tx.uploads.is_on_the_way(m, 1, row.digest)


WAITING, IDLE = (UploadState.INTENDED, UploadState.RETIRING), (UploadState.SERVING,)
QUERIES: list[tuple[str, tuple[UploadState, ...], Callable[[Tx, int], object], object, int]] = [
    ("files to be reread", IDLE, lambda tx, m: tx.entries.racy(m, 10), [], 50),
    ("files with an inode", IDLE, lambda tx, m: tx.entries.with_ino(m, 7, "ab" * 32), [], 50),
    ("files an earlier process missed", IDLE, lambda tx, m: tx.entries.forget_first_misses(m), None, 50),
    ("uploads that the clock put off", IDLE, lambda tx, m: tx.uploads.bring_forward(m, 1, 2.0), None, 50),
    ("when the next upload is due", IDLE, lambda tx, m: tx.uploads.next_due(m, 1), 1.0, 50),
    ("another of a text that many have", WAITING, lambda tx, m: drop_upload(tx, m, "new.md"), True, 100),
    ("another of a text that one has", WAITING, lambda tx, m: drop_upload(tx, m, "own.md"), False, 100),
    ("files that wait", IDLE, lambda tx, m: tx.entries.waiting(m, 1), [], 50),
    ("failed files", IDLE, lambda tx, m: list(tx.entries.of_status(m, Status.FAILED)), [], 50),
    ("directories with a problem", IDLE, lambda tx, m: tx.folders.problems(m), [], 50),
    ("directories that are gone", IDLE, lambda tx, m: tx.folders.remove_gone(m), None, 50),
]


@long
@pytest.mark.parametrize(
    ("others", "find", "expected", "most"), [row[1:] for row in QUERIES], ids=[row[0] for row in QUERIES]
)
async def test_few_rows_are_found_without_reading_all_others(
    store: StateStore,
    others: tuple[UploadState, ...],
    find: Callable[[Tx, int], object],
    expected: object,
    most: int,
) -> None:
    def fill(tx: Tx) -> int:
        m = mirror(tx)
        for n in range(1000):
            tx.entries.put(m, entry(f"{n}/a.md"))
            for state in others:
                row = upload(m, f"{state.name}/{n}.md", state, "d" if n % 2 else f"{n}")
                tx.uploads.add(replace(row, due_at=None) if others is IDLE else row)
        tx.uploads.add(upload(m, "new.md", UploadState.INTENDED))
        tx.uploads.add(upload(m, "own.md", UploadState.INTENDED, "own"))
        return m

    m, steps = await store.write(fill), list[int]()
    store._writer.set_progress_handler(lambda: steps.append(1) or False, 10)  # type: ignore[func-returns-value]
    assert await store.write(lambda tx: find(tx, m)) == expected
    assert len(steps) < most


class NoTemporaryFiles(apsw.VFS):
    """A file system without temporary files: SQLite creates them outside our names."""

    def __init__(self) -> None:
        super().__init__("no-temporary-files", "", makedefault=True)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        if name is None:
            raise apsw.IOError("a read-only machine has no place for temporary files")
        return super().xOpen(name, flags)


@long
def test_nothing_is_written_outside_the_state_directory(tmp_path: Path) -> None:
    sorting = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000)" + (
        " SELECT i FROM n ORDER BY hex(i) || i"
    )
    vfs = NoTemporaryFiles()
    try:
        with closing(open_writer(tmp_path / "state.db")) as writer:
            schema.migrate(writer)
            with closing(open_reader(tmp_path / "state.db")) as reader:
                for connection in (writer, reader):
                    assert len(connection.execute(sorting).get) == 200_000
    finally:
        vfs.unregister()


def test_permissions_of_a_file_behind_a_symlink_stay(tmp_path: Path) -> None:
    others = tmp_path / "others"
    others.touch()
    others.chmod(0o644)
    (tmp_path / "state.db-wal").symlink_to(others)
    with contextlib.suppress(apsw.Error):  # SQLite may refuse the symlink
        open_writer(tmp_path / "state.db").close()
    assert stat.S_IMODE(others.stat().st_mode) == 0o644


@pytest.mark.parametrize("open_connection", [open_writer, open_reader])
def test_statement_is_compiled_once_whatever_its_values(
    store: StateStore, open_connection: Callable[[Path], apsw.Connection]
) -> None:
    with closing(open_connection(store.path)) as connection:
        compiled: list[int] = []
        connection.authorizer = lambda operation, *_: compiled.append(operation) or apsw.SQLITE_OK
        uploads = Tx(connection).uploads
        uploads.due(1, 1, UploadState.INTENDED, 5.0, 10)
        assert compiled
        compiled.clear()
        uploads.due(2, 3, UploadState.RETIRING, 7.0, 20, (1.0, 4.0))
        assert compiled == []


def test_state_being_created_is_not_reported_as_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.db"
    with closing(open_writer(path)) as writer:
        version_of = schema.version_of

        def overtaken(connection: apsw.Connection) -> int:
            monkeypatch.undo()
            version = version_of(connection)
            schema.migrate(writer)
            return version

        monkeypatch.setattr(schema, "version_of", overtaken)
        ReadOnlyState(path).close()
    with closing(ReadOnlyState(path)) as state:
        assert state.is_made


def test_transaction_ended_by_a_full_disk_is_not_ended_again(tmp_path: Path) -> None:
    """A second error would have hidden the first, and would have looked like a bug of ours."""
    with closing(apsw.Connection(str(tmp_path / "a.db"))) as connection:
        with pytest.raises(apsw.FullError), transaction(connection):
            connection.execute("ROLLBACK")
            raise apsw.FullError("no space")
        with transaction(connection):
            connection.execute("CREATE TABLE one(x)")


STAMP = Stamp(10, 20, 30, 40)
CHANGES: dict[str, Callable[[Tx, int], None]] = {
    "a new file": lambda tx, number: tx.entries.put(number, entry("docs/new.md")),
    "a row removed": lambda tx, number: tx.entries.remove(number, "docs/a.md"),
    "a document deleted": lambda tx, number: tx.entries.set_presence(number, "docs/a.md", Presence.GONE),
    "a file to check again": lambda tx, number: tx.entries.doubt(number, "docs/a.md"),
    **{
        f"another {field}": lambda tx, number, field=field: tx.entries.put(  # type: ignore[misc]
            number, replace(entry("docs/a.md"), stamp=replace(STAMP, **{field: 1}))
        )
        for field in ("size", "mtime_ns", "ctime_ns", "ino")
    },
}
"""Changes of the rows that a scan compares with the directory `docs`."""

NO_CHANGES: dict[str, Callable[[Tx, int], None]] = {
    "the same row": lambda tx, number: tx.entries.put(number, replace(entry("docs/a.md"), stamp=STAMP)),
    "a status": lambda tx, number: tx.entries.set_status(number, "docs/a.md", Status.FAILED, 5.0),
    "a file elsewhere": lambda tx, number: tx.entries.put(number, entry("docs/sub/new.md")),
    "a first check without the file": lambda tx, number: tx.entries.miss(number, "docs", ["a.md"], 5.0),
}


@pytest.mark.parametrize("change", [*CHANGES, *NO_CHANGES])
def test_digest_of_a_directory_lasts_until_a_row_changes(store: StateStore, change: str) -> None:
    def prepare(tx: Tx) -> int:
        number = mirror(tx)
        for path in ("docs/a.md", "docs/b.md"):
            tx.entries.put(number, replace(entry(path), stamp=STAMP))
        tx.entries.record_digest(number, "docs")
        return number

    number = store.submit(prepare).result()
    before = store.read_now(lambda tx: tx.entries.digest(number, "docs"))
    assert before is not None
    store.submit(lambda tx: (CHANGES | NO_CHANGES)[change](tx, number)).result()
    after = store.read_now(lambda tx: tx.entries.digest(number, "docs"))
    assert after == (before if change in NO_CHANGES else None)
    rows = store.read_now(lambda tx: list(tx.entries.rows(number, "docs")))
    assert (digest_of(rows) == before) is (change in NO_CHANGES)


def test_digest_depends_on_every_field_of_every_row_but_not_on_their_order() -> None:
    rows = [("a", 1, 2, 3, 4), ("b", 1, 2, 3, 4), ("ä", -5, 2**63 - 1, -(2**63), 0)]
    digest = digest_of(rows)
    assert digest == digest_of(reversed(rows))
    others = [rows[:2], [*rows, ("c", 1, 2, 3, 4)], [("ab", 1, 2, 3, 4), *rows[1:]], []]
    for number, row in enumerate(rows):
        for field in range(5):
            changed = list(row)
            changed[field] = f"{row[0]}x" if field == 0 else 7
            others.append([*rows[:number], tuple(changed), *rows[number + 1 :]])  # type: ignore[arg-type]
    digests = [digest_of(other) for other in others]
    assert None not in digests and len({digest, *digests}) == 1 + len(others)
    swapped = [("a", 1, 2, 3, 5), ("b", 1, 2, 3, 4)], [("a", 1, 2, 3, 4), ("b", 1, 2, 3, 5)]
    assert digest_of(swapped[0]) != digest_of(swapped[1])


@pytest.mark.parametrize("row", [(b"\xff", 1, 2, 3, 4), ("\udcff", 1, 2, 3, 4), ("a", 1, 2**63, 3, 4)])
def test_rows_that_sqlite_stores_differently_have_no_digest(row: tuple[str, int, int, int, int]) -> None:
    assert digest_of([row, ("b", 1, 2, 3, 4)]) is None


def test_base_named_by_its_address_is_not_shown_twice() -> None:
    address = "http://127.0.0.1:9621"
    assert BindingRecord(1, "lightrag", address, address, "").location == f"lightrag at {address}"
    assert BindingRecord(1, "zhipu", address, "17", "").location == f"zhipu 17 at {address}"
