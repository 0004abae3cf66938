"""Runs a call that may block for ever (a dead network mount) without holding up the program."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def run_detached(call: Callable[[], T]) -> T:
    """What `call` returns or raises, from a thread of its own.

    The default executor will not do: the loop waits for all its threads at the end. When the caller is
    cancelled the call goes on and its outcome is dropped.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        try:
            result = call()
        except BaseException as error:
            _post(loop, _fail, future, error)
        else:
            _post(loop, _succeed, future, result)

    threading.Thread(target=run, name="kbsync-aside", daemon=True).start()
    return await future


def _post(loop: asyncio.AbstractEventLoop, call: Callable[..., None], *arguments: object) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(call, *arguments)


def _succeed(future: asyncio.Future[T], result: T) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[T], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
