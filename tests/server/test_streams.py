"""Tests that open pages get every change, and that slow pages delay nothing."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from kbsync.errors import OUT_OF_MEMORY, StateError
from kbsync.once import run_once
from kbsync.server import events
from kbsync.server.events import ABORT, EventHub, EventStream, OpenPage
from tests.clocks import let_tasks_run
from tests.server.client import serve
from tests.server.mirror_with_listener import eventually, mirror_with_listener
from tests.share import long


class WatchedMirrors:
    """Mirrors by word; counts the snapshots taken. Pauses end when the test says so."""

    def __init__(self) -> None:
        self.number: object = 1
        self.error: Exception | None = None
        self.frame_count = 0
        self.hub = EventHub(self._frame, self._news, self._sleep)
        self._waiting: list[asyncio.Future[None]] = []

    async def _frame(self) -> Mapping[str, Any]:
        if self.error is not None:
            raise self.error
        self.frame_count += 1
        return {"n": self.number}

    async def _news(self) -> object:
        return self.number

    async def _sleep(self, _seconds: float) -> None:
        self._waiting.append(asyncio.get_running_loop().create_future())
        await self._waiting[-1]

    async def turn(self, *news: object) -> None:
        """Check each of these files; without any, all existing ones."""
        for number in news or (self.number,):
            self.number = number
            waiting, self._waiting = self._waiting, []
            for future in waiting:
                if not future.done():
                    future.set_result(None)
            await let_tasks_run()

    def join(self) -> OpenPage:
        client = self.hub.join()
        assert client is not None
        return client


class Reader:
    """One client and the data sent to it. It accepts nothing more while `stuck`."""

    def __init__(self, watched: WatchedMirrors) -> None:
        self.events: list[str] = []
        self.stuck = False
        self.aborted = False
        self._disconnected = asyncio.Event()
        stream = EventStream(watched.hub, watched.join(), {"x": "y"})
        self.task = asyncio.create_task(stream({ABORT: self._abort}, self._receive, self._send))

    def _abort(self) -> None:
        self.aborted = True
        self._disconnected.set()

    async def _receive(self) -> dict[str, Any]:
        await self._disconnected.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if self.stuck:
            await asyncio.Event().wait()
        if message["type"] == "http.response.body":
            self.events.append(message["body"].decode())

    async def leave(self) -> None:
        self._disconnected.set()
        await self.task


@asynccontextmanager
async def reading(watched: WatchedMirrors, n: int = 1) -> AsyncIterator[list[Reader]]:
    readers = [Reader(watched) for _ in range(n)]
    await watched.turn()
    yield readers
    for reader in readers:
        if not reader.task.done():
            await reader.leave()


async def test_snapshot_is_sent_immediately_and_on_change() -> None:
    watched = WatchedMirrors()
    async with reading(watched, 2) as readers:
        await watched.turn(1, 1, 2, 2, 3)
        for reader in readers:
            assert reader.events == [f'event: frame\ndata: {{"n":{n}}}\n\n' for n in (1, 2, 3)]
    assert watched.frame_count == 3


async def test_nothing_is_read_without_watchers() -> None:
    watched = WatchedMirrors()
    async with reading(watched):
        pass
    await watched.turn(2)
    assert (watched.frame_count, len(watched.hub.clients), watched.hub._polling) == (1, 0, None)


async def test_slow_client_gets_only_the_newest_snapshot() -> None:
    watched = WatchedMirrors()
    client = watched.join()
    await watched.turn(1, 2, 3)
    assert await client.next(1.0) == b'event: frame\ndata: {"n":3}\n\n'
    watched.hub.leave(client)


async def test_client_that_reads_nothing_is_disconnected_without_affecting_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watched = WatchedMirrors()
    async with reading(watched, 2) as (slow, quick):
        monkeypatch.setattr(events, "SLOWEST", 0.0)
        slow.stuck = True
        await watched.turn(2)
        await eventually(slow.task.done)
        assert slow.aborted
        assert (quick.task.done(), quick.aborted, len(watched.hub.clients)) == (False, False, 1)
        assert quick.events[-1] == 'event: frame\ndata: {"n":2}\n\n'


async def test_excess_streams_get_an_error_response() -> None:
    watched = WatchedMirrors()
    clients = [watched.join() for _ in range(events.MAX_CLIENTS)]
    assert watched.hub.join() is None
    for client in clients:
        watched.hub.leave(client)


async def test_heartbeats_are_sent_during_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "HEARTBEAT", 0.0)
    watched = WatchedMirrors()
    async with reading(watched) as [reader]:
        await eventually(lambda: reader.events.count(": still here\n\n") > 2)


@pytest.mark.parametrize(
    ("error", "names_before"),
    [(StateError("the disk failed"), ["trouble"]), (RuntimeError("a mistake of ours"), [])],
)
async def test_error_does_not_end_the_stream(error: Exception, names_before: list[str]) -> None:
    watched = WatchedMirrors()
    watched.error = error
    async with reading(watched) as [reader]:
        watched.error = None
        await watched.turn(2)
        names = [event.partition("\n")[0] for event in reader.events]
        assert names == [f"event: {name}" for name in (*names_before, "frame")]


@pytest.mark.parametrize("part", ["_frame", "_news"])
async def test_lack_of_memory_is_logged_with_its_reason(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(_watched: WatchedMirrors) -> None:
        raise MemoryError

    monkeypatch.setattr(WatchedMirrors, part, fail)
    with capture_logs() as lines:
        async with reading(WatchedMirrors()):
            pass
    reason = {"event": "page.failed", "reason": OUT_OF_MEMORY, "log_level": "error"}
    assert lines and all(line == reason for line in lines)


async def test_every_stream_ends_with_the_listener() -> None:
    watched = WatchedMirrors()
    async with reading(watched, 3) as readers:
        await asyncio.to_thread(watched.hub.end)
        await asyncio.gather(*(reader.task for reader in readers))
        assert len(watched.hub.clients) == 0


@long
async def test_edits_appear_on_a_real_connection_and_the_stream_ends_with_the_listener(
    tmp_path: Path,
) -> None:
    world = mirror_with_listener(tmp_path)
    async with world.open(), httpx.AsyncClient(timeout=60) as client:
        with serve(world.app, world.listener_app.hub.end) as (thread, port):
            async with client.stream("GET", f"http://127.0.0.1:{port}/api/events") as response:
                assert response.headers["content-type"] == "text/event-stream"
                assert "x-kbsync-word" in response.headers
                lines = response.aiter_lines()
                assert await anext(lines) == "event: frame"
                world.world.write("seen.md", "text")
                await run_once(world.runs["docs"])
                async for line in lines:
                    if "seen.md" in line:
                        break
                stopping = asyncio.create_task(asyncio.to_thread(thread.stop))
                assert [line async for line in lines if line.startswith("event")] == []
                await stopping


@long
async def test_connection_that_reads_nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "SLOWEST", 0.2)
    frames = iter(range(10**6))

    async def frame() -> Mapping[str, Any]:
        return {"filler": "x" * 4_000_000}

    async def news() -> object:
        return next(frames)

    async def at_once(_seconds: float) -> None:
        await asyncio.sleep(0)

    hub = EventHub(frame, news, at_once)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        client = hub.join()
        assert client is not None
        await EventStream(hub, client, {})(scope, receive, send)

    with (
        serve(app, hub.end) as (_, port),
        socket.create_connection(("127.0.0.1", port), timeout=20) as reader,
    ):
        reader.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        await eventually(lambda: len(hub.clients) == 1)
        await eventually(lambda: len(hub.clients) == 0)
