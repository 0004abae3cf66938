"""Measures the time from a change on disk to a search hit, beyond the settle time, with the real daemon and
built-in index.

Usage: python benchmarks/latency.py [SAMPLES]
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles

from kbsync.state.db import open_reader

SETTLE = 2.0
CONFIG = "mirrors:\n  - name: docs\n    folder: {folder}\n    settle: 2s\n"


def fsync_seconds(folder: Path) -> float:
    """Return the seconds of one small durable write on this machine."""
    times = []
    fd = os.open(folder / "probe", os.O_CREAT | os.O_WRONLY, 0o600)
    for _ in range(50):
        began = time.perf_counter()
        os.write(fd, b"x" * 4096)
        os.fsync(fd)
        times.append(time.perf_counter() - began)
    os.close(fd)
    return median(times)


def wait_for(index: Path, path: str, text: str, deadline: float = 30.0) -> float:
    """Return when the index first has this text for this path."""
    reader = open_reader(index)
    began = time.perf_counter()
    sql = (
        "SELECT 1 FROM document JOIN run ON run.document = document.id"
        " JOIN chunk ON chunk.id BETWEEN first AND first + chunks - 1"
        " WHERE document.path = ? AND chunk.text LIKE ?"
    )
    while time.perf_counter() - began < deadline:
        if reader.execute(sql, (path, f"%{text}%")).fetchone():
            reader.close()
            return time.perf_counter()
        time.sleep(0.001)
    raise SystemExit(f"{path} was not searchable in {deadline} s")


def samples(folder: Path, index: Path, count: int) -> list[float]:
    """Return the seconds beyond the settle time, for one change after the other."""
    seconds = []
    for number in range(count):
        path = f"note{number % 5}.md"
        began = time.perf_counter()
        (folder / path).write_text(f"# Note\n\nChange number{number} of this note.\n")
        seconds.append(wait_for(index, path, f"number{number} ") - began - SETTLE)
    return seconds


def main() -> None:
    """Print the percentiles."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    with tempfile.TemporaryDirectory() as scratch:
        folder, state = Path(scratch) / "docs", Path(scratch) / "state"
        folder.mkdir()
        (folder / "first.md").write_text("first")
        config = Path(scratch) / "config.yaml"
        config.write_text(CONFIG.format(folder=folder))
        command = [sys.executable, "-m", "kbsync", "--config", str(config), "--state-dir", str(state), "-q"]
        daemon = subprocess.Popen(command)
        index = state / "kb" / "docs" / "index.db"
        while not index.exists():
            time.sleep(0.05)
        wait_for(index, "first.md", "first")
        seconds = samples(folder, index, count)
        daemon.terminate()
        daemon.wait()
        fsync = fsync_seconds(Path(scratch))
    print(f"p50   {median(seconds) * 1000:6.1f} ms   (under 50)")
    limit = 100 + 6 * fsync * 1000
    print(f"p95   {quantiles(seconds, n=20)[-1] * 1000:6.1f} ms   (under 100 + six fsyncs = {limit:.0f})")


if __name__ == "__main__":
    main()
