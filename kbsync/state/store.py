"""The state file as the rest of the program sees it: `write` and `read`, and nothing of SQLite.

One thread owns all writes. Writes that come close together share one commit, each in a savepoint of its
own, and a `write` returns only after its commit is on disk: then what it announces may be done (promise 3).
Reads run on another connection and in another thread: they wait neither for a writer nor for threads that
look at a slow disk.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import apsw

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
from kbsync.state.lock import holding
from kbsync.state.read_only import ReadOnlyState, Tx, copy_into, within

T = TypeVar("T")
GROUP = 512


@dataclass(frozen=True, slots=True)
class _Job:
    work: Callable[[Tx], Any]
    done: Future[Any]


class StateStore:
    """The state of all mirrors.

    `check`: the caller holds the lock, so look for damage first. `on_commit("before"|"after")` lets tests
    stop the program there.
    """

    def __init__(
        self, path: Path, *, check: bool = True, on_commit: Callable[[str], None] | None = None
    ) -> None:
        """Open or make the file. Raises `DamagedError`, `StateError`, or `UsageError` for a newer one.

        `LockedError` where an older kbsync holds the lock that the caller lacks.
        """
        self.path = path
        self._on_commit = on_commit
        self._holds_lock = check
        self._waiting: deque[_Job] = deque()
        self._broken: BaseException | None = None
        self._is_closed = False
        self._asking = threading.Lock()
        self.damage = ""
        self._on_damage: Callable[[], object] = lambda: None
        with state_errors(path):
            schema.refuse_no_file(path)
            # Asked before the writer makes the WAL file whose absence tells it.
            turned_back = schema.is_turned_back(path)
            self._writer = open_writer(path)
            schema.refuse_unfit(self._writer, path)
            if not check and schema.is_older(self._writer) and holding(path.parent) is not False:
                # Its statements name tables and columns that an upgrade may take away.
                self._writer.close()
                raise LockedError(
                    f"the kbsync that works on {path.parent} is older than this one; restart it first"
                )
            if check:
                schema.refuse_damaged(self._writer, path)
            schema.migrate(self._writer)
            if turned_back:
                schema.catch_up(self._writer)
            self._reader = open_reader(path)
        self._identity = identity(path)
        self._read_lock = threading.Lock()
        self.readers: Executor = ThreadPoolExecutor(1, "kbsync-state-read")
        self._writes = ThreadPoolExecutor(1, "kbsync-state")

    async def write(self, work: Callable[[Tx], T]) -> T:
        """Run `work` in a transaction and return its result once it is on disk.

        Raises what `work` raises (its changes are undone, others' are not), or `StateError`.
        """
        return await asyncio.wrap_future(self.submit(work))

    def submit(self, work: Callable[[Tx], T]) -> Future[T]:
        """`write` for threads: the future ends after the commit."""
        done: Future[T] = Future()
        with self._asking:  # nothing is put behind the end, where nobody would take it
            if not self._is_closed:
                self._waiting.append(_Job(work, done))
                self._writes.submit(self._commit_waiting)
                return done
        done.set_exception(self._closed())
        return done

    def _closed(self) -> StateError:
        return StateError(f"{self.path} is closed; what was not recorded is found again at the next start")

    async def read(self, work: Callable[[Tx], T]) -> T:
        """Run `work` on the reading connection, off the loop. Raises `StateError`."""
        if self._is_closed:
            raise self._closed()
        return await asyncio.get_running_loop().run_in_executor(self.readers, self.read_now, work)

    def read_now(self, work: Callable[[Tx], T]) -> T:
        """`read` for threads. The result must not be a lazy iterator."""
        with self._read_lock, self.state_errors():
            if self._is_closed:
                raise self._closed()
            return within(self._reader, work)

    async def pages_below(self, mirror: int, folder: str, size: int) -> AsyncIterator[list[str]]:
        """Paths of all stored files in a directory and below it; each page is read when it is asked for."""
        for below in await self.read(lambda tx: [path for _, path in tx.folders.tree(mirror, folder)]):
            paths = await self.read(lambda tx, below=below: tx.entries.names(mirror, below))  # type: ignore[misc]
            for start in range(0, len(paths), size):
                yield paths[start : start + size]

    @contextmanager
    def state_errors(self) -> Iterator[None]:
        """Within, trouble with the file becomes a `StateError`; `damage` says so of a damaged one."""
        try:
            with state_errors(self.path):
                yield
        except DamagedError as error:
            self.damage = error.what
            self._on_damage()
            raise

    def when_damaged(self, tell: Callable[[], object]) -> None:
        """`tell` is called, from any thread, when damage was met. Nothing can be done with the file then."""
        self._on_damage = tell

    @property
    def is_there(self) -> bool:
        """The file under that name is still the one that is open."""
        return identity(self.path) == self._identity

    async def aclose(self) -> None:
        """Carry out what was asked for, then close."""
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """`aclose` for threads; repeatable. The holder of the lock leaves nothing of what was deleted."""
        with self._asking:
            self._is_closed = True
        self._writes.shutdown()
        self.readers.shutdown(wait=False, cancel_futures=True)
        with self._read_lock:  # a read whose caller was cut off may still be under way
            self._reader.close()
        if self._holds_lock:
            with suppress(apsw.Error):  # a damaged file, or one that is closed
                empty_wal(self._writer)
        self._writer.close()

    def backup(self, destination: apsw.Connection) -> None:
        """Copy a consistent state into an open, empty database."""
        copy_into(self._reader, destination)

    def _commit_waiting(self) -> None:
        """Called once for each write: one call commits all that wait, and the others find nothing."""
        waiting = [self._waiting.popleft() for _ in range(min(GROUP, len(self._waiting)))]
        # A caller that was cut off before its turn no longer wants it; from here on it cannot be cut off.
        jobs = [job for job in waiting if job.done.set_running_or_notify_cancel()]
        if jobs:
            self._commit_group(jobs)

    def _commit_group(self, jobs: list[_Job]) -> None:
        try:
            if self._broken is not None:
                raise self._broken
            with self.state_errors():
                answers = self._transact(jobs)
        except BaseException as error:
            if not isinstance(error, Exception):  # a test stops the program here
                self._broken = error
            for job in jobs:
                job.done.set_exception(error)
            return
        for job, (result, failure) in zip(jobs, answers, strict=True):
            if failure is None:
                job.done.set_result(result)
            else:
                job.done.set_exception(failure)

    def _transact(self, jobs: list[_Job]) -> list[tuple[Any, Exception | None]]:
        with transaction(self._writer, "BEGIN IMMEDIATE"):
            answers = [self._attempt(job) for job in jobs]
            self._told("before")
        self._told("after")
        return answers

    def _attempt(self, job: _Job) -> tuple[Any, Exception | None]:
        db = self._writer
        # One failing write must not undo its neighbours in the group.
        db.execute("SAVEPOINT job")
        try:
            result = job.work(Tx(db))
        except Exception as error:
            if not db.in_transaction:  # a full disk and the like undo the whole group
                raise
            db.execute("ROLLBACK TO job; RELEASE job")
            return None, error
        db.execute("RELEASE job")
        return result, None

    def _told(self, moment: str) -> None:
        if self._on_commit is not None:
            self._on_commit(moment)


class StateCopy(StateStore):
    """A private copy of a state, to be written to and thrown away. One call at a time; no lock, no thread."""

    # SQLite's own temporary database: in memory while it is small, else in a file that has no name from the
    # moment it is made, so nothing is left of it however the process ends.
    def __init__(self, original: ReadOnlyState) -> None:
        """Copy what a command looks at. Raises `StateError`."""
        self.path = original.path
        with state_errors(self.path):
            self._db = open_temporary()
            original.backup(self._db)

    async def write(self, work: Callable[[Tx], T]) -> T:
        """Run `work` in a transaction. What it raises undoes it."""
        with state_errors(self.path):
            return within(self._db, work)

    async def read(self, work: Callable[[Tx], T]) -> T:
        """Run `work` on the copy."""
        return self.read_now(work)

    def read_now(self, work: Callable[[Tx], T]) -> T:
        """`read` for threads."""
        with state_errors(self.path):
            return work(Tx(self._db))

    def close(self) -> None:
        """Throw it away."""
        self._db.close()
