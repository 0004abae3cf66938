"""Lets a folder's file system stop responding, like a network mount whose server is down.

Run kbsync with such a folder: DEAD=FOLDER:FILE python tests/dead_mount.py ARGUMENTS. The folder doesn't
respond while FILE exists.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kbsync.__main__ import main

CALLS = ("access", "listdir", "lstat", "mkdir", "open", "readlink", "scandir", "stat", "statvfs")


def let_hang(
    folder: Path,
    is_dead: Callable[[], bool],
    replace: Callable[[Any, str, Any], None] = setattr,
    longest: float = math.inf,
) -> None:
    """Make system calls with a path in `folder` wait while `is_dead`, for at most `longest` seconds."""

    def hanging(call: Callable[..., Any]) -> Callable[..., Any]:
        def wait(path: Any, *args: Any, **kwargs: Any) -> Any:
            if not isinstance(path, int) and f"{os.path.abspath(os.fsdecode(path))}/".startswith(
                f"{folder}/"
            ):
                until = time.monotonic() + longest
                while is_dead() and time.monotonic() < until:
                    time.sleep(0.01)
            return call(path, *args, **kwargs)

        return wait

    for name in CALLS:
        replace(os, name, hanging(getattr(os, name)))


if __name__ == "__main__":
    dead, _, file = os.environ["DEAD"].partition(":")
    let_hang(Path(dead), lambda: os.path.exists(file))
    sys.exit(main(sys.argv[1:]))
