"""Runs kbsync, killed right before its file change number `KBSYNC_DIES_AT` (from 1).

Usage: python -m tests.cli.dying ARGUMENTS (kbsync's own)
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from kbsync.__main__ import main

DIES_AT = "KBSYNC_DIES_AT"
STEPS = ("os.rename", "os.remove", "os.chmod", "os.chown", "os.mkdir", "os.utime", "fcntl.flock")
WRITING = os.O_WRONLY | os.O_RDWR


def watch(steps: int) -> None:
    remaining = steps

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal remaining
        if event in STEPS or (event == "open" and isinstance(args[2], int) and args[2] & WRITING):
            remaining -= 1
            if remaining == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


if __name__ == "__main__":
    watch(int(os.environ[DIES_AT]))
    sys.exit(main())
