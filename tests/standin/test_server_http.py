"""Tests that the server speaks HTTP/1.1 as clients expect, and counts requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from kbsync_standin import exchange
from kbsync_standin.server import Server
from tests.share import long
from tests.standin.echo import CLOSE, Echo, send_raw, upload


def echo(server: Server) -> Echo:
    assert isinstance(server.app, Echo)
    return server.app


async def test_client_that_disconnects_mid_body_has_no_effect(server: Server) -> None:
    assert await send_raw(server.port, upload()[:-2], half_close=True) == b""
    assert echo(server).journal() == []
    assert server.requests.in_flight == 0
    assert server.requests.log[0].status == 0


@pytest.mark.parametrize("chunked", [False, True])
async def test_body_above_the_limit_is_refused(
    server: Server, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, chunked: bool
) -> None:
    monkeypatch.setattr(exchange, "MAX_BODY_BYTES", 1000)

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"x" * 100_000

    content = pieces() if chunked else b"x" * 4_000_000
    response = await client.post("/documents/base", content=content)
    assert response.status_code == 413
    assert server.requests.log[0].status == 413
    assert echo(server).requests == []
    assert (await client.post("/documents/base", content=b"a.md\n")).status_code == 200


async def test_application_crash_fails_loudly(
    server: Server, client: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    response = await client.get("/boom")
    assert response.status_code == 500
    assert "RuntimeError: boom" in capsys.readouterr().err
    assert server.app.violations == ["the stand-in itself failed: RuntimeError('boom')"]
    assert (await client.get("/documents/x")).status_code == 404


@long
async def test_log_is_bounded(server: Server) -> None:
    for _ in range(3):
        await send_raw(server.port, b"GET /x HTTP/1.1\r\nhost: x\r\n\r\n" * 400, half_close=True)
    assert server.requests.total == 1200
    assert len(server.requests.log) == 1000
    assert server.requests.log[-1].n == 1200


async def test_latency_is_added_to_each_response() -> None:
    server = Server(Echo(), latency=0.05)
    await server.start()
    loop = asyncio.get_running_loop()
    started_at = loop.time()
    await asyncio.gather(*(send_raw(server.port, upload(headers=CLOSE)) for _ in range(4)))
    took = loop.time() - started_at
    await server.stop()
    assert took >= 0.05
    assert server.requests.in_flight_max == 4
