"""Tests that a redirect never gets the key and repeats nothing; other addresses are read without the key."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from pathlib import Path

import pytest

from kbsync.errors import Rejected, TargetError, Unavailable, Unsure
from kbsync.targets.http.client import Client
from kbsync.targets.http.connection import Timeouts
from tests.share import long
from tests.targets.http.authorities import authority
from tests.targets.http.clients import KEY, client, part
from tests.targets.http.servers import Reader, Writer, answering, read_request, response_bytes, serving


def to(address: str, status: int = 302) -> bytes:
    return response_bytes(status, None, {"Location": address})


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect_to_another_host_is_not_followed_and_the_key_stays_here(status: int) -> None:
    async with (
        answering(response_bytes()) as other,
        answering(to(f"{other.url}/x?sign=abc", status)) as server,
    ):
        async with client(server.url) as http:
            with pytest.raises(Unavailable) as caught:
                await http.request("list", "GET", "/document")
        assert (len(server.requests), other.met) == (1, 0)
    assert f"redirects ({status}) to {other.url}/x; set base_url" in caught.value.reason
    assert "abc" not in caught.value.reason


async def test_redirect_within_the_origin_is_followed_with_the_key() -> None:
    hops = [to("/b"), to("c?x=1"), response_bytes()]
    async with answering(*hops) as server, client(server.url) as http:
        assert (await http.request("list", "GET", "/a")).status == 200
        assert [request.target for request in server.requests] == ["/a", "/b", "/c?x=1"]
        assert {request.headers["authorization"] for request in server.requests} == {KEY}


@pytest.mark.parametrize(
    ("method", "status", "error", "requests"),
    [
        pytest.param("GET", 302, Unavailable, 4, id="a read request follows three"),
        *(
            pytest.param(writing, 307, Unavailable, 1, id=f"{writing} follows none")
            for writing in ("POST", "PUT", "DELETE")
        ),
        pytest.param("form", 308, Unsure, 1, id="an upload follows none, and may have been stored"),
    ],
)
async def test_only_read_requests_are_redirected_and_not_endlessly(
    method: str, status: int, error: type[TargetError], requests: int
) -> None:
    async with answering(to("/a", status)) as server, client(server.url) as http:
        advice = "; set base_url to the final URL; if that redirects, too, fix the gateway"
        with pytest.raises(error, match=rf"redirects \({status}\) to /a{advice}"):
            if method == "form":
                await http.post_form("upload", "/a", fields={}, file=part())
            else:
                await http.request("edit", method, "/a", json=None if method == "GET" else {"a": 1})
        assert len(server.requests) == requests


@pytest.mark.parametrize("address", ["http://[::1", "ftp://kb/", "//", "http://", "\x7f", "http://a:99999/"])
async def test_redirect_without_a_location_is_no_success(address: str) -> None:
    async with answering(to(address)) as server, client(server.url) as http:
        with pytest.raises(Unavailable):
            await http.request("list", "GET", "/a")
        assert {request.target for request in server.requests} == {"/a"}


async def test_cookies_are_neither_stored_nor_sent() -> None:
    sets = response_bytes(200, None, {"Set-Cookie": "session=abc; Path=/"})
    async with answering(sets) as server, client(server.url) as http:
        await http.request("list", "GET", "/")
        await http.request("list", "GET", "/")
        await http.digest_at(f"{server.url}/file", limit=100)
        await http.digest_at(f"{server.url}/file", limit=100)
        assert all("cookie" not in request.headers for request in server.requests)


async def test_kbsync_sends_its_user_agent() -> None:
    async with answering(response_bytes()) as server, client(server.url) as http:
        await http.request("list", "GET", "/", params={"word": "a b&文"})
        assert server.requests[0].headers["user-agent"].startswith("kbsync/")
        assert server.requests[0].target == "/?word=a+b%26%E6%96%87"


# ---- addresses outside the target


CONTENT = bytes(range(256)) * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


async def digest_at(http: Client, url: str, most: int = 1_000_000) -> str:
    return await http.digest_at(url, limit=most)


async def test_download_is_requested_without_our_key() -> None:
    async with answering(response_bytes(200, CONTENT)) as server, client("http://kb.example") as http:
        assert await digest_at(http, f"{server.url}/f.txt?q-sign=1%3B2&x=%E6%96%87") == DIGEST
        (request,) = server.requests
        assert request.target == "/f.txt?q-sign=1%3B2&x=%E6%96%87"
        assert set(request.headers) == {"host", "accept", "accept-encoding", "connection", "user-agent"}
        assert http.gate.in_flight == 0


async def test_downloads_follow_five_redirects() -> None:
    async with answering(response_bytes(200, CONTENT)) as last, client("http://kb.example") as http:
        hops = [response_bytes(302, None, {"Location": "/on"})] * 4 + [
            response_bytes(302, None, {"Location": last.url})
        ]
        async with answering(*hops) as server:
            assert await digest_at(http, server.url) == DIGEST
        async with answering(hops[0]) as server:
            with pytest.raises(Unavailable, match="more than 5 times"):
                await digest_at(http, server.url)
            assert len(server.requests) == 6


async def test_https_is_never_downgraded_to_http(tmp_path: Path) -> None:
    ours = authority(tmp_path)
    async with answering(response_bytes(200, CONTENT)) as plain:
        down = response_bytes(302, None, {"Location": plain.url})
        async with (
            answering(down, context=ours.server) as server,
            client("http://kb.example", ca_file=ours.ca_file) as http,
        ):
            with pytest.raises(Unavailable, match="from https to http"):
                await digest_at(http, f"https://127.0.0.1:{server.port}/")
        assert plain.met == 0


@pytest.mark.parametrize(
    "url", ["", "/x", "file:///etc/passwd", "ftp://a/", "http://", "http://[::1", "data:,a", "http://a:x/"]
)
async def test_only_http_addresses_are_downloaded(url: str) -> None:
    async with client("http://kb.example") as http:
        with pytest.raises(Unavailable, match="does not use http or https"):
            await digest_at(http, url)


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (403, Rejected, "403"),
        (404, Rejected, "404"),
        (410, Rejected, "410"),
        (429, Unavailable, ""),
        (500, Unavailable, ""),
        (204, Unavailable, ""),
        (304, Unavailable, ""),
    ],
)
async def test_address_without_the_bytes_is_reported(status: int, kind: type[TargetError], code: str) -> None:
    async with answering(response_bytes(status, b"<xml>")) as server, client("http://kb.example") as http:
        with pytest.raises(kind) as caught:
            await digest_at(http, f"{server.url}/f?sign=secret")
    assert caught.value.code == code
    assert caught.value.reason == f"read: 127.0.0.1 answered {status}"


@pytest.mark.parametrize("content", [response_bytes(200, CONTENT), b"HTTP/1.0 200 OK\r\n\r\n" + CONTENT])
async def test_download_is_limited_in_size(content: bytes) -> None:
    async with answering(content, keep=False) as server, client("http://kb.example") as http:
        assert await digest_at(http, server.url, len(CONTENT)) == DIGEST
        with pytest.raises(Rejected) as caught:
            await digest_at(http, server.url, len(CONTENT) - 1)
    assert caught.value.code == "too-large"


async def test_compressed_bytes_are_not_those_of_the_file() -> None:
    response = response_bytes(200, gzip.compress(CONTENT), {"Content-Encoding": "gzip"})
    async with answering(response) as server, client("http://kb.example") as http:
        with pytest.raises(Rejected, match="compressed") as caught:
            await digest_at(http, server.url)
    assert caught.value.code == "compressed"


async def test_truncated_download_is_not_treated_as_complete() -> None:
    async with (
        answering(response_bytes(200, CONTENT)[:-1], keep=False) as server,
        client("http://kb") as http,
    ):
        with pytest.raises(Unavailable, match="did not send a complete response"):
            await digest_at(http, server.url)


@long
async def test_slow_download_is_eventually_abandoned() -> None:
    async def script(reader: Reader, writer: Writer) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for byte in bytes(1000):
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.02)

    times = Timeouts(read=5.0, whole=0.3)
    async with (
        serving(script) as server,
        client("http://kb.example", timeouts=times) as http,
    ):
        with pytest.raises(Unavailable, match=r"did not finish within 0\.3 s"):
            await digest_at(http, server.url, 1000)


async def test_cancelled_or_failed_download_releases_its_slot() -> None:
    async with answering(response_bytes(200, CONTENT)) as server, client("http://kb", concurrency=1) as http:
        for _ in range(3):
            with pytest.raises(Rejected):
                await digest_at(http, server.url, 1)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await digest_at(http, server.url)
        assert await digest_at(http, server.url) == DIGEST
