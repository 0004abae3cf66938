"""Tests kbsync at its limits of size and speed: prints one table, and fails if a bound is exceeded.

Usage: python benchmarks/limits.py [hints] [huge] [page] [entries] [tiny] [paths] [local] [zhipu]
(default: all)

It takes three quarters of an hour, and `huge` needs 5 GiB of free space. The memory of kbsync and all
processes it started is summed up at one moment; shared memory counts once (PSS of proc(5)). If control groups
are available, the two passes over 100,000 files also run under a kernel memory limit.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cage import Cage, caged
from limits_rig import TABLE, RunResult, Storm, at_least, at_most, kbsync
from tree import build, fill
from zhipu import MANY, mirrored

SETTLED = 2.1
HINTS_A_SECOND, STORM_SECONDS, STORM_FILES = 10_000, 10.0, 2_000
HUGE = 5 * 2**30
FEW, ENTRIES = 20_000, 200_000

MAX_STALL = 0.5
SMALL, LOCAL, ZHIPU = 250.0, 400.0, 200.0
"""MiB for work without a parser, for a first pass into the built-in index, and for one to a service."""
CAGE = 256.0
"""The kernel's limit in MiB for a pass to a service."""
PAGE = 2**30
TINY = 1_000_000


@contextmanager
def workspace() -> Iterator[tuple[Path, Path]]:
    """Create an empty folder and a state directory next to it."""
    with tempfile.TemporaryDirectory() as temporary:
        folder, state = Path(temporary) / "docs", Path(temporary) / "state"
        folder.mkdir()
        yield folder, state


def rate(folder: Path, state: Path, *words: str, cage: Cage | None = None) -> RunResult:
    """Run kbsync over the folder; it must succeed."""
    result = kbsync(*words, "--json", "-q", "--folder", folder, "--state-dir", state, cage=cage)
    assert result.code == 0, result.err
    return result


def hints(files: int = STORM_FILES, seconds: float = STORM_SECONDS) -> None:
    """Change every file again and again; in the end searches must find each one's latest version."""
    with workspace() as (folder, state):
        fill(folder, files)
        rate(folder, state, "--once")
        storm = Storm(folder, state)
        changes = storm.rage(HINTS_A_SECOND, seconds)
        calm = storm.until_equal()
        end = storm.end()
        at_least("hints: changes a second", changes / seconds, 0.9 * HINTS_A_SECOND)
        at_most("hints: longest stall of the loop, s", end.longest_stall, MAX_STALL)
        at_most("hints: until every file is searchable as it is, s", calm, 60.0)
        at_most("hints: memory, MiB", end.peak_mib, LOCAL)


def huge(size: int = HUGE) -> None:
    """Mirror a sparse file: above the size limit it isn't read, below it streams through hash and scratch
    copy.
    """
    for most, what in ((100_000_000, "over"), (2 * size, "under")):
        with workspace() as (folder, state):
            with (folder / "huge.md").open("wb") as file:
                file.truncate(size)
            os.utime(folder / "huge.md", (1e9, 1e9))
            config = folder.parent / "config.yaml"
            target = f"target: {{type: local, max_bytes: {most}}}"
            config.write_text(f"mirrors:\n  - name: docs\n    folder: {folder}\n    {target}\n")
            result = kbsync("--once", "-q", "--config", config, "--state-dir", state)
            assert result.code == 1 and "huge.md" in result.err and "limit" in result.err, result.err
            at_most(f"huge: {size / 2**30:.1f} GiB {what} the limit, memory, MiB", result.peak_mib, SMALL)
            at_most(f"huge: {what} the limit, s", result.seconds, 20.0 if what == "over" else 300.0)


def page(size: int = PAGE) -> None:
    """Mirror an HTML page of 1 GiB within the size limit: its parser hits its own limit, which harms no
    other file.
    """
    with workspace() as (folder, state):
        with (folder / "page.html").open("wb") as file:
            block = b"<p>" + b"words and words " * 4096 + b"</p>\n"
            for _ in range(size // len(block)):
                file.write(block)
        (folder / "good.md").write_text("# Good\n\nwords\n")
        os.utime(folder / "page.html", (1e9, 1e9))
        config = folder.parent / "config.yaml"
        target = f"target: {{type: local, max_bytes: {2 * size}}}"
        config.write_text(f"mirrors:\n  - name: docs\n    folder: {folder}\n    {target}\n")
        result = kbsync("--once", "--json", "-q", "--config", config, "--state-dir", state)
        documents = result.json["mirrors"][0]["documents"]
        assert (result.code, documents["ready"], documents["failed"]) == (1, 1, 1), (result.out, result.err)
        at_most(f"page: {size / 2**30:.1f} GiB of HTML, memory, MiB", result.peak_mib, LOCAL)
        at_most("page: until it is given up, s", result.seconds, 180.0)


def tiny(files: int = TINY) -> None:
    """Plan a million tiny files in 10,000 folders: memory must not grow with unchanged files."""
    with workspace() as (folder, state):
        build(folder, files, files // 100)
        time.sleep(SETTLED)
        result = kbsync("plan", "--limit", "10", "-q", "--folder", folder, "--state-dir", state)
        assert result.code == 0 and f"{files:,}" in result.out.decode(), result.out[-500:]
        at_most(f"tiny: plan of {files:,} files, memory, MiB", result.peak_mib, LOCAL)
        at_least("tiny: files a second", files / result.seconds, 1000)


def entries(few: int = FEW, many: int = ENTRIES) -> None:
    """Scan one directory: the time for each entry must not grow with their number."""
    costs = []
    for number in (few, many):
        with workspace() as (folder, state):
            fill(folder, number)
            time.sleep(SETTLED)
            result = rate(folder, state, "plan")
            assert len(result.json["mirrors"][0]["upload"]) == number
            costs.append(result.seconds / number)
            peak = result.peak_mib
    at_most(f"entries: cost of one in {many:,}, as a multiple of one in {few:,}", costs[1] / costs[0], 1.5)
    at_most(f"entries: plan of {many:,}, memory, MiB", peak, SMALL)


def paths() -> None:
    """Mirror names of 255 bytes, a path near PATH_MAX and one far beyond, and names that aren't UTF-8."""
    with workspace() as (folder, state):
        names = [b"n" * 252 + b".md", "ü".encode() * 126 + b".md", b"\xff\xfe no utf-8.md", b"new\nline.md"]
        file_count = sum(write_at(folder, [], name) for name in names)
        for depth in (15, 40):
            file_count += write_at(folder, [b"d" * 250] * depth, b"deep.md")
        file_count += write_at(folder, [b"\xe9t\xe9", b"\xff" * 255], b"\xf0\x28.md")
        time.sleep(SETTLED)
        once = rate(folder, state, "--once").json
        at_least("paths: searchable documents", once["mirrors"][0]["documents"]["ready"], file_count)
        at_most("paths: failed or skipped", once["failed"] + once["mirrors"][0]["documents"]["skipped"], 0)
        at_most("paths: uploads of a second pass", rate(folder, state, "--once").json["uploaded"], 0)
        checked = rate(folder, state, "verify").json["mirrors"][0]
        at_least("paths: verify finds all well", checked["ok"], True)


def write_at(root: Path, folders: list[bytes], name: bytes) -> int:
    """Write a file at a path that may be too long for one system call."""
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    for folder in folders:
        with suppress(FileExistsError):
            os.mkdir(folder, dir_fd=fd)
        below = os.open(folder, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = below
    file = os.open(name, os.O_CREAT | os.O_WRONLY, dir_fd=fd)
    os.write(file, b"# Words\n\nof a file named %d bytes deep\n" % (len(name) + sum(map(len, folders))))
    os.close(file)
    os.close(fd)
    return 1


def survived(label: str, limit: float, cage: Cage | None) -> None:
    """Print a row with the number of processes that the kernel killed."""
    if cage is not None:
        at_most(f"{label}: ended by the kernel under its limit of {limit:.0f} MiB", cage.killed, 0)


def local(files: int = MANY) -> None:
    """Run the first pass over many small files into the built-in index."""
    with workspace() as (folder, state):
        build(folder, files, max(1, files // 100))
        time.sleep(SETTLED)
        with caged(LOCAL) as cage:
            result = rate(folder, state, "--once", cage=cage)
            survived("local", LOCAL, cage)
        assert result.json["mirrors"][0]["documents"]["ready"] == files
        at_most(f"local: {files:,} files, memory, MiB", result.peak_mib, LOCAL)
        at_least("local: files a second", files / result.seconds, 100)


def zhipu(files: int = MANY) -> None:
    """Run the first pass over many small files to a service."""
    with mirrored(files, 16) as (mirror, _):
        words = ("--once", "--json", "-q", "--config", mirror.config, "--state-dir", mirror.state)
        with caged(CAGE) as cage:
            result = kbsync(*words, cage=cage)
            survived("zhipu", CAGE, cage)
        assert result.code == 0 and result.json["mirrors"][0]["documents"]["ready"] == files, result.err
        at_most(f"zhipu: {files:,} files, memory, MiB", result.peak_mib, ZHIPU)
        at_least("zhipu: files a second", files / result.seconds, 100)


ALL: dict[str, Callable[[], None]] = {
    "hints": hints,
    "huge": huge,
    "page": page,
    "entries": entries,
    "tiny": tiny,
    "paths": paths,
    "local": local,
    "zhipu": zhipu,
}


def main() -> int:
    """Run the selected tests; return 1 if a bound was exceeded."""
    print(f"{'':60}{'measured':>12}{'bound':>12}")
    for name in sys.argv[1:] or ALL:
        ALL[name]()
    return int(TABLE.broken)


if __name__ == "__main__":
    sys.exit(main())
