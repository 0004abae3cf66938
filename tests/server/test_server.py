"""Tests the serving thread over real sockets, with clients that behave badly."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from kbsync.errors import UsageError
from kbsync.server import listener
from kbsync.server.listener import bind_sockets
from tests.cli.sandbox import eventually
from tests.server.client import Listened, send_raw, serve
from tests.share import long

pytestmark = long

GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def port() -> Iterator[int]:
    with serve(Listened().door) as (_, free_port):
        yield free_port


def test_server_answers_once_and_closes(port: int) -> None:
    received = send_raw(port, GET + GET)
    assert received.startswith(b"HTTP/1.1 200 ")
    assert received.count(b"HTTP/1.1") == 1
    assert b"server:" not in received.lower()


def test_endless_request_head_is_refused(port: int) -> None:
    endless = GET[:-2] + b"x-filler: " + b"a" * (2 * listener.MAX_HEAD_BYTES)
    assert send_raw(port, endless).startswith(b"HTTP/1.1 400 ")
    assert httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200


@pytest.mark.parametrize(
    "content",
    [
        b"\x16\x03\x01\x02\x00\x01",
        b"\0" * 500,
        b"GET /\r\n\r\n",
        b"GET /callback/s3cr3t HTTP/1.1\r\nHost: x",  # paths may be secrets
    ],
    ids=repr,
)
def test_request_content_is_never_logged(port: int, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        send_raw(port, content + b"\r\n\r\n")
    assert [record for record in caplog.records if record.name.startswith("uvicorn")] == []


def is_healthy(port: int) -> bool:
    """Return whether a health check gets its response. In a burst, the listener may close it unanswered."""
    try:
        return send_raw(port, GET).startswith(b"HTTP/1.1 200 ")
    except ConnectionError:
        return False


def is_closed(connection: socket.socket) -> bool:
    """Return whether the other side closes the connection, cleanly or not, without a response."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("request_part", [b"", GET[:20], GET[:-2]], ids=repr)
def test_unfinished_request_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, request_part: bytes) -> None:
    monkeypatch.setattr(listener, "REQUEST_SECONDS", 0.01)
    with (
        serve(Listened().door) as (_, port),
        socket.create_connection(("127.0.0.1", port), timeout=20) as silent,
    ):
        silent.sendall(request_part)
        assert is_closed(silent)


def test_excess_requests_get_an_error_response() -> None:
    async def never_respond(
        _scope: object, receive: Callable[[], Awaitable[dict[str, str]]], _send: object
    ) -> None:
        received.release()
        while (await receive())["type"] != "http.disconnect":
            pass

    received = threading.Semaphore(0)
    with serve(never_respond) as (_, port), ExitStack() as opened:
        for _ in range(listener.MAX_CONNECTIONS - 1):
            waiting = opened.enter_context(socket.create_connection(("127.0.0.1", port)))
            waiting.sendall(GET)
            received.acquire()
        assert send_raw(port, GET).startswith(b"HTTP/1.1 503 ")


def test_health_is_reported_despite_many_silent_connections(port: int) -> None:
    with ExitStack() as opened:
        for number in range(10 * listener.MAX_CONNECTIONS):
            silent = opened.enter_context(socket.create_connection(("127.0.0.1", port)))
            silent.sendall(GET[: number % 20])
            if number % 50 == 0:
                assert send_raw(port, GET).startswith(b"HTTP/1.1 200 ")
        assert send_raw(port, GET).startswith(b"HTTP/1.1 200 ")


def test_burst_of_connections_takes_few_descriptors(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    started, is_sent, peaks = threading.Event(), threading.Event(), list[int]()
    connection_made = listener.TimeoutProtocol.connection_made

    def counted(connection: listener.TimeoutProtocol, transport: asyncio.Transport) -> None:
        started.set()
        is_sent.wait(20)
        peaks.append(len(os.listdir("/proc/self/fd")))
        connection_made(connection, transport)

    monkeypatch.setattr(listener.TimeoutProtocol, "connection_made", counted)
    burst, before = 10 * listener.MAX_CONNECTIONS, len(os.listdir("/proc/self/fd"))
    with ExitStack() as opened:
        first = opened.enter_context(socket.create_connection(("127.0.0.1", port)))
        assert started.wait(20)
        for _ in range(burst):
            silent = opened.enter_context(socket.socket())
            silent.setblocking(False)
            silent.connect_ex(("127.0.0.1", port))
        is_sent.set()
        eventually(lambda: is_healthy(port))
        first.close()
    assert max(peaks) - before - burst < 4 * listener.MAX_CONNECTIONS


def test_stopping_frees_the_port_with_open_connections_and_is_idempotent() -> None:
    in_use = r"http\.listen: 127\.0\.0\.1:\d+ is in use; choose another port"
    with serve(Listened().door) as (thread, port):
        with pytest.raises(UsageError, match=in_use):
            bind_sockets("127.0.0.1", port)
        with socket.create_connection(("127.0.0.1", port)):
            thread.stop()
        assert not thread.is_alive
    for bound in bind_sockets("127.0.0.1", port):
        bound.close()


def test_stopping_ends_running_requests_and_logs_no_error(caplog: pytest.LogCaptureFixture) -> None:
    running = threading.Semaphore(0)

    async def run_forever(scope: Scope, _receive: Receive, send: Send) -> None:
        if scope["path"] == "/begun":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"first part", "more_body": True})
        running.release()
        await asyncio.Event().wait()

    with (
        caplog.at_level(logging.INFO, "kbsync"),
        serve(run_forever) as (thread, port),
        socket.create_connection(("127.0.0.1", port), 20) as begun,
        socket.create_connection(("127.0.0.1", port), 20) as silent,
    ):
        begun.sendall(GET.replace(b"healthz", b"begun"))
        silent.sendall(GET)
        assert running.acquire(timeout=20) and running.acquire(timeout=20)
        thread.stop()
        assert not thread.is_alive
        response = silent.recv(65536)
        assert response.startswith(b"HTTP/1.1 503 ") and b"the listener is stopping" in response
        received = b""
        while piece := begun.recv(65536):
            received += piece
        # Without the last chunk, the client knows that the response is incomplete.
        assert received.endswith(b"first part\r\n")
    assert [record for record in caplog.records if record.name.startswith("uvicorn")] == []
