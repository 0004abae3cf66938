"""kbsync with less patience: what waits half a minute for a service waits a second or two.

Usage: python -m tests.cli.impatient ARGUMENTS (kbsync's own)
"""

from __future__ import annotations

import sys

from kbsync import once
from kbsync.__main__ import main
from kbsync.engine import loop
from kbsync.server import notify
from kbsync.targets.http import target


def hurry() -> None:
    assert once.run_once.__kwdefaults__["budget"] == once.DOWN_BUDGET
    once.run_once.__kwdefaults__["budget"] = 2.5
    loop.PROBE_EVERY = 1.0
    target._UNHURRIED = 0.1
    notify.GATHER = notify.LOOK_EVERY = 0.2


if __name__ == "__main__":
    hurry()
    sys.exit(main())
