"""Connections that carry one request at a time each, kept open for the next one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial

import httpx


@dataclass(frozen=True, slots=True)
class _Idle:
    """A connection that nobody uses, since when by the loop's clock."""

    lane: httpx.AsyncBaseTransport
    since: float


class Lanes(httpx.AsyncBaseTransport):
    """Gives each request a connection of its own; there are as many as requests were in flight at once.

    `make` opens the way to an address. A connection that is unused for `idle` seconds is closed: it would
    stay half open after the server closed its end, for as long as the program runs. One pool for all would
    look at each of its connections several times a request (half of a small request's cost at 16 of them),
    and httpcore 1.0.9 loses a place of a pool when a request is cancelled at a bad moment
    (encode/httpcore#1093); here it is thrown away.
    """

    def __init__(self, make: Callable[[httpx.URL], httpx.AsyncBaseTransport], idle: float) -> None:
        self._make, self._idle = make, idle
        self._free: dict[tuple[str, str, int | None], list[_Idle]] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """As httpx has it: the answer's head; its stream has to be closed."""
        url = request.url
        free = self._free.setdefault((url.scheme, url.host, url.port), [])
        lane = free.pop().lane if free else self._make(url)
        try:
            response = await lane.handle_async_request(request)
        except BaseException:
            await lane.aclose()
            raise
        assert isinstance(response.stream, httpx.AsyncByteStream)
        response.stream = _Held(response.stream, partial(self._give_back, free, lane), lane)
        return response

    async def aclose(self) -> None:
        """Let go of the connections; those in use are closed when their answers are."""
        self._is_closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        await asyncio.gather(*self._closing)
        for free in self._free.values():
            while free:
                await free.pop().lane.aclose()

    def _give_back(self, free: list[_Idle], lane: httpx.AsyncBaseTransport) -> bool:
        if not self._is_closed:
            loop = asyncio.get_running_loop()
            free.append(_Idle(lane, loop.time()))
            self._sweep = self._sweep or loop.call_later(self._idle, self._sweep_idle)
        return not self._is_closed

    def _sweep_idle(self) -> None:
        """Called by the loop as long as connections are free, and never once none is (promise 4)."""
        loop = asyncio.get_running_loop()
        now, oldest = loop.time(), float("inf")
        for free in self._free.values():
            stale = [one.lane for one in free if one.since + self._idle <= now]
            free[:] = [one for one in free if one.since + self._idle > now]
            oldest = min([oldest, *(one.since for one in free)])
            for lane in stale:
                task = loop.create_task(_close(lane))
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)
        self._sweep = None if oldest == float("inf") else loop.call_at(oldest + self._idle, self._sweep_idle)


async def _close(lane: httpx.AsyncBaseTransport) -> None:
    with contextlib.suppress(Exception):  # nobody waits for it, and what cannot be closed is broken already
        await lane.aclose()


class _Held(httpx.AsyncByteStream):
    """An answer's bytes, with the lane they come by."""

    def __init__(
        self, stream: httpx.AsyncByteStream, give_back: Callable[[], bool], lane: httpx.AsyncBaseTransport
    ) -> None:
        self._stream, self._give_back, self._lane = stream, give_back, lane

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._stream.__aiter__()

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        except BaseException:
            await self._lane.aclose()
            raise
        if not self._give_back():
            await self._lane.aclose()
