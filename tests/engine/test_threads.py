"""Tests blocking calls of coroutines, with and without an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any

import pytest

from kbsync.threads import LoopThread, gather, in_mirror_threads, in_thread, run_here


async def names() -> list[str]:
    """Return the names of the threads in which three calls ran."""
    calls = (in_thread(lambda: threading.current_thread().name) for _ in range(2))
    return [
        *await gather(*calls),
        await in_mirror_threads("docs", in_thread(lambda: threading.current_thread().name)),
    ]


def test_calls_leave_the_thread_only_inside_an_event_loop() -> None:
    caller = threading.current_thread().name
    assert run_here(names()) == [caller] * 3
    assert caller not in asyncio.run(names())


def test_errors_reach_the_caller_without_a_loop_and_waiting_is_a_bug() -> None:
    with pytest.raises(ZeroDivisionError):
        run_here(in_thread(lambda: 1 // 0))
    with pytest.raises(AssertionError, match="needs an event loop"):
        run_here(asyncio.sleep(0))


class ClosedError(Exception):
    pass


async def test_closing_lets_background_tasks_of_the_work_continue() -> None:
    """For example, those of Dask's client, which closing the client needs."""
    loop, tasks, seen = LoopThread("loop", ClosedError), list[asyncio.Task[None]](), list[bool]()

    async def work() -> None:
        tasks.append(asyncio.create_task(asyncio.sleep(60)))

    async def final_work() -> None:
        seen.append(tasks[0].done())
        tasks[0].cancel()

    loop.run(work())
    await asyncio.to_thread(loop.close, final_work())
    assert seen == [False]


def test_work_that_begins_while_the_loop_is_closed_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = LoopThread("loop", ClosedError)
    schedule = asyncio.run_coroutine_threadsafe

    def schedule_late(work: Coroutine[Any, Any, Any], on: asyncio.AbstractEventLoop) -> Future[Any]:
        if closing.ident is None:
            closing.start()
            closing.join(0.2)
        return schedule(work, on)

    closing = threading.Thread(target=loop.close, args=(asyncio.sleep(0),))
    loop.run(asyncio.sleep(0))
    monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", schedule_late)
    with pytest.raises(ClosedError):
        loop.begin(asyncio.sleep(60)).result(timeout=5)
    closing.join()
