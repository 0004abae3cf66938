"""Sends requests to an application without a network, and raw ones to a listener."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx
from starlette.applications import Starlette

from kbsync.config.secrets import Secret
from kbsync.server.auth import AccessControl
from kbsync.server.health import HealthRoutes, MirrorReadiness, ReadReadiness
from kbsync.server.listener import ServerThread, bind_sockets
from kbsync.server.metrics import LoopMonitor
from kbsync.state.mirrors import Halt
from tests.clocks import Clock

TOKEN = "a-token-of-the-tests"
READY = MirrorReadiness("handbook")
HALT = Halt("credentials", "the service rejected the API key", "kbsync retry --mirror faq")
HALTED = MirrorReadiness("faq", HALT)


class Listened:
    """A listener's application with mirrors by word; counts requests for their state."""

    def __init__(
        self, *standings: MirrorReadiness, token: str = "", read: ReadReadiness | None = None
    ) -> None:
        self.clock = Clock(100.0)
        self.standings: Sequence[MirrorReadiness] = standings
        self.read_count = 0
        self.monitor = LoopMonitor(self.clock)
        self.health = HealthRoutes(self.monitor, read or self._read)
        self.token = Secret(token) if token else None
        self.door = AccessControl(Starlette(routes=self.health.routes()), lambda: self.token)

    async def _read(self) -> Sequence[MirrorReadiness]:
        self.read_count += 1
        return self.standings

    async def get(self, path: str, **headers: str) -> httpx.Response:
        return await request(self.door, "GET", path, **headers)


async def request(app: Any, method: str, path: str, content: bytes = b"", **headers: str) -> httpx.Response:
    """Send one request to an application; it names this machine unless `host` is given."""
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:9753") as client:
        return await client.request(method, path, content=content, headers=headers)


@contextmanager
def serve(app: Any, end: Callable[[], None] = lambda: None) -> Iterator[tuple[ServerThread, int]]:
    """Serve `app` in a thread and yield its port; nothing remains afterwards."""
    [listening] = bind_sockets("127.0.0.1", 0)
    thread = ServerThread(app, [listening], end)
    thread.start()
    try:
        yield thread, listening.getsockname()[1]
    finally:
        thread.stop()
    assert not thread.is_alive


def send_raw(port: int, request: bytes, *, seconds: float = 20.0) -> bytes:
    """Return a listener's response to these bytes, until it closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        connection.sendall(request)
        received = b""
        while piece := connection.recv(65536):
            received += piece
        return received
