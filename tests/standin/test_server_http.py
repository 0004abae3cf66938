"""The server speaks HTTP/1.1 as clients expect it, and counts what it is asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from kbsync_standin import exchange
from kbsync_standin.server import Server
from tests.standin.echo import CLOSE, Echo, spoken, upload

READ = b"GET /documents/a.md HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"


def echo(server: Server) -> Echo:
    assert isinstance(server.app, Echo)
    return server.app


async def test_a_request_reaches_the_application_decoded(server: Server, client: httpx.AsyncClient) -> None:
    await client.get("/documents/%E6%89%8B%20b.md?a=1&a=2&b=&c=x%26y", headers={"X-Thing": "Yes"})
    request = echo(server).requests[0]
    assert request.number == 1
    assert request.method == "GET"
    assert request.path == "/documents/手 b.md"
    assert request.raw_target == "/documents/%E6%89%8B%20b.md?a=1&a=2&b=&c=x%26y"
    assert request.query == {"a": "2", "b": "", "c": "x&y"}
    assert request.headers["x-thing"] == "Yes"


async def test_every_answer_has_the_date_of_the_stand_ins_clock(
    server: Server, client: httpx.AsyncClient
) -> None:
    assert (await client.get("/documents/x")).headers["date"] == "Tue, 14 Nov 2023 22:13:20 GMT"
    server.advance(3600)
    assert (await client.get("/documents/x")).headers["date"] == "Tue, 14 Nov 2023 23:13:20 GMT"


async def test_a_client_that_goes_in_mid_body_has_no_effect(server: Server) -> None:
    assert await spoken(server.port, upload()[:-2], half_close=True) == b""
    assert echo(server).effects == []
    assert server.requests.in_flight == 0
    assert server.requests.log[0].status == 0


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_above_the_limit_is_refused(
    server: Server, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, chunked: bool
) -> None:
    monkeypatch.setattr(exchange, "MAX_BODY_BYTES", 1000)

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"x" * 100_000

    content = pieces() if chunked else b"x" * 4_000_000
    answer = await client.post("/documents/base", content=content)
    assert answer.status_code == 413
    assert server.requests.log[0].status == 413
    assert echo(server).requests == []
    assert (await client.post("/documents/base", content=b"a.md\n")).status_code == 200


async def test_an_unknown_route_is_the_applications_to_answer(
    server: Server, client: httpx.AsyncClient
) -> None:
    assert (await client.get("/nowhere")).json() == {"code": 404}
    assert server.requests.by_op == {"": 1}
    assert server.requests.log[0].path == "/nowhere"


async def test_a_breakdown_of_the_application_is_loud(
    server: Server, client: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = await client.get("/boom")
    assert answer.status_code == 500
    assert "RuntimeError: boom" in capsys.readouterr().err
    assert server.app.violations == ["the stand-in itself broke down: RuntimeError('boom')"]
    assert (await client.get("/documents/x")).status_code == 404


async def test_the_log_is_bounded(server: Server) -> None:
    for _ in range(3):
        await spoken(server.port, b"GET /x HTTP/1.1\r\nhost: x\r\n\r\n" * 400, half_close=True)
    assert server.requests.total == 1200
    assert len(server.requests.log) == 1000
    assert server.requests.log[-1].n == 1200


async def test_two_connections_are_served_at_once(server: Server) -> None:
    """The first sends half of its request; the second is answered meanwhile."""
    whole = upload("slow.md", headers=CLOSE)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(whole[:-3])
    while server.requests.in_flight == 0:
        await asyncio.sleep(0.001)
    assert (await spoken(server.port, upload("quick.md", headers=CLOSE))).startswith(b"HTTP/1.1 200")
    assert list(echo(server).documents) == ["quick.md"]
    assert server.requests.in_flight_max == 2
    writer.write(whole[-3:])
    await reader.read()
    writer.close()
    await writer.wait_closed()
    assert list(echo(server).documents) == ["quick.md", "slow.md"]
    assert (server.requests.in_flight, server.requests.in_flight_max) == (0, 2)


async def test_latency_is_added_to_each_answer() -> None:
    server = Server(Echo(), latency=0.05)
    await server.start()
    loop = asyncio.get_running_loop()
    begun = loop.time()
    await asyncio.gather(*(spoken(server.port, upload(headers=CLOSE)) for _ in range(4)))
    took = loop.time() - begun
    await server.stop()
    assert took >= 0.05
    assert server.requests.in_flight_max == 4


async def test_stopping_breaks_off_connections_and_refuses_new_ones(server: Server) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(upload()[:-1])
    while server.requests.in_flight == 0:
        await asyncio.sleep(0.001)
    await server.stop()
    assert await reader.read() == b""
    writer.close()
    with pytest.raises(ConnectionRefusedError):
        await spoken(server.port, upload())
    assert server.requests.in_flight == 0
    await server.stop()
