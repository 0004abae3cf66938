"""A client's connection: uvicorn speaks HTTP on it, and faults break it off between uvicorn and the socket.

Breaking it here, not in a proxy in front, saves a second connection, and a fault knows which request it hits.
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

# A client that neither reads nor closes is let go after so long.
LINGER_SECONDS = 5.0

# What uvicorn calls an error of the application is what a fault did to the connection.
_quiet = logging.getLogger("kbsync_standin.uvicorn")
_quiet.addHandler(logging.NullHandler())
_quiet.propagate = False


class Line(asyncio.Transport):
    """The connection as uvicorn writes to it. After `close` or `reset` nothing is written any more."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport
        self._is_closing = False
        self._held: bytearray | None = None
        self._linger: asyncio.TimerHandle | None = None
        self.closes_on_next = False
        self.is_deaf = False
        self.gone = asyncio.Event()

    # -- what uvicorn uses of a transport

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """As the socket has it."""
        return self._transport.get_extra_info(name, default)

    def is_closing(self) -> bool:
        """Nothing more is written."""
        return self._is_closing or self._transport.is_closing()

    def pause_reading(self) -> None:
        """Leave what comes in the socket."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Take what comes."""
        self._transport.resume_reading()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send, or keep it."""
        if self._held is not None:
            self._held += data
        elif data and not self.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        """Close once everything written is sent; the rest of what the client is sending is read and dropped.

        Closing on unread bytes would make the kernel send a reset, which can destroy an answer.
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
        # The client has the end of the answer now and closes, which ends the waiting.
        self._linger = asyncio.get_running_loop().call_later(LINGER_SECONDS, self._transport.abort)

    # -- what faults do to it

    def reset(self) -> None:
        """Break off with a TCP reset."""
        self._is_closing = True
        # Closing with a linger time of 0 is what makes the kernel send RST instead of FIN.
        linger = struct.pack("ii", 1, 0)
        self.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._transport.abort()

    async def silence(self, seconds: float | None) -> bool:
        """Say nothing for so long (None: for ever); False as soon as the client goes."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.gone.wait()
        return not self.gone.is_set()

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """What is written meanwhile goes out as one; while an answer drips, after it."""
        if self._held is not None:
            yield
            return
        self.hold()
        try:
            yield
        finally:
            self._release()

    def hold(self) -> None:
        """From now on `write` keeps everything for `drip`."""
        self._held = bytearray()

    def _release(self) -> None:
        held, self._held = self._held, None
        if held and not self._transport.is_closing():
            self._transport.write(held)
        if self._is_closing:
            self._finish()

    async def drip(self, every: float) -> None:
        """Send what was kept one byte at a time, also what the next answer adds to it meanwhile."""
        while self._held:
            self._transport.write(self._held[:1])
            del self._held[:1]
            if not await self.silence(every):
                break
        self._release()

    def abort(self) -> None:
        """Break off at once."""
        self._is_closing = True
        self._transport.abort()

    def lost(self) -> None:
        """There is no connection any more."""
        self.gone.set()
        if self._linger is not None:
            self._linger.cancel()


class Conversation(H11Protocol):
    """uvicorn's side of one connection; `scope["state"]["line"]` is its line."""

    line: Line

    def __init__(self, config: Config, state: ServerState, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(config, state, {}, loop)
        self.logger = _quiet
        # Tests count requests themselves, and a line for each would drown what the terminal is for.
        self.access_log = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is there."""
        self.line = Line(transport)
        self.app_state = {"line": self.line}
        super().connection_made(self.line)

    def data_received(self, data: bytes) -> None:
        """Part of a request, or what a client still says to a line that is closed."""
        if self.line.closes_on_next:
            self.line.close()
        if not self.line.is_closing() and not self.line.is_deaf:
            super().data_received(data)

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client says no more. It may wait for its answer; else that is the end."""
        waits = self.cycle is not None and not self.cycle.more_body and not self.cycle.response_complete
        self.line.gone.set()
        return waits and not self.line.is_closing()

    def on_response_complete(self) -> None:
        """Go on with the next request, if the client has sent one or may still send one."""
        super().on_response_complete()
        # Requests that were sent ahead are answered first, though the client says no more.
        if self.line.gone.is_set() and self.cycle.response_complete:
            self.line.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone, or was let go."""
        self.line.lost()
        super().connection_lost(exc)
