"""Measures a large text that changes and a small one that is edited meanwhile, with the real daemon.

Usage: python benchmarks/long_text.py [MEGABYTES]
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from kbsync.state.db import open_reader

SETTLE = 2.0
CONFIG = "mirrors:\n  - name: docs\n    folder: {folder}\n    settle: 2s\n"
PAUSE = 1.0
"""Seconds between two edits of the small file."""


def lines(seed: int, megabytes: float) -> list[str]:
    """Return lines of fourteen words from a large vocabulary."""
    rng = random.Random(seed)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvw", k=rng.randint(2, 10))) for _ in range(30_000)]
    rows, size = list[str](), 0
    while size < megabytes * 1e6:
        rows.append(" ".join(rng.choices(words, k=14)))
        size += len(rows[-1]) + 1
    return rows


@dataclass
class Bench:
    """A folder and the index of the daemon that mirrors it."""

    folder: Path
    index: Path
    waits: list[float] = field(default_factory=list)
    is_over: threading.Event = field(default_factory=threading.Event)

    def put(self, name: str, text: str) -> float:
        """Return the seconds from a write to a search hit, beyond the settle time."""
        began = time.perf_counter()
        (self.folder / name).write_text(text)
        digest = hashlib.sha256(text.encode()).hexdigest()
        with contextlib.closing(open_reader(self.index)) as reader:
            sql = "SELECT 1 FROM document WHERE path = ? AND digest = ?"
            while reader.execute(sql, (name, digest)).get is None:
                if time.perf_counter() - began > 900:
                    raise SystemExit(f"{name} was not searchable in 900 s")
                time.sleep(0.01)
        return time.perf_counter() - began - SETTLE

    def edit(self) -> None:
        """Edit the small file repeatedly."""
        number = 0
        while not self.is_over.is_set():
            number += 1
            self.waits.append(self.put("small.txt", f"edit {number:015}"))
            self.is_over.wait(PAUSE)

    @contextlib.contextmanager
    def editing(self) -> Iterator[list[float]]:
        """Edit the small file meanwhile; yield how long each edit waited."""
        self.waits = []
        self.is_over.clear()
        editor = threading.Thread(target=self.edit)
        editor.start()
        yield self.waits
        self.is_over.set()
        editor.join()

    def report_change(self, label: str, text: str, first: float = 0.0) -> float:
        """Print how long a change to the large file took and the small file waited; return the former."""
        with self.editing() as waits:
            seconds = self.put("large.txt", text)
        share = f" ({seconds / first:.2f} of its first indexing)" if first else ""
        print(f"{label:32}{seconds:7.1f} s{share}; a small edit waited at most {max(waits):.1f} s")
        return seconds


@contextlib.contextmanager
def daemon(scratch: Path) -> Iterator[Bench]:
    """Start a daemon that has mirrored one small file."""
    folder, state, config = scratch / "docs", scratch / "state", scratch / "config.yaml"
    folder.mkdir()
    (folder / "small.txt").write_text("small")
    config.write_text(CONFIG.format(folder=folder))
    command = [sys.executable, "-m", "kbsync", "--config", str(config), "--state-dir", str(state), "-q"]
    process = subprocess.Popen(command)
    bench = Bench(folder, state / "kb" / "docs" / "index.db")
    while not bench.index.exists() or not bench.index.stat().st_size:
        time.sleep(0.05)
    time.sleep(1)
    try:
        yield bench
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    """Print one line for each kind of change."""
    megabytes = float(sys.argv[1]) if len(sys.argv) > 1 else 20
    text = lines(1, megabytes)
    with tempfile.TemporaryDirectory() as scratch, daemon(Path(scratch)) as bench:
        bench.put("small.txt", "the daemon is warm")
        first = bench.report_change(f"{megabytes:.0f} MB indexed first", "\n".join(text))
        text.append("one line more")
        bench.report_change("a line appended", "\n".join(text), first)
        text.insert(len(text) // 2, "one line more")
        bench.report_change("a line in the middle", "\n".join(text), first)
        bench.report_change("all of it another text", "\n".join(lines(2, megabytes)), first)


if __name__ == "__main__":
    main()
