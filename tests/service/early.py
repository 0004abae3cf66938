"""A daemon that is asked to stop before or at its first word: python tests/service/early.py ARGUMENTS

`$MOMENT` is the name of the method of `Daemon` after which the signals come.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from kbsync.__main__ import main
from kbsync.daemon import Daemon

MOMENTS = ("__init__", "_log_start")


def interrupt_after(name: str) -> None:
    method = getattr(Daemon, name)

    def interrupted(*arguments: Any) -> None:
        method(*arguments)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGHUP)

    setattr(Daemon, name, interrupted)


if __name__ == "__main__":
    interrupt_after(os.environ["MOMENT"])
    sys.exit(main(sys.argv[1:]))
