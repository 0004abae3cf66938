"""Runs a daemon that is stopped before or at its first log line: python tests/service/early.py ARGUMENTS

The signals come after the method named in `$MOMENT`: a new daemon's, or the last before its first log line.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from kbsync.__main__ import main
from kbsync.daemon import Daemon
from kbsync.server.notify import Notifications

MOMENTS = {"__init__": Daemon, "switch_to": Notifications}


def interrupt_after(name: str) -> None:
    owner = MOMENTS[name]
    method = getattr(owner, name)

    def interrupted(*arguments: Any, **named: Any) -> None:
        method(*arguments, **named)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGHUP)

    setattr(owner, name, interrupted)


if __name__ == "__main__":
    interrupt_after(os.environ["MOMENT"])
    sys.exit(main(sys.argv[1:]))
