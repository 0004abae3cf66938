"""A server with an app that returns what it receives, and a client for it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from kbsync_standin.messages import StandInClock
from kbsync_standin.server import Server
from tests.standin.echo import NOON, Echo


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server(Echo(clock=StandInClock(lambda: NOON)))
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def client(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.url, timeout=30, trust_env=False, verify=False) as client:
        yield client
