"""Runs kbsync with shorter time limits: it waits for a service for a second or two instead of half a minute.

With `KBSYNC_CLOCK_OFF=SECONDS` the machine's clock is wrong by so many seconds; timers aren't affected.

Usage: python -m tests.cli.impatient ARGUMENTS (kbsync's own)
"""

from __future__ import annotations

import os
import sys
import time

from kbsync import once
from kbsync.__main__ import main
from kbsync.engine import halts
from kbsync.server import notify
from kbsync.targets.http import client, target

CLOCK_OFF = "KBSYNC_CLOCK_OFF"


def hurry() -> None:
    assert once.run_once.__kwdefaults__["budget"] == once.DOWN_BUDGET
    once.run_once.__kwdefaults__["budget"] = 2.5
    halts.PROBE_EVERY = 1.0
    target._UNHURRIED = 0.1
    notify.GATHER = notify.LOOK_EVERY = 0.2


def set_clock() -> None:
    off = float(os.environ.get(CLOCK_OFF, "0"))
    right = time.time
    time.time = client.Client.__init__.__kwdefaults__["wall"] = lambda: right() + off


if __name__ == "__main__":
    hurry()
    set_clock()
    sys.exit(main())
