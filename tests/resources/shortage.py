"""Simulates a disk that is full from one write of SQLite on, until the test frees it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import apsw


class Disk:
    """Counts writes; from number `full_at` on each of them fails."""

    def __init__(self, full_at: int | None = None) -> None:
        self.full_at = full_at
        self.writes = 0
        self._guard = threading.Lock()

    @property
    def was_full(self) -> bool:
        return self.full_at is not None and self.writes >= self.full_at

    def write(self) -> None:
        with self._guard:
            self.writes += 1
            if self.was_full:
                raise apsw.FullError("no space left on device")


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, name: object, flags: list[int]) -> None:
        super().__init__("unix", name, flags)  # type: ignore[arg-type]
        self._disk = disk

    def xWrite(self, data: bytes, offset: int) -> None:
        self._disk.write()
        super().xWrite(data, offset)


class _Filesystem(apsw.VFS):
    def __init__(self, disk: Disk, only: str) -> None:
        super().__init__("shortage", "unix", makedefault=True)
        self._disk, self._only = disk, only

    def xOpen(self, name: object, flags: list[int]) -> _File:
        file = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        return _File(self._disk if self._only in file else Disk(), name, flags)


@contextmanager
def every_file_on(disk: Disk, only: str = "") -> Iterator[Disk]:
    """Put every opened database on `disk`, or those with `only` in their name."""
    filesystem = _Filesystem(disk, only)
    try:
        yield disk
    finally:
        filesystem.unregister()
