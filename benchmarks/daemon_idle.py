"""Measures the daemon over a large unchanged tree: seconds until it has compared all files and watches, then
idle CPU.

Usage: python benchmarks/daemon_idle.py TREE [SECONDS]     (TREE from benchmarks/scan.py)
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from whole_pass import fill

from kbsync import logs
from kbsync.config.model import folder_config
from kbsync.installation import STATE_FILE, Installation
from kbsync.state.read_only import ReadOnlyState


def last_pass(state: Path) -> float:
    """Return when the last complete scan ended."""
    opened = ReadOnlyState(state / STATE_FILE)
    try:
        return opened.read(lambda tx: tx.mirrors.all()[0].last_pass or 0.0)
    finally:
        opened.close()


def cpu_seconds(pid: int) -> float:
    """Return a process's user and system time (proc(5), fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Print the start time and the idle share of one core."""
    logs.configure(style="json", level="error")
    tree, seconds = Path(sys.argv[1]).resolve(), float(sys.argv[2]) if len(sys.argv) > 2 else 60.0
    with tempfile.TemporaryDirectory() as scratch:
        state = Path(scratch) / "state"
        state.mkdir()
        fill(Installation(folder_config(tree), state))
        before = last_pass(state)
        began = time.monotonic()
        command = [sys.executable, "-m", "kbsync", "-q", "--folder", str(tree), "--state-dir", str(state)]
        daemon = subprocess.Popen(command)
        while last_pass(state) == before:
            time.sleep(0.05)
        started = time.monotonic() - began
        time.sleep(5)
        cpu = cpu_seconds(daemon.pid)
        time.sleep(seconds)
        idle = (cpu_seconds(daemon.pid) - cpu) / seconds
        daemon.terminate()
        daemon.wait()
    print(f"watching, and compared as a whole, after {started:5.2f} s   (under 5 for 100,000 files)")
    print(f"idle                                   {idle:7.3%} of a core   (under 0.2 %)")


if __name__ == "__main__":
    main()
