"""Runs kbsync, with another command between its reading of the config and its first lock.

`KBSYNC_BEFORE_LOCK` has the arguments of that command as JSON. Its exit code must be 0.

Usage: python -m tests.cli.late_lock ARGUMENTS (kbsync's own)
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kbsync.__main__ import main
from kbsync.state import lock

BEFORE_LOCK = "KBSYNC_BEFORE_LOCK"

hold_lock = lock.held


@contextmanager
def run_command_first(state_dir: Path, **options: Any) -> Iterator[None]:
    lock.held = hold_lock
    words = json.loads(os.environ.pop(BEFORE_LOCK))
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([sys.executable, "-m", "kbsync", *words], check=True, **quiet)
    with hold_lock(state_dir, **options):
        yield


if __name__ == "__main__":
    lock.held = run_command_first
    sys.exit(main())
