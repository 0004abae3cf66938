"""Time and chance, given to everything that needs them so that tests hold them in their hands."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Literal, Protocol


class Clock(Protocol):
    """Two clocks: `wall` may be set back by a person, `steady` never goes back."""

    def wall(self) -> float:
        """Seconds since the epoch."""

    def steady(self) -> float:
        """Seconds since some moment of this process."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""

    def chance(self) -> float:
        """A number in 0..1, for jitter."""


class SystemClock:
    """The machine's own."""

    def wall(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def steady(self) -> float:
        """CLOCK_MONOTONIC."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait on the running loop."""
        await asyncio.sleep(seconds)

    def chance(self) -> float:
        """From the process's generator."""
        return random.random()  # noqa: S311 - jitter, not a secret


async def rest(clock: Clock, seconds: float, *events: asyncio.Event) -> None:
    """Wait until one of the events is set or the time is up."""
    if seconds <= 0 or any(event.is_set() for event in events):
        await asyncio.sleep(0)
        return
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    waiting.append(asyncio.ensure_future(_slept(clock, seconds)))
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()


async def _slept(clock: Clock, seconds: float) -> Literal[True]:
    await clock.sleep(seconds)
    return True
