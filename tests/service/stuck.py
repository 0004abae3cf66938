"""Runs kbsync with a thread that never ends, and without a time limit: python tests/service/stuck.py
ARGUMENTS"""

from __future__ import annotations

import asyncio
import sys
import threading

from kbsync import signals
from kbsync.__main__ import main
from kbsync.engine.loop import MirrorLoop
from kbsync.engine.mirror import BoundMirror

watch_folder = MirrorLoop._watch


async def with_a_stuck_thread(self: MirrorLoop, bound: BoundMirror) -> None:
    asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)
    await watch_folder(self, bound)


if __name__ == "__main__":
    signals.STOP_LATEST = 3600.0
    MirrorLoop._watch = with_a_stuck_thread  # type: ignore[method-assign]
    sys.exit(main(sys.argv[1:]))
