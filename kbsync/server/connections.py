"""Serves an application from a thread and a loop of its own.

So no request delays a mirror, a mirror that stalls delays no answer, and /healthz can tell that it stalls.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any, cast

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from kbsync.errors import UsageError
from kbsync.server.events import ABORT

LARGEST_HEAD = 16 * 1024
MOST_CONNECTIONS = 64
REQUEST_SECONDS = 10.0
START_SECONDS = 10.0
STOP_SECONDS = 1.0


class TimeoutProtocol(H11Protocol):
    """Closes a connection on which no whole head of a request comes in `REQUEST_SECONDS`."""

    _overdue: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The time begins."""
        super().connection_made(transport)
        self._overdue = self.loop.call_later(REQUEST_SECONDS, transport.abort)

    def handle_events(self) -> None:
        """The time is over once there is a request."""
        super().handle_events()
        if self.scope is not None:
            cast(dict[str, Any], self.scope)[ABORT] = self.transport.abort
        if self.conn.their_state is not h11.IDLE:
            self._relax()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody is waited for."""
        self._relax()
        super().connection_lost(exc)

    def _relax(self) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None


class _Server(uvicorn.Server):
    """Says when it is up."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()


class ServerThread:
    """One application on listening sockets, which it closes at its end. `end_streams` is told before that."""

    def __init__(
        self, app: Any, sockets: Sequence[socket.socket], end_streams: Callable[[], None] = lambda: None
    ) -> None:
        # Nothing is written to a log of its own: paths may be secrets, and strangers write what they like.
        self._server = _Server(
            uvicorn.Config(
                app,
                http=TimeoutProtocol,
                ws="none",
                loop="asyncio",
                lifespan="off",
                log_config=None,
                log_level="error",
                access_log=False,
                proxy_headers=False,
                server_header=False,
                limit_concurrency=MOST_CONNECTIONS,
                timeout_graceful_shutdown=int(STOP_SECONDS),
                h11_max_incomplete_event_size=LARGEST_HEAD,
            )
        )
        self._end_streams = end_streams
        self._sockets = list(sockets)
        self._thread = threading.Thread(target=self._run, name="kbsync-http", daemon=True)

    def start(self) -> None:
        """Returns when it answers. Raises `UsageError` where it does not come to that."""
        self._thread.start()
        if not self._server.up.wait(START_SECONDS):
            self.stop()
            raise UsageError(f"http: the listener did not start within {START_SECONDS:.0f} s; try it again")

    @property
    def is_alive(self) -> bool:
        """It answers."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Answer no more; returns when the sockets are closed, or soon anyway. Repeatable."""
        self._end_streams()
        self._server.should_exit = True
        if self._thread.ident is not None:
            self._thread.join(2 * STOP_SECONDS)

    def _run(self) -> None:
        try:
            self._server.run(self._sockets)
        finally:
            for one in self._sockets:
                one.close()
