"""Runs the daemon, killed at step number `KBSYNC_DIES_AT` (from 1) of a removal that its page requests.

Steps come before and after each write to the state and each deletion on a service, and before each rename
of a file.

Usage: python -m tests.cli.dying_removal ARGUMENTS (kbsync's own)
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

from kbsync.__main__ import main
from kbsync.state.store import StateStore
from kbsync.targets.zhipu.target import ZhipuTarget
from kbsync.threads import _pool_name
from tests.cli.dying import DIES_AT

steps = itertools.count(1)


def step() -> None:
    if _pool_name.get().startswith("removal-") and next(steps) == int(os.environ[DIES_AT]):
        os.kill(os.getpid(), signal.SIGKILL)


def watched(work: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(work)
    async def run(*args: Any, **options: Any) -> Any:
        step()
        result = await work(*args, **options)
        step()
        return result

    return run


def hook(event: str, _args: tuple[Any, ...]) -> None:
    if event == "os.rename":
        step()


if __name__ == "__main__":
    for owner, name in ((StateStore, "write"), (ZhipuTarget, "delete")):
        setattr(owner, name, watched(getattr(owner, name)))
    sys.addaudithook(hook)
    sys.exit(main())
