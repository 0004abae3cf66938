"""What is to go on for as long as the program does: a task that fails is said to have, and begun again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from kbsync.engine.clock import Clock

log = structlog.get_logger("kbsync")

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0


def told(error: Exception) -> str:
    """An error that nobody foresaw, in words for a person."""
    return f"an error of kbsync itself, shown in its log: {type(error).__name__}"


def pause_after(failures: int) -> float:
    """Seconds until it is tried again, after so many failures in a row (from 1 on)."""
    return float(min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(failures - 1, 10)))


async def keep_up(clock: Clock, work: Callable[[], Awaitable[None]], name: str, **shown: Any) -> None:
    """Until `work` ends by itself; where it fails the log says so, and it is begun again after a pause."""
    failures = 0
    while True:
        began = clock.steady()
        try:
            return await work()
        except Exception:
            failures = 1 if clock.steady() - began > LONGEST_PAUSE else failures + 1
            seconds = pause_after(failures)
            log.exception("task.failed", task=name, again_in=seconds, **shown)
        await clock.sleep(seconds)
