"""kbsync as a daemon that is asked to stop at its first word: python tests/service/early.py ARGUMENTS"""

from __future__ import annotations

import os
import signal
import sys

from kbsync.__main__ import main
from kbsync.cli import watch

introduce = watch._introduce


def interrupted(*arguments: object) -> None:
    introduce(*arguments)  # type: ignore[arg-type]
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGHUP)


if __name__ == "__main__":
    watch._introduce = interrupted
    sys.exit(main(sys.argv[1:]))
