"""Measures the cost of watching: start, memory, one check, and a minute of idling.

python benchmarks/idle.py [DIRECTORIES] [SECONDS]
"""

from __future__ import annotations

import asyncio
import resource
import sys
import tempfile
import time
from pathlib import Path

from kbsync.source.watch import Watcher


def plant(root: Path, directories: int) -> None:
    """Create a tree of this many directories, including the root, with one file in each."""
    for number in range(directories - 1):
        outer = root / f"d{number // 100}"
        folder = outer / f"e{number}" if number % 100 else outer
        folder.mkdir()
        (folder / "a.md").write_text("x")


def resident_mib() -> float:
    """Return this process's memory in RAM."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


async def measure(root: Path, state: Path, directories: int, seconds: float) -> None:
    """Print one line for each cost."""
    before, cpu = resident_mib(), time.process_time()
    watcher = Watcher(root, state, rescan=1e9)
    began = time.perf_counter()
    report = await watcher.start()
    print(f"start: {report.mode}, {time.perf_counter() - began:.3f} s,", end=" ")
    print(f"{time.process_time() - cpu:.3f} s CPU, RSS {before:.1f} -> {resident_mib():.1f} MiB")
    watcher.scan_started()
    watcher.scan_ended(directories, 0.1)
    began = time.perf_counter()
    troubles = await watcher.check()
    print(f"check with a count of watches: {troubles}, {1e3 * (time.perf_counter() - began):.1f} ms")
    costs = []
    for _ in range(2000):
        began = time.perf_counter()
        await watcher.check()
        costs.append(time.perf_counter() - began)
    costs.sort()
    print(f"check: median {1e6 * costs[1000]:.0f} us, 99 % below {1e6 * costs[1980]:.0f} us")
    cpu, end = time.process_time(), time.monotonic() + seconds
    while time.monotonic() < end:
        await asyncio.sleep(1.5)
        troubles = await watcher.check()
        assert not troubles, troubles
    used = time.process_time() - cpu
    print(f"idle {seconds:.0f} s: {1e3 * used:.1f} ms CPU ({100 * used / seconds:.3f} % of a core)")
    began = time.perf_counter()
    await watcher.stop()
    print(f"stop: {time.perf_counter() - began:.3f} s")


def main() -> None:
    """Run with the sizes from the command line."""
    directories = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 60.0
    with tempfile.TemporaryDirectory() as folder:
        root, state = Path(folder, "root"), Path(folder, "state")
        root.mkdir()
        state.mkdir()
        plant(root, directories)
        asyncio.run(measure(root, state, directories, seconds))


if __name__ == "__main__":
    main()
