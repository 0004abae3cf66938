"""Clocks that only sleeping and the test itself advance."""

from __future__ import annotations

import asyncio

NOW = 1_791_565_590.0


class Clock:
    """A clock: calling it returns the seconds; `sleep` advances it without waiting; `slept` records the
    durations.
    """

    def __init__(self, now: float = NOW) -> None:
        self.now = now
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Advance by `seconds`; a negative number sets the clock back, as people and time servers do."""
        self.now += seconds

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


async def let_tasks_run() -> None:
    """Wait until no task can continue without the clock."""
    for _ in range(20):
        await asyncio.sleep(0)


def skip(seconds: float) -> None:
    """Set the event loop's own clock forward, so that a limit ends now, however slow the machine is."""
    loop = asyncio.get_running_loop()
    loop.time = lambda now=loop.time: now() + seconds  # type: ignore[method-assign, misc]
