"""The event stream, which sends the state of all mirrors to each open page whenever it changes.

Each event contains the whole state, so a page may miss some events: a slow page gets only the latest one. A
page that doesn't read anything for `SLOWEST` seconds is disconnected. A slow page can't delay mirrors or
other pages.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.types import Message, Receive, Scope, Send

from kbsync.engine.clock import log_bug
from kbsync.errors import StateError

MAX_CLIENTS = 16
POLL_EVERY = 1.0
RESEND_EVERY = 30.0
"""Seconds after which kbsync sends an event even if nothing has changed, in case a page is out of date."""

HEARTBEAT = 1.0
"""Maximum number of seconds between messages; after a longer silence, a page assumes that kbsync is
gone."""

SLOWEST = 10.0
ABORT = "kbsync.abort"
"""The key in a request's scope for the function that closes its connection immediately."""

Frame = Callable[[], Awaitable[Mapping[str, Any]]]
News = Callable[[], Awaitable[object]]
Sleep = Callable[[float], Awaitable[None]]


class OpenPage:
    """An open page, with the latest event that hasn't been sent to it."""

    def __init__(self) -> None:
        self._latest = b""
        self._is_new = asyncio.Event()
        self.is_over = False

    def give(self, event: bytes) -> None:
        """Store the next event, replacing an unsent one."""
        self._latest = event
        self._is_new.set()

    def end(self) -> None:
        """End the stream."""
        self.is_over = True
        self._is_new.set()

    async def next(self, seconds: float) -> bytes:
        """Return the next event, or a heartbeat if none arrives in time."""
        try:
            async with asyncio.timeout(seconds):
                await self._is_new.wait()
        except TimeoutError:
            return b": still here\n\n"
        self._is_new.clear()
        return self._latest


class EventHub:
    """Polls the mirrors, but only while a page is open."""

    def __init__(self, frame: Frame, news: News, sleep: Sleep = asyncio.sleep) -> None:
        self._frame, self._news, self._sleep = frame, news, sleep
        self.clients: set[OpenPage] = set()
        self._polling: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def join(self) -> OpenPage | None:
        """Add an open page. Return None if too many pages are open."""
        if len(self.clients) >= MAX_CLIENTS:
            return None
        client = OpenPage()
        self.clients.add(client)
        self._loop = asyncio.get_running_loop()
        # Restart the polling, so that a new page doesn't wait for its first event.
        if self._polling is not None:
            self._polling.cancel()
        self._polling = asyncio.create_task(self._poll())
        return client

    def leave(self, client: OpenPage) -> None:
        """Remove a closed page. Stop polling when no page is left."""
        self.clients.discard(client)
        if not self.clients and self._polling is not None:
            self._polling.cancel()
            self._polling = None

    def end(self) -> None:
        """End every stream. May be called repeatedly, from any thread."""

        def end_all() -> None:
            for client in list(self.clients):
                client.end()

        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(end_all)

    async def _poll(self) -> None:
        last_news: object = None
        rounds = 0
        while True:
            try:
                news = await self._news()
            except StateError as error:
                news = str(error)
            except Exception as error:  # the pages show the error, and the next round tries again
                news = log_bug("page.failed", error)
            if news != last_news or rounds >= RESEND_EVERY / POLL_EVERY:
                last_news, rounds = news, 0
                await self._publish()
            rounds += 1
            await self._sleep(POLL_EVERY)

    async def _publish(self) -> None:
        try:
            event = encoded("frame", await self._frame())
        except StateError as error:
            event = encoded("trouble", {"detail": str(error)})
        except Exception as error:
            log_bug("page.failed", error)
            return
        for client in self.clients:
            client.give(event)


def encoded(name: str, payload: Mapping[str, Any]) -> bytes:
    """Encode an event in plain ASCII, because file names may contain bytes that aren't valid UTF-8."""
    return f"event: {name}\ndata: {json.dumps(payload, separators=(',', ':'))}\n\n".encode("ascii")


class EventStream:
    """A response that sends events until the client disconnects or is too slow, or until the listener
    ends.
    """

    def __init__(self, hub: EventHub, client: OpenPage, headers: Mapping[str, str]) -> None:
        self._hub, self._client = hub, client
        fields = {"content-type": "text/event-stream", **headers}
        self._headers = [(name.encode(), value.encode()) for name, value in fields.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until the stream ends."""

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
        except TimeoutError:  # the client reads nothing
            # A graceful close would wait for the client forever.
            scope.get(ABORT, lambda: None)()
            await leaving
        finally:
            self._hub.leave(self._client)
            leaving.cancel()
