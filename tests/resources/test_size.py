"""Small versions of what benchmarks/limits.py measures."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

from kbsync.source.read import Spooled, copy_stable
from tests.resources.embedded import LocalMirror

HUGE = 5 * 2**30
LARGE = 64 * 2**20


def sparse(file: Path, size: int) -> None:
    file.touch()
    os.truncate(file, size)
    os.utime(file, (1e9, 1e9))


def test_a_huge_file_over_the_limit_is_named_and_never_read(tmp_path: Path) -> None:
    mirror = LocalMirror(tmp_path)
    sparse(mirror.folder / "huge.md", HUGE)
    before = (mirror.folder / "huge.md").stat().st_atime_ns
    assert mirror.pass_over() == ""
    assert mirror.status() == {"failed": 1}
    assert (mirror.folder / "huge.md").stat().st_atime_ns == before


def test_a_large_file_streams_through_hash_and_copy(tmp_path: Path) -> None:
    sparse(tmp_path / "large.md", LARGE)
    (tmp_path / "spool").mkdir()
    tracemalloc.start()
    try:
        taken = copy_stable(tmp_path, "large.md", tmp_path / "spool")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(taken, Spooled)
    taken.close()
    assert peak < LARGE / 16
