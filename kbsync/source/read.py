"""Stable reads (promise 8): bytes are accepted only if the file stays the same before, during and after the
read.

The bytes are kept from the moment they are hashed until they are sent. A read can't detect a writer that
pauses in the middle, so a file must be quiet before it is read.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Self

from kbsync.core.model import Stamp
from kbsync.dataclass import dataclass
from kbsync.errors import StateError
from kbsync.source.roots import SHORTAGES, error_words, error_words_at, opened_folder
from kbsync.source.stat import stamp_fields, stamp_of

IN_MEMORY = 256 * 1024
"""Files of up to this many bytes stay in memory; larger ones go to the spool folder."""


class Spooled:
    """The bytes of a file, with their digest and stamp, as a `contract.Body`. Close it, or use `with`."""

    def __init__(self, content: bytes | int, size: int, digest: str, stamp: Stamp) -> None:
        """Wrap `content`: either bytes, or the descriptor of an unnamed file, which `close` closes."""
        self._content: bytes | int | None = content
        self.size = size
        self.digest = digest
        self.stamp = stamp

    def open(self) -> BinaryIO:
        """Return a new stream that starts at the beginning and is independent of all other streams.

        Raises ValueError after `close`.
        """
        if self._content is None:  # an empty stream would be mistaken for an empty file
            raise ValueError(f"this copy of {self.size} bytes has already been closed")
        if isinstance(self._content, bytes):
            return io.BytesIO(self._content)
        return Path(f"/proc/self/fd/{self._content}").open("rb")

    def close(self) -> None:
        """Release the bytes. Safe to call more than once."""
        if isinstance(self._content, int):
            os.close(self._content)
        self._content = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


class Spool:
    """Hashes the pieces of a file and, given a folder, stores them. `finish` returns them as a `Spooled`."""

    def __init__(self, path: str, folder: Path | None = None, mark: int = -1, room: int = 0) -> None:
        """Prepare to collect the bytes. `path`: the path for error messages. `mark`: see `prefix`.

        Without a `folder`, nothing is written, and at most `room` bytes are kept.
        """
        self.size = 0
        self.prefix = ""
        """The digest of the first `mark` bytes if the file has that many."""
        self._path = path
        self._folder = folder
        self._mark = mark
        self._room = room if folder is None else IN_MEMORY
        self._hash = hashlib.sha256()
        self._pieces: list[bytes] = []
        self._fd = -1

    @property
    def digest(self) -> str:
        """The SHA-256 of all the pieces so far."""
        return self._hash.hexdigest()

    def write(self, piece: memoryview) -> None:
        """Append the piece. Raises StateError if it can't be stored in the folder."""
        until_mark = self._mark - self.size
        if 0 <= until_mark <= len(piece):
            self._hash.update(piece[:until_mark])
            self.prefix = self._hash.hexdigest()
            self._hash.update(piece[until_mark:])
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
            for unwritten in [*(memoryview(buffered) for buffered in self._pieces), piece]:
                while unwritten:
                    unwritten = unwritten[os.write(self._fd, unwritten) :]
        except OSError as error:
            reason = (
                f"{self._folder}: can't keep a copy of {self._path!r} while sending it ({error_words(error)})"
            )
            fix = "free some disk space or move state_dir"
            raise StateError(reason if error.errno in SHORTAGES else f"{reason}; {fix}") from error
        self._pieces.clear()

    def finish(self, stamp: Stamp) -> Spooled:
        """Return the collected bytes as the content of the file with this stamp."""
        content: bytes | int = self._fd if self._fd >= 0 else b"".join(self._pieces)
        self._fd = -1
        return Spooled(content, self.size, self.digest, stamp)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        """Discard the bytes that `finish` hasn't returned."""
        if self._fd >= 0:
            os.close(self._fd)


def _nameless_file(folder: Path) -> int:
    """Create a file without a name, which can't be left behind after a crash."""
    try:
        return os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o600)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            raise
    # Some file systems (NFS, older overlays) have no O_TMPFILE.
    import tempfile  # imported here: few runs need it

    fd, name = tempfile.mkstemp(dir=folder)
    Path(name).unlink()
    return fd


PIECE = 1024 * 1024
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
"""Flags for opening a file. They include O_NONBLOCK, because a FIFO in place of the file must not block
kbsync.
"""

BETWEEN_READS = 0.25
"""Seconds between the two reads of `copy_growing`."""

_TRIES = 3
"""Maximum number of reads while looking for a moment without writes in a file that never stops changing."""


@dataclass(frozen=True, slots=True)
class StableDigest:
    """The digest from a stable read, and the stamp that it belongs to."""

    digest: str
    stamp: Stamp


@dataclass(frozen=True, slots=True)
class Sample:
    """The size and digest of the first part of a growing file, from an earlier read."""

    size: int
    digest: str


@dataclass(frozen=True, slots=True)
class Unstable:
    """The outcome of a read during which the file changed. The caller should try again later.

    `sample` comes from the last read during which the file didn't change.
    """

    reason: str
    sample: Sample | None = None


@dataclass(frozen=True, slots=True)
class UnreadableFile:
    """The outcome for a file that exists but can't be read. `reason` says why and what to do."""

    reason: str


@dataclass(frozen=True, slots=True)
class Vanished:
    """Nothing exists at that path."""


ReadProblem = Unstable | UnreadableFile | Vanished

_NO_FILE = Unstable("is no longer a regular file")


def digest(root: Path, path: str, expected: Stamp) -> StableDigest | ReadProblem:
    """Return the SHA-256 of `path` below `root`, if the file has the stamp `expected` before and after the
    read.

    The file is read in pieces, up to at most one byte beyond `expected.size`. Raises ShortageError, but never
    OSError.
    """
    spool = Spool(path)
    stamp = _read(root, path, spool, expected)
    return StableDigest(spool.digest, stamp) if isinstance(stamp, Stamp) else stamp


def copy_stable(
    root: Path, path: str, spool_dir: Path, expected_digest: str | None = None
) -> Spooled | ReadProblem:
    """Return a copy of the bytes of `path`, taken by a stable read. The caller closes it.

    Raises Unstable if the digest isn't `expected_digest`, StateError if `spool_dir` is full or not writable,
    or ShortageError. Never raises OSError.
    """
    with Spool(path, spool_dir) as copy:
        stamp = _read(root, path, copy)
        if not isinstance(stamp, Stamp):
            return stamp
        if expected_digest not in (None, copy.digest):
            return Unstable("changed since it was hashed")
        return copy.finish(stamp)


def read_stable(root: Path, path: str, expected_digest: str, size: int) -> bytes | ReadProblem:
    """Return the bytes of `path`, in memory only.

    Raises Unstable if they aren't the `size` bytes with that digest, or ShortageError. Never raises OSError.
    """
    with Spool(path, room=size) as spool:
        stamp = _read(root, path, spool, size=size)
        if not isinstance(stamp, Stamp):
            return stamp
        if spool.digest != expected_digest:
            return Unstable("changed since it was hashed")
        with spool.finish(stamp) as copy, copy.open() as file:
            return file.read()


def copy_growing(
    root: Path,
    path: str,
    spool_dir: Path,
    previous: Sample | None = None,
    pause: Callable[[float], None] = time.sleep,
) -> Spooled | ReadProblem:
    """Return a copy of a file that never goes quiet, if the file only grows or pauses for a moment.

    The bytes of a stable read are accepted if they begin with an earlier sample: either `previous`, or the
    sample of a read that took place `BETWEEN_READS` seconds before. Otherwise, raises Unstable with a sample
    for the next time. Raises the same StateError as `copy_stable`.
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
    """Write all bytes of a file to `spool`. Return the file's stamp, which must be the same before and after
    the read, and also when looked up by name. A file that isn't the `expected` one, or doesn't have `size`
    bytes, isn't read.
    """
    try:
        root_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        return UnreadableFile(f"{root}: {error_words_at(error)}")
    with ExitStack() as resources:
        resources.callback(os.close, root_fd)
        try:
            parent, _, name = path.rpartition("/")
            folder = resources.enter_context(opened_folder(root_fd, parent))
            fd = os.open(name, _OPEN, dir_fd=folder)
            resources.callback(os.close, fd)
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                return _NO_FILE
            before = stamp_of(status)
            if expected not in (None, before) or size not in (None, before.size):
                return Unstable("changed since it was checked")
            # Read at most one byte beyond the file's size, so that reading a growing file ends.
            remaining = before.size + 1
            buffer = memoryview(bytearray(min(PIECE, remaining)))
            while remaining and (count := os.readv(fd, [buffer[:remaining]])):
                spool.write(buffer[:count])
                remaining -= count
            # Check by name too, because another file may have replaced this one in the meantime (promise 8).
            by_name = os.stat(name, dir_fd=folder, follow_symlinks=False)
            is_same = remaining == 1 and _has_stamp(before, os.fstat(fd)) and _has_stamp(before, by_name)
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


def _has_stamp(stamp: Stamp, status: os.stat_result) -> bool:
    """Return whether both stamps are equal.

    This is cheaper than creating another stamp, and is called twice for each file.
    """
    return stamp_fields(status) == (stamp.size, stamp.mtime_ns, stamp.ctime_ns, stamp.ino)
