"""Tools of benchmarks/limits.py: it measures kbsync with all its processes, and makes a storm of changes.

As a program it is the daemon with a probe in its loop: `python benchmarks/limits_rig.py FOLDER STATE`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cage import Cage

from kbsync import logs
from kbsync.config.model import folder_config
from kbsync.daemon import Daemon
from kbsync.installation import Installation
from kbsync.signals import ENDING, Signals
from kbsync.state.db import open_reader, unbind

EVERY = 0.1
BEAT = 0.005


class Table:
    """The rows printed so far, and whether each bound was kept."""

    def __init__(self) -> None:
        self.broken = False

    def row(self, label: str, measured: float, sign: str, bound: float, is_kept: bool) -> None:
        """Print a row."""
        self.broken = self.broken or not is_kept
        note = "" if is_kept else "   NOT KEPT"
        print(f"{label:60}{measured:12,.2f}{f'{sign} {bound:,.4g}':>12}{note}", flush=True)


TABLE = Table()


def at_most(label: str, measured: float, bound: float) -> None:
    """Print a row for an upper bound."""
    TABLE.row(label, measured, "<=", bound, measured <= bound)


def at_least(label: str, measured: float, bound: float) -> None:
    """Print a row for a lower bound."""
    TABLE.row(label, measured, ">=", bound, measured >= bound)


@dataclass(frozen=True, slots=True)
class RunResult:
    """A finished run: `peak_mib` covers all its processes."""

    code: int
    out: bytes
    err: str
    seconds: float
    peak_mib: float

    @property
    def json(self) -> Any:
        """The parsed JSON output."""
        return json.loads(self.out)


class Peak:
    """Samples the memory of a process and its descendants until `stop`."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._over = threading.Event()
        self.mib = 0.0
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        """Stop and return the peak in MiB."""
        self._over.set()
        self._thread.join()
        return self.mib

    def _watch(self) -> None:
        while not self._over.wait(EVERY):
            self.mib = max(self.mib, sum(map(pss_mib, family(self._pid))))


def family(pid: int) -> Iterator[int]:
    """Yield a process and all its descendants."""
    yield pid
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from family(int(child))


def pss_mib(pid: int) -> float:
    """Return a process's memory, with its share of shared memory; 0 if it has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    return 0.0


def kbsync(*words: str | Path, cage: Cage | None = None) -> RunResult:
    """Run kbsync to its end, in a control group if one is given."""
    began = time.perf_counter()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(
            [*(cage.entrance if cage else ()), sys.executable, "-m", "kbsync", *map(str, words)],
            stdout=out,
            stderr=err,
        )
        peak = Peak(process.pid)
        code = process.wait()
        seconds, mib = time.perf_counter() - began, peak.stop()
        out.seek(0), err.seek(0)
        return RunResult(code, out.read(), err.read().decode(), seconds, mib)


@dataclass(frozen=True, slots=True)
class StormEnd:
    """The daemon's longest loop stall and its memory."""

    longest_stall: float
    peak_mib: float


class Storm:
    """A daemon over a folder, and changes to it that are faster than any person's or program's."""

    def __init__(self, folder: Path, state: Path) -> None:
        self._folder, self._index = folder, state / "kb" / "docs" / "index.db"
        self._paths = sorted(folder.iterdir())
        command = [sys.executable, __file__, str(folder), str(state)]
        self._daemon = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._peak = Peak(self._daemon.pid)
        time.sleep(5)

    def rage(self, a_second: int, seconds: float) -> int:
        """Change files `a_second` times a second; return the number of changes."""
        began, changes = time.perf_counter(), 0
        while (passed := time.perf_counter() - began) < seconds:
            while changes < passed * a_second:
                self._change(self._paths[changes % len(self._paths)], changes)
                changes += 1
            time.sleep(0.001)
        return changes

    def _change(self, path: Path, number: int) -> None:
        """Change a file's times, which is quick; one in ten also gets other words."""
        if number // len(self._paths) % 10 == 9:
            path.write_text(f"# Change {number}\n\nsome words\n")
        else:
            os.utime(path)

    def until_equal(self, longest: float = 300.0) -> float:
        """Return the seconds until the index holds the latest version of every file."""
        digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in self._paths}
        began = time.perf_counter()
        while self._indexed_digests() != digests:
            assert time.perf_counter() - began < longest, "the folder and the index are still not equal"
            time.sleep(0.2)
        return time.perf_counter() - began

    def _indexed_digests(self) -> dict[str, str]:
        reader = open_reader(self._index)
        try:
            rows: list[Any] = reader.execute("SELECT path, digest FROM document").fetchall()
        finally:
            reader.close()
        return {unbind(path): digest if isinstance(digest, str) else digest.hex() for path, digest in rows}

    def end(self) -> StormEnd:
        """Stop the daemon and return its probe's results."""
        self._daemon.terminate()
        out, _ = self._daemon.communicate()
        return StormEnd(float(out.split()[-1]), self._peak.stop())


async def probed(daemon: Daemon) -> float:
    """Run the daemon to its end and return the longest stall of its loop."""
    longest = 0.0

    async def beat() -> None:
        nonlocal longest
        while True:
            began = time.perf_counter()
            await asyncio.sleep(BEAT)
            longest = max(longest, time.perf_counter() - began - BEAT)

    beating = asyncio.create_task(beat())
    await daemon.run()
    beating.cancel()
    return longest


def main() -> None:
    """Run the daemon; print the longest stall in seconds at its end."""
    logs.configure(style="json", level="warning")
    folder, state = map(Path, sys.argv[1:])
    installation = Installation(folder_config(folder), state)
    with Signals(ENDING) as signals:
        print(asyncio.run(probed(Daemon(installation, lambda current: current, signals))))


if __name__ == "__main__":
    main()
