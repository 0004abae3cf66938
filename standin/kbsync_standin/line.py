"""A client's connection: uvicorn speaks HTTP on it, and faults interrupt it between uvicorn and the socket.

Interrupting it here, not in a proxy in front, saves a second connection, and a fault knows its request.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from collections.abc import Iterator
from typing import Any

from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

# How long to wait for a client that neither reads nor closes.
LINGER_SECONDS = 5.0

# uvicorn logs a connection that a fault interrupted as an error of the application.
_quiet = logging.getLogger("kbsync_standin.uvicorn")
_quiet.addHandler(logging.NullHandler())
_quiet.propagate = False


class Line(asyncio.Transport):
    """The connection as uvicorn writes to it. Nothing is written after `close` or `reset`."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport
        self._is_closing = False
        self._held: bytearray | None = None
        self._linger: asyncio.TimerHandle | None = None
        self.closes_on_next = False
        self.is_deaf = False
        self.disconnected = asyncio.Event()

    # -- uvicorn's transport interface

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return information about the socket."""
        return self._transport.get_extra_info(name, default)

    def is_closing(self) -> bool:
        """Return whether writing has ended."""
        return self._is_closing or self._transport.is_closing()

    def pause_reading(self) -> None:
        """Stop reading from the socket."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read from the socket again."""
        self._transport.resume_reading()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send the data, or hold it back."""
        if self._held is not None:
            self._held += data
        elif data and not self.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        """Close after sending everything written; read and drop the rest of the client's data.

        Closing with unread bytes would make the kernel send a reset, which can destroy a response.
        """
        if self.is_closing():
            return
        self._is_closing = True
        if self._held is None:
            self._finish()

    def _finish(self) -> None:
        with contextlib.suppress(OSError):
            self._transport.write_eof()
            self._transport.resume_reading()
        # The client now has the end of the response and closes, which ends the wait.
        self._linger = asyncio.get_running_loop().call_later(LINGER_SECONDS, self._transport.abort)

    # -- faults

    def reset(self) -> None:
        """Abort with a TCP reset."""
        self._is_closing = True
        # A linger time of 0 makes the kernel send RST instead of FIN.
        linger = struct.pack("ii", 1, 0)
        self.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._transport.abort()

    async def silence(self, seconds: float | None) -> bool:
        """Send nothing for this time (None: no limit); return False as soon as the client leaves."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.disconnected.wait()
        return not self.disconnected.is_set()

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Send all data written inside as one write; while a response drips, after it."""
        if self._held is not None:
            yield
            return
        self.hold()
        try:
            yield
        finally:
            self._release()

    def hold(self) -> None:
        """Hold back everything that `write` gets from now on, for `drip`."""
        self._held = bytearray()

    def _release(self) -> None:
        pending, self._held = self._held, None
        if pending and not self._transport.is_closing():
            self._transport.write(pending)
        if self._is_closing:
            self._finish()

    async def drip(self, every: float) -> None:
        """Send the data held back one byte at a time, including what the next response adds meanwhile."""
        while self._held:
            self._transport.write(self._held[:1])
            del self._held[:1]
            if not await self.silence(every):
                break
        self._release()

    def abort(self) -> None:
        """Abort at once."""
        self._is_closing = True
        self._transport.abort()

    def note_disconnect(self) -> None:
        """Note that the connection has ended."""
        self.disconnected.set()
        if self._linger is not None:
            self._linger.cancel()


class Conversation(H11Protocol):
    """uvicorn's protocol for one connection; `scope["state"]["line"]` is its line."""

    line: Line

    def __init__(self, config: Config, state: ServerState, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(config, state, {}, loop)
        self.logger = _quiet
        # Tests count requests themselves, and a log line for each would flood the terminal.
        self.access_log = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start with a new client."""
        self.line = Line(transport)
        self.app_state = {"line": self.line}
        super().connection_made(self.line)

    def data_received(self, data: bytes) -> None:
        """Pass on part of a request; ignore data that arrives after closing."""
        if self.line.closes_on_next:
            self.line.close()
        if not self.line.is_closing() and not self.line.is_deaf:
            super().data_received(data)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Handle the client's end of sending: it may still wait for its response; otherwise close."""
        waits = self.cycle is not None and not self.cycle.more_body and not self.cycle.response_complete
        self.line.disconnected.set()
        return waits and not self.line.is_closing()

    def on_response_complete(self) -> None:
        """Continue with the next request that the client has sent or may send."""
        super().on_response_complete()
        # Answer requests that were sent ahead first, even if the client sends no more.
        if self.line.disconnected.is_set() and self.cycle.response_complete:
            self.line.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Handle the end of the connection, on either side."""
        self.line.note_disconnect()
        super().connection_lost(exc)
