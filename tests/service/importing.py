"""Runs kbsync, which gets SIGHUP while it imports the module in `$MODULE`: python tests/service/importing.py
ARGUMENTS
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from kbsync.__main__ import main


def hang_up(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "import" and arguments[0] == os.environ["MODULE"]:
        os.kill(os.getpid(), signal.SIGHUP)


if __name__ == "__main__":
    sys.addaudithook(hang_up)
    sys.exit(main())
