"""Runs blocking calls for coroutines: in threads, or directly in a command without an event loop. Searches
have priority over indexing. `Threads` gives each mirror its own threads, so a hanging disk can't block other
mirrors. A command that searches a single built-in knowledge base works sequentially; `run_here` spares it
asyncio and threads, which would take a sixth of its time. `LoopThread` runs coroutines for blocking calls.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Runner, Task

P = ParamSpec("P")
T = TypeVar("T")

_pool_name: ContextVar[str] = ContextVar("pool_name", default="")


class Threads(ThreadPoolExecutor):
    """The event loop's default executor. Calls inside `in_own_threads` run in the threads that it names."""

    def __init__(self) -> None:
        super().__init__(thread_name_prefix="kbsync")
        self._pools: dict[str, ThreadPoolExecutor] = {}

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Run the function in one of the calling mirror's threads, or in a shared thread."""
        pool = _pool_name.get()
        if not pool:
            return super().submit(fn, *args, **kwargs)
        if pool not in self._pools:
            self._pools[pool] = ThreadPoolExecutor(thread_name_prefix=f"kbsync-{pool}")
        return self._pools[pool].submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Stop accepting calls."""
        for pool in self._pools.values():
            pool.shutdown(wait, cancel_futures=cancel_futures)
        super().shutdown(wait, cancel_futures=cancel_futures)


class ThreadPerCall(ThreadPoolExecutor):
    """The default executor of an event loop that may end while a call hangs."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Run the function in a thread of its own."""
        return start_thread(partial(fn, *args, **kwargs))


def make_runner() -> Runner:
    """Return a runner that doesn't wait for its threads at the end.

    A database or a name server that stops responding can hang a thread forever. Neither Ctrl+C nor the end of
    the command may wait for it.
    """
    import asyncio

    runner = asyncio.Runner()
    runner.get_loop().set_default_executor(ThreadPerCall())
    return runner


def run_coroutine(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine like `asyncio.run`, but don't wait for its threads."""
    with make_runner() as runner:
        return runner.run(work)


def running_loop() -> AbstractEventLoop | None:
    """Return the caller's event loop, if there is one, without loading asyncio."""
    if "asyncio" not in sys.modules:
        return None
    import asyncio

    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def start_thread(call: Callable[[], T]) -> Future[T]:
    """Run `call` in a thread of its own, with the caller's context variables. Return the future of its
    result.

    If the call hangs, for example on a dead network mount, the process can still end.
    """
    future = Future[T]()
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    context = copy_context()
    threading.Thread(target=context.run, args=(run,), name="kbsync-aside", daemon=True).start()
    return future


async def in_mirror_threads(mirror: str, work: Awaitable[T]) -> T:
    """Run `work` in threads that only this mirror uses, and return its result."""
    if (loop := running_loop()) is None:
        return await work
    return await loop.create_task(in_own_threads(f"answers-{mirror}", work))


async def in_own_threads(name: str, work: Awaitable[T]) -> T:
    """Run `work` in a task. Like all tasks that it creates, it uses the threads named `name`."""
    _pool_name.set(name)
    return await work


async def in_thread(work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a blocking call in a thread, or directly if there is no event loop. Return its result."""
    if running_loop() is None:
        return work(*args, **kwargs)
    import asyncio

    return await asyncio.to_thread(work, *args, **kwargs)


async def gather(*work: Awaitable[T]) -> list[T]:
    """Run the calls concurrently, or one after another if there is no event loop. Return all results."""
    if running_loop() is None:
        return [await task for task in work]
    import asyncio

    return await asyncio.gather(*work)


def run_here(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine without an event loop. It may only await functions of this module."""
    try:
        work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    work.close()
    raise AssertionError(f"{work} needs an event loop")


class LoopThread:
    """An event loop in a daemon thread, started by the first call. It can be used from several threads.

    `closed_error` returns the error of the work that `close` ends.
    """

    def __init__(self, name: str, closed_error: Callable[[], Exception]) -> None:
        self._name, self._closed_error = name, closed_error
        self._loop: AbstractEventLoop | None = None
        self._tasks: set[Task[Any]] = set()
        self._starting = threading.Lock()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work`. Return its result or raise its error."""
        return self.begin(work).result()

    def begin(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start `work` and return its future. Canceling the future ends the work."""
        import asyncio

        with self._starting:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                # A daemon thread, because a hanging service must not keep a command from ending.
                threading.Thread(target=_serve, args=(self._loop,), name=self._name, daemon=True).start()
            # Under the lock, because work that begins after `close` would never end.
            work = self._until_closed(work, self._tasks)
            return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _until_closed(self, work: Coroutine[Any, Any, T], tasks: set[Task[Any]]) -> T:
        import asyncio

        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            return await work
        except asyncio.CancelledError:
            if self._tasks is tasks:
                raise
            raise self._closed_error() from None
        finally:
            tasks.discard(task)

    def close(self, final_work: Coroutine[Any, Any, None]) -> None:
        """Cancel all work, run `final_work`, then end the event loop. If there is no loop, do nothing.

        Tasks that the work left behind, such as a library's, continue until the end, because `final_work` may
        need them.
        """
        import asyncio

        with self._starting:
            loop, self._loop = self._loop, None
            tasks, self._tasks = self._tasks, set()
        if loop is None:
            final_work.close()
            return

        async def end() -> None:
            # Threads wait for the results, and the process waits for these threads.
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await final_work

        asyncio.run_coroutine_threadsafe(end(), loop).result()
        loop.call_soon_threadsafe(loop.stop)


def _serve(loop: AbstractEventLoop) -> None:
    import asyncio

    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.close()


MAX_YIELD = 0.25
"""Maximum number of seconds that indexing waits for searches at a time."""

LONG_SEARCH = 1.0
"""Seconds after which a search is probably waiting for a service, so that indexing doesn't need to wait for
it."""


class Precedence:
    """Gives searches priority over indexing.

    A search acquires and releases Python's lock (the GIL) many times. While another thread is computing, each
    acquisition can take 5 ms, the interval at which Python switches threads. So indexing threads wait between
    steps while a search is running, but for at most half of the time. `clock` returns the monotonic time.
    `longest`: see `MAX_YIELD`.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, longest: float = MAX_YIELD) -> None:
        self.longest = longest
        self._clock = clock
        self._counting = threading.Lock()
        self._searches, self._began = 0, 0.0
        self._is_free = threading.Event()
        self._is_free.set()
        self._resumed = threading.local()

    @contextmanager
    def search(self) -> Iterator[None]:
        """Run a search inside the block."""
        with self._counting:
            self._searches, self._began = self._searches + 1, self._clock()
            self._is_free.clear()
        try:
            yield
        finally:
            with self._counting:
                self._searches -= 1
                if not self._searches:
                    self._is_free.set()

    def wait(self) -> None:
        """Wait until no search is running, unless this thread has just waited."""
        if self._is_free.is_set():
            return
        began = self._clock()
        if began < getattr(self._resumed, "until", 0.0) or began - self._began > LONG_SEARCH:
            return
        self._is_free.wait(self.longest)
        ended = self._clock()
        self._resumed.until = ended + (ended - began)

    def pace(self, steps: Iterable[T]) -> Iterator[T]:
        """Yield the steps of a job. Before each one, wait while a search is running."""
        for step in steps:
            self.wait()
            yield step


searches_first = Precedence()
"""Coordinates this process's searches with its indexing threads."""
