"""Stable reads (promise 8): bytes count only if the file was the same before, during and after the read.

They are kept from the moment they were hashed until they are sent. A read cannot tell that a writer pauses in
the middle; the quiet time before it is there for that.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

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
        self._content: bytes | int | None = content
        self.size = size
        self.digest = digest
        self.stamp = stamp

    def open(self) -> BinaryIO:
        """A fresh stream from the start, independent of all others. Raises ValueError after `close`."""
        if self._content is None:  # an empty stream would pass for an empty file
            raise ValueError(f"this copy of {self.size} bytes was closed")
        if isinstance(self._content, bytes):
            return io.BytesIO(self._content)
        return Path(f"/proc/self/fd/{self._content}").open("rb")

    def close(self) -> None:
        """Let go of the bytes; repeatable."""
        if isinstance(self._content, int):
            os.close(self._content)
        self._content = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


class Spool:
    """Hashes the pieces of one file and, given a folder, keeps them; `finish` makes a `Spooled` of them."""

    def __init__(self, path: str, folder: Path | None = None, mark: int = -1, room: int = 0) -> None:
        """`path` is named in errors. `mark`: see `prefix`.

        Without `folder` nothing is written, and only up to `room` bytes are kept.
        """
        self.size = 0
        self.prefix = ""
        """The digest of the first `mark` bytes, if there were so many."""
        self._path = path
        self._folder = folder
        self._mark = mark
        self._room = room if folder is None else IN_MEMORY
        self._hash = hashlib.sha256()
        self._pieces: list[bytes] = []
        self._fd = -1

    @property
    def digest(self) -> str:
        """The SHA-256 of all pieces."""
        return self._hash.hexdigest()

    def write(self, piece: memoryview) -> None:
        """Append; raises StateError where the folder cannot take it."""
        rest = self._mark - self.size
        if 0 <= rest <= len(piece):
            self._hash.update(piece[:rest])
            self.prefix = self._hash.hexdigest()
            self._hash.update(piece[rest:])
        else:
            self._hash.update(piece)
        self.size += len(piece)
        if self._fd < 0 and self.size <= self._room:
            self._pieces.append(bytes(piece))
            return
        if self._folder is None:
            return
        try:
            if self._fd < 0:
                self._fd = _nameless_file(self._folder)
            for unwritten in [*(memoryview(one) for one in self._pieces), piece]:
                while unwritten:
                    unwritten = unwritten[os.write(self._fd, unwritten) :]
        except OSError as error:
            cure = "" if error.errno in SHORTAGES else "; free space there or move state_dir"
            raise StateError(
                f"{self._folder}: no copy of {self._path!r} can be kept while it is sent "
                f"({error_words(error)}){cure}"
            ) from error
        self._pieces.clear()

    def finish(self, stamp: Stamp) -> Spooled:
        """Hand over what was collected of the file with this stamp."""
        content: bytes | int = self._fd if self._fd >= 0 else b"".join(self._pieces)
        self._fd = -1
        return Spooled(content, self.size, self.digest, stamp)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        """Forget what was not handed over."""
        if self._fd >= 0:
            os.close(self._fd)


def _nameless_file(folder: Path) -> int:
    """A file without a name, which no crash can leave behind."""
    try:
        return os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o600)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            raise
    # Some file systems (NFS, older overlays) have no O_TMPFILE.
    fd, name = tempfile.mkstemp(dir=folder)
    Path(name).unlink()
    return fd


PIECE = 1024 * 1024
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
"""O_NONBLOCK: a fifo put in place of the file must not hold us."""

BETWEEN_READS = 0.25
"""Seconds between the two reads of `copy_growing`."""

_TRIES = 3
"""Reads of a file that never gets quiet, to catch a moment in which nobody writes."""


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

_NO_FILE = Unstable("is no longer a regular file")


def digest(root: Path, path: str, expected: Stamp) -> StableDigest | ReadProblem:
    """The SHA-256 of `path` below `root`, if the file is the one of `expected` before and after the read.

    Reads at most one byte more than `expected.size`, in pieces. Raises ShortageError, never OSError.
    """
    hashed = Spool(path)
    stamp = _read(root, path, hashed, expected)
    return StableDigest(hashed.digest, stamp) if isinstance(stamp, Stamp) else stamp


def copy_stable(
    root: Path, path: str, spool_dir: Path, expected_digest: str | None = None
) -> Spooled | ReadProblem:
    """A copy of the bytes of `path`, kept from this stable read on; the caller closes it.

    Unstable where the digest is not `expected_digest`. Raises StateError when `spool_dir` is full or
    cannot be written, ShortageError; never OSError.
    """
    with Spool(path, spool_dir) as copy:
        stamp = _read(root, path, copy)
        if not isinstance(stamp, Stamp):
            return stamp
        if expected_digest not in (None, copy.digest):
            return Unstable("changed since it was hashed")
        return copy.finish(stamp)


def read_stable(root: Path, path: str, expected_digest: str, size: int) -> bytes | ReadProblem:
    """The bytes of `path`, in memory alone. Unstable where they are not the `size` bytes of that digest.

    Raises ShortageError, never OSError.
    """
    with Spool(path, room=size) as kept:
        stamp = _read(root, path, kept, size=size)
        if not isinstance(stamp, Stamp):
            return stamp
        if kept.digest != expected_digest:
            return Unstable("changed since it was hashed")
        with kept.finish(stamp) as copy, copy.open() as file:
            return file.read()


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
    Unstable, with a sample for the next time. Raises StateError as `copy_stable` does.
    """
    sample = previous
    for attempt in range(_TRIES):
        if attempt:
            pause(BETWEEN_READS)
        with Spool(path, spool_dir, mark=sample.size if sample else -1) as copy:
            stamp = _read(root, path, copy)
            if isinstance(stamp, Unstable):
                continue
            if not isinstance(stamp, Stamp):
                return stamp
            # An empty sample proves nothing: every file begins with it.
            if sample and copy.prefix == sample.digest and (sample.size or not copy.size):
                return copy.finish(stamp)
            sample = Sample(copy.size, copy.digest)
    return Unstable("still being written", sample)


def _read(
    root: Path, path: str, spool: Spool, expected: Stamp | None = None, size: int | None = None
) -> Stamp | ReadProblem:
    """Give all bytes of a file to `spool`; the stamp it had before and after, also by its name.

    Nothing is read of a file that is not the `expected` one, or has not `size` bytes.
    """
    try:
        root_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        return UnreadableFile(f"{root}: {error_words_at(error)}")
    with ExitStack() as opened:
        opened.callback(os.close, root_fd)
        try:
            above, _, name = path.rpartition("/")
            folder = descend(root_fd, above)
            opened.callback(os.close, folder)
            fd = os.open(name, _OPEN, dir_fd=folder)
            opened.callback(os.close, fd)
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                return _NO_FILE
            before = stamp_of(status)
            if expected not in (None, before) or size not in (None, before.size):
                return Unstable("changed since it was looked at")
            left = before.size + 1  # one byte beyond its size, so that a file that grows has an end
            buffer = memoryview(bytearray(min(PIECE, left)))
            while left and (count := os.readv(fd, [buffer[:left]])):
                spool.write(buffer[:count])
                left -= count
            # By its name as well: another file may have been put there meanwhile (promise 8).
            by_name = os.stat(name, dir_fd=folder, follow_symlinks=False)
            is_same = left == 1 and _is(before, os.fstat(fd)) and _is(before, by_name)
            return before if is_same else Unstable("changed while it was read")
        except OSError as error:
            match error.errno:
                case errno.ENOENT | errno.ENOTDIR:
                    return Vanished()
                case errno.ELOOP | errno.ENXIO | errno.ENODEV:
                    return _NO_FILE
                case errno.EAGAIN:
                    return Unstable("another program has locked it")
                case _:
                    return UnreadableFile(f"cannot be read: {error_words_at(error)}")


def _is(stamp: Stamp, status: os.stat_result) -> bool:
    """Whether both say the same; cheaper than to make another stamp, and asked twice for each file."""
    return (
        status.st_mtime_ns == stamp.mtime_ns
        and status.st_ctime_ns == stamp.ctime_ns
        and status.st_size == stamp.size
        and status.st_ino == stamp.ino
    )
