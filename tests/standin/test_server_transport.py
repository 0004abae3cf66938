"""Each fault that the server plays itself, as a client sees it, with and without the work done."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any

import httpx
import pytest

from kbsync_standin.faults import Fault
from kbsync_standin.kinds import TRANSPORT
from kbsync_standin.server import Server
from tests.standin.echo import CLOSE, Echo, spoken, upload

READ = b"GET /documents/a.md HTTP/1.1\r\nhost: x\r\n\r\n"


def effects(server: Server) -> int:
    return len(server.app.journal())


async def posted(client: httpx.AsyncClient, name: str = "a.md", text: str = "hello") -> httpx.Response:
    return await client.post("/documents/base", content=f"{name}\n{text}")


async def dropped(server: Server, sent: bytes) -> bytes | None:
    """What came back on a connection that the server closed; None where it was reset."""
    try:
        return await spoken(server.port, sent)
    except ConnectionResetError:
        return None


# What a client gets where the connection is broken off: the beginning and the end of the bytes.
BROKEN: dict[str, tuple[bytes, bytes] | None] = {
    "close-before": (b"", b""),
    "lost-answer": (b"", b""),
    "cut-headers": (b"HTTP/1.1 200 OK\r\n", b""),
    "cut-body": (b"HTTP/1.1 200 OK\r\n", b""),
    "reset-connect": None,
    "reset-sending": None,
    "reset-reading": None,
    "late-effect": (b"", b""),
}
NEVER_AN_EFFECT = {"close-before", "reset-connect", "reset-sending", "late-effect"}


@pytest.mark.parametrize("effect", [True, False])
@pytest.mark.parametrize("kind", BROKEN)
async def test_a_broken_connection_leaves_the_effect_asked_for(
    server: Server, kind: str, effect: bool
) -> None:
    server.faults.add(Fault(kind, effect=effect))
    came = await dropped(server, upload(text="x" * 2000))
    expected = BROKEN[kind]
    assert (came is None) == (expected is None)
    if came is not None and expected is not None:
        assert came.startswith(expected[0])
        assert bool(came) == bool(expected[0])
    assert effects(server) == (1 if effect and kind not in NEVER_AN_EFFECT else 0)
    assert [one.fault for one in server.requests.log] == [kind]
    assert server.requests.in_flight == 0
    assert b"200 OK" in await spoken(server.port, upload(headers=CLOSE))


@pytest.mark.parametrize("kind", BROKEN)
async def test_httpx_sees_a_broken_connection_as_a_transport_error(
    server: Server, client: httpx.AsyncClient, kind: str
) -> None:
    server.faults.add(Fault(kind))
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)):
        await posted(client)
    assert (await posted(client)).status_code == 200


async def test_cut_headers_lack_their_end(server: Server) -> None:
    server.faults.add(Fault("cut-headers"))
    came = await spoken(server.port, upload())
    assert b"\r\n\r\n" not in came


async def test_a_cut_body_is_half_of_what_was_promised(server: Server) -> None:
    server.faults.add(Fault("cut-body"))
    head, body = (await spoken(server.port, upload())).split(b"\r\n\r\n")
    promised = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    assert len(body) == promised // 2 > 0


@pytest.mark.parametrize("kind", ["cut-body", "headers-then-silence"])
async def test_an_answer_without_a_body_is_cut_too(
    server: Server, client: httpx.AsyncClient, kind: str
) -> None:
    assert isinstance(server.app, Echo)
    server.app.documents["empty"] = b""
    server.faults.add(Fault(kind, args={} if kind == "cut-body" else {"seconds": 0.01}))
    with pytest.raises(httpx.RemoteProtocolError):
        await client.get("/documents/empty")


async def test_a_reset_in_mid_answer_comes_after_a_part_of_it(server: Server) -> None:
    server.faults.add(Fault("reset-reading"))
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(upload())
    assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
    with pytest.raises(ConnectionResetError):
        await reader.read()
        await reader.read()
    writer.close()


async def test_a_reset_while_sending_comes_after_half_of_the_body(server: Server) -> None:
    """The other half is never sent, so half is what the server waits for."""
    server.faults.add(Fault("reset-sending"))
    whole = upload(text="x" * 10_000)
    assert await dropped(server, whole[:-4000]) is None


async def test_a_large_upload_is_reset_in_the_middle(server: Server, client: httpx.AsyncClient) -> None:
    server.faults.add(Fault("reset-sending"))
    with pytest.raises((httpx.ReadError, httpx.WriteError)):
        await posted(client, text="x" * 30_000_000)
    assert effects(server) == 0


async def test_a_large_upload_meets_a_closed_connection_and_no_reset(
    server: Server, client: httpx.AsyncClient
) -> None:
    server.faults.add(Fault("close-before"))
    with pytest.raises(httpx.RemoteProtocolError):
        await posted(client, text="x" * 30_000_000)
    assert effects(server) == 0


@pytest.mark.parametrize("kind", ["close-before", "reset-connect", "reset-sending", "slow-reading"])
async def test_faults_before_the_body_know_the_name_that_stands_in_it(
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
    assert [(one.subject, one.fault) for one in server.requests.log] == [
        ("a.md", ""),
        ("c.md", ""),
        ("b.md", kind),
    ]


async def test_a_fault_of_another_kind_is_counted_once_beside_an_early_one(
    server: Server, client: httpx.AsyncClient
) -> None:
    server.faults.add(Fault("empty", skip=1))
    server.faults.add(Fault("close-before", match="never"))
    assert [(await posted(client)).content == b"" for _ in range(3)] == [False, True, False]
    assert effects(server) == 3


async def test_the_nth_call_for_one_name_is_hit(server: Server, client: httpx.AsyncClient) -> None:
    server.faults.add(Fault("status", match="a.md", skip=1, times=2))
    statuses = [(await posted(client, name)).status_code for name in ("a.md", "b.md", "a.md", "a.md", "a.md")]
    assert statuses == [200, 200, 500, 500, 200]


@pytest.mark.parametrize("effect", [True, False])
async def test_hang_never_answers_until_the_client_goes(server: Server, effect: bool) -> None:
    server.faults.add(Fault("hang", effect=effect))
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(upload())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await reader.read(1)
    assert effects(server) == effect
    assert server.requests.in_flight == 1
    assert (server.requests.log[0].fault, server.requests.log[0].status) == ("hang", 0)
    writer.close()
    await writer.wait_closed()
    async with asyncio.timeout(30):
        while server.requests.in_flight:
            await asyncio.sleep(0.001)


async def test_hang_ends_after_its_seconds_without_an_answer(server: Server) -> None:
    server.faults.add(Fault("hang", args={"seconds": 0.02}))
    assert await spoken(server.port, upload()) == b""


async def test_stopping_ends_a_hang(server: Server) -> None:
    server.faults.add(Fault("hang"))
    hanging = asyncio.create_task(dropped(server, upload()))
    while server.requests.in_flight == 0:
        await asyncio.sleep(0.001)
    await server.stop()
    assert not await hanging


@pytest.mark.parametrize("effect", [True, False])
async def test_drip_comes_byte_by_byte(server: Server, effect: bool) -> None:
    server.faults.add(Fault("drip", effect=effect, args={"every": 0.0001}))
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(upload() + upload(headers=CLOSE))
    pieces = []
    while piece := await reader.read(65536):
        pieces.append(piece)
    writer.close()
    whole = b"".join(pieces)
    assert len(pieces) > 10
    assert whole.startswith(b"HTTP/1.1 200 OK" if effect else b"HTTP/1.1 503 ")
    assert effects(server) == (2 if effect else 1)


async def test_a_request_sent_during_a_drip_is_answered_after_it(server: Server) -> None:
    server.faults.add(Fault("drip", args={"every": 0.0001}))
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(upload())
    first = await reader.readexactly(1)
    writer.write(upload("b.md", headers=CLOSE))
    async with asyncio.timeout(30):
        whole = first + await reader.read()
    writer.close()
    assert whole.count(b"HTTP/1.1 200 OK") == 2
    assert [one.subject for one in server.requests.log] == ["a.md", "b.md"]


@pytest.mark.parametrize("kind", ["drip", "late-answer"])
async def test_a_slow_answer_ends_when_the_client_goes(server: Server, kind: str) -> None:
    server.faults.add(Fault(kind, args={"every" if kind == "drip" else "seconds": 1000}))
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(upload())
    while effects(server) == 0:
        await asyncio.sleep(0.001)
    writer.close()
    async with asyncio.timeout(30):
        while server.requests.in_flight:
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("effect", [True, False])
async def test_headers_then_silence(server: Server, client: httpx.AsyncClient, effect: bool) -> None:
    server.faults.add(Fault("headers-then-silence", effect=effect))
    with pytest.raises(httpx.ReadTimeout):
        impatient = httpx.Timeout(5, read=0.1)
        async with client.stream("POST", "/documents/base", content=b"a.md\n", timeout=impatient) as answer:
            assert answer.status_code == 200
            await answer.aread()
    assert effects(server) == effect


async def test_a_late_answer_comes_after_the_work(server: Server) -> None:
    server.faults.add(Fault("late-answer", args={"seconds": 0.05}))
    asking = asyncio.create_task(spoken(server.port, upload(headers=CLOSE)))
    while effects(server) == 0:
        await asyncio.sleep(0.001)
    assert not asking.done()
    assert (await asking).startswith(b"HTTP/1.1 200 OK")


async def test_a_slow_reader_takes_the_time_its_rate_demands(
    server: Server, client: httpx.AsyncClient
) -> None:
    server.faults.add(Fault("slow-reading", args={"bytes_per_second": 50_000}))
    loop = asyncio.get_running_loop()
    begun = loop.time()
    answer = await posted(client, text="x" * 5000)
    assert loop.time() - begun > 0.1
    assert answer.status_code == 200
    assert effects(server) == 1


async def test_late_effect_is_done_when_the_clock_says_so(server: Server) -> None:
    server.faults.add(Fault("late-effect", args={"after": 20}))
    assert await spoken(server.port, upload()) == b""
    server.advance(19)
    assert effects(server) == 0
    server.advance(1)
    assert effects(server) == 1


async def test_late_effect_is_noticed_at_the_next_request(server: Server, client: httpx.AsyncClient) -> None:
    server.faults.add(Fault("late-effect", args={"after": 20}))
    assert await spoken(server.port, upload()) == b""
    assert (await client.get("/documents/a.md")).status_code == 404
    server.app.clock.advance(20)
    assert (await client.get("/documents/a.md")).text == "a.md\nhello"


async def test_late_effect_is_done_in_real_time_too() -> None:
    server = Server(Echo())
    await server.start()
    server.faults.add(Fault("late-effect", args={"after": 0.03, "hang": True}))
    hanging = asyncio.create_task(dropped(server, upload()))
    async with asyncio.timeout(30):
        while effects(server) == 0:
            await asyncio.sleep(0.005)
    assert not hanging.done()
    await server.stop()
    assert not await hanging


async def test_late_effect_without_effect_is_never_done(server: Server) -> None:
    server.faults.add(Fault("late-effect", effect=False))
    await spoken(server.port, upload())
    server.advance(1e6)
    assert effects(server) == 0


@pytest.mark.parametrize("effect", [True, False])
@pytest.mark.parametrize("status", [401, 403, 404, 405, 408, 413, 429, 434, 435, 500, 501, 502, 503, 504])
async def test_a_status_comes_before_or_after_the_effect(
    server: Server, client: httpx.AsyncClient, status: int, effect: bool
) -> None:
    server.faults.add(Fault("status", effect=effect, args={"status": status}))
    answer = await posted(client)
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("text/html")
    assert effects(server) == effect
    assert server.requests.log[0].status == status


@pytest.mark.parametrize(
    ("given", "sent"),
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
    server: Server, client: httpx.AsyncClient, given: Any, sent: str
) -> None:
    server.faults.add(Fault("status", args={"status": 429, "retry_after": given}))
    assert (await posted(client)).headers["retry-after"] == sent


async def test_a_status_may_have_a_body(server: Server, client: httpx.AsyncClient) -> None:
    server.faults.add(Fault("status", args={"status": 429, "body": {"error": {"code": "1302"}}}))
    server.faults.add(Fault("status", args={"status": 500, "body": "no"}))
    assert (await posted(client)).json() == {"error": {"code": "1302"}}
    answer = await posted(client)
    assert (answer.text, answer.headers["content-type"]) == ("no", "text/plain; charset=utf-8")
    assert "retry-after" not in answer.headers


async def test_a_status_without_body_keeps_the_connection(server: Server) -> None:
    server.faults.add(Fault("status", args={"status": 204}))
    came = await spoken(server.port, upload() + upload(headers=CLOSE))
    assert came.startswith(b"HTTP/1.1 204 No Content\r\n")
    assert came.count(b"HTTP/1.1 ") == 2


@pytest.mark.parametrize("effect", [True, False])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect(server: Server, client: httpx.AsyncClient, status: int, effect: bool) -> None:
    elsewhere = "http://127.0.0.2:9/elsewhere"
    server.faults.add(Fault("redirect", effect=effect, args={"to": elsewhere, "status": status}))
    answer = await posted(client)
    assert (answer.status_code, answer.headers["location"]) == (status, elsewhere)
    assert effects(server) == effect


CHANGED = ["truncated-json", "empty", "html", "bom", "wrong-type", "gzip", "no-date", "connection-close"]


@pytest.mark.parametrize("effect", [True, False])
@pytest.mark.parametrize("kind", [*CHANGED, "http10", "keepalive-close", "very-large-body", "slow-reading"])
async def test_a_changed_answer_is_whole_http_and_leaves_the_effect_asked_for(
    server: Server, client: httpx.AsyncClient, kind: str, effect: bool
) -> None:
    small = {"very-large-body": {"bytes": 500_000}, "slow-reading": {"bytes_per_second": 1e6}}
    server.faults.add(Fault(kind, effect=effect, args=small.get(kind, {})))
    answer = await posted(client)
    whole = effect or kind in ("truncated-json", "empty", "html")
    assert answer.status_code == (200 if whole else 503)
    assert effects(server) == effect
    assert (await posted(client)).json()["code"] == 200


async def test_truncated_json_ends_in_the_middle(server: Server, client: httpx.AsyncClient) -> None:
    server.faults.add(Fault("truncated-json"))
    answer = await posted(client)
    assert answer.text.startswith('{"code": 200')
    with pytest.raises(json.JSONDecodeError):
        answer.json()


async def test_empty_is_200_with_nothing(server: Server, client: httpx.AsyncClient) -> None:
    server.faults.add(Fault("empty", op="read"))
    answer = await client.get("/documents/unknown")
    assert (answer.status_code, answer.content) == (200, b"")


async def test_an_html_page_says_200(server: Server, client: httpx.AsyncClient) -> None:
    server.faults.add(Fault("html"))
    answer = await posted(client)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "<h1>502 Bad Gateway</h1>" in answer.text


async def test_a_byte_order_mark_comes_first(server: Server, client: httpx.AsyncClient) -> None:
    server.faults.add(Fault("bom"))
    assert (await posted(client)).content.startswith(b'\xef\xbb\xbf{"code"')


async def test_a_wrong_type_replaces_the_right_one(server: Server, client: httpx.AsyncClient) -> None:
    server.faults.add(Fault("wrong-type"))
    answer = await posted(client)
    assert answer.headers.get_list("content-type") == ["text/plain"]
    assert answer.json()["code"] == 200


async def test_gzip_comes_unasked(server: Server) -> None:
    server.faults.add(Fault("gzip"))
    head, body = (await spoken(server.port, upload(headers=CLOSE))).split(b"\r\n\r\n", 1)
    assert b"content-encoding: gzip" in head
    assert json.loads(gzip.decompress(body))["code"] == 200


async def test_no_date(server: Server, client: httpx.AsyncClient) -> None:
    server.faults.add(Fault("no-date"))
    assert "date" not in (await posted(client)).headers
    assert "date" in (await posted(client)).headers


async def test_a_very_large_body_is_the_answer_and_blanks(server: Server, client: httpx.AsyncClient) -> None:
    server.faults.add(Fault("very-large-body", args={"bytes": 3_000_001}))
    answer = await posted(client)
    assert len(answer.content) == 3_000_001
    assert answer.json()["code"] == 200


async def test_a_client_may_leave_a_very_large_body(server: Server, client: httpx.AsyncClient) -> None:
    server.faults.add(Fault("very-large-body", args={"bytes": 8 << 30}))
    async with client.stream("POST", "/documents/base", content=b"a.md\n") as answer:
        async for _ in answer.aiter_bytes():
            break
    async with asyncio.timeout(30):
        while server.requests.in_flight:
            await asyncio.sleep(0.001)


async def test_an_http10_answer_ends_with_the_connection(server: Server) -> None:
    server.faults.add(Fault("http10"))
    head, body = (await spoken(server.port, upload())).split(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200 OK\r\n")
    assert b"content-length" not in head
    assert json.loads(body)["code"] == 200


async def test_connection_close_is_said_and_done(server: Server) -> None:
    server.faults.add(Fault("connection-close"))
    came = await spoken(server.port, upload() + upload())
    assert came.count(b"HTTP/1.1 200 OK") == 1
    assert b"connection: close\r\n" in came.lower()


@pytest.mark.parametrize("on_next", [True, False])
async def test_an_idle_connection_is_closed_without_a_word(server: Server, on_next: bool) -> None:
    server.faults.add(Fault("keepalive-close", args={"on_next": on_next}))
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(upload())
    answer = await reader.readuntil(b"}")
    assert b"connection: close" not in answer.lower()
    assert server.requests.in_flight == 0
    if on_next:
        writer.write(READ)
    with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
        await reader.readexactly(1)
    writer.close()
    assert server.requests.total == 1


async def test_a_closed_idle_connection_does_not_trouble_httpx(
    server: Server, client: httpx.AsyncClient
) -> None:
    server.faults.add(Fault("keepalive-close", times=3))
    for _ in range(4):
        assert (await posted(client)).status_code == 200
    assert effects(server) == 4


async def test_a_connection_closed_on_the_next_request_troubles_httpx(
    server: Server, client: httpx.AsyncClient
) -> None:
    server.faults.add(Fault("keepalive-close", args={"on_next": True}))
    await posted(client)
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        await posted(client)
    assert effects(server) == 1


@pytest.mark.parametrize("effect", [True, False])
async def test_a_fault_of_the_applications_own_is_handed_to_it(
    server: Server, client: httpx.AsyncClient, effect: bool
) -> None:
    server.faults.add(Fault("shout", effect=effect))
    assert b'"CODE": 200' in (await posted(client)).content
    assert server.requests.log[0].fault == "shout"


def test_every_kind_is_tested_here() -> None:
    elsewhere = {"hang", "drip", "headers-then-silence", "late-answer", "status", "redirect"}
    changed = {*CHANGED, "http10", "keepalive-close", "very-large-body", "slow-reading"}
    assert elsewhere | changed | BROKEN.keys() == TRANSPORT.keys()
