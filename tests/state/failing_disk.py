"""A disk whose reads fail, as SQLite sees it."""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Iterator
from contextlib import contextmanager

import apsw


@contextmanager
def failing_reads(offset: int, times: int) -> Iterator[None]:
    """Let SQLite's next reads at this offset of a file fail, as on a failing disk."""
    read = ctypes.CDLL(None, use_errno=True).pread64
    read.restype = ctypes.c_ssize_t
    read.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64)
    failed = list[int]()

    @ctypes.CFUNCTYPE(read.restype, *read.argtypes, use_errno=True)
    def fail(descriptor: int, buffer: int, count: int, at: int) -> int:
        if at == offset and len(failed) < times:
            failed.append(at)
            ctypes.set_errno(errno.EIO)
            return -1
        return int(read(descriptor, buffer, count, at))

    vfs = apsw.VFS("failing-reads", "unix")
    pointer = ctypes.cast(fail, ctypes.c_void_p).value
    assert pointer is not None
    vfs.xSetSystemCall("pread64", pointer)
    try:
        yield
    finally:
        vfs.xSetSystemCall("pread64", 0)
        vfs.unregister()
