"""Tests certificates and proxies, and that no reason, log line or repr contains a secret."""

from __future__ import annotations

import asyncio
import base64
import logging
import traceback
from collections.abc import Mapping
from pathlib import Path

import pytest

from kbsync.errors import Halted, Rejected, TargetError, Unavailable, UsageError
from kbsync.targets.http import connection
from kbsync.targets.http.client import Client
from kbsync.targets.http.connection import Endpoint
from kbsync.targets.http.errors import EXCERPT, HttpResponse
from kbsync.targets.http.rules import by_status
from tests.targets.http.authorities import Authority, authority
from tests.targets.http.clients import KEY, client, part
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


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("ca"))


async def test_configured_certificate_authority_is_trusted(ours: Authority) -> None:
    async with (
        answering(response_bytes(), context=ours.server) as server,
        client(f"https://127.0.0.1:{server.port}", ca_file=ours.ca_file) as http,
    ):
        assert (await http.post_form("upload", "/", fields={}, file=part())).status == 200
        assert await http.digest_at(f"https://127.0.0.1:{server.port}/f", limit=99)


async def test_unknown_authority_is_reported_with_a_fix_and_not_retried(ours: Authority) -> None:
    async with answering(response_bytes(), context=ours.server) as server:
        async with client(f"https://127.0.0.1:{server.port}") as http:
            with pytest.raises(Unavailable, match=r"has an untrusted certificate: .*set ca_file"):
                await http.post_form("upload", "/", fields={}, file=part())
            with pytest.raises(Unavailable, match="has an untrusted certificate"):
                await http.request("list", "GET", "/")
            assert http.meter.total == 2
        assert server.requests == []


async def test_certificate_for_another_name_is_not_trusted(ours: Authority) -> None:
    async with (
        answering(response_bytes(), context=ours.server) as server,
        client(f"https://localhost:{server.port}", ca_file=ours.ca_file) as http,
    ):
        with pytest.raises(Unavailable, match="a certificate for other names; set base_url to a name"):
            await http.post_form("upload", "/", fields={}, file=part())


async def test_expired_certificate_is_reported_with_a_fix(tmp_path: Path) -> None:
    expired = authority(tmp_path, days=-1)
    async with (
        answering(response_bytes(), context=expired.server) as server,
        client(f"https://127.0.0.1:{server.port}", ca_file=expired.ca_file) as http,
    ):
        with pytest.raises(Unavailable, match="certificate has expired; ask the service's operator to renew"):
            await http.request("list", "GET", "/")


@pytest.mark.parametrize("content", [None, b"no certificate"])
def test_invalid_ca_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    ca_file = tmp_path / "ca.pem"
    if content is not None:
        ca_file.write_bytes(content)
    with pytest.raises(UsageError, match=r"ca\.pem: "):
        make_client(Endpoint("https://kb.example", ca_file=ca_file))


@pytest.mark.parametrize("content", [None, b"no certificate"])
def test_invalid_certificates_from_the_environment_are_named(
    ours: Authority, tmp_path: Path, content: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "from-environment.pem"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    with pytest.raises(UsageError, match=r"SSL_CERT_FILE .*environment\.pem: .*; correct or unset it"):
        make_client(Endpoint("https://kb.example", ca_file=ours.ca_file))


@pytest.mark.parametrize(
    "base_url", ["", "kb.example", "ftp://kb.example", "http://", "http://[::1", "http://kb/?a=1"]
)
def test_invalid_address_is_reported(base_url: str) -> None:
    with pytest.raises(UsageError, match="base_url"):
        make_client(Endpoint(base_url))


@pytest.mark.parametrize(
    "proxy", ["socks5://me:secret@p:1", "socks5://127.0.0.1:1", "http://", "ftp://p", "http://[::1"]
)
def test_unusable_proxy_is_reported_without_its_secrets(proxy: str) -> None:
    with pytest.raises(UsageError, match="proxy cannot be used") as caught:
        make_client(Endpoint("https://kb.example", proxy=proxy))
    assert "secret" not in str(caught.value)
    assert "secret" not in repr(Endpoint("https://kb.example", proxy=proxy))


def make_client(endpoint: Endpoint) -> Client:
    return Client(endpoint, headers=dict, classify_response=by_status)


def proxying(response: bytes, seen_lines: list[str], heads: list[str]) -> Script:
    """Run a proxy that answers plain requests and tunnels connections."""

    async def script(reader: Reader, writer: Writer) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        seen_lines.append(head.split("\r\n")[0])
        heads.append(head)
        if not head.startswith("CONNECT"):
            writer.write(response)
            await writer.drain()
            return
        port = head.split(" ")[1].rpartition(":")[2]
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", int(port))
        writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        try:
            await asyncio.gather(_pass(reader, inner_writer), _pass(inner_reader, writer))
        finally:
            inner_writer.close()

    return script


async def _pass(reader: Reader, writer: Writer) -> None:
    while piece := await reader.read(65536):
        writer.write(piece)
        await writer.drain()
    writer.close()


async def test_http_request_uses_the_configured_proxy() -> None:
    lines: list[str] = []
    heads: list[str] = []
    async with (
        serving(proxying(response_bytes(), lines, heads)) as proxy,
        client("http://kb.invalid/api", proxy=f"http://me:pw@127.0.0.1:{proxy.port}") as http,
    ):
        assert (await http.request("list", "GET", "/document")).status == 200
    assert lines == ["GET http://kb.invalid/api/document HTTP/1.1"]
    assert base64.b64encode(b"me:pw").decode() in heads[0]


async def test_tls_request_is_tunnelled_and_the_proxy_sees_no_key(ours: Authority) -> None:
    lines: list[str] = []
    heads: list[str] = []
    async with answering(response_bytes(), context=ours.server) as server:
        async with serving(proxying(b"", lines, heads)) as proxy:
            settings = {"proxy": f"127.0.0.1:{proxy.port}", "ca_file": ours.ca_file}
            async with client(f"https://kb.example:{server.port}", **settings) as http:
                assert (await http.post_form("upload", "/", fields={}, file=part())).status == 200
        assert len(server.requests) == 1
    assert lines == [f"CONNECT kb.example:{server.port} HTTP/1.1"]
    assert "uthorization" not in heads[0]


async def test_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    async with serving(proxying(response_bytes(), lines, [])) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")
        async with client("http://kb.invalid") as http:
            assert (await http.request("list", "GET", "/")).status == 200
    assert len(lines) == 1


@pytest.mark.parametrize(
    ("address", "no_proxy", "is_so"),
    [
        # This machine is never reached through a proxy, whatever NO_PROXY says.
        *(
            (address, "", True)
            for address in ("http://127.0.0.1:9621", "http://localhost", "http://[::1]:80")
        ),
        ("http://kbsync.localhost", "", True),
        ("http://127.9.9.9", "corp.example", True),
        # Ranges of one address or many.
        ("http://10.1.2.3", "localhost,10.0.0.0/8,192.168.0.0/16", True),
        ("http://192.168.1.5:9380", "localhost,10.0.0.0/8,192.168.0.0/16", True),
        ("http://192.169.1.5", "192.168.0.0/16", False),
        ("http://10.1.2.3", "10.1.2.3", True),
        ("http://10.1.2.30", "10.1.2.3", False),
        ("http://[fd00::5]", "fd00::/8", True),
        ("http://[fd00::5]:81", "[fd00::5]:81", True),
        ("http://[fe80::5]", "fd00::/8", False),
        ("http://10.1.2.3", "10.0.0.0/33", False),
        ("http://kb.example", "10.0.0.0/8", False),
        # Names, with all subdomains.
        ("https://kb.corp.example", "corp.example", True),
        ("https://kb.corp.example", ".corp.example", True),
        ("https://kb.corp.example", "*.corp.example", True),
        ("https://KB.corp.example.", "kb.Corp.example", True),
        ("https://corp.example", ".corp.example", True),
        ("https://kbcorp.example", "corp.example", False),
        ("http://10.1.2.3", "10.1.*", True),
        # A single port.
        ("http://kb.example:8080", "kb.example:8080", True),
        ("http://kb.example:8081", "kb.example:8080", False),
        ("https://kb.example", "kb.example:443", True),
        ("https://kb.example", "other , kb.example", True),
        ("https://kb.example", "*", True),
        ("https://kb.example", "", False),
        ("https://kb.example", " , ", False),
    ],
)
def test_no_proxy_hosts_are_reached_directly(
    monkeypatch: pytest.MonkeyPatch, address: str, no_proxy: str, is_so: bool
) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.corp:3128")
    monkeypatch.setenv("https_proxy", "http://proxy.corp:3128")
    monkeypatch.setenv("no_proxy", no_proxy)
    endpoint = Endpoint(address)
    assert (connection.proxy_host(endpoint, connection.trusted(endpoint)) == "") is is_so


async def test_socks_proxy_of_the_environment_is_reported_only_where_it_would_be_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://me:s3cr3t@127.0.0.1:7890")
    async with answering(response_bytes()) as server, client(server.url) as http:
        assert (await http.request("list", "GET", "/")).status == 200
    async with client("https://kb.example") as http:
        with pytest.raises(Unavailable) as caught:
            await http.post_form("upload", "/", fields={}, file=part())
        assert http.breaker.rest is None
    refusal = (
        "upload: kb.example could not be reached: "
        "ALL_PROXY is set to a SOCKS proxy, which kbsync cannot use; "
    )
    assert caught.value.reason.startswith(refusal)
    assert "add kb.example to NO_PROXY" in caught.value.reason
    assert "s3cr3t" not in caught.value.reason


@pytest.mark.parametrize("address", ["ftp://proxy.example", "http://[::1"])
async def test_address_of_the_environment_that_is_no_proxy_is_reported(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", address)
    async with client("https://kb.example") as http:
        with pytest.raises(Unavailable, match="HTTPS_PROXY is not a proxy's URL; set proxy in the config"):
            await http.request("list", "GET", "/")


@pytest.mark.parametrize(
    "refusal",
    [b"HTTP/1.1 407 Who are you\r\n\r\n", b"HTTP/1.1 502 Bad Gateway\r\n\r\n", b"", b"SSH-2.0-x\r\n\r\n"],
)
async def test_refusing_or_broken_proxy_has_stored_nothing(refusal: bytes) -> None:
    async def script(reader: Reader, writer: Writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(refusal)
        await writer.drain()

    async with (
        serving(script) as proxy,
        client("https://kb.invalid", proxy=f"http://127.0.0.1:{proxy.port}") as http,
    ):
        with pytest.raises(Unavailable) as caught:
            await http.post_form("upload", "/", fields={}, file=part())
    assert f"kb.invalid (through the proxy 127.0.0.1:{proxy.port}) " in caught.value.reason
    if refusal.startswith(b"HTTP"):
        answer = refusal[9:].decode().strip()
        assert f"could not be reached: the proxy answered {answer}" in caught.value.reason


async def test_unreachable_proxy_is_named_without_its_secrets() -> None:
    async with client("https://kb.invalid", proxy="http://me:s3cr3t@127.0.0.1:1") as http:
        with pytest.raises(Unavailable) as caught:
            await http.post_form("upload", "/", fields={}, file=part())
    assert "(through the proxy 127.0.0.1:1)" in caught.value.reason
    assert "s3cr3t" not in caught.value.reason


# ---- secrets


SECRETS = ("secret-key-0123456789", "hidden-query")


def all_texts(error: BaseException) -> str:
    """Return all of an error that a log could show."""
    traceback_text = "".join(traceback.format_exception(error))
    return f"{traceback_text} {error!r} {vars(error)!r} {error.__context__!r} {error.__cause__!r}"


@pytest.mark.parametrize(
    "content",
    [
        response_bytes(400, {"message": f"bad header Authorization: {KEY}"}),
        response_bytes(500, f"<html>{KEY}</html>".encode()),
        response_bytes(302, None, {"Location": "http://elsewhere.example/?a=hidden-query"}),
        response_bytes(200, b"\x1b]0;hidden\x07 no json"),
        b"",
    ],
)
async def test_no_error_or_log_line_contains_a_secret(
    content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def script(reader: Reader, writer: Writer) -> None:
        await read_request(reader)
        if not content:
            reset(writer)
        writer.write(content)
        await writer.drain()

    caplog.set_level(logging.DEBUG)
    async with serving(script) as server, client(server.url) as http:
        for call in (
            http.post_form("upload", "/up?x=hidden-query", fields={}, file=part()),
            http.request("list", "GET", "/list", params={"word": "hidden-query"}),
            http.digest_at(f"{server.url}/f?sign=hidden-query", limit=0),
        ):
            with pytest.raises(TargetError) as caught:
                await call
            text = all_texts(caught.value) + caplog.text + repr(http)
            assert not any(secret in text.replace(__file__, "") for secret in SECRETS), text
            assert caught.value.reason.isprintable()


@pytest.mark.parametrize("key", ["Bearer kept-back\n", "Bearer kept-bäck", "", " kept", "kept\x00"])
async def test_unsendable_key_halts_without_being_shown(key: str) -> None:
    def headers() -> Mapping[str, str]:
        return {"Authorization": key}

    async with answering(response_bytes()) as server, client(server.url, headers=headers) as http:
        with pytest.raises(Halted) as caught:
            await http.post_form("upload", "/", fields={}, file=part())
        assert server.met == 0
    assert caught.value.halt == "credentials"
    assert "kept" not in all_texts(caught.value)


async def test_changed_key_is_used_immediately() -> None:
    keys = iter(["Bearer first-one", "Bearer second-one"])

    def headers() -> Mapping[str, str]:
        return {"Authorization": next(keys)}

    async with answering(response_bytes()) as server, client(server.url, headers=headers) as http:
        await http.request("list", "GET", "/")
        await http.request("list", "GET", "/")
        assert [request.headers["authorization"][7:] for request in server.requests] == [
            "first-one",
            "second-one",
        ]


@pytest.mark.parametrize("name", ["Authorization", "X-Api-Key", "appToken"])
async def test_key_is_redacted_in_output_but_not_in_parsed_data(name: str) -> None:
    """A key may be a word, such as `password`, that also occurs in names and texts of documents."""
    responses: list[HttpResponse] = []

    def headers() -> Mapping[str, str]:
        return {name: KEY, "Accept": "application/json"}

    def classify_response(answered: HttpResponse) -> TargetError | None:
        responses.append(answered)
        return Rejected(f"it says {answered.body['echo']}") if answered.status == 400 else None

    echo = {"echo": [KEY, "application/json"]}
    async with (
        answering(response_bytes(200, echo), response_bytes(400, echo)) as server,
        client(server.url, classify_response=classify_response, headers=headers) as http,
    ):
        assert (await http.request("list", "GET", "/")).body == echo
        with pytest.raises(Rejected) as caught:
            await http.request("list", "GET", "/")
        assert http.redact(f"the key {KEY}") == "the key Bearer ***"
    assert caught.value.reason == str(caught.value) == "it says ['Bearer ***', 'application/json']"
    assert [response.text for response in responses] == ['{"echo": ["Bearer ***", "application/json"]}'] * 2


async def test_no_part_of_a_key_is_shown_in_truncated_text() -> None:
    words = "x" * (EXCERPT - 20) + KEY

    def classify_response(answered: HttpResponse) -> TargetError | None:
        return Rejected(str(answered.body["message"])[:EXCERPT])

    async with (
        answering(response_bytes(400, {"message": words})) as server,
        client(server.url, classify_response=classify_response) as http,
    ):
        with pytest.raises(Rejected) as caught:
            await http.request("list", "GET", "/")
    assert "***" in caught.value.reason
    assert "secret" not in caught.value.reason
