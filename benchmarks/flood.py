"""Measures memory while many new files wait for a target that is down, silent, or busy.

Usage: python benchmarks/flood.py [files]     (default: 100,000 files; a quarter of an hour)

The daemon is a separate process; it uses a stand-in that answers requests about the base but no uploads. The
measurement ends some time after every file is in the journal; the peak must stay below 120 MiB.
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
"""Seconds to keep measuring after everything is in the journal."""

LONGEST = 600.0
TROUBLES: dict[str, dict[str, Any]] = {
    "down (503)": {"kind": "status", "args": {"status": 503}},
    "silent": {"kind": "hang"},
    "busy (429)": {"kind": "status", "args": {"status": 429, "retry_after": 5}},
}


def main() -> None:
    """Measure each kind of failure."""
    files = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    print(f"memory, {files:,} new files and no upload taken (peak under 120 MiB)")
    for name, fault in TROUBLES.items():
        fault_json = json.dumps({**fault, "op": "upload", "times": 0, "effect": False})
        with mirrored(files, 4, "--fault", fault_json) as (mirror, service):
            peak, seconds, rows = watched(mirror, files)
            print(
                f"  {name:12}{peak:5.0f} MiB, all {rows:,} in the journal after {seconds:.0f} s, "
                f"journal {size_mib(mirror.state):.0f} MiB, {service.take_requests().summary}",
                flush=True,
            )


def watched(mirror: Mirror, files: int) -> tuple[float, float, int]:
    """Return the peak in MiB, the seconds until every file had its row, and the number of rows."""
    log = (mirror.root / "log").open("w")
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
    """Return the number of rows in the journal; 0 before there is one."""
    with contextlib.suppress(apsw.Error):
        connection = apsw.Connection(str(state / "state.db"), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            (count,) = connection.execute("SELECT count(*) FROM upload").fetchone() or (0,)
            return int(str(count))
        finally:
            connection.close()
    return 0


def size_mib(state: Path) -> float:
    """Return the size of the state directory on disk."""
    return sum(path.stat().st_size for path in state.rglob("*") if path.is_file()) / 2**20


if __name__ == "__main__":
    main()
