"""Memory while many new files meet a target that does not take them: down, silent, or busy.

Usage: python benchmarks/flood.py [files]     (default: 100,000 files; a quarter of an hour)

The daemon runs as a process of its own against a stand-in whose base answers and whose uploads do not. It is
watched until every file is in the journal, and a while beyond; the peak is to stay under 120 MiB.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import apsw
from zhipu import mirrored
from zhipu_rig import Mirror, _high_water_mib

BEYOND = 15.0
"""Seconds for which it is watched once everything is in the journal."""

LONGEST = 600.0
TROUBLES: dict[str, dict[str, Any]] = {
    "down (503)": {"kind": "status", "args": {"status": 503}},
    "silent": {"kind": "hang"},
    "busy (429)": {"kind": "status", "args": {"status": 429, "retry_after": 5}},
}


def main() -> None:
    """Measure each trouble."""
    files = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    print(f"memory, {files:,} new files and no upload taken (peak under 120 MiB)")
    for name, fault in TROUBLES.items():
        told = json.dumps({**fault, "op": "upload", "times": 0, "effect": False})
        with mirrored(files, 4, "--fault", told) as (mirror, vendor):
            peak, seconds, rows = watched(mirror, files)
            print(
                f"  {name:12}{peak:5.0f} MiB, all {rows:,} in the journal after {seconds:.0f} s, "
                f"journal {size_mib(mirror.state):.0f} MiB, {vendor.asked().shown}",
                flush=True,
            )


def watched(mirror: Mirror, files: int) -> tuple[float, float, int]:
    """Peak MiB, seconds until every file had its row, and the rows."""
    log = (mirror.place / "log").open("w")
    places = ["--config", str(mirror.config), "--state-dir", str(mirror.state)]
    process = subprocess.Popen([sys.executable, "-m", "kbsync", *places], stderr=log, stdout=log)
    began = time.monotonic()
    try:
        while (rows := intended(mirror.state)) < files and time.monotonic() - began < LONGEST:
            time.sleep(1.0)
        seconds = time.monotonic() - began
        time.sleep(BEYOND)
        return _high_water_mib(process.pid), seconds, rows
    finally:
        os.kill(process.pid, signal.SIGTERM)
        process.wait()
        log.close()


def intended(state: Path) -> int:
    """Rows of the journal; 0 before there is one."""
    with contextlib.suppress(apsw.Error):
        connection = apsw.Connection(str(state / "state.db"), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            (count,) = connection.execute("SELECT count(*) FROM upload").fetchone() or (0,)
            return int(str(count))
        finally:
            connection.close()
    return 0


def size_mib(state: Path) -> float:
    """The state directory on disk."""
    return sum(path.stat().st_size for path in state.rglob("*") if path.is_file()) / 2**20


if __name__ == "__main__":
    main()
