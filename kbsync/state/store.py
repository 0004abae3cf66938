"""The rest of the program's interface to the state file: `write` and `read`, without SQLite's details.

One thread makes all writes. Writes that arrive close together share one commit, each in its own savepoint,
and `write` returns only after its commit is on disk, so that the caller may then act on it (promise 3). Reads
run on another connection in another thread, so they wait neither for a writer nor for threads blocked by a
slow disk.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import apsw

from kbsync.dataclass import dataclass
from kbsync.errors import LockedError, StateError
from kbsync.state import schema
from kbsync.state.db import (
    DamagedError,
    empty_wal,
    identity,
    open_reader,
    open_temporary,
    open_writer,
    state_errors,
    transaction,
)
from kbsync.state.lock import holding, last_changes
from kbsync.state.read_only import ReadOnlyState, Tx, within

T = TypeVar("T")
GROUP = 512


@dataclass(frozen=True, slots=True)
class _Job:
    work: Callable[[Tx], Any]
    done: Future[Any]


class StateStore:
    """The state of all mirrors.

    `check`: whether the caller holds the lock. If so, the file is first checked for damage. Tests stop the
    program in `on_commit("before"|"after")`.
    """

    def __init__(
        self, path: Path, *, check: bool = True, on_commit: Callable[[str], None] = lambda _moment: None
    ) -> None:
        """Open or create the file.

        Raises `DamagedError`, `StateError`, or `UsageError` for a file from a newer kbsync version. Raises
        `LockedError` if the caller lacks the lock and an older kbsync process holds it.
        """
        self.path = path
        self._on_commit = on_commit
        self._holds_lock = check
        self._waiting: deque[_Job] = deque()
        self._broken: BaseException | None = None
        self._is_closed = False
        self._submit_lock = threading.Lock()
        self.damage = ""
        self._on_damage: Callable[[], object] = lambda: None
        with state_errors(path), ExitStack() as undo:
            # Check before the writer creates the WAL file, whose absence marks a restored state.
            was_restored = schema.is_restored(path)
            try:
                self._writer = open_writer(path)
            except apsw.CorruptError:  # SQLite also raises this if the disk fails to read the schema
                self._writer = open_writer(path)
            # A connection that stays open would hand its problem with the files to the next one.
            undo.callback(self._writer.close)
            schema.refuse_unfit(self._writer, path)
            if not check and schema.is_older(self._writer) and holding(path.parent) is not False:
                # The older process uses tables and columns that an upgrade may remove.
                raise LockedError(f"an older kbsync is using {path.parent}; restart it first")
            if check:
                schema.refuse_damaged_state(self._writer, path)
            schema.migrate(self._writer)
            is_outdated = check and schema.is_outdated(self._writer, path.parent, holds_lock=True)
            self._is_behind = was_restored or is_outdated
            self._is_recorded = not (check or self._is_behind)
            if not self._is_recorded:
                # On a full disk, the first commit that succeeds does this.
                with suppress(apsw.FullError, apsw.IOError), self._transaction():
                    pass
            self._reader = open_reader(path)
            undo.pop_all()
        self._identity = identity(path)
        self._read_lock = threading.Lock()
        self.readers: Executor = ThreadPoolExecutor(1, "kbsync-state-read")
        self._writes = ThreadPoolExecutor(1, "kbsync-state")

    async def write(self, work: Callable[[Tx], T]) -> T:
        """Run `work` in a transaction, and return its result once it is on disk.

        Raises `StateError`, or any exception that `work` raises, in which case only the changes made by
        `work` are undone.
        """
        return await asyncio.wrap_future(self.submit(work))

    def submit(self, work: Callable[[Tx], T]) -> Future[T]:
        """Run `work` like `write`, for callers in other threads. The future completes after the commit."""
        future: Future[T] = Future()
        with self._submit_lock:  # don't queue a job after the last commit: it would never run
            if not self._is_closed:
                self._waiting.append(_Job(work, future))
                self._writes.submit(self._commit_waiting)
                return future
        future.set_exception(self._closed())
        return future

    def _closed(self) -> StateError:
        return StateError(
            f"{self.path} is closed; kbsync will find any unrecorded changes again when it next starts"
        )

    async def read(self, work: Callable[[Tx], T]) -> T:
        """Run `work` on the reading connection, outside the event loop. Raises `StateError`."""
        if self._is_closed:
            raise self._closed()
        return await asyncio.get_running_loop().run_in_executor(self.readers, self.read_now, work)

    def read_now(self, work: Callable[[Tx], T]) -> T:
        """Run `work` like `read`, for callers in other threads. The result must not be a lazy iterator."""
        with self._read_lock, self.state_errors():
            if self._is_closed:
                raise self._closed()
            return within(self._reader, work)

    async def pages_below(self, mirror: int, folder: str, size: int) -> AsyncIterator[list[str]]:
        """Yield the paths of all stored files in a directory and below it, reading each page on demand."""
        for below in await self.read(lambda tx: tx.folders.tree(mirror, folder)):
            paths = await self.read(lambda tx, below=below: tx.entries.names(mirror, below))  # type: ignore[misc]
            for start in range(0, len(paths), size):
                yield paths[start : start + size]

    @contextmanager
    def state_errors(self) -> Iterator[None]:
        """Turn errors of the file into a `StateError`. If the file is damaged, also set `damage`."""
        try:
            with state_errors(self.path):
                yield
        except DamagedError as error:
            self.damage = error.what
            self._on_damage()
            raise

    def when_damaged(self, notify: Callable[[], object]) -> None:
        """Call `notify`, from any thread, when damage is found. From then on, the file is unusable."""
        self._on_damage = notify

    @property
    def is_there(self) -> bool:
        """Return whether the path still refers to the open file."""
        return identity(self.path) == self._identity

    def close(self) -> None:
        """Finish pending writes, then close. Safe to call more than once.

        The holder of the lock erases deleted data from the WAL.
        """
        with self._submit_lock:
            self._is_closed = True
        self._writes.shutdown()
        self.readers.shutdown(wait=False, cancel_futures=True)
        with self._read_lock:  # a read whose caller was canceled may still be running
            self._reader.close()
        if self._holds_lock:
            with suppress(apsw.Error):  # the file is damaged or already closed
                empty_wal(self._writer)
        self._writer.close()

    def _commit_waiting(self) -> None:
        """Commit all waiting writes.

        This is called once for each write, so an earlier call may already have done its work.
        """
        waiting = [self._waiting.popleft() for _ in range(min(GROUP, len(self._waiting)))]
        # Skip a write whose caller was canceled while it waited. From here on, the write can't be canceled.
        jobs = [job for job in waiting if job.done.set_running_or_notify_cancel()]
        if jobs:
            self._commit_group(jobs)

    def _commit_group(self, jobs: list[_Job]) -> None:
        try:
            if self._broken is not None:
                raise self._broken
            with self.state_errors():
                with self._transaction():
                    results = [self._attempt(job) for job in jobs]
                    self._on_commit("before")
                self._on_commit("after")
        except BaseException as error:
            if not isinstance(error, Exception):  # a test stops the program here
                self._broken = error
            for job in jobs:
                job.done.set_exception(error)
            return
        for job, (result, failure) in zip(jobs, results, strict=True):
            if failure is None:
                job.done.set_result(result)
            else:
                job.done.set_exception(failure)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Run the block in a transaction. The first one also prepares a restored file and records its use."""
        changes = () if self._is_recorded else last_changes(self.path.parent)
        with transaction(self._writer, "BEGIN IMMEDIATE"):
            if not self._is_recorded:
                if self._is_behind:
                    schema.catch_up(self._writer)
                schema.record_use(self._writer, changes)
            yield
        self._is_recorded = True

    def _attempt(self, job: _Job) -> tuple[Any, Exception | None]:
        db = self._writer
        # A failing write must not undo the others of its group.
        db.execute("SAVEPOINT job")
        try:
            result = job.work(Tx(db))
        except Exception as error:
            if not db.in_transaction:  # errors such as a full disk undo the whole group
                raise
            db.execute("ROLLBACK TO job; RELEASE job")
            return None, error
        db.execute("RELEASE job")
        return result, None


class StateCopy(StateStore):
    """A private copy of a state, to write to and discard.

    It has no lock and no thread, and allows one call at a time.
    """

    # SQLite's own temporary database: in memory while it is small, otherwise in a file that is unlinked
    # immediately, so nothing remains even after a crash.
    def __init__(self, original: ReadOnlyState) -> None:
        """Copy the state that a command reads.

        If that state is a restored one, prepare the copy accordingly. Raises `StateError`.
        """
        self.path = original.path
        with state_errors(self.path):
            self._db = open_temporary()
            original.backup(self._db)
            if original.is_restored or schema.is_outdated(self._db, self.path.parent, holds_lock=False):
                with transaction(self._db):
                    schema.catch_up(self._db)

    async def write(self, work: Callable[[Tx], T]) -> T:
        """Run `work` in a transaction. An error undoes all its changes."""
        with state_errors(self.path):
            return within(self._db, work)

    def submit(self, work: Callable[[Tx], T]) -> Future[T]:
        """Run `work` in a transaction now."""
        future: Future[T] = Future()
        with state_errors(self.path):
            future.set_result(within(self._db, work))
        return future

    async def read(self, work: Callable[[Tx], T]) -> T:
        """Run `work` on the copy."""
        return self.read_now(work)

    def read_now(self, work: Callable[[Tx], T]) -> T:
        """Run `work` on the copy, for threads."""
        with state_errors(self.path):
            return work(Tx(self._db))

    def close(self) -> None:
        """Discard the copy."""
        self._db.close()
