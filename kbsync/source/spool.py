"""The bytes of one file, kept from the moment they were hashed until they are sent."""

from __future__ import annotations

import errno
import io
import os
import tempfile
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from kbsync.core.model import Stamp
from kbsync.errors import StateError
from kbsync.source.roots import SHORTAGES, trouble

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
            self._fd = self._nameless()

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

    def _nameless(self) -> int:
        """A file that no crash can leave behind: it has no name."""
        try:
            return _nameless_file(self._folder)
        except OSError as error:
            raise self._full(error) from error

    def _full(self, error: OSError) -> StateError:
        cure = "" if error.errno in SHORTAGES else "; free space there or move state_dir"
        return StateError(
            f"{self._folder}: no copy of {self._path!r} can be kept while it is sent ({trouble(error)}){cure}"
        )


def _nameless_file(folder: Path) -> int:
    try:
        return os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o600)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            raise
    fd, name = tempfile.mkstemp(dir=folder)
    Path(name).unlink()
    return fd
