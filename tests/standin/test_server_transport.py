"""Tests each fault that the server itself injects, as a client sees it, with and without the work done."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from kbsync_standin.faults import Fault
from kbsync_standin.kinds import TRANSPORT
from kbsync_standin.server import Server
from tests.share import long
from tests.standin.echo import CLOSE, send_raw, upload

READ = b"GET /documents/a.md HTTP/1.1\r\nhost: x\r\n\r\n"


def effects(server: Server) -> int:
    return len(server.app.journal())


async def posted(client: httpx.AsyncClient, name: str = "a.md", text: str = "hello") -> httpx.Response:
    return await client.post("/documents/base", content=f"{name}\n{text}")


async def exchange_dropped(server: Server, request: bytes) -> bytes | None:
    """Return what came back on a connection that the server closed; None after a reset."""
    try:
        return await send_raw(server.port, request)
    except ConnectionResetError:
        return None


async def none_in_flight(server: Server) -> None:
    async with asyncio.timeout(30):
        while server.requests.in_flight:
            await asyncio.sleep(0.001)


def is_cut(came: bytes) -> bool:
    """Return whether half of the promised body arrived."""
    head, _, body = came.lower().partition(b"\r\n\r\n")
    return len(body) == int(head.split(b"content-length: ")[1].split(b"\r\n")[0]) // 2 > 0


# What a client gets from a broken connection; None: a reset.
BROKEN: dict[str, Callable[[bytes], bool] | None] = {
    "close-before": lambda came: came == b"",
    "lost-answer": lambda came: came == b"",
    "cut-headers": lambda came: came.startswith(b"HTTP/1.1 200 OK\r\n") and b"\r\n\r\n" not in came,
    "cut-body": is_cut,
    "reset-connect": None,
    "reset-sending": None,
    "reset-reading": None,
    "late-effect": lambda came: came == b"",
}
NEVER_AN_EFFECT = {"close-before", "reset-connect", "reset-sending", "late-effect"}


@pytest.mark.parametrize("effect", [True, False])
@pytest.mark.parametrize("kind", BROKEN)
async def test_broken_connection_has_the_configured_effect(server: Server, kind: str, effect: bool) -> None:
    server.faults.add(Fault(kind, effect=effect))
    came, fits = await exchange_dropped(server, upload(text="x" * 2000)), BROKEN[kind]
    assert came is None if fits is None else came is not None and (fits(came) or not effect)
    assert effects(server) == (1 if effect and kind not in NEVER_AN_EFFECT else 0)
    assert [entry.fault for entry in server.requests.log] == [kind]
    assert server.requests.in_flight == 0
    assert b"200 OK" in await send_raw(server.port, upload(headers=CLOSE))


# The change to a complete response, in its head (lower case) and its body.
CHANGED: dict[str, Callable[[bytes, bytes], bool]] = {
    "truncated-json": lambda _, body: body.startswith(b'{"code": 200') and b"}" not in body,
    "empty": lambda head, body: b" 200 " in head and body == b"",
    "html": lambda head, body: b"text/html" in head and b"<h1>502 Bad Gateway</h1>" in body,
    "bom": lambda _, body: body.startswith(b'\xef\xbb\xbf{"code"'),
    "wrong-type": lambda head, _: b"content-type: text/plain" in head and b"json" not in head,
    "gzip": lambda head, body: b"-encoding: gzip" in head and b'"code": 200' in gzip.decompress(body),
    "no-date": lambda head, _: b"date:" not in head,
    "connection-close": lambda head, _: b"connection: close" in head,
    "http10": lambda head, _: head.startswith(b"http/1.0 200 ok") and b"content-length" not in head,
    "keepalive-close": lambda _, body: b'"code": 200' in body,
    "very-large-body": lambda _, body: len(body) == 500_000 and json.loads(body)["code"] == 200,
    "slow-reading": lambda _, body: b'"code": 200' in body,
}
SMALL = {"very-large-body": {"bytes": 500_000}, "slow-reading": {"bytes_per_second": 1e6}}


@pytest.mark.parametrize("effect", [True, False])
@pytest.mark.parametrize("kind", CHANGED)
async def test_altered_response_is_valid_http_with_the_configured_effect(
    server: Server, kind: str, effect: bool
) -> None:
    server.faults.add(Fault(kind, effect=effect, args=dict(SMALL.get(kind, {}))))
    head, body = (await send_raw(server.port, upload(headers=CLOSE))).split(b"\r\n\r\n", 1)
    gets_response = effect or kind in ("truncated-json", "empty", "html")
    assert (b" 200 " if gets_response else b" 503 ") in head.partition(b"\r\n")[0]
    assert CHANGED[kind](head.lower(), body) or not effect
    assert effects(server) == effect


async def test_reset_mid_response_follows_a_part_of_it(server: Server) -> None:
    server.faults.add(Fault("reset-reading"))
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(upload())
    assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
    with pytest.raises(ConnectionResetError):
        await reader.read()
        await reader.read()
    writer.close()


@pytest.mark.parametrize("kind", ["close-before", "reset-connect", "reset-sending", "slow-reading"])
async def test_faults_before_the_body_can_target_names_inside_it(
    server: Server, client: httpx.AsyncClient, kind: str
) -> None:
    rate = {"bytes_per_second": 1e9} if kind == "slow-reading" else {}
    server.faults.add(Fault(kind, op="upload", match="b.*", args=rate))
    for name in ("a.md", "c.md"):
        assert (await posted(client, name)).status_code == 200
    if kind == "slow-reading":
        await posted(client, "b.md", "x" * 500_000)
    else:
        with pytest.raises(httpx.TransportError):
            await posted(client, "b.md", "x" * 500_000)
    assert [(entry.subject, entry.fault) for entry in server.requests.log] == [
        ("a.md", ""),
        ("c.md", ""),
        ("b.md", kind),
    ]


@pytest.mark.parametrize("effect", [True, False])
async def test_hang_lasts_until_the_client_disconnects(server: Server, effect: bool) -> None:
    server.faults.add(Fault("hang", effect=effect))
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(upload())
    while not any(entry.fault for entry in server.requests.log) or effects(server) < effect:
        await asyncio.sleep(0.001)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await reader.read(1)
    assert effects(server) == effect
    assert server.requests.in_flight == 1
    assert (server.requests.log[0].fault, server.requests.log[0].status) == ("hang", 0)
    writer.close()
    await writer.wait_closed()
    await none_in_flight(server)


@long
@pytest.mark.parametrize("effect", [True, False])
async def test_drip_sends_byte_by_byte(server: Server, effect: bool) -> None:
    server.faults.add(Fault("drip", effect=effect, args={"every": 0.0001}))
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(upload() + upload(headers=CLOSE))
    pieces = []
    while piece := await reader.read(65536):
        pieces.append(piece)
    writer.close()
    received = b"".join(pieces)
    assert len(pieces) > 10
    assert received.startswith(b"HTTP/1.1 200 OK" if effect else b"HTTP/1.1 503 ")
    assert effects(server) == (2 if effect else 1)


@pytest.mark.parametrize("kind", ["drip", "late-answer"])
async def test_slow_response_ends_when_the_client_disconnects(server: Server, kind: str) -> None:
    server.faults.add(Fault(kind, args={"every" if kind == "drip" else "seconds": 1000}))
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(upload())
    while effects(server) == 0:
        await asyncio.sleep(0.001)
    writer.close()
    await none_in_flight(server)


@pytest.mark.parametrize("effect", [True, False])
async def test_headers_then_silence(server: Server, client: httpx.AsyncClient, effect: bool) -> None:
    server.faults.add(Fault("headers-then-silence", effect=effect))
    async with client.stream("POST", "/documents/base", content=b"a.md\n") as response:
        assert response.status_code == 200
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await response.aread()
    assert effects(server) == effect


async def test_late_response_follows_the_work(server: Server) -> None:
    server.faults.add(Fault("late-answer", args={"seconds": 0.05}))
    asking = asyncio.create_task(send_raw(server.port, upload(headers=CLOSE)))
    while effects(server) == 0:
        await asyncio.sleep(0.001)
    assert not asking.done()
    assert (await asking).startswith(b"HTTP/1.1 200 OK")


async def test_slow_reader_takes_the_time_of_its_rate(server: Server, client: httpx.AsyncClient) -> None:
    server.faults.add(Fault("slow-reading", args={"bytes_per_second": 50_000}))
    loop = asyncio.get_running_loop()
    started_at = loop.time()
    response = await posted(client, text="x" * 5000)
    assert loop.time() - started_at > 0.1
    assert response.status_code == 200
    assert effects(server) == 1


@pytest.mark.parametrize("effect", [True, False])
async def test_late_effect_happens_at_its_clock_time(
    server: Server, client: httpx.AsyncClient, effect: bool
) -> None:
    server.faults.add(Fault("late-effect", effect=effect, args={"after": 20}))
    assert await send_raw(server.port, upload()) == b""
    server.advance(19)
    assert effects(server) == 0
    server.app.clock.advance(1)  # noticed at the next request
    assert (await client.get("/documents/a.md")).status_code == (200 if effect else 404)


@pytest.mark.parametrize("effect", [True, False])
@pytest.mark.parametrize("status", [301, 308, 401, 404, 429, 435, 500, 503])
async def test_status_or_redirect_comes_before_or_after_the_effect(
    server: Server, client: httpx.AsyncClient, status: int, effect: bool
) -> None:
    kind, to = ("redirect", {"to": "http://127.0.0.2:9/x"}) if status < 400 else ("status", {})
    server.faults.add(Fault(kind, effect=effect, args={"status": status, **to}))
    response = await posted(client)
    assert (response.status_code, response.headers.get("location")) == (status, to.get("to"))
    assert response.headers["content-type"].startswith("text/html")
    assert effects(server) == effect
    assert server.requests.log[0].status == status


@pytest.mark.parametrize(
    ("value", "header"),
    [
        (0, "0"),
        (7, "7"),
        (1.5, "1.5"),
        ("date", "Tue, 14 Nov 2023 22:13:50 GMT"),
        ("huge", "1000000000"),
        ("soon", "soon"),
    ],
)
async def test_retry_after_in_all_its_forms(
    server: Server, client: httpx.AsyncClient, value: Any, header: str
) -> None:
    server.faults.add(Fault("status", args={"status": 429, "retry_after": value}))
    assert (await posted(client)).headers["retry-after"] == header


async def test_status_may_have_a_body(server: Server, client: httpx.AsyncClient) -> None:
    server.faults.add(Fault("status", args={"status": 429, "body": {"error": {"code": "1302"}}}))
    server.faults.add(Fault("status", args={"status": 500, "body": "no"}))
    assert (await posted(client)).json() == {"error": {"code": "1302"}}
    response = await posted(client)
    assert (response.text, response.headers["content-type"]) == ("no", "text/plain; charset=utf-8")
    assert "retry-after" not in response.headers


async def test_connection_close_is_announced_and_done(server: Server) -> None:
    server.faults.add(Fault("connection-close"))
    came = await send_raw(server.port, upload() + upload())
    assert came.count(b"HTTP/1.1 200 OK") == 1
    assert b"connection: close\r\n" in came.lower()


@pytest.mark.parametrize("on_next", [True, False])
async def test_idle_connection_is_closed_silently(server: Server, on_next: bool) -> None:
    server.faults.add(Fault("keepalive-close", args={"on_next": on_next}))
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(upload())
    head = await reader.readuntil(b"}")
    assert b"connection: close" not in head.lower()
    assert server.requests.in_flight == 0
    if on_next:
        writer.write(READ)
    with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
        await reader.readexactly(1)
    writer.close()
    assert server.requests.total == 1


def test_every_fault_kind_is_tested_here() -> None:
    elsewhere = {"hang", "drip", "headers-then-silence", "late-answer", "status", "redirect"}
    assert elsewhere | CHANGED.keys() | BROKEN.keys() == TRANSPORT.keys()
