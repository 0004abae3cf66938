"""Runs a daemon that is stopped before or at its first log line: python tests/service/early.py ARGUMENTS

`$MOMENT` is the name of the method after which the signals come: that of a new daemon, or the last before
its first word.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from kbsync.__main__ import main
from kbsync.daemon import Daemon
from kbsync.server.notify import Notifications

MOMENTS = {"__init__": Daemon, "turn_to": Notifications}


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
