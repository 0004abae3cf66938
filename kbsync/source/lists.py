"""A list of pages as a folder: `urls.yaml` holds link files, which have the list's own times and inode.

What the list leaves out is missing as a file is, and a list that cannot be read or has a mistake is a folder
that cannot be listed: what was in it is unknown, never gone.
"""

from __future__ import annotations

import errno
import functools
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, replace

from kbsync.config.links import LARGEST, NAME, Unusable, read_list
from kbsync.core.model import Stamp
from kbsync.source.roots import descend

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
_TRIES = 3


class ListUnknown(Exception):
    """What is in the list cannot be told; `str()` says why."""


@dataclass(frozen=True, slots=True)
class PageList:
    """The link files of a list by name, and the list's own stamp."""

    entries: Mapping[str, bytes]
    stamp: Stamp

    def stamp_of(self, name: str) -> Stamp:
        """Of one of its link files."""
        return replace(self.stamp, size=len(self.entries[name]))


def is_list(path: str) -> bool:
    """By its name."""
    return path.rpartition("/")[2] == NAME


def in_list(path: str) -> bool:
    """The path is that of an entry, where its folder is a list."""
    return is_list(path.rpartition("/")[0])


def pages_at(root_fd: int, path: str) -> PageList:
    """The list `path` below an open root; errors as `read_pages`."""
    fd = descend(root_fd, path.rpartition("/")[0])
    try:
        return read_pages(fd, path)
    finally:
        os.close(fd)


def read_pages(folder_fd: int, path: str) -> PageList:
    """The list `path`, which lies in an open folder. Raises ListUnknown, and OSError where it cannot be read.

    NotADirectoryError: it is no regular file; IsADirectoryError: it is a folder after all.
    """
    fd = os.open(NAME, _OPEN, dir_fd=folder_fd)
    try:
        content, stamp = _stable(fd, path)
    finally:
        os.close(fd)
    return PageList(_entries(content, path), stamp)


def _stable(fd: int, path: str) -> tuple[bytes, Stamp]:
    """The bytes of an open list, which was the same before and after it was read."""
    for _ in range(_TRIES):
        before = os.fstat(fd)
        if not stat.S_ISREG(before.st_mode):
            is_folder = stat.S_ISDIR(before.st_mode)
            raise (IsADirectoryError if is_folder else NotADirectoryError)(errno.EISDIR, "it is no file")
        content = _content(fd)
        if _stamp(before) == _stamp(os.fstat(fd)):
            return content, _stamp(before)
    raise ListUnknown(f"{path} is still being written")


def _content(fd: int) -> bytes:
    """From the start, at most one byte more than a list has."""
    pieces, at = [], 0
    while at <= LARGEST and (piece := os.pread(fd, LARGEST + 1 - at, at)):
        pieces.append(piece)
        at += len(piece)
    return b"".join(pieces)


def _entries(content: bytes, path: str) -> Mapping[str, bytes]:
    if len(content) > LARGEST:
        raise ListUnknown(f"{path} is over {LARGEST:,} bytes; divide it among several folders")
    try:
        return _parsed(content)
    except Unusable as reason:
        raise ListUnknown(f"{path}, {reason}") from None


@functools.lru_cache(maxsize=8)
def _parsed(content: bytes) -> Mapping[str, bytes]:
    """Each of its entries is asked for by itself."""
    return read_list(content)


def _stamp(status: os.stat_result) -> Stamp:
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
