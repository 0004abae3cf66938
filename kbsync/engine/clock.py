"""Time, randomness and tasks for long-running work.

Everything that waits gets a `Clock`, which tests control. `keep_running` is for work that lasts as long as
the program: if the work fails, it logs the failure and starts it again.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Any, Protocol, TypeVar

from kbsync.errors import lacks_memory, memory_message

T = TypeVar("T")


class Clock(Protocol):
    """Two clocks: `wall`, which may jump back, and the monotonic `steady`."""

    def wall(self) -> float:
        """Return the seconds since the epoch."""

    def steady(self) -> float:
        """Return a monotonic clock reading in seconds. Its starting point is arbitrary."""

    async def sleep(self, seconds: float) -> None:
        """Wait this many seconds."""

    def chance(self) -> float:
        """Return a random number from 0 to 1, for jitter."""


class SystemClock:
    """The machine's own clocks."""

    def wall(self) -> float:
        """Return the seconds since the epoch."""
        return time.time()

    def steady(self) -> float:
        """Return CLOCK_MONOTONIC."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait on the running loop."""
        await asyncio.sleep(seconds)

    def chance(self) -> float:
        """Return a number from the process's random number generator."""
        return random.random()  # noqa: S311 - jitter, not a secret


async def wait_for_any(clock: Clock, seconds: float, *events: asyncio.Event) -> None:
    """Wait until one of the events is set or the timeout expires."""
    # Other tasks get their turn even if there is nothing to wait for.
    if seconds <= 0 or any(event.is_set() for event in events):
        await asyncio.sleep(0)
        return
    waiting: list[asyncio.Future[Any]] = [asyncio.ensure_future(event.wait()) for event in events]
    waiting.append(asyncio.ensure_future(clock.sleep(seconds)))
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()


async def end_tasks(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel the tasks and wait until they end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


_closing: set[asyncio.Future[None]] = set()


async def wait_until_open(opening: Awaitable[T], close: Callable[[T], Awaitable[None]]) -> T:
    """Return the result of `opening`, which continues even if this call is canceled.

    If the result arrives after the cancellation, close it, because it may hold a lock that others need.
    """
    task = asyncio.ensure_future(opening)

    def close_late(task: asyncio.Future[T]) -> None:
        if not task.cancelled() and task.exception() is None:
            closing = asyncio.ensure_future(close(task.result()))
            _closing.add(closing)
            closing.add_done_callback(_closing.discard)

    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(close_late)
        raise


FIRST_PAUSE, MAX_PAUSE = 1.0, 60.0


def bug_in_words(error: Exception) -> str:
    """Describe a bug in kbsync, or a lack of memory, in one line. For a bug, the log has the traceback."""
    return memory_message(error) or f"internal error in kbsync (see its log): {type(error).__name__}"


def log_bug(event: str, error: Exception, **log_fields: Any) -> str:
    """Log a bug in kbsync with its traceback, or a lack of memory with its reason. Return `bug_in_words`."""
    # Imported late, because a search doesn't need it.
    import structlog

    log, words = structlog.get_logger("kbsync"), bug_in_words(error)
    if lacks_memory(error):
        log.error(event, reason=words, **log_fields)
    else:
        log.error(event, exc_info=error, **log_fields)
    return words


def pause_after(failures: int) -> float:
    """Return the number of seconds until the next retry, after this many failures in a row (at least 1)."""
    return float(min(MAX_PAUSE, FIRST_PAUSE * 2.0 ** min(failures - 1, 10)))


async def keep_running(
    clock: Clock, work: Callable[[], Awaitable[None]], name: str, **log_fields: Any
) -> None:
    """Run `work` until it returns. If it fails, log the failure and run it again after a pause."""
    failures = 0
    while True:
        started = clock.steady()
        try:
            return await work()
        except Exception as error:
            # After a long time without failures, the pause is short again.
            failures = 1 if clock.steady() - started > MAX_PAUSE else failures + 1
            seconds = pause_after(failures)
            log_bug("task.failed", error, task=name, again_in=seconds, **log_fields)
        await clock.sleep(seconds)


class RunQuery(Protocol):
    """Runs a query in its mirror's event loop."""

    async def __call__(self, query: Callable[[], Awaitable[T]], /) -> T:
        """Run the query and return its result."""


async def run_directly(query: Callable[[], Awaitable[T]]) -> T:
    """Run the query directly, for a mirror in the same event loop."""
    return await query()


async def run_in_loop(loop: asyncio.AbstractEventLoop, query: Callable[[], Awaitable[T]]) -> T:
    """Run the query in the event loop of another thread, and return its result."""

    # `query` is called in that thread, because the objects that it reads belong to that loop.
    async def run() -> T:
        return await query()

    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(run(), loop))
