"""Reads the vectors of a large index ahead of a scan if the file isn't in the page cache.

SQLite reads a vector block page by page. The kernel reads ahead what follows each page in the file, where
pages of all tables are mixed: with a million passages, 1.46 GB for 0.5 GB of vectors. The file's pointer map
(https://sqlite.org/fileformat2.html, 1.8) lists the pages that continue a row too large for one page, and
nearly all of those contain vectors.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import apsw

_CONTINUATIONS = re.compile(rb"[\3\4]+(?:.{1,4}[\3\4]+)*", re.DOTALL)
"""Types of consecutive pages. Reading up to four others takes less time than another request."""

_ENTRY_BYTES = 5  # in the pointer map: the type of a page and its parent
_SAMPLED = 32  # maximum number of pages to look up in the page cache


@contextmanager
def reading_ahead(connection: apsw.Connection) -> Iterator[None]:
    """Read the pages that continue large rows into the page cache, in another thread, while the block runs.

    Does nothing if the pointer map is in the page cache already, or on other systems than Linux.
    """
    is_done = threading.Event()
    if sys.platform == "linux":
        with suppress(OSError):
            # One that SQLite opened, because closing another would release its locks on the file.
            descriptor = _find_descriptor(connection.filename)
            if descriptor is not None and not _is_cached(descriptor):
                arguments = (descriptor, is_done)
                threading.Thread(target=_read, args=arguments, name="kbsync-read-ahead", daemon=True).start()
    try:
        yield
    finally:
        is_done.set()


def _read(descriptor: int, is_done: threading.Event) -> None:
    # If the file is closed meanwhile, the descriptor is invalid or another file's, which this doesn't harm.
    with suppress(OSError):
        for offset, length in _find_continuations(descriptor):
            if is_done.is_set():
                return
            os.posix_fadvise(descriptor, offset, length, os.POSIX_FADV_WILLNEED)


def _find_continuations(descriptor: int) -> list[tuple[int, int]]:
    """Return the offsets and lengths of the pages that continue a row, including a few pages between them."""
    maps = _find_maps(descriptor)
    page = maps.start
    for offset in maps:
        os.posix_fadvise(descriptor, offset, page, os.POSIX_FADV_WILLNEED)
    length = (maps.step // page - 1) * _ENTRY_BYTES
    types = b"".join(b"\0" + os.pread(descriptor, length, offset)[::_ENTRY_BYTES] for offset in maps)
    stretches = (found.span() for found in _CONTINUATIONS.finditer(types))
    return [(page + start * page, (stop - start) * page) for start, stop in stretches]


def _find_maps(descriptor: int) -> range:
    """Return the offsets of the pages of the pointer map. Each is followed by the pages that it lists."""
    header = os.pread(descriptor, 100, 0)
    page = int.from_bytes(header[16:18], "big")
    page = 65_536 if page == 1 else page
    has_map = any(header[52:56])
    listed = (page - header[20]) // _ENTRY_BYTES
    return range(page, os.fstat(descriptor).st_size if has_map else page, (listed + 1) * page)


def _find_descriptor(path: str) -> int | None:
    """Return this process's descriptor of the file at `path`."""
    file = os.stat(path)
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            if os.path.samestat(os.fstat(int(name)), file):
                return int(name)
    return None


def _is_cached(descriptor: int) -> bool:
    """Return whether a sample of the pointer map is in the page cache. True if the file system doesn't show
    it."""
    maps, byte = _find_maps(descriptor), bytearray(1)
    try:
        for offset in maps[:: len(maps) // _SAMPLED + 1]:
            os.preadv(descriptor, [byte], offset, os.RWF_NOWAIT)
    except OSError as error:
        return not isinstance(error, BlockingIOError)
    return True
