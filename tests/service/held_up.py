"""Runs a daemon whose first starts fail: python tests/service/held_up.py ARGUMENTS

`$TROUBLE` is `slow` (the first list of the base never ends) or `full` (the state's disk is full the first two
times).
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from typing import Any

from kbsync.__main__ import main
from kbsync.engine import attach
from kbsync.errors import StateError

prepare = attach.prepare
beginnings = itertools.count(1)


async def held_up(*arguments: Any) -> None:
    number = next(beginnings)
    if os.environ["TROUBLE"] == "slow" and number == 1:
        print('{"event": "beginning"}', file=sys.stderr, flush=True)
        await asyncio.Event().wait()
    if os.environ["TROUBLE"] == "full" and number <= 2:
        raise StateError("the disk is full")
    await prepare(*arguments)


if __name__ == "__main__":
    attach.prepare = held_up
    sys.exit(main(sys.argv[1:]))
