"""A clock that only sleeping moves."""

from __future__ import annotations

import asyncio


class Clock:
    """`sleep` takes no time and moves the clock; `slept` keeps what was slept."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def steady(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


async def settled() -> None:
    """Every task that can go on without the clock has."""
    for _ in range(20):
        await asyncio.sleep(0)
