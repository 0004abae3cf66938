"""The stream of events: the whole state of the mirrors, sent to each open page whenever it changes.

An event holds everything, so a page may miss some: a slow one gets the newest, and one that takes nothing for
`SLOWEST` seconds is cut off. No mirror and no other page waits for it.
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
"""Seconds after which an event is sent though nothing is new, in case a page shows something else."""

HEARTBEAT = 1.0
"""Most seconds between two signs of life: a page that hears none for a while takes kbsync to be gone."""

SLOWEST = 10.0
ABORT = "kbsync.abort"
"""Where a server puts, in a request's scope, what closes its connection at once."""

Frame = Callable[[], Awaitable[Mapping[str, Any]]]
News = Callable[[], Awaitable[object]]
Sleep = Callable[[float], Awaitable[None]]


class OpenPage:
    """One open page, and the newest event that it does not have yet."""

    def __init__(self) -> None:
        self._latest = b""
        self._is_new = asyncio.Event()
        self.is_over = False

    def give(self, event: bytes) -> None:
        """Replaces an event that it has not taken."""
        self._latest = event
        self._is_new.set()

    def end(self) -> None:
        """The stream ends."""
        self.is_over = True
        self._is_new.set()

    async def next(self, seconds: float) -> bytes:
        """The next event, or a heartbeat if there is none in time."""
        try:
            async with asyncio.timeout(seconds):
                await self._is_new.wait()
        except TimeoutError:
            return b": still here\n\n"
        self._is_new.clear()
        return self._latest


class EventHub:
    """Looks at the mirrors, but only while a page is open."""

    def __init__(self, frame: Frame, news: News, sleep: Sleep = asyncio.sleep) -> None:
        self._frame, self._news, self._sleep = frame, news, sleep
        self.clients: set[OpenPage] = set()
        self._looking: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def join(self) -> OpenPage | None:
        """One more page; None if there are too many."""
        if len(self.clients) >= MOST_CLIENTS:
            return None
        client = OpenPage()
        self.clients.add(client)
        self._loop = asyncio.get_running_loop()
        # Restarted, it looks at once: a new page need not wait for its first event.
        if self._looking is not None:
            self._looking.cancel()
        self._looking = asyncio.create_task(self._look())
        return client

    def leave(self, client: OpenPage) -> None:
        """Nobody looks at the mirrors for the last page that left."""
        self.clients.discard(client)
        if not self.clients and self._looking is not None:
            self._looking.cancel()
            self._looking = None

    def end(self) -> None:
        """Every stream ends. From any thread; repeatable."""

        def end_all() -> None:
            for client in list(self.clients):
                client.end()

        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(end_all)

    async def _look(self) -> None:
        known: object = None
        rounds = 0
        while True:
            try:
                news = await self._news()
            except StateError as error:
                news = str(error)
            except Exception as error:  # the pages are told, and the next round tries again
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
        for client in self.clients:
            client.give(event)


def encoded(name: str, told: Mapping[str, Any]) -> bytes:
    """One event, in plain ASCII: file names may hold bytes that are no Unicode."""
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

        async def wait_for_leave() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            self._client.end()

        leaving = asyncio.create_task(wait_for_leave())
        try:
            await give({"type": "http.response.start", "status": 200, "headers": self._headers})
            while not self._client.is_over:
                event = await self._client.next(HEARTBEAT)
                if not self._client.is_over:
                    await give({"type": "http.response.body", "body": event, "more_body": True})
            await give({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:  # the client takes nothing
            # A graceful end would wait for the very bytes that it does not take.
            scope.get(ABORT, lambda: None)()
            await leaving
        finally:
            self._hub.leave(self._client)
            leaving.cancel()
