"""Stable reads (promise 8): bytes count only when the file was the same before, during and after the read.

They are kept from the moment they were hashed until they are sent. A read cannot tell that a writer pauses in
the middle; that is what the quiet time before it is for.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, Self, TypeVar

from kbsync.core.model import Stamp
from kbsync.errors import StateError
from kbsync.source.look import stamp_of
from kbsync.source.roots import SHORTAGES, descend, error_words, error_words_at

IN_MEMORY = 256 * 1024
"""Files of up to this many bytes are kept in memory, larger ones in the spool folder."""


class Spooled:
    """A `contract.Body` with the digest and the stamp of what it holds; close it, or use `with`."""

    def __init__(self, content: bytes | int, size: int, digest: str, stamp: Stamp) -> None:
        """`content`: the bytes, or a descriptor of a file without a name, which is closed by `close`."""
        self._content = content
        self._size = size
        self.digest = digest
        self.stamp = stamp

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self._size

    def open(self) -> BinaryIO:
        """A fresh stream from the start, independent of all others; not after `close`."""
        if isinstance(self._content, bytes):
            return io.BytesIO(self._content)
        return Path(f"/proc/self/fd/{self._content}").open("rb")

    def close(self) -> None:
        """Let go of the bytes; repeatable."""
        if isinstance(self._content, int):
            os.close(self._content)
        self._content = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Spool:
    """Collects the pieces of one file of `size` bytes at most; becomes a `Spooled` or is dropped."""

    def __init__(self, folder: Path, path: str, size: int) -> None:
        """`path` is named in errors. Raises StateError where `folder` cannot take the file."""
        self._folder = folder
        self._path = path
        self._pieces: list[bytes] = []
        self._fd = -1
        if size > IN_MEMORY:
            try:
                self._fd = _nameless_file(folder)
            except OSError as error:
                raise self._full(error) from error

    def write(self, piece: memoryview) -> None:
        """Append; raises StateError when the disk of the spool folder is full."""
        if self._fd < 0:
            self._pieces.append(bytes(piece))
            return
        try:
            while piece:
                piece = piece[os.write(self._fd, piece) :]
        except OSError as error:
            raise self._full(error) from error

    def finish(self, size: int, digest: str, stamp: Stamp) -> Spooled:
        """Hand over what was collected."""
        content: bytes | int = self._fd if self._fd >= 0 else b"".join(self._pieces)
        self._fd = -1
        return Spooled(content, size, digest, stamp)

    def drop(self) -> None:
        """Forget what was collected and not handed over; repeatable."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def _full(self, error: OSError) -> StateError:
        cure = "" if error.errno in SHORTAGES else "; free space there or move state_dir"
        return StateError(
            f"{self._folder}: no copy of {self._path!r} can be kept while it is sent "
            f"({error_words(error)}){cure}"
        )


def _nameless_file(folder: Path) -> int:
    """A file that no crash can leave behind: it has no name."""
    try:
        return os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o600)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            raise
    # Some file systems (NFS, older overlays) have no O_TMPFILE.
    fd, name = tempfile.mkstemp(dir=folder)
    Path(name).unlink()
    return fd


T = TypeVar("T")

PIECE = 1024 * 1024
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
"""O_NONBLOCK: a fifo put in place of the file must not hold us."""

BETWEEN_READS = 0.25
"""Seconds between the two reads of `forced_take`."""

_TRIES = 3
"""Reads of a file that never gets quiet, to find a moment in which nobody writes."""


@dataclass(frozen=True, slots=True)
class StableDigest:
    """The digest of a stable read and the stamp it belongs to."""

    digest: str
    stamp: Stamp


@dataclass(frozen=True, slots=True)
class Sample:
    """What an earlier read of a file that grows had seen."""

    size: int
    digest: str


@dataclass(frozen=True, slots=True)
class Unstable:
    """Not the same before and after: look again later. `sample` is of the last read that held still."""

    reason: str
    sample: Sample | None = None


@dataclass(frozen=True, slots=True)
class UnreadableFile:
    """There, but it cannot be read; `reason` says why and what to do."""

    reason: str


@dataclass(frozen=True, slots=True)
class Vanished:
    """Nothing is at that path."""


ReadProblem = Unstable | UnreadableFile | Vanished

_CHANGED = Unstable("changed while it was read")
_NO_FILE = Unstable("is no regular file any more")


def digest(root: Path, path: str, expected: Stamp) -> StableDigest | ReadProblem:
    """The SHA-256 of `path` below `root`, if the file is the one of `expected` before and after the read.

    Reads at most one byte more than `expected.size`, in pieces. Raises ShortageError, never OSError.
    """

    def read(file: _File) -> StableDigest | ReadProblem:
        if file.before != expected:
            return Unstable("changed since it was looked at")
        hashed = _Hash()
        return StableDigest(hashed.digest, file.before) if file.read(hashed) else _CHANGED

    return _reading(root, path, read)


def copy_stable(
    root: Path, path: str, spool_dir: Path, expected_digest: str | None = None
) -> Spooled | ReadProblem:
    """A copy of the bytes of `path`, kept from this stable read on; the caller closes it.

    Unstable where the digest is not `expected_digest`. Raises StateError when `spool_dir` is full or
    cannot be written, ShortageError; never OSError.
    """

    def judge(hashed: _Hash) -> str:
        return "" if expected_digest in (None, hashed.digest) else "changed since it was hashed"

    return _copy(root, path, spool_dir, None, judge)


def copy_growing(
    root: Path,
    path: str,
    spool_dir: Path,
    previous: Sample | None = None,
    pause: Callable[[float], None] = time.sleep,
) -> Spooled | ReadProblem:
    """A copy of a file that never gets quiet, if it only grows or holds still for a moment.

    Taken are bytes of a stable read that begin with an earlier sample: `previous` or that of a read
    `BETWEEN_READS` before, whose digest is the same when nothing was written in between. Otherwise
    Unstable, with a sample for the next time. Raises StateError as `take` does.
    """
    sample = previous
    for attempt in range(_TRIES):
        if attempt:
            pause(BETWEEN_READS)
        outcome = _copy(root, path, spool_dir, sample, lambda hashed: _grown(hashed, sample))  # noqa: B023
        if not isinstance(outcome, Unstable):
            return outcome
        sample = outcome.sample or sample
    return Unstable("still being written", sample)


class _Writer(Protocol):
    def write(self, piece: memoryview) -> None: ...


class _Hash:
    """SHA-256 of all pieces, and of the first `mark` bytes on the way."""

    __slots__ = ("_hash", "_mark", "prefix", "size")

    def __init__(self, mark: int = -1) -> None:
        self._hash = hashlib.sha256()
        self._mark = mark
        self.size = 0
        self.prefix = ""

    def write(self, piece: memoryview) -> None:
        rest = self._mark - self.size
        if 0 <= rest <= len(piece):
            self._hash.update(piece[:rest])
            self.prefix = self._hash.hexdigest()
            self._hash.update(piece[rest:])
        else:
            self._hash.update(piece)
        self.size += len(piece)

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()


class _File:
    """An open regular file below the root, with the stamp it had when it was opened."""

    __slots__ = ("_fd", "_folder", "_name", "before", "is_regular")

    def __init__(self, root_fd: int, path: str) -> None:
        folder, _, self._name = path.rpartition("/")
        self._folder = descend(root_fd, folder)
        try:
            self._fd = os.open(self._name, _OPEN, dir_fd=self._folder)
        except OSError:
            os.close(self._folder)
            raise
        status = os.fstat(self._fd)
        self.before = stamp_of(status)
        self.is_regular = stat.S_ISREG(status.st_mode)

    def close(self) -> None:
        os.close(self._fd)
        os.close(self._folder)

    def read(self, *writers: _Writer) -> bool:
        """Give all bytes to each of `writers`; whether the file, also by its name, stayed the same."""
        total = 0
        for piece in self._pieces():
            for writer in writers:
                writer.write(piece)
            total += len(piece)
        return total == self.before.size and self._is_unchanged()

    def _pieces(self) -> Iterator[memoryview]:
        """The content up to one byte beyond the size it had, so that a growing file has an end."""
        left = self.before.size + 1
        buffer = memoryview(bytearray(min(PIECE, left)))
        while left and (count := os.readv(self._fd, [buffer[:left]])):
            yield buffer[:count]
            left -= count

    def _is_unchanged(self) -> bool:
        by_name = os.stat(self._name, dir_fd=self._folder, follow_symlinks=False)
        return _is(self.before, os.fstat(self._fd)) and _is(self.before, by_name)


def _is(stamp: Stamp, status: os.stat_result) -> bool:
    """Whether both say the same; cheaper than to make another stamp, and asked twice for each file."""
    return (
        status.st_mtime_ns == stamp.mtime_ns
        and status.st_ctime_ns == stamp.ctime_ns
        and status.st_size == stamp.size
        and status.st_ino == stamp.ino
    )


def _reading(root: Path, path: str, use: Callable[[_File], T | ReadProblem]) -> T | ReadProblem:
    """What `use` makes of the open file, or why there is none."""
    try:
        root_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        return UnreadableFile(f"{root}: {error_words_at(error)}")
    try:
        return _below(root_fd, path, use)
    finally:
        os.close(root_fd)


def _below(root_fd: int, path: str, use: Callable[[_File], T | ReadProblem]) -> T | ReadProblem:
    try:
        file = _File(root_fd, path)
        try:
            return use(file) if file.is_regular else _NO_FILE
        finally:
            file.close()
    except OSError as error:
        return _outcome(error)


def _copy(
    root: Path, path: str, spool_dir: Path, sample: Sample | None, judge: Callable[[_Hash], str]
) -> Spooled | ReadProblem:
    """A stable read into a spool; `judge` says why it is not good enough, or ""."""

    def read(file: _File) -> Spooled | ReadProblem:
        hashed = _Hash(sample.size if sample else -1)
        spool = Spool(spool_dir, path, file.before.size)
        try:
            if not file.read(hashed, spool):
                return _CHANGED
            if problem := judge(hashed):
                return Unstable(problem, Sample(hashed.size, hashed.digest))
            return spool.finish(hashed.size, hashed.digest, file.before)
        finally:
            spool.drop()

    return _reading(root, path, read)


def _grown(hashed: _Hash, sample: Sample | None) -> str:
    """An empty sample proves nothing: every file begins with it."""
    is_grown = sample and hashed.prefix == sample.digest and (sample.size or not hashed.size)
    return "" if is_grown else "still being written"


def _outcome(error: OSError) -> ReadProblem:
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR:
            return Vanished()
        case errno.ELOOP | errno.ENXIO | errno.ENODEV:
            return _NO_FILE
        case errno.EAGAIN:
            return Unstable("another program has locked it")
        case _:
            return UnreadableFile(f"cannot be read: {error_words_at(error)}")
