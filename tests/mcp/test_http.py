"""Tests assistants over HTTP, at `kbsync mcp --http` and at a daemon's listener, and who has access."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp import Client
from mcp.server.lowlevel import Server
from starlette.responses import PlainTextResponse

from kbsync.cli.commands.mcp import http
from kbsync.cli.commands.mcp.command import assistant_app
from kbsync.config.model import Config, HttpConfig
from kbsync.config.secrets import Secret
from tests.cli.sandbox import LONGEST, Daemon, Sandbox, eventually
from tests.mcp.assistant import SETTLED, paths, run_tool
from tests.ports import free_address, free_port
from tests.server.client import request
from tests.server.mirror_with_listener import mirror_with_listener
from tests.share import enumerated, long

TOKEN = "a-token-of-24-characters"
PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
ACCEPT = {"accept": "application/json, text/event-stream"}


def send(method: str, url: str, **content: Any) -> httpx.Response:
    return httpx.request(method, url, timeout=LONGEST, trust_env=False, **content)


@contextlib.contextmanager
def serving(sandbox: Sandbox, address: str, *words: str, **env: str) -> Iterator[str]:
    """Yield the URL of a running server."""
    sandbox.write("ice.md", "The walrus lies on the ice.")
    if not sandbox.config.exists():
        sandbox.configure()
    with (sandbox.root / "mcp.log").open("wb") as log:
        process = sandbox.start("mcp", "--http", address, *words, env=env, stderr=log)
    url = f"http://{address.replace('0.0.0.0', '127.0.0.1')}/mcp"

    def answers() -> bool:
        assert process.poll() is None, (sandbox.root / "mcp.log").read_text()
        with contextlib.suppress(httpx.TransportError):
            return send("GET", url).status_code > 0
        return False

    eventually(answers)
    yield url
    process.terminate()
    assert process.wait(LONGEST) == 0
    log = (sandbox.root / "mcp.log").read_text()
    assert "Traceback" not in log and "Error handling" not in log


def begin_daemon(sandbox: Sandbox, address: str, token: str = "") -> tuple[Daemon, str]:
    """Start a daemon, wait for its first pass, and return it with the URL at its listener."""
    sandbox.write("ice.md", "The walrus lies on the ice.")
    mirrors = sandbox.configure().read_text()
    secret = f", token: {token}" if token else ""
    sandbox.config.write_text(f"http: {{listen: '{address}'{secret}}}\n{mirrors}")
    daemon = sandbox.watch(until="document.ready")
    return daemon, f"http://{address.replace('0.0.0.0', '127.0.0.1')}/mcp"


@contextlib.contextmanager
def watching(sandbox: Sandbox, address: str, token: str = "") -> Iterator[str]:
    """Yield the URL at a daemon's listener."""
    daemon, url = begin_daemon(sandbox, address, token)
    yield url
    assert daemon.end() == 0
    log = daemon.log.read_text()
    assert "Traceback" not in log and "Error handling" not in log and (not token or token not in log)


def status_of(url: str, method: str = "POST", **headers: str) -> int:
    """Return the status of a request with these headers."""
    content: dict[str, Any] = {"json": PING} if method == "POST" else {}
    return send(method, url, headers={**ACCEPT, **headers}, **content).status_code


@long
@pytest.mark.parametrize("mode", ["auto", "legacy"], ids=["today's protocol", "one with a handshake"])
async def test_client_searches_over_http(sandbox: Sandbox, mode: Any) -> None:
    steps = list[float]()

    async def notice(progress: float, _total: float | None, _message: str | None) -> None:
        steps.append(progress)

    with serving(sandbox, free_address()) as url:
        async with Client(url, mode=mode, read_timeout_seconds=LONGEST) as client:
            payload = await run_tool(client, "search", query="walrus", wait=SETTLED)
            assert (paths(payload), payload["notes"]) == (["ice.md"], [])
            sandbox.write("shore.md", "The penguin stands on the shore.")
            payload = {"hits": []}
            while not payload["hits"]:
                payload = await run_tool(client, "search", query="penguin")
            assert paths(payload) == ["shore.md"]
            sandbox.write("far.md", "The albatross flies far.")
            await client.call_tool("status", {"wait": 1}, progress_callback=notice)
            assert len((await client.list_resources()).resources) >= 2


@long
@pytest.mark.parametrize("mode", ["auto", "legacy"], ids=["today's protocol", "one with a handshake"])
async def test_daemon_listener_answers_assistants(sandbox: Sandbox, mode: Any) -> None:
    steps = list[float]()

    async def notice(progress: float, _total: float | None, _message: str | None) -> None:
        steps.append(progress)

    with watching(sandbox, free_address()) as url:
        async with Client(url, mode=mode, read_timeout_seconds=LONGEST) as client:
            for number in itertools.count():  # a file indexed before the search begins makes no progress
                sandbox.write(f"{number}.md", f"The albatross flies to quixotry{number}.")
                asking = client.call_tool(
                    "search", {"query": f"quixotry{number}", "wait": SETTLED}, progress_callback=notice
                )
                payload = (await asking).structured_content
                assert payload is not None
                assert (paths(payload)[0], payload["notes"]) == (f"{number}.md", [])
                assert payload["hits"][0]["state"] == "ready"
                if number and steps:
                    break
            assert "albatross" in (await run_tool(client, "get", path="0.md"))["text"]
            assert (await run_tool(client, "status", path="0.md"))["mirrors"][0]["watched"] is True
            assert len((await run_tool(client, "list"))["files"]) == number + 2
            [document, *_] = (await client.list_resources()).resources
            assert (await client.read_resource(document.uri)).contents


@long
async def test_listener_uses_the_current_config_for_assistants(sandbox: Sandbox) -> None:
    daemon, url = begin_daemon(sandbox, free_address())
    async with Client(url, read_timeout_seconds=LONGEST) as client:
        assert paths(await run_tool(client, "search", query="walrus")) == ["ice.md"]
        other = sandbox.add_mirror("other", {"shore.md": "The penguin stands on the shore."})
        daemon.send_signal(signal.SIGHUP)
        arguments = {"query": "penguin", "mirror": "other"}
        async with asyncio.timeout(LONGEST):
            while (await client.call_tool("search", arguments)).is_error:
                await asyncio.sleep(0.05)
        assert paths(await run_tool(client, "search", **arguments, wait=SETTLED)) == ["shore.md"]
        # Indexed files stay searchable while the folder is missing.
        other.rename(sandbox.root / "away")
        async with asyncio.timeout(LONGEST):
            while not any(
                "halted" in note for note in (await run_tool(client, "search", **arguments))["notes"]
            ):
                await asyncio.sleep(0.05)
        assert paths(await run_tool(client, "search", **arguments)) == ["shore.md"]
    assert daemon.end() == 0


@enumerated()
@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, 200),
        ({"host": "localhost:1"}, 200),
        ({"host": "[::1]:1"}, 200),
        ({"host": "rebound.example"}, 403),
        ({"host": "127.0.0.1.example"}, 403),
        ({"host": ""}, 403),
        ({"origin": "http://localhost:6274"}, 200),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "http://127.0.0.1.evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": ""}, 403),
        ({"content-type": "text/plain"}, 400),
    ],
)
def test_cross_site_requests_are_refused(shared_url: str, headers: dict[str, str], code: int) -> None:
    assert status_of(shared_url, **headers) == code


@pytest.fixture(scope="module", params=[serving, watching], ids=["kbsync mcp", "a daemon"])
def shared_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the URL of a server on loopback, without a token."""
    sandbox = Sandbox(tmp_path_factory.mktemp("shared"))
    with request.param(sandbox, free_address()) as url:
        yield url
    sandbox.close()


def test_cross_site_preflight_is_refused(shared_url: str) -> None:
    response = send(
        "OPTIONS",
        shared_url,
        headers={"origin": "https://evil.example", "access-control-request-method": "POST"},
    )
    assert response.status_code == 403
    assert not [name for name in response.headers if name.startswith("access-control")]


def test_too_large_body_and_unknown_paths_are_refused(shared_url: str) -> None:
    body = json.dumps({**PING, "params": {"x": "x" * 300_000}})
    headers = {**ACCEPT, "content-type": "application/json"}
    assert send("POST", shared_url, content=body, headers=headers).status_code == 413
    assert send("GET", f"{shared_url}/x").status_code == 404
    assert status_of(shared_url) == 200


@long
def test_mcp_command_serves_nothing_else(sandbox: Sandbox) -> None:
    with serving(sandbox, free_address()) as url:
        for other in ("", "/metrics", "/api/status", "/assets/page.js"):
            assert send("GET", url.replace("/mcp", other)).status_code == 404


async def test_client_that_never_finishes_its_body_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "BODY_SECONDS", 0.05)
    sent, pieces = list[dict[str, Any]](), [{"type": "http.request", "body": b"{", "more_body": True}]

    async def app(*_request: Any) -> None:
        raise AssertionError("half a request was handed on")

    async def receive() -> dict[str, Any]:
        if not pieces:
            await asyncio.Event().wait()
        return pieces.pop()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/mcp", "headers": [(b"host", b"localhost")]}
    endpoint = http.McpEndpoint.at("127.0.0.1:9754", lambda: Config(()), {})
    answering = http.AssistantApp(Server("kbsync"))
    monkeypatch.setattr(answering, "_manager", app)
    async with asyncio.timeout(5):
        await endpoint.guarded(answering)(scope, receive, send)
    assert sent[0]["status"] == 408


@long
@pytest.mark.parametrize("server", [serving, watching], ids=["kbsync mcp", "a daemon"])
def test_incomplete_requests_log_no_traceback(sandbox: Sandbox, server: Any) -> None:
    lines = ["host: localhost", "content-type: application/json", "content-length: 500"]
    lines += [f"{name}: {value}" for name, value in ACCEPT.items()]
    head = "".join(f"{line}\r\n" for line in ["POST /mcp HTTP/1.1", *lines])
    halves = ["POST /mcp HT", head, f"{head}\r\n", f'{head}\r\n{{"jsonrpc":', "\x16\x03\x01\r\n\r\n"]
    with server(sandbox, free_address()) as url:
        for half in halves:
            with socket.create_connection(
                ("127.0.0.1", int(httpx.URL(url).port or 0)), LONGEST
            ) as connection:
                connection.sendall(half.encode())
        assert status_of(url) == 200


@long
def test_request_with_a_lone_surrogate_is_answered(shared_url: str) -> None:
    call = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get","arguments":{"path":"%s"}}}'
    for half in (b"\\ud800", b"\\udc80", b"\xed\xa0\x80"):
        headers = {**ACCEPT, "content-type": "application/json"}
        response = send("POST", shared_url, content=call % half, headers=headers)
        assert response.status_code == 200
        assert "has no document" in response.text


@long
@pytest.mark.parametrize("version", ["2025-06-18", "2026-07-28"])
@pytest.mark.parametrize(
    ("message", "why"),
    [
        *(({**PING, "id": odd}, "id: Input should be a string or an integer") for odd in (None, 1.5, True)),
        ({**PING, "params": []}, "params: Input should be an object"),
        ([PING], "a message must be one JSON object"),
    ],
)
def test_invalid_request_is_refused_with_the_reason(
    shared_url: str, message: Any, why: str, version: str
) -> None:
    response = send("POST", shared_url, json=message, headers={**ACCEPT, "mcp-protocol-version": version})
    request_id = 1 if why.startswith("params") else None
    error = {"code": -32600, "message": f"Invalid Request: {why}"}
    assert (response.status_code, response.json()) == (
        400,
        {"jsonrpc": "2.0", "id": request_id, "error": error},
    )


@pytest.mark.parametrize("host", ["localhost", "rebound.example"], ids=["let in", "refused"])
def test_connections_are_not_kept_alive(shared_url: str, host: str) -> None:
    body = json.dumps(PING)
    headers = {**ACCEPT, "host": host, "content-type": "application/json", "content-length": str(len(body))}
    lines = ["POST /mcp HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", body]
    with socket.create_connection(("127.0.0.1", int(httpx.URL(shared_url).port or 0)), LONGEST) as connection:
        connection.sendall("\r\n".join(lines).encode())
        received = b"".join(iter(lambda: connection.recv(65536), b""))  # until the server closes it
    assert received.lower().count(b"connection: close") == 1


@long
def test_remote_clients_need_a_token(sandbox: Sandbox) -> None:
    with serving(sandbox, f"0.0.0.0:{free_port()}", KBSYNC_MCP_TOKEN=TOKEN) as url:
        assert status_of(url) == 401
        assert status_of(url, authorization="Bearer wrong") == 401
        assert status_of(url, authorization=f"Bearer {TOKEN}x") == 401
        assert status_of(url, authorization=f"Bearer {TOKEN}") == 200
        assert status_of(url, authorization=f"Bearer {TOKEN}", host="kb.example:9754") == 200
        assert status_of(url, authorization=f"Bearer {TOKEN}", origin="https://evil.example") == 403
        assert send("POST", url, json=PING).headers["www-authenticate"].startswith("Bearer")
    # The token must not be in a log, or in the list of processes.
    assert TOKEN not in (sandbox.root / "mcp.log").read_text()


@long
def test_listener_token_admits_assistants(sandbox: Sandbox) -> None:
    with watching(sandbox, f"0.0.0.0:{free_port()}", TOKEN) as url:
        for wrong in ({}, {"authorization": f"Bearer {TOKEN}x"}):
            assert status_of(url, **wrong) == 401
            refused = send("POST", url, json=PING, headers=wrong)
            assert refused.headers["www-authenticate"].startswith("Bearer")
        assert status_of(url, authorization=f"Bearer {TOKEN}", host="kb.example:9753") == 200
        assert status_of(url, authorization=f"Bearer {TOKEN}", origin="https://evil.example") == 403


async def test_listener_without_the_mcp_package_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = mirror_with_listener(tmp_path)
    world.listening._assistants = assistant_app
    monkeypatch.setitem(sys.modules, "kbsync.cli.commands.mcp.protocol", None)
    async with world.open():
        response = await request(world.app, "POST", "/mcp", json.dumps(PING).encode())
        assert response.status_code == 501
        assert "the mcp package is missing; install it alongside kbsync: " in response.json()["error"]
        assert (await world.get("/api/status")).status_code == 200


@long
def test_config_token_is_accepted_too(sandbox: Sandbox) -> None:
    config = sandbox.configure()
    config.write_text(f"http: {{listen: '{free_address()}', token: {TOKEN}}}\n{config.read_text()}")
    with serving(sandbox, free_address()) as url:
        assert status_of(url) == 401
        assert status_of(url, authorization=f"Bearer {TOKEN}") == 200


def test_address_of_the_listener_in_the_config_is_refused(sandbox: Sandbox) -> None:
    address, config = free_address(), sandbox.configure()
    config.write_text(f"http: {{listen: '{address}'}}\n{config.read_text()}")
    sandbox.run("mcp", "--http", address).check_refusal(2, "is http.listen in the config, too")


@pytest.mark.parametrize("address", ["127.0.0.1:9754", "0.0.0.0:9754"])
async def test_token_removed_from_the_config_is_refused(address: str) -> None:
    token = Secret(TOKEN)
    configs = [Config((), http=HttpConfig("127.0.0.1:9755", token))]
    check = http.McpEndpoint.at(address, lambda: configs[-1], {}).guarded(PlainTextResponse("in"))

    async def code(token_sent: str, host: str = "kb.example") -> int:
        transport = httpx.ASGITransport(check)
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
            headers = {"authorization": f"Bearer {token_sent}"}
            return (await client.post("/mcp", headers=headers)).status_code

    assert await code(TOKEN) == 200
    configs.append(Config((), http=HttpConfig("127.0.0.1:9755", Secret("another-of-24-characters"))))
    assert (await code(TOKEN), await code("another-of-24-characters")) == (401, 200)
    configs.append(Config(()))
    assert await code(TOKEN) in (401, 403)
    # Any machine can put this one's name into `Host`.
    assert await code(TOKEN, "localhost") == (401 if address.startswith("0") else 200)


@pytest.mark.parametrize(
    ("address", "env", "why"),
    [
        ("0.0.0.0:9754", {}, "needs a token"),
        ("[::]:9754", {}, "needs a token"),
        ("127.0.0.1:9754", {"KBSYNC_MCP_TOKEN": "short"}, "at least 16 characters"),
        ("127.0.0.1:9754", {"KBSYNC_MCP_TOKEN": ""}, "at least 16 characters"),
        ("127.0.0.1", {}, "host:port"),
        ("127.0.0.1:99999", {}, "host:port"),
        ("no-such-host.invalid:9754", {"KBSYNC_MCP_TOKEN": TOKEN}, "does not name this machine"),
    ],
)
def test_invalid_address_or_token_is_a_usage_error(
    sandbox: Sandbox, address: str, env: dict[str, str], why: str
) -> None:
    sandbox.configure()
    result = sandbox.go("mcp", "--http", address, env=env)
    assert (result.code, result.out) == (2, "")
    assert why in result.words and "short" not in result.words.replace("shorter", "")
    assert not sandbox.state.exists()


def test_address_in_use_is_reported(sandbox: Sandbox, shared_url: str) -> None:
    sandbox.configure()
    address = shared_url.removeprefix("http://").removesuffix("/mcp")
    result = sandbox.go("mcp", "--http", address)
    assert result.code == 2
    assert f"--http: {address} is in use" in result.words
