"""Connections that carry one request at a time each, kept open for the next one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial

import httpx


class Lanes(httpx.AsyncBaseTransport):
    """Gives each request a connection of its own; there are as many as requests were in flight at once.

    `make` opens the way to an address. One pool for all would look at each of its connections several
    times a request (half of a small request's cost at 16 of them), and httpcore 1.0.9 loses a place of
    a pool when a request is cancelled at a bad moment (encode/httpcore#1093); here it is thrown away.
    """

    def __init__(self, make: Callable[[httpx.URL], httpx.AsyncBaseTransport]) -> None:
        self._make = make
        self._free: dict[tuple[str, str, int | None], list[httpx.AsyncBaseTransport]] = {}
        self._is_closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """As httpx has it: the answer's head; its stream has to be closed."""
        url = request.url
        free = self._free.setdefault((url.scheme, url.host, url.port), [])
        lane = free.pop() if free else self._make(url)
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
        for free in self._free.values():
            while free:
                await free.pop().aclose()

    def _give_back(self, free: list[httpx.AsyncBaseTransport], lane: httpx.AsyncBaseTransport) -> bool:
        if not self._is_closed:
            free.append(lane)
        return not self._is_closed


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
