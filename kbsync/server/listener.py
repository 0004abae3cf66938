"""The daemon's HTTP listener, which is opened, moved and closed according to the config.

It serves from its own thread and event loop. So no request can delay a mirror, a stuck mirror can't delay a
response, and /healthz can report that the mirrors' event loop is stuck.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import h11
import structlog
import uvicorn
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from kbsync.config.model import Config, HttpConfig
from kbsync.engine.mirror import Mirror
from kbsync.errors import UsageError
from kbsync.installation import Installation
from kbsync.server.events import ABORT
from kbsync.server.metrics import Counters, LoopMonitor
from kbsync.server.removals import RemovalQueue

if TYPE_CHECKING:
    from kbsync.server.app import ListenerApp, MakeAssistants


log = structlog.get_logger("kbsync")

MAX_HEAD_BYTES = 16 * 1024
MAX_CONNECTIONS = 64
BACKLOG = 64
REQUEST_SECONDS = 10.0
START_SECONDS = 10.0
STOP_SECONDS = 1.0
ABORT_SECONDS = 0.2
"""Seconds that requests may continue when the server stops, and that their clients then have to read the
response."""

CHECK_EVERY = 30.0
"""Seconds between checks that the listener is still running."""


class TimeoutProtocol(H11Protocol):
    """An HTTP connection with a time limit.

    It is closed if it doesn't send complete request headers within `REQUEST_SECONDS`, or if `MAX_CONNECTIONS`
    are open and it has waited longest.
    """

    _overdue: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timer.

        If too many connections are open, close a silent one, so that a health check gets its response.
        """
        super().connection_made(transport)
        connections = cast(set[TimeoutProtocol], self.connections)
        silent = {
            connection._overdue.when(): connection
            for connection in connections
            if connection._overdue is not None
        }
        self._overdue = self.loop.call_later(REQUEST_SECONDS, transport.abort)
        if silent and len(connections) >= MAX_CONNECTIONS:
            oldest = silent[min(silent)]
            # uvicorn counts the connection until the loop's next iteration.
            connections.discard(oldest)
            oldest.transport.abort()

    def handle_events(self) -> None:
        """Stop the timer once a request has arrived."""
        super().handle_events()
        if self.scope is not None:
            cast(dict[str, Any], self.scope)[ABORT] = self.transport.abort
        if self.conn.their_state is not h11.IDLE:
            self._relax()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        self._relax()
        super().connection_lost(exc)

    def _relax(self) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None


class _Server(uvicorn.Server):
    """A uvicorn server that sets an event when it starts serving, and ends slow requests when it stops."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        ending = asyncio.create_task(self._end_requests())
        await super().shutdown(sockets)
        ending.cancel()

    async def _end_requests(self) -> None:
        # uvicorn would log each of them as an error, with a traceback.
        await asyncio.sleep(STOP_SECONDS)
        for task in list(self.server_state.tasks):
            task.cancel()
        await asyncio.sleep(ABORT_SECONDS)
        for connection in list(self.server_state.connections):
            cast(TimeoutProtocol, connection).transport.abort()


class ServerThread:
    """Serves one application on listening sockets.

    When it stops, it calls `end_streams` and closes the sockets.
    """

    def __init__(
        self, app: Any, sockets: Sequence[socket.socket], end_streams: Callable[[], None] = lambda: None
    ) -> None:
        self._app = app
        # Don't let uvicorn log: paths may be secrets, and strangers could write into the log.
        self._server = _Server(
            uvicorn.Config(
                self._serve,
                interface="asgi3",
                http=TimeoutProtocol,
                ws="none",
                loop="asyncio",
                lifespan="off",
                log_config=None,
                log_level="error",
                access_log=False,
                proxy_headers=False,
                server_header=False,
                limit_concurrency=MAX_CONNECTIONS,
                # asyncio accepts this many connections before any of them can be closed.
                backlog=BACKLOG,
                timeout_graceful_shutdown=int(2 * STOP_SECONDS),
                h11_max_incomplete_event_size=MAX_HEAD_BYTES,
            )
        )
        self._end_streams = end_streams
        self._sockets = list(sockets)
        self._thread = threading.Thread(target=self._run, name="kbsync-http", daemon=True)

    def start(self) -> None:
        """Start the thread, and return once it is serving. Raises `UsageError` if that takes longer than
        `START_SECONDS`.
        """
        self._thread.start()
        if not self._server.up.wait(START_SECONDS):
            self.stop()
            raise UsageError(f"http: the listener took over {START_SECONDS:.0f} s to start; try again")

    @property
    def is_alive(self) -> bool:
        """Return whether the thread is still serving."""
        return self._thread.is_alive()

    def wait(self) -> None:
        """Return when the thread has ended."""
        self._thread.join()

    def stop(self) -> None:
        """Stop serving.

        Return when the sockets are closed, or after a short wait. Safe to call more than once.
        """
        self._end_streams()
        self._server.should_exit = True
        if self._thread.ident is not None:
            self._thread.join(2 * STOP_SECONDS)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request. If the server stops meanwhile, respond with an error or close the connection."""
        has_started = False

        async def send_message(message: Message) -> None:
            nonlocal has_started
            has_started = True
            await send(message)

        try:
            await self._app(scope, receive, send_message)
        except asyncio.CancelledError:
            if not has_started:
                from kbsync.server.responses import refusal

                await refusal("the listener is stopping; try again in a moment", 503)(scope, receive, send)
                return
            scope.get(ABORT, lambda: None)()
            while (await receive())["type"] != "http.disconnect":
                pass

    def _run(self) -> None:
        try:
            self._server.run(self._sockets)
        finally:
            for socket in self._sockets:
                socket.close()


_FIXES = {
    errno.EADDRINUSE: "is in use; choose another port, or stop the program shown by ss -ltnp 'sport = :{}'",
    errno.EADDRNOTAVAIL: "is not an address of this machine; choose one shown by ip addr, or 127.0.0.1",
    errno.EACCES: "is not allowed for this user; choose port 1024 or higher",
}


def bind_sockets(host: str, port: int) -> list[socket.socket]:
    """Return listening sockets, one for each address of `host`. `port` 0 picks a free port for each.

    If one of them can't be opened, close all of them and raise `UsageError` with the fix.
    """
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise UsageError(
            f"http.listen: {host} does not name this machine ({error.strerror or error}); use an address "
            "such as 127.0.0.1"
        ) from error
    with ExitStack() as opened:
        sockets = []
        for family, address in dict.fromkeys((family, address) for family, _, _, _, address in addresses):
            try:
                # An IPv6 socket doesn't bind the IPv4 port, which has its own socket.
                listening = socket.create_server(address, family=family, backlog=BACKLOG)
            except OSError as error:
                address_host, number = str(address[0]), str(address[1])
                address_host = f"[{address_host}]" if family == socket.AF_INET6 else address_host
                fix = f"cannot be used ({os.strerror(error.errno or 0).lower()}); choose another address"
                fix = _FIXES.get(error.errno or 0, fix).format(number)
                raise UsageError(f"http.listen: {address_host}:{number} {fix}") from error
            sockets.append(opened.enter_context(listening))
        opened.pop_all()
    return sockets


class HttpListener:
    """Runs the listener according to the config. Call its methods in the event loop of the running mirrors.

    `installation`: the config and state directory of the mirrors. `runs`: the running mirrors by name,
    updated as they start and end. `assistants` creates the application for assistants, if any. `removals`:
    the daemon's removals.
    """

    def __init__(
        self,
        installation: Installation,
        runs: Mapping[str, Mirror],
        assistants: MakeAssistants | None = None,
        removals: RemovalQueue | None = None,
    ) -> None:
        self.monitor = LoopMonitor()
        self.counters = Counters(runs)
        self._installation, self._runs, self._assistants = installation, runs, assistants
        self._removals = removals or RemovalQueue()
        self._http: HttpConfig | None = None
        self._app: ListenerApp | None = None
        self._thread: ServerThread | None = None
        self._changing = asyncio.Lock()

    async def switch_to(self, config: Config) -> None:
        """Listen according to this config from now on.

        If this raises `UsageError`, the old listener continues.
        """
        async with self._changing:
            await self._switch_to(config.http)
        self._installation = replace(self._installation, config=config)
        if self._app is not None:
            self._app.switch_to(self._installation)

    async def _switch_to(self, http: HttpConfig | None) -> None:
        if http == self._http:
            return
        before = self._http
        if http and before and self._app and http.listen == before.listen:
            self._app.token, self._http = http.token, http
            # Open pages must send the new token.
            if http.token != before.token:
                self._app.hub.end()
            return
        # If the new address is unavailable, the old listener continues. Only if both use the same port must
        # the old one end before the new one can start.
        sockets = None
        if http is not None and not (before and before.port == http.port):
            sockets = await asyncio.to_thread(bind_sockets, http.host, http.port)
        await self.end()
        if http is None:
            return
        # If neither is available, `_check` retries the old one.
        self._http = before
        try:
            await self._begin(http, sockets)
        except UsageError:
            if before is not None:
                with contextlib.suppress(UsageError):
                    await self._begin(before)
            raise

    async def _begin(self, http: HttpConfig, sockets: Sequence[socket.socket] | None = None) -> None:
        if sockets is None:
            sockets = await asyncio.to_thread(bind_sockets, http.host, http.port)
        app = self._make_app(http)
        thread = ServerThread(app.access, sockets, app.hub.end)
        try:
            await asyncio.to_thread(thread.start)
        except BaseException:
            # Stop the thread even if this call is canceled, because nothing else knows the thread.
            await asyncio.to_thread(thread.stop)
            raise
        self._app, self._thread, self._http = app, thread, http
        log.info("listener.started", listen=http.listen, token=http.token is not None)

    def _make_app(self, http: HttpConfig) -> ListenerApp:
        from kbsync.server.app import ListenerApp

        counts = self.counters, self.monitor
        return ListenerApp(
            self._installation, self._runs, *counts, self._assistants, http.token, self._removals
        )

    async def keep(self) -> None:
        """Keep the monitor's heartbeat going, and restart a listener that ended unexpectedly.

        Run until canceled.
        """
        beating = asyncio.create_task(self.monitor.keep())
        try:
            while True:
                await asyncio.sleep(CHECK_EVERY)
                await self._check()
        finally:
            beating.cancel()

    async def _check(self) -> None:
        async with self._changing:
            http = self._http
            if http is None or (self._thread is not None and self._thread.is_alive):
                return
            log.error("listener.failed", listen=http.listen, detail="it ended unexpectedly; restarting it")
            try:
                await self._begin(http)
            except UsageError as error:
                log.error("listener.failed", listen=http.listen, detail=str(error))

    async def end(self) -> None:
        """Close the listener. Safe to call more than once."""
        thread, app = self._thread, self._app
        self._thread = self._app = self._http = None
        if thread is not None:
            await asyncio.to_thread(thread.stop)
        if app is not None:
            await asyncio.to_thread(app.state_reader.close)
