"""Tests blocking calls of coroutines, with and without an event loop."""

from __future__ import annotations

import asyncio
import threading

import pytest

from kbsync.threads import gather, in_mirror_threads, in_thread, run_here


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
