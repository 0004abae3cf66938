"""Runs kbsync, which gets a signal while it imports a module: python tests/service/importing.py ARGUMENTS

`$MODULE` names the module, `$SIGNAL` the signal; SIGHUP if unset.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from kbsync.__main__ import main


def send_signal(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "import" and arguments[0] == os.environ["MODULE"]:
        os.kill(os.getpid(), signal.Signals[os.environ.get("SIGNAL", "SIGHUP")])


if __name__ == "__main__":
    sys.addaudithook(send_signal)
    sys.exit(main())
