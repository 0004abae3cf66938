"""The stream of events: a picture of the mirrors whenever there is another, to each page that is open.

A picture holds everything, so one that a page misses does not matter: a client that does not keep up gets
the newest, and one that takes nothing for `SLOWEST` seconds is cut off. Nobody is waited for.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog
from starlette.types import Message, Receive, Scope, Send

from kbsync.errors import StateError

log = structlog.get_logger("kbsync")

MOST_CLIENTS = 16
LOOK_EVERY = 1.0
ANYWAY_EVERY = 30.0
"""Seconds after which a picture is sent though nothing is new: what is known otherwise is then repaired."""

HEARTBEAT = 1.0
"""Seconds between two signs of life at most: a page that hears none for a while takes us to be gone."""

SLOWEST = 10.0
ABORT = "kbsync.abort"
"""Where a server puts, in a request's scope, what closes its connection at once."""

Frame = Callable[[], Awaitable[Mapping[str, Any]]]
News = Callable[[], Awaitable[object]]
Sleep = Callable[[float], Awaitable[None]]


class OpenPage:
    """One open page: the newest picture that it does not have yet."""

    def __init__(self) -> None:
        self._latest = b""
        self._is_new = asyncio.Event()
        self.is_over = False

    def give(self, event: bytes) -> None:
        """In place of one it has not taken."""
        self._latest = event
        self._is_new.set()

    def end(self) -> None:
        """There will be no more."""
        self.is_over = True
        self._is_new.set()

    async def next(self, seconds: float) -> bytes:
        """The next event; a heartbeat where there is none in time."""
        try:
            async with asyncio.timeout(seconds):
                await self._is_new.wait()
        except TimeoutError:
            return b": still here\n\n"
        self._is_new.clear()
        return self._latest


class EventHub:
    """Looks at the mirrors while somebody watches, and only then."""

    def __init__(self, frame: Frame, news: News, sleep: Sleep = asyncio.sleep) -> None:
        self._frame, self._news, self._sleep = frame, news, sleep
        self._clients: set[OpenPage] = set()
        self._looking: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def clients(self) -> int:
        """How many watch."""
        return len(self._clients)

    def join(self) -> OpenPage | None:
        """One more; None where there are too many."""
        if len(self._clients) >= MOST_CLIENTS:
            return None
        client = OpenPage()
        self._clients.add(client)
        self._loop = asyncio.get_running_loop()
        # Begun anew it looks at once, so that the new page need not wait for its first picture.
        if self._looking is not None:
            self._looking.cancel()
        self._looking = asyncio.create_task(self._look())
        return client

    def leave(self, client: OpenPage) -> None:
        """With the last one the looking ends."""
        self._clients.discard(client)
        if not self._clients and self._looking is not None:
            self._looking.cancel()
            self._looking = None

    def end(self) -> None:
        """Every stream ends. From any thread; repeatable."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        for client in list(self._clients):
            client.end()

    async def _look(self) -> None:
        known: object = None
        rounds = 0
        while True:
            try:
                news = await self._news()
            except StateError as error:
                news = str(error)
            except Exception as error:  # whoever watches is told, and it is looked again
                log.exception("page.failed")
                news = type(error).__name__
            if news != known or rounds >= ANYWAY_EVERY / LOOK_EVERY:
                known, rounds = news, 0
                await self._publish()
            rounds += 1
            await self._sleep(LOOK_EVERY)

    async def _publish(self) -> None:
        try:
            event = encoded("frame", await self._frame())
        except StateError as error:
            event = encoded("trouble", {"detail": str(error)})
        except Exception:
            log.exception("page.failed")
            return
        for client in self._clients:
            client.give(event)


def encoded(name: str, told: Mapping[str, Any]) -> bytes:
    """One event. Plain ASCII: names may hold what is no Unicode."""
    return f"event: {name}\ndata: {json.dumps(told, separators=(',', ':'))}\n\n".encode("ascii")


class EventStream:
    """Answers one request with events until the client leaves, is too slow, or the listener ends."""

    def __init__(self, hub: EventHub, client: OpenPage, headers: Mapping[str, str]) -> None:
        self._hub, self._client = hub, client
        told = {"content-type": "text/event-stream", **headers}
        self._headers = [(name.encode(), value.encode()) for name, value in told.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Until its end."""

        async def give(message: Message) -> None:
            async with asyncio.timeout(SLOWEST):
                await send(message)

        leaving = asyncio.create_task(self._wait_for_leave(receive))
        try:
            await give({"type": "http.response.start", "status": 200, "headers": self._headers})
            while not self._client.is_over:
                event = await self._client.next(HEARTBEAT)
                if not self._client.is_over:
                    await give({"type": "http.response.body", "body": event, "more_body": True})
            await give({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:  # a client that takes nothing
            # A graceful end would wait for the very bytes that it does not take.
            scope.get(ABORT, lambda: None)()
            await leaving
        finally:
            self._hub.leave(self._client)
            leaving.cancel()

    async def _wait_for_leave(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._client.end()
