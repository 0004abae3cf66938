"""Overwrites the unused space in the pages of a database after SQLite copied them from the WAL into the file.

SQLite overwrites a deleted row (`secure_delete`), but not the copies that it leaves in the unused space of a
page when it moves rows to another page. If such a row is deleted later, its text would stay in the file
(promise 11).
"""

from __future__ import annotations

import fcntl
import os
import struct
from contextlib import suppress
from functools import partial
from io import FileIO
from pathlib import Path

import apsw

PAGE = 4096
"""Bytes in a page. Pages of another size stay as they are."""

_AUTOCHECKPOINT = 1_000  # pages, as in SQLite without a hook
_HEADER = struct.Struct(">BHHH")
"""A page's kind, its first free block, its number of cells, and the start of the cells."""
_INTERIOR, _LEAF = (2, 5), (10, 13)
_MAP_EVERY = PAGE // 5 + 1
"""With `auto_vacuum`, page 2 and each page this much further contains no rows, but the pages' parents."""
_LARGEST = 1 << 36
"""Bytes of a file in which any other page begins with a zero, the high byte of a page number. It could only
be mistaken for a page with rows in a file of twice this size.
"""
_WAL_HEADER, _FRAME_HEADER = 32, 24
_SALTS = slice(16, 24)
"""The part of a WAL's header that changes when SQLite starts it again."""

_FAILURES = (apsw.Error, OSError, MemoryError)


class OverwritingConnection(apsw.Connection):
    """A connection for writing that leaves nothing in the unused space of the file."""

    def __init__(self, path: Path, flags: int) -> None:
        super().__init__(path.absolute().as_uri(), flags=flags)
        self._status = path.stat()
        self._descriptor = _find_descriptor(self._status)
        self._wal = f"{os.path.realpath(path)}-wal"
        self._salts, self._frames = b"", 0  # those whose pages are in `_pages`, or done
        self._pages = set[int]()
        self.wal_autocheckpoint(_AUTOCHECKPOINT)
        self.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)  # only `copy_wal` copies the WAL

    def wal_autocheckpoint(self, pages: int) -> None:
        """Copy the WAL into the file after each commit that leaves at least this many pages in it."""
        self.set_wal_hook(partial(_after_commit, pages))

    def copy_wal(self, *, empties: bool = False) -> None:
        """Copy the WAL into the file, and overwrite the unused space. Raises `apsw.Error` or OSError.

        `empties`: wait for readers, and empty the WAL afterwards. It must not become empty before: after a
        kill, its pages are the ones to overwrite.
        """
        with open(self._wal, "r+b", buffering=0) as wal:  # NFS locks only files open for writing
            # A command that uses the state of a running daemon is a second process. If it copied newer pages
            # now, their new rows would be overwritten.
            fcntl.flock(wal, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mode = apsw.SQLITE_CHECKPOINT_FULL if empties else apsw.SQLITE_CHECKPOINT_PASSIVE
            _, copied = self.wal_checkpoint(mode=mode)
            if copied > 0 and _writes_to(self._descriptor, self._status):
                self._pages |= self._new_pages(wal, copied)
                # Not as the file says, whose first page may be older than the others while readers use it.
                has_map = self.pragma("auto_vacuum") != 0
                _overwrite(self._descriptor, self._pages, has_map)
                self._pages.clear()
            if empties:
                self.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)

    def close(self, force: bool = False) -> None:
        """Close the connection. If the WAL can't be copied into the file, it stays for the next one."""
        with suppress(*_FAILURES):
            self.copy_wal()
        super().close(force)

    def _new_pages(self, wal: FileIO, copied: int) -> set[int]:
        """Return the numbers of the pages in the first `copied` frames of the WAL, without those returned
        before.
        """
        salts = wal.read(_WAL_HEADER)[_SALTS]
        first = self._frames if salts == self._salts else 0
        starts = (_WAL_HEADER + frame * (_FRAME_HEADER + PAGE) for frame in range(first, copied))
        pages = {int.from_bytes(os.pread(wal.fileno(), 4, start), "big") for start in starts}
        self._salts, self._frames = salts, copied
        return pages


def _after_commit(limit: int, connection: OverwritingConnection, _database: str, pages: int) -> int:
    # As in SQLite's own hook, errors are ignored: the commit succeeded.
    if pages >= limit:
        with suppress(*_FAILURES):
            connection.copy_wal()
    return apsw.SQLITE_OK


def _find_descriptor(status: os.stat_result) -> int:
    """Return SQLite's own descriptor of a database that was just opened for writing, or -1 if it can't be
    found.

    If this process closed another descriptor of the same file, the kernel would release SQLite's locks.
    """
    with suppress(OSError):
        for descriptor in map(int, os.listdir("/proc/self/fd")):
            if _writes_to(descriptor, status):
                return descriptor
    return -1


def _writes_to(descriptor: int, status: os.stat_result) -> bool:
    """Return whether the descriptor is open for reading and writing the file with this status."""
    try:
        access = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE
        return access == os.O_RDWR and os.path.samestat(os.fstat(descriptor), status)
    except OSError:
        return False


def _overwrite(descriptor: int, pages: set[int], has_map: bool) -> None:
    """Overwrite the unused space of these pages with zeros. `has_map`: see `_MAP_EVERY`."""
    first, size = os.pread(descriptor, PAGE, 0), os.fstat(descriptor).st_size
    if int.from_bytes(first[16:18], "big") != PAGE or size > _LARGEST:
        return
    is_changed = False
    for number in sorted(pages):
        offset = (number - 1) * PAGE
        page = os.pread(descriptor, PAGE, offset)
        if len(page) < PAGE or (has_map and number % _MAP_EVERY == 2):
            continue
        unused = unused_space(page, 100 if number == 1 else 0)
        if page[unused].strip(b"\0"):
            os.pwrite(descriptor, bytes(unused.stop - unused.start), offset + unused.start)
            is_changed = True
    if is_changed:
        os.fdatasync(descriptor)


def unused_space(page: bytes, header: int = 0) -> slice:
    """Return the unused part of a page with rows, and an empty one for any other page.

    `header`: where the header of the page starts. See https://www.sqlite.org/fileformat2.html#b_tree_pages.
    """
    kind, free, count, end = _HEADER.unpack_from(page, header)
    pointers = header + (12 if kind in _INTERIOR else 8)
    start = pointers + 2 * count
    if kind not in (*_INTERIOR, *_LEAF) or not start < end <= PAGE or 0 < free < end:
        return slice(0, 0)
    if min(struct.unpack_from(f">{count}H", page, pointers), default=PAGE) < end:
        return slice(0, 0)
    return slice(start, end)
