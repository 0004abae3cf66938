"""Tests that commands end although a database accepts a connection and then never responds."""

from __future__ import annotations

import signal
import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from tests.cli.sandbox import Sandbox
from tests.share import long

READY = b"".join(
    kind + struct.pack("!I", 4 + len(body)) + body
    for kind, body in (
        (b"R", struct.pack("!I", 0)),
        (b"S", b"server_version\x0016.1\0"),
        (b"S", b"client_encoding\0UTF8\0"),
        (b"Z", b"I"),
    )
)
"""The server's messages after a login: AuthenticationOk, ParameterStatus and ReadyForQuery
(PostgreSQL's documentation, 'Message Formats')."""


class HangingDatabase:
    """Accepts logins, and never answers a query. `was_asked` is set by the first query."""

    def __init__(self) -> None:
        self._is_closed = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.was_asked = threading.Event()
        self._connections = list[socket.socket]()
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            if self._is_closed:
                connection.close()
                return
            self._connections.append(connection)
            while True:
                (length,) = struct.unpack("!I", connection.recv(4, socket.MSG_WAITALL))
                packet = connection.recv(length - 4, socket.MSG_WAITALL)
                if packet[:2] == b"\x00\x03":  # the login; requests for encryption come before it
                    break
                connection.sendall(b"N")
            connection.sendall(READY)
            connection.recv(1)
            self.was_asked.set()

    def close(self) -> None:
        """Close all connections."""
        self._is_closed = True
        socket.create_connection(("127.0.0.1", self.port)).close()
        self._thread.join()
        for connection in (*self._connections, self._listener):
            connection.close()


@pytest.fixture
def database() -> Iterator[HangingDatabase]:
    database = HangingDatabase()
    yield database
    database.close()


@pytest.fixture
def connected(sandbox: Sandbox, database: HangingDatabase) -> Sandbox:
    dsn = f"postgresql://u:p@127.0.0.1:{database.port}/kb?sslmode=disable"
    sandbox.prepare({"a.md": "alpha"}, f"target: {{type: postgres, dsn: '{dsn}'}}")
    return sandbox


@long
@pytest.mark.parametrize("words", [["plan"], ["search", "alpha"], ["verify"], ["doctor"]])
def test_ctrl_c_ends_a_command_that_waits_for_a_database(
    connected: Sandbox, database: HangingDatabase, words: list[str]
) -> None:
    process = connected.start(*words)
    assert database.was_asked.wait(20.0)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10.0)
    assert (process.returncode, err.strip()) == (130, b"")


@long
def test_doctor_ends_although_the_database_never_responds(connected: Sandbox) -> None:
    process = connected.start("doctor")
    out, _ = process.communicate(timeout=30.0)
    assert (process.returncode, b"no response within 10 s" in out) == (4, True)
