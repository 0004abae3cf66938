"""The index: one folder, one writer. Every document goes in, changes and leaves in one transaction.

Several documents are committed together, with one sync of the disk; one that cannot be stored leaves the
others as they are. What a deletion takes out is overwritten:
in the tables (`secure_delete`), in the full-text index (`secure-delete`) and in the WAL (`scrub`).
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import apsw

from kbsync.errors import Rejected, StateError
from kbsync.secrecy import make_private_folder, open_private
from kbsync.state.connection import empty_wal, forget_set_aside
from kbsync.targets.local import runs
from kbsync.targets.local.changes import Change, Renaming, Storing, Vectors, VectorsLackingError
from kbsync.targets.local.contents import (
    STEP,
    begin_marking,
    begin_merging,
    is_marked,
    merge,
    put_in,
    take_out,
)
from kbsync.targets.local.rows import Entry
from kbsync.targets.local.runs import Fresh, Kept, Part, Run
from kbsync.targets.local.schema import FILE, INCREMENTAL, identity, open_index, set_aside
from kbsync.targets.local.tokens import TOKENISER
from kbsync.targets.local.trouble import trouble_with
from kbsync.targets.local.turns import Turns

LOCK = "index.lock"
T = TypeVar("T")

_UNSTORABLE = (apsw.TooBigError, apsw.ConstraintError, apsw.MismatchError, ValueError, OverflowError)
"""What SQLite and its binding raise over a value; anything else is trouble with the disk."""

_CACHE_KIB = 32_000
_SPARE_PAGES = 1_024
"""Free pages (4 MB) that are kept for what comes next, and that are given back in one step."""

_FEW = 8
"""An eighth of the chunks is too much to take the words of each out of the full-text index on its own."""

_TOGETHER = 2_048
"""Chunks of short documents that are committed together: each commit waits for the disk."""

_WAL_PAGES = 4_000  # 16 MB between checkpoints: a first index of many files syncs less often


class Index:
    """The writing side of the index in `folder`. All calls block and may come from any thread."""

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.time) -> None:
        """Open or make it. Raises `StateError` where another process writes or the file cannot be used, and
        `TargetError` where the folder cannot be written.
        """
        self._folder, self._clock = folder, clock
        self._guard = Turns()
        self._lock = _locked(folder)
        try:
            self._connection = open_index(folder)
        except BaseException as error:
            os.close(self._lock)
            if isinstance(error, OSError):
                raise trouble_with(folder, error) from error
            raise
        self._connection.pragma("cache_size", -_CACHE_KIB)
        self._connection.wal_autocheckpoint(_WAL_PAGES)
        self._identity = identity(folder)
        self._is_open, self._is_closing = True, False
        self._is_merging = False
        self._staged = set[int]()
        self.uuid: str = self._connection.execute("SELECT value FROM meta WHERE key = 'uuid'").get
        self.scrub()

    @property
    def is_current(self) -> bool:
        """The folder still holds the file that is open."""
        return self._is_open and identity(self._folder) == self._identity

    def store(self, entries: Sequence[Entry], vectors: Vectors) -> list[int | Rejected]:
        """Store each document; its id, or why not. `vectors` makes what went away meanwhile.

        Small ones are committed together. A long one is put in step by step, and shown in the last; others
        get in between.
        """
        left, outcomes = list[int](), dict[int, int | Rejected]()
        made = (self._connection, self._guard)
        changes = [Storing(*made, entry, vectors, self._clock()) for entry in entries]
        order = sorted(range(len(changes)), key=lambda at: changes[at].chunks > STEP)  # short ones first
        for group in _groups(changes[at] for at in order):
            for done in self._carried_out(group, left):
                outcomes[order[len(outcomes)]] = done
        self._clear(left)
        return [outcomes[at] for at in range(len(changes))]

    def rename(self, document: int, path: str, name: str, modified: float) -> None:
        """Change path, name and time; the words of the file's stem where they differ. Raises `Rejected`."""
        left = list[int]()
        with self._open():
            change = Renaming(self._connection, document, path, name, modified)
        if change.chunks > STEP:
            self._in_steps(change, left)
        else:
            with self._transaction() as version:
                self._put(change, version, left)
                self._clear_some(left, version)
        self._clear(left)

    def delete(self, documents: Sequence[int]) -> bool:
        """Remove those that are there; False where `scrub` has yet to take the text out of the WAL."""
        with self._transaction() as version:
            left = [run.first for each in documents for run in runs.runs_of(self._connection, each)]
            for document in documents:
                self._connection.execute("UPDATE run SET document = NULL WHERE document = ?", (document,))
                self._connection.execute("DELETE FROM document WHERE id = ?", (document,))
            self._clear_some(left, version)
        is_clear = self._clear(left)
        forget_set_aside(self._folder / FILE)
        return self.scrub() and is_clear

    def tidy(self) -> bool:
        """One step of what a change that was broken off left to be done; whether there is more to do."""
        with self._guard:
            if not self._is_open or self._is_closing:
                return False
            left = self._left()
            if not left:
                return self._merge() or self._shrink()
            with self._transaction() as version:
                self._clear_some(left, version)
            return True

    def scrub(self) -> bool:
        """Copy the WAL into the database and empty it; False where a reader or a full disk is in the way."""
        with self._guard:
            if not self._is_open:
                return True
            return empty_wal(self._connection)

    def discard(self, reason: str) -> None:
        """Close a damaged index and put its files aside; another `Index` starts anew."""
        with self._guard:
            self._connection.close()
            if self.is_current:
                set_aside(self._folder / FILE, reason)
            self._let_go()

    def stop(self) -> None:
        """Begin no further step; what is put in and not shown yet is taken out another time."""
        self._is_closing = True

    def close(self) -> None:
        """Empty the WAL and let go of file and lock, whatever the disk says; repeatable."""
        self.stop()
        with self._guard:
            if self._is_open:
                self.scrub()
                with suppress(apsw.FullError, apsw.IOError):  # the WAL stays, and is emptied another time
                    self._connection.close()
                self._let_go()

    def _let_go(self) -> None:
        """Give up the lock."""
        self._is_open, self._is_closing = False, True
        os.close(self._lock)

    @contextmanager
    def _transaction(self) -> Iterator[int]:
        """All or nothing; gives the number of this change."""
        with self._open():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection.execute(
                    "UPDATE meta SET value = value + 1 WHERE key = 'changes' RETURNING value"
                ).get
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _open(self) -> Iterator[None]:
        """The connection belongs to the caller."""
        with self._guard:
            if not self._is_open:
                raise StateError(f"{self._folder / FILE} is closed")
            yield

    def _carried_out(self, group: Sequence[Change], left: list[int]) -> list[int | Rejected]:
        """Carry out changes together, or a long one in steps."""
        try:
            if group[0].chunks > STEP:
                return [self._in_steps(each, left) for each in group]
            return self._equipped(partial(self._together, group, left))
        except (*_UNSTORABLE, Rejected):  # which one? A savepoint for each costs good batches a third more
            return [self._alone(each, left) for each in group]

    def _together(self, group: Sequence[Change], left: list[int]) -> list[int | Rejected]:
        """Carry out changes in one transaction."""
        with self._transaction() as version:
            done = [self._put(each, version, left) for each in group]
            self._clear_some(left, version)
            return list(done)

    def _equipped(self, work: Callable[[], T]) -> T:
        """Do work of one transaction; where vectors turn out to lack, again once they were made."""
        while True:
            try:
                return work()
            except VectorsLackingError as lacking:
                lacking.make()

    def _alone(self, change: Change, left: list[int]) -> int | Rejected:
        """Carry out one change of a group that failed, or leave everything as it was before it."""
        try:
            return self._in_steps(change, left)
        except Rejected as error:
            return error
        except _UNSTORABLE as error:
            return Rejected(f"it cannot be stored in the index: {error}", code="unstorable")

    def _put(self, change: Change, version: int, left: list[int]) -> int:
        """Carry out a change as a whole in the open transaction; `left` gets what is to be taken out."""
        old = change.runs()
        return self._show(change, old, change.parts(old), {}, version, left)

    def _in_steps(self, change: Change, left: list[int]) -> int:
        """Carry out a change in as many transactions as it takes; nobody sees any of it before the last."""
        while True:
            with self._open():
                old = change.runs()
            parts = change.parts(old)
            with self._ahead(change, parts, left) as ready:
                last = partial(self._last_step, change, old, parts, ready, left)
                if (document := self._equipped(last)) is not None:
                    return document

    def _last_step(
        self,
        change: Change,
        old: Sequence[Run],
        parts: Sequence[Part],
        ready: Mapping[int, int],
        left: list[int],
    ) -> int | None:
        """Put in the rest and show all of it; None where somebody has changed the document meanwhile."""
        with self._transaction() as version:
            if change.runs() != old:
                return None
            document = self._show(change, old, parts, ready, version, left)
            self._clear_some(left, version)
            return document

    @contextmanager
    def _ahead(self, change: Change, parts: Sequence[Part], left: list[int]) -> Iterator[dict[int, int]]:
        """Put in all but the last step of what has to be, a transaction for each; gives the runs by place.

        Those that get no document inside are to be taken out.
        """
        ready = dict[int, int]()
        try:
            for step in _steps(parts)[:-1]:
                if self._is_closing:
                    raise StateError(f"{self._folder / FILE} is being closed")
                ready |= self._equipped(partial(self._staged_step, change, step))
            yield ready
        finally:
            self._staged.difference_update(ready.values())
            left += ready.values()

    def _staged_step(self, change: Change, step: Iterable[tuple[int, Part]]) -> dict[int, int]:
        """Put in parts that nobody takes out while the document is on its way; the runs by place."""
        with self._guard:
            with self._transaction() as version:
                placed = self._put_in(change, step, version)
            self._staged.update(placed.values())
            return placed

    def _put_in(self, change: Change, step: Iterable[tuple[int, Part]], version: int) -> dict[int, int]:
        """Put in parts; the first chunk of each, by place."""
        return {
            place: put_in(self._connection, change.rows(part, version), change.named).first
            for place, part in step
        }

    def _show(
        self,
        change: Change,
        old: Sequence[Run],
        parts: Sequence[Part],
        ready: Mapping[int, int],
        version: int,
        left: list[int],
    ) -> int:
        """Let a document have its parts in the place of `old`; `left` gets what it has no more."""
        missing = [(place, part) for place, part in _to_put_in(parts) if place not in ready]
        firsts = {**ready, **self._put_in(change, missing, version)}
        left += [run.first for run in runs.disown(self._connection, old, parts)]
        document = change.settle()
        for place, part in enumerate(parts):
            if isinstance(part, Kept):
                run = Run(part.first, part.chunks, part.lines, part.pages, change.named, TOKENISER)
                runs.add(self._connection, run, document, place)
            else:
                runs.own(self._connection, firsts[place], document, place)
        return document

    def _clear(self, left: list[int]) -> bool:
        """Take out all that is left, step by step, and give its space back; False where it has to wait."""
        while left and not self._is_closing:
            with self._transaction() as version:
                self._clear_some(left, version)
        while not self._is_closing and (self._merge() or self._shrink()):
            pass
        with self._guard:
            return not left and self._is_open and not is_marked(self._connection)

    def _clear_some(self, left: list[int], version: int) -> None:
        """One step of taking out what is left and nobody's; what is done with is gone from `left`."""
        if self._is_much(left):
            begin_marking(self._connection)
            self._is_merging = False
        most = STEP
        while left and most:
            run = None if left[-1] in self._staged else runs.nobodys(self._connection, left[-1])
            if run is None:
                left.pop()
            else:
                most -= take_out(self._connection, run, most, version)

    def _is_much(self, left: Iterable[int]) -> bool:
        """Whether what is left to be taken out is a good part of the index."""
        found = (runs.nobodys(self._connection, first) for first in left)
        chunks = sum(run.chunks for run in found if run is not None and run.first not in self._staged)
        if chunks <= STEP:
            return False
        return chunks * _FEW > self._connection.execute("SELECT sum(chunks) FROM run").get  # type: ignore[no-any-return]

    def _merge(self) -> bool:
        """One step of taking out words that are only marked as gone; whether there was one to do."""
        with self._guard:
            if not self._is_open or not is_marked(self._connection):
                return False
            if not self._is_merging and self._left():
                return False  # whoever takes that out does this as well
            with self._transaction():
                (merge if self._is_merging else begin_merging)(self._connection)
            self._is_merging = True
            return True

    def _left(self) -> list[int]:
        """The runs that nobody has and nobody is putting in."""
        return [run.first for run in runs.ownerless(self._connection) if run.first not in self._staged]

    def _shrink(self) -> bool:
        """Give back one step of the space that is free, if that is much; whether some was."""
        with self._guard:
            if not self._is_open or self._connection.pragma("auto_vacuum") != INCREMENTAL:
                return False
            free = self._connection.pragma("freelist_count")
            if free <= max(_SPARE_PAGES, self._connection.pragma("page_count") // 4):
                return False
            self._connection.execute(f"PRAGMA incremental_vacuum({_SPARE_PAGES})").fetchall()
            return True


def _groups(changes: Iterable[Change]) -> Iterator[list[Change]]:
    """Short ones that are committed together; a long one alone."""
    group, chunks = list[Change](), 0
    for each in changes:
        if group and (each.chunks > STEP or chunks + each.chunks > _TOGETHER):
            yield group
            group, chunks = [], 0
        group.append(each)
        chunks += each.chunks
    if group:
        yield group


def _steps(parts: Iterable[Part]) -> list[list[tuple[int, Part]]]:
    """The parts that have to be put in, with their places, in steps."""
    steps, chunks = list[list[tuple[int, Part]]](), STEP
    for place, part in _to_put_in(parts):
        count = len(part.chunks) if isinstance(part, Fresh) else part.chunks
        if chunks + count > STEP:
            steps.append([])
            chunks = 0
        steps[-1].append((place, part))
        chunks += count
    return steps


def _to_put_in(parts: Iterable[Part]) -> Iterator[tuple[int, Part]]:
    """The parts that are not there already, with their places."""
    return ((place, part) for place, part in enumerate(parts) if not isinstance(part, Kept))


def _locked(folder: Path) -> int:
    """A descriptor that holds the lock of `folder`, which is made where it is missing."""
    path = folder / LOCK
    try:
        make_private_folder(folder)
        descriptor = open_private(path, os.O_RDWR | os.O_NOFOLLOW)
    except OSError as error:
        raise trouble_with(folder, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise StateError(f"{folder} is in use by another kbsync; end it or wait for it") from error
    return descriptor
