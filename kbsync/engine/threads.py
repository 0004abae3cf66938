"""Threads by mirror: one whose disk is slow, or hangs, takes none of another's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any, TypeVar

T = TypeVar("T")

_whose: ContextVar[str] = ContextVar("whose", default="")


class Threads(ThreadPoolExecutor):
    """To be the loop's default: a call made within `apart` runs in threads of that name's own."""

    def __init__(self) -> None:
        super().__init__(thread_name_prefix="kbsync")
        self._pools: dict[str, ThreadPoolExecutor] = {}

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Run it in a thread of whoever asks."""
        whose = _whose.get()
        if not whose:
            return super().submit(fn, *args, **kwargs)
        if whose not in self._pools:
            self._pools[whose] = ThreadPoolExecutor(thread_name_prefix=f"kbsync-{whose}")
        return self._pools[whose].submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """No more calls, by anybody."""
        for pool in self._pools.values():
            pool.shutdown(wait, cancel_futures=cancel_futures)
        super().shutdown(wait, cancel_futures=cancel_futures)


async def apart(name: str, work: Awaitable[T]) -> T:
    """What runs in a task of its own, and all tasks that it makes, uses threads of `name`."""
    _whose.set(name)
    return await work
