"""kbsync with less patience: what waits half a minute for a service waits a second or two.

Usage: python -m tests.cli.hasty ARGUMENTS (kbsync's own)
"""

from __future__ import annotations

import sys

from kbsync.__main__ import main
from kbsync.engine import once, watching
from kbsync.notify import digest, teller
from kbsync.targets.http import remote


def hurry() -> None:
    assert once.run_once.__kwdefaults__["budget"] == once.DOWN_BUDGET
    once.run_once.__kwdefaults__["budget"] = 2.5
    watching.PROBE_EVERY = 1.0
    remote._UNHURRIED = 0.1
    digest.GATHER = teller.LOOK_EVERY = 0.2


if __name__ == "__main__":
    hurry()
    sys.exit(main())
