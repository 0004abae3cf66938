"""Runs small versions of the measurements of benchmarks/limits.py."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from kbsync.source.read import Spooled, copy_stable
from tests.engine.world import World
from tests.share import long

HUGE = 5 * 2**30
LARGE = 64 * 2**20


def sparse(file: Path, size: int) -> None:
    file.touch()
    os.truncate(file, size)
    os.utime(file, (1e9, 1e9))


async def test_huge_file_over_the_limit_is_named_and_never_read(tmp_path: Path) -> None:
    world = World(tmp_path)
    sparse(world.root / "huge.md", HUGE)
    before = (world.root / "huge.md").stat().st_atime_ns
    await world.once()
    assert world.statuses() == {"failed": 1}
    assert (world.root / "huge.md").stat().st_atime_ns == before


def test_large_file_is_streamed_through_hash_and_copy(tmp_path: Path) -> None:
    sparse(tmp_path / "large.md", LARGE)
    (tmp_path / "spool").mkdir()
    tracemalloc.start()
    try:
        copied = copy_stable(tmp_path, "large.md", tmp_path / "spool")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(copied, Spooled)
    copied.close()
    assert peak < LARGE / 16


MEASURED = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10)
"""
"""Runs a command; says its exit code and the peak of its memory in MiB, with the parsers it waited for.

Linux counts what a process inherits before it starts a program, so it must not come from a large one.
"""


@long
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("blank.md", b"# a\n" + b"\n" * (10 << 20)),
        ("lines.md", b"ab cd ef gh\n" * (3 << 18)),
        ("cells.csv", b"," * (10 << 20) + b"a"),
    ],
)
def test_pass_over_a_text_uses_little_memory_whatever_its_lines(
    tmp_path: Path, name: str, text: bytes
) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / name).write_bytes(text)
    arguments = ["--once", "--folder", str(tmp_path / "docs"), "--state-dir", str(tmp_path / "state"), "-q"]
    command = [sys.executable, "-c", MEASURED, sys.executable, "-m", "kbsync", *arguments]
    code, peak_mib = map(int, subprocess.check_output(command).split())
    assert code == 0
    assert peak_mib < 450
