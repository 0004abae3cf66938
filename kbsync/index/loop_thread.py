"""Runs an event loop in its own thread, for clients of services and clusters that are called from blocking
threads.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class LoopThread:
    """An event loop in a daemon thread, started by the first call. Safe to use from several threads."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._starting = threading.Lock()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work`; return its result or raise its error."""
        return self.begin(work).result()

    def begin(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start `work`; cancelling the future ends it."""
        return asyncio.run_coroutine_threadsafe(work, self._running())

    def close(self, final_work: Coroutine[Any, Any, None]) -> None:
        """Run `final_work`, then end the loop; do nothing if there is no loop."""
        with self._starting:
            loop, self._loop = self._loop, None
        if loop is None:
            final_work.close()
            return
        asyncio.run_coroutine_threadsafe(final_work, loop).result()
        loop.call_soon_threadsafe(loop.stop)

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._starting:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                # A daemon thread, because a hanging service must not keep a command from ending.
                threading.Thread(target=_serve, args=(self._loop,), name=self._name, daemon=True).start()
            return self._loop


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.close()
