"""Whether the loop of the mirrors turns."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

EVERY = 1.0
STALLED_AFTER = 10.0
"""Seconds without a beat; a long step of the loop, such as opening a large state, is no stall yet."""


class Heart:
    """Beats in the loop of the mirrors, is listened to from another thread. `steady` gives seconds."""

    def __init__(self, steady: Callable[[], float] = time.monotonic) -> None:
        self._steady = steady
        self._last = steady()

    def beat(self) -> None:
        """The loop has come round."""
        self._last = self._steady()

    @property
    def silence(self) -> float:
        """Seconds since the last beat."""
        return self._steady() - self._last

    @property
    def is_beating(self) -> bool:
        """The loop turns."""
        return self.silence < STALLED_AFTER

    async def keep_beating(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Until cancelled."""
        while True:
            self.beat()
            await sleep(EVERY)
