"""Tests the meaning of each transport fault: not stored, perhaps stored, or tried again."""

from __future__ import annotations

import asyncio
import gzip
import socket
from contextlib import aclosing
from typing import Any

import httpx
import pytest

from kbsync.errors import Rejected, TargetError, Unavailable, Unsure
from kbsync.targets.http import client as client_module
from kbsync.targets.http.bodies import FilePart
from kbsync.targets.http.connection import Timeouts
from tests.ports import free_port
from tests.share import long
from tests.targets.bodies import BytesBody
from tests.targets.http.clients import PATIENT, Vanished, client, part
from tests.targets.http.servers import (
    Reader,
    Script,
    Writer,
    answering,
    read_request,
    reset,
    response_bytes,
    serving,
)

HALF_BODY = b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"code": 2'


def ending_with(content: bytes) -> Script:
    async def script(reader: Reader, writer: Writer) -> None:
        await read_request(reader)
        writer.write(content)
        await writer.drain()

    return script


async def reset_after_the_request(reader: Reader, writer: Writer) -> None:
    await read_request(reader)
    reset(writer)


async def silence(reader: Reader, _writer: Writer) -> None:
    await read_request(reader)
    await asyncio.sleep(60)


async def drip(reader: Reader, writer: Writer) -> None:
    await read_request(reader)
    for byte in response_bytes(200, b" " * 1000):
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.03)


async def deaf(_reader: Reader, _writer: Writer) -> None:
    await asyncio.sleep(60)


# One of each class; tests/remote tests every kind of fault in every call.
LOST: dict[str, Script] = {
    "reset after the request": reset_after_the_request,
    "closed within the body": ending_with(HALF_BODY),
    "compressed": ending_with(
        response_bytes(200, gzip.compress(b'{"code": 200}'), {"Content-Encoding": "gzip"})
    ),
    "silence": silence,
    "one byte at a time": drip,
}
SILENT = Timeouts(read=0.15, write=0.2)
SAYS = {
    "silence": "did not answer within 0.15 s",
    "one byte at a time": "did not finish within 0.3 s",
    "reset after the request": "did not send a complete response: the connection was closed or reset",
    "compressed": (
        "the response could not be read: the body is compressed with 'gzip', which kbsync did not request"
        "; turn off compression in the proxy or gateway"
    ),
}
TIMES = {"silence": SILENT, "one byte at a time": Timeouts(whole=0.3)}


@pytest.mark.parametrize("fault", LOST)
async def test_upload_with_a_lost_answer_is_unsure_with_a_reason(fault: str) -> None:
    body = BytesBody(b"some text")
    times = TIMES.get(fault, PATIENT)
    async with serving(LOST[fault]) as server, client(server.url, timeouts=times) as http:
        with pytest.raises(Unsure) as caught:
            await http.post_form("upload", "/up", fields={"a": "1"}, file=part(body))
        assert server.met == 1
    assert caught.value.reason.startswith(f"upload: 127.0.0.1:{server.port} ")
    assert caught.value.reason.endswith(SAYS.get(fault, ""))
    assert http.meter.requests == {("upload", "unsure"): 1}
    assert body.is_let_go
    assert http.gate.in_flight == 0


@pytest.mark.parametrize("fault", ["reset after the request", "closed within the body", "silence"])
async def test_read_request_is_tried_three_times_before_unavailable(fault: str) -> None:
    times = TIMES.get(fault, PATIENT)
    async with serving(LOST[fault]) as server, client(server.url, timeouts=times) as http:
        with pytest.raises(Unavailable):
            await http.request("list", "GET", "/document")
        assert server.met == 3
    assert http.meter.requests == {("list", "unavailable"): 3}


async def test_read_request_that_took_all_its_time_is_not_tried_again_at_once() -> None:
    """Otherwise a service that answers too slowly would hold a search three times as long."""
    fault = "one byte at a time"
    async with serving(LOST[fault]) as server, client(server.url, timeouts=TIMES[fault]) as http:
        with pytest.raises(Unavailable, match="did not finish within"):
            await http.request("list", "GET", "/document")
        assert server.met == 1


async def drip_a_body(reader: Reader, writer: Writer) -> None:
    await read_request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for byte in b'{"error": "overloaded' + b" " * 1000:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.03)


async def drip_events(reader: Reader, writer: Writer) -> None:
    await read_request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    for byte in b"data: slowly\n\n":
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.03)


async def read_stream(script: Script) -> bytes:
    times = TIMES["one byte at a time"]
    async with serving(script) as server, client(server.url, timeouts=times) as http, asyncio.timeout(5):
        stream = http.stream("ask", "/ask", json={})
        async with aclosing(stream) as pieces:
            return b"".join([piece async for piece in pieces if isinstance(piece, bytes)])


@pytest.mark.parametrize("script", [drip, drip_a_body])
async def test_response_in_place_of_a_stream_has_limited_time(script: Script) -> None:
    with pytest.raises(Unsure, match=r"did not finish within 0\.3 s"):
        await read_stream(script)


async def test_stream_of_events_may_take_longer() -> None:
    assert await read_stream(drip_events) == b"data: slowly\n\n"


async def test_read_request_that_finally_succeeds_is_a_success() -> None:
    tries = 0

    async def script(reader: Reader, writer: Writer) -> None:
        nonlocal tries
        tries += 1
        await read_request(reader)
        if tries == 3:
            writer.write(response_bytes(200, {"code": 200}))
            await writer.drain()

    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    async with serving(script) as server, client(server.url, sleep=sleep) as http:
        assert (await http.request("list", "GET", "/document")).body == {"code": 200}
    assert waits == pytest.approx([0.4, 0.8])
    assert http.meter.requests == {("list", "unavailable"): 2, ("list", "ok"): 1}


async def test_upload_that_reached_nobody_is_not_stored() -> None:
    async with client(f"http://127.0.0.1:{free_port()}") as http:
        with pytest.raises(Unavailable, match="refused the connection"):
            await http.post_form("upload", "/up", fields={}, file=part())
    assert http.meter.requests == {("upload", "unavailable"): 1}
    assert http.meter.sent_bytes == 0


async def test_unresolvable_name_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_args: object, **_more: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    async with client("http://kb.invalid") as http:
        with pytest.raises(
            Unavailable, match=r"kb.invalid could not be reached: the host name does not resolve"
        ):
            await http.post_form("upload", "/up", fields={}, file=part())


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (httpx.ConnectTimeout("t"), Unavailable),
        (httpx.ConnectError("e"), Unavailable),
        (httpx.PoolTimeout("p"), Unavailable),
        (httpx.ProxyError("407 no"), Unavailable),
        (httpx.ReadTimeout("r"), Unsure),
        (httpx.WriteTimeout("w"), Unsure),
        (httpx.WriteError("w"), Unsure),
        (httpx.RemoteProtocolError("r"), Unsure),
        (httpx.LocalProtocolError("l"), Unsure),
    ],
)
async def test_upload_is_unsure_unless_nothing_was_sent(error: Exception, kind: type[TargetError]) -> None:
    def broken(_request: httpx.Request) -> httpx.Response:
        raise error

    async with client("http://kb.example", transport=httpx.MockTransport(broken)) as http:
        with pytest.raises(kind) as caught:
            await http.post_form("upload", "/up", fields={}, file=part())
    assert type(caught.value) is kind
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@long
async def test_server_that_reads_nothing_is_unsure() -> None:
    body = BytesBody(bytes(20_000_000))
    async with serving(deaf) as server, client(server.url, timeouts=SILENT) as http:
        with pytest.raises(Unsure, match=r"did not accept the request within 0\.2 s"):
            await http.post_form("upload", "/up", fields={}, file=part(body))
        assert 0 < http.meter.sent_bytes < body.size
    assert body.is_let_go


@pytest.mark.parametrize("claimed_size", [0, 5, 9, 11, 50])
async def test_file_that_changed_while_it_was_sent_does_not_arrive_and_is_unsure(claimed_size: int) -> None:
    async with answering(response_bytes()) as server, client(server.url) as http:
        with pytest.raises(Unsure, match="did not receive the whole document: the file is"):
            await http.post_form(
                "upload", "/up", fields={}, file=part(BytesBody(b"ten bytes!", claimed_size=claimed_size))
            )
        while not server.cut_count:
            await asyncio.sleep(0)
        assert server.requests == []
        assert (await http.request("list", "GET", "/")).status == 200


@pytest.mark.parametrize(
    ("file", "error", "words"),
    [
        pytest.param(part(Vanished()), Unavailable, "the file cannot be opened", id="a vanished file"),
        pytest.param(part(filename="a\udcff.txt"), Rejected, "not UTF-8", id="a name that is no text"),
    ],
)
async def test_document_that_cannot_be_sent_makes_no_connection(
    file: FilePart, error: type[TargetError], words: str
) -> None:
    async with answering(response_bytes()) as server, client(server.url) as http:
        with pytest.raises(error, match=words):
            await http.post_form("upload", "/up", fields={}, file=file)
        assert server.met == 0


async def test_early_refusal_is_read_before_the_body_is_sent() -> None:
    async def script(reader: Reader, writer: Writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response_bytes(413, {"message": "too large"}, {"Connection": "close"}))
        await writer.drain()
        await reader.read(-1)

    async with serving(script) as server, client(server.url) as http:
        with pytest.raises(Rejected) as caught:
            await http.post_form("upload", "/up", fields={}, file=part(BytesBody(bytes(300_000))))
    assert caught.value.code == "413"


async def test_oversized_response_is_unsure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "MAX_RESPONSE_BYTES", 1000)
    async with (
        answering(response_bytes(200, b" " * 1001), response_bytes()) as server,
        client(server.url) as http,
    ):
        with pytest.raises(Unsure, match="larger than 1,000 bytes"):
            await http.post("add", "/text", json={})
        assert (await http.post("add", "/text", json={})).status == 200


@pytest.mark.parametrize("status", [500, 502, 503, 504, 408])
async def test_read_request_is_retried_after_a_server_error(status: int) -> None:
    async with answering(response_bytes(status), response_bytes()) as server, client(server.url) as http:
        assert (await http.request("list", "GET", "/")).status == 200
        assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("status", "retry_after"), [(400, None), (401, None), (404, None), (429, None), (503, "9")]
)
async def test_clear_response_and_retry_after_are_not_retried(status: int, retry_after: str | None) -> None:
    headers = {"Retry-After": retry_after} if retry_after else {}
    async with answering(response_bytes(status, None, headers)) as server, client(server.url) as http:
        with pytest.raises(TargetError) as caught:
            await http.request("list", "GET", "/")
        assert (getattr(caught.value, "retry_after", None), len(server.requests)) == (retry_after and 9.0, 1)


async def test_connection_closed_between_requests_costs_nothing() -> None:
    async with answering(response_bytes(), keep=False) as server, client(server.url) as http:
        for count in range(1, 4):
            await http.post_form("upload", "/", fields={}, file=part())
            while server.closed < count:
                await asyncio.sleep(0)
        assert (server.met, len(server.requests)) == (3, 3)


async def test_connection_is_reused_and_responses_are_requested_uncompressed() -> None:
    async with answering(response_bytes()) as server, client(server.url) as http:
        for _ in range(5):
            await http.post_form("upload", "/", fields={}, file=part())
        assert (server.met, len(server.requests)) == (1, 5)
        assert {request.headers["accept-encoding"] for request in server.requests} == {"identity"}


async def test_debug_log_lists_requests_without_private_data(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[dict[str, Any]] = []
    monkeypatch.setattr(
        client_module, "log_debug", lambda event, **fields: events.append({"event": event, **fields})
    )
    async with answering(response_bytes()) as server, client(server.url) as http:
        await http.request("documents", "GET", "/private/path", params={"key": "private"})
    [line] = events
    fields_of_line = line["event"], line["call"], line["status"], line["error"]
    assert fields_of_line == ("request.ended", "documents", 200, "")
    assert line["seconds"] >= 0
    assert "private" not in str(line)
