"""Reads parts of a large index ahead of a search if the file isn't in the page cache.

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
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import compress, count, groupby

import apsw

_CONTINUATIONS = re.compile(rb"[\3\4]+(?:.{1,4}[\3\4]+)*", re.DOTALL)
"""Matches the types of pages to read in one request.

Up to four other pages between them are also read, because that takes less time than another request.
"""

_ENTRY_BYTES = 5  # in the pointer map: the type of a page and its parent
_IS_NEXT = bytes(value == 4 for value in range(256))  # by the type of a page
_ROOT = "SELECT rootpage FROM sqlite_schema WHERE name = ?"
_INTERIOR, _LEAF = b"\x05", b"\x0d"  # types of a table's pages
_MAX_DEPTH = 5  # of a table with more rows than any index has
_SAMPLED = 32  # maximum number of pages to look up in the page cache


@contextmanager
def reading_ahead(connection: apsw.Connection) -> Iterator[None]:
    """While the block runs, read the overflow pages of large rows into the page cache in another thread.

    This does nothing if the pointer map is already in the page cache, or on systems other than Linux.
    """
    with _in_another_thread(_find_descriptor(connection), _read):
        yield


@contextmanager
def _in_another_thread(
    descriptor: int | None, read: Callable[[int, threading.Event], None]
) -> Iterator[None]:
    """Call `read` in another thread, with an event that is set when the block ends.

    This does nothing if the pointer map is already in the page cache or there is no descriptor.
    """
    is_done = threading.Event()
    with suppress(OSError):
        if descriptor is not None and not _are_cached(descriptor, _find_maps(descriptor)):
            arguments = (descriptor, is_done)
            threading.Thread(target=read, args=arguments, name="kbsync-read-ahead", daemon=True).start()
    try:
        yield
    finally:
        is_done.set()


def read_tables_ahead(connection: apsw.Connection, *tables: str) -> None:
    """Read all pages of these tables into the page cache, except for the overflow pages of their rows."""
    descriptor = _find_descriptor(connection)
    if descriptor is None:
        return
    with suppress(OSError, IndexError):
        size = _find_maps(descriptor).start
        pages = [connection.execute(_ROOT, (table,)).get for table in tables]
        for _ in range(_MAX_DEPTH):
            _advise_unless_cached(descriptor, pages, size)
            # Some may be missing or damaged, because this reads the file without the WAL.
            pages = sorted({child for number in pages for child, _ in _children(descriptor, number, size)})
            if not pages or os.pread(descriptor, 1, (pages[0] - 1) * size) == _LEAF:
                _advise_unless_cached(descriptor, pages, size)
                return


def _children(descriptor: int, number: int, size: int) -> list[tuple[int, int]]:
    """Return the pages below a b-tree page, each with the highest row id that it may contain.

    A leaf has none.
    """
    content = os.pread(descriptor, size, (number - 1) * size)
    if content[:1] != _INTERIOR:
        return []
    pointers = range(12, 12 + 2 * int.from_bytes(content[3:5], "big"), 2)
    cells = [int.from_bytes(content[at : at + 2], "big") for at in pointers]
    children = [
        (int.from_bytes(content[cell : cell + 4], "big"), _varint(content, cell + 4)[0]) for cell in cells
    ]
    return [*children, (int.from_bytes(content[8:12], "big"), sys.maxsize)]


class RowPages:
    """Finds the pages of a table's long rows, which all have the same size, so that parts of these rows can
    be read ahead.

    The pages are only hints, because this reads the file without the WAL.
    """

    def __init__(self, connection: apsw.Connection, table: str, size: int) -> None:
        """Set up for one table.

        `size`: the size in bytes of the only value in each row. The record contains only this value, not the
        row id before it.
        """
        self._descriptor = _find_descriptor(connection)
        self._root: int = connection.execute(_ROOT, (table,)).get
        self._size = size
        self._next: dict[int, int] | None = None

    @contextmanager
    def reading_ahead(self, size: int) -> Iterator[None]:
        """While the block runs, read the first `size` bytes of all rows into the page cache in another
        thread.

        This does nothing if the pointer map is already in the page cache.
        """
        with _in_another_thread(self._descriptor, partial(self._read, size)):
            yield

    def read_ahead(self, pieces: Sequence[tuple[int, int, int]]) -> None:
        """Read pieces of rows into the page cache.

        A piece is given by a row's id, and the offset and size in the row's value.
        """
        if self._descriptor is None or not pieces:
            return
        with suppress(OSError, IndexError):
            layout = _Layout(self._descriptor, self._root, self._size)
            sample = pieces[:: len(pieces) // _SAMPLED + 1]
            if all(layout.is_cached(*piece) for piece in sample):
                return
            if self._next is None:
                self._next = layout.read_pointer_map()
            pages = set[int]()
            for row, of_row in groupby(pieces, lambda piece: piece[0]):
                numbers = set[int]()
                for _, offset, size in of_row:
                    numbers.update(layout.numbers(offset, size))
                chain = _follow(self._next, layout.first_page(row), max(numbers) + 1)
                pages.update(chain[number] for number in numbers if number < len(chain))
            _advise(self._descriptor, sorted(pages), layout.page)

    def _read(self, size: int, descriptor: int, is_done: threading.Event) -> None:
        with suppress(OSError, IndexError):
            layout = _Layout(descriptor, self._root, self._size)
            _advise(descriptor, layout.leaves, layout.page)
            self._next = layout.read_pointer_map()
            length = layout.numbers(0, size).stop
            rows = (layout.rows_in(leaf).values() for leaf in layout.leaves)
            pages = {
                page for firsts in rows for first in firsts for page in _follow(self._next, first, length)
            }
            _advise(descriptor, sorted(pages), layout.page, is_done)


def _follow(next_pages: Mapping[int, int], first: int, length: int) -> list[int]:
    """Return up to `length` overflow pages of a row, starting with the first one."""
    chain, page = list[int](), first
    while page and len(chain) < length:
        chain.append(page)
        page = next_pages.get(page, 0)
    return chain


def _advise(descriptor: int, pages: Iterable[int], page: int, is_done: threading.Event | None = None) -> None:
    """Read pages ahead, combining consecutive ones."""
    for _, run in groupby(enumerate(pages), lambda item: item[1] - item[0]):
        numbers = [number for _, number in run]
        if is_done is not None and is_done.is_set():
            return
        start, length = (numbers[0] - 1) * page, len(numbers) * page
        os.posix_fadvise(descriptor, start, length, os.POSIX_FADV_WILLNEED)


def _advise_unless_cached(descriptor: int, pages: Sequence[int], page: int) -> None:
    """Read pages ahead, unless a sample of them is already in the page cache."""
    if not _are_cached(descriptor, [(number - 1) * page for number in pages]):
        _advise(descriptor, pages, page)


class _Layout:
    """The location of a table's long rows in the file. See https://sqlite.org/fileformat2.html."""

    def __init__(self, descriptor: int, root: int, row_size: int) -> None:
        self._descriptor = descriptor
        self._maps = _find_maps(descriptor)
        self.page = self._maps.start
        self._usable = self.page - os.pread(descriptor, 1, 20)[0]
        # The size of the record's header, and how many bytes of the record are in the b-tree page.
        self._header = 2 - -(2 * row_size + 12).bit_length() // 7
        least = (self._usable - 12) * 32 // 255 - 23
        local = least + (self._header + row_size - least) % (self._usable - 4)
        self._local = local if local <= self._usable - 35 else least
        self._record = self._header + row_size
        self.leaves, self._last_rows = [root], list[int]()
        for _ in range(_MAX_DEPTH):
            if os.pread(descriptor, 1, (self.leaves[0] - 1) * self.page) != _INTERIOR:
                break
            children = [child for leaf in self.leaves for child in _children(descriptor, leaf, self.page)]
            self.leaves, self._last_rows = [page for page, _ in children], [row for _, row in children]
        self._rows = dict[int, dict[int, int]]()

    def numbers(self, offset: int, size: int) -> range:
        """Return the numbers (from 0) of the row's overflow pages that contain these bytes of its value."""
        step, start = self._usable - 4, self._header + offset - self._local
        return range(max(0, start) // step, -(-max(0, start + size) // step))

    def is_cached(self, row: int, offset: int, size: int) -> bool:
        """Return whether the pages that contain these bytes of a row, and all pages before them, are in the
        page cache.
        """
        page, pointer = self.first_page(row), bytearray(4)
        for _ in range(self.numbers(offset, size).stop):
            try:
                os.preadv(self._descriptor, [pointer], (page - 1) * self.page, os.RWF_NOWAIT)
            except OSError as error:
                return not isinstance(error, BlockingIOError)
            page = int.from_bytes(pointer, "big")
        return True

    def first_page(self, row: int) -> int:
        """Return the first overflow page of a row, or 0 if there is none."""
        leaf = self.leaves[bisect_left(self._last_rows, row)] if self._last_rows else self.leaves[0]
        if leaf not in self._rows:
            self._rows[leaf] = self.rows_in(leaf)
        return self._rows[leaf].get(row, 0)

    def rows_in(self, leaf: int) -> dict[int, int]:
        """Return the ids of the rows in a b-tree page, each with its first overflow page."""
        content = os.pread(self._descriptor, self.page, (leaf - 1) * self.page)
        firsts = dict[int, int]()
        if content[:1] != _LEAF:
            return firsts
        for at in range(8, 8 + 2 * int.from_bytes(content[3:5], "big"), 2):
            cell = int.from_bytes(content[at : at + 2], "big")
            record, cell = _varint(content, cell)
            row, cell = _varint(content, cell)
            if record == self._record:
                end = cell + self._local
                firsts[row] = int.from_bytes(content[end : end + 4], "big")
        return firsts

    def read_pointer_map(self) -> dict[int, int]:
        """Return a dict from each overflow page in the file to the next one of the same row."""
        for offset in self._maps:
            os.posix_fadvise(self._descriptor, offset, self.page, os.POSIX_FADV_WILLNEED)
        length = (self._maps.step // self.page - 1) * _ENTRY_BYTES
        # An entry for each page from page 2 on; for a page of the map itself, it is zero.
        entries = (bytes(_ENTRY_BYTES) + os.pread(self._descriptor, length, offset) for offset in self._maps)
        content = b"".join(entries)
        is_next = content[::_ENTRY_BYTES].translate(_IS_NEXT)
        parents = bytearray(4 * len(is_next))
        for at in range(4):
            parents[at::4] = content[1 + at if sys.byteorder == "big" else 4 - at :: _ENTRY_BYTES]
        numbers = memoryview(parents).cast("I")
        return dict(zip(compress(numbers, is_next), compress(count(2), is_next), strict=True))


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """Return the number at a position, and the position after it."""
    number = 0
    while True:
        number = number << 7 | content[at] & 0x7F
        at += 1
        if content[at - 1] < 0x80:
            return number, at


def _read(descriptor: int, is_done: threading.Event) -> None:
    # If the file is closed meanwhile, the descriptor is invalid or another file's, which this doesn't harm.
    with suppress(OSError):
        for offset, length in _find_continuations(descriptor):
            if is_done.is_set():
                return
            os.posix_fadvise(descriptor, offset, length, os.POSIX_FADV_WILLNEED)


def _find_continuations(descriptor: int) -> list[tuple[int, int]]:
    """Return the offsets and lengths of the overflow pages of a row, including a few pages between them."""
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


def _find_descriptor(connection: apsw.Connection) -> int | None:
    """Return the descriptor that SQLite uses to read the file, or None if it is unknown or the system isn't
    Linux.

    Opening and closing another descriptor would release SQLite's locks on the file.
    """
    if sys.platform == "linux":
        with suppress(OSError, UnicodeDecodeError):  # `apsw` returns no path with bytes that are not UTF-8
            file = os.stat(connection.filename)
            for name in os.listdir("/proc/self/fd"):
                with suppress(OSError):
                    if os.path.samestat(os.fstat(int(name)), file):
                        return int(name)
    return None


def _are_cached(descriptor: int, offsets: Sequence[int]) -> bool:
    """Return whether a sample of the pages at these offsets is in the page cache, or True if the file system
    can't report it.
    """
    byte = bytearray(1)
    try:
        for offset in offsets[:: len(offsets) // _SAMPLED + 1]:
            os.preadv(descriptor, [byte], offset, os.RWF_NOWAIT)
    except OSError as error:
        return not isinstance(error, BlockingIOError)
    return True
