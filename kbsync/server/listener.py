"""Serves an application from a thread and a loop of its own.

So no request delays a mirror, a mirror that stalls delays no answer, and /healthz can tell that it stalls.

The listener of a daemon: begun, changed and ended as the config has it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import h11
import structlog
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from kbsync.config.model import Config, HttpConfig, MirrorConfig
from kbsync.engine.mirror import MirrorRun
from kbsync.errors import UsageError
from kbsync.server.events import ABORT
from kbsync.server.metrics import Counters, LoopMonitor

if TYPE_CHECKING:
    from kbsync.server.app import ListenerApp, OpenForReading


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


log = structlog.get_logger("kbsync")

CHECK_EVERY = 30.0
"""Seconds between looks at whether the listener is there."""

BACKLOG = 64


def bind_sockets(host: str, port: int) -> list[socket.socket]:
    """Listening sockets, one for each address of `host`; `port` 0 takes a free one for each.

    Raises `UsageError` with the cure where one cannot be had; then none is left open.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise UsageError(
            f"http.listen: {host} is no name of this machine ({error.strerror or error}); "
            "write an address, such as 127.0.0.1"
        ) from error
    with ExitStack() as opened:
        sockets = []
        for family, address in dict.fromkeys((family, address) for family, _, _, _, address in found):
            try:
                one = opened.enter_context(socket.socket(family, socket.SOCK_STREAM))
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                # An address of IPv6 does not take the port of its IPv4 twin, which has a socket of its own.
                if family == socket.AF_INET6:
                    one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                one.bind(address)
                one.listen(BACKLOG)
            except OSError as error:
                raise UsageError(_refusal(error, address)) from error
            sockets.append(one)
        opened.pop_all()
    return sockets


def _refusal(error: OSError, address: tuple[object, ...]) -> str:
    host, port = address[:2]
    shown = f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
    match error.errno:
        case errno.EADDRINUSE:
            cure = f"is in use; choose another port, or end the program that ss -ltnp 'sport = :{port}' names"
        case errno.EADDRNOTAVAIL:
            cure = "is no address of this machine; choose one that ip addr shows, or 127.0.0.1"
        case errno.EACCES:
            cure = "may not be used by this user; choose a port from 1024 on"
        case _:
            cure = f"cannot be listened on ({(error.strerror or str(error)).lower()}); choose another"
    return f"http.listen: {shown} {cure}"


class HttpListener:
    """What is listened on now. Its methods are called in the loop of the mirrors, once that runs.

    `runs`: the mirrors at work by name, as they come and go. `state`: the file of their state. `cure` writes
    a command that can be pasted. `open_target` opens the target of a mirror that has none open.
    """

    def __init__(
        self,
        runs: Mapping[str, MirrorRun],
        state: Path = Path("state.db"),
        cure: Callable[[str], str] = lambda command: f"kbsync {command}",
        open_target: OpenForReading | None = None,
    ) -> None:
        self.monitor = LoopMonitor()
        self.counters = Counters(runs)
        self._runs, self._state, self._cure, self._open_target = runs, state, cure, open_target
        self._mirrors: Sequence[MirrorConfig] = ()
        self._http: HttpConfig | None = None
        self._app: ListenerApp | None = None
        self._thread: ServerThread | None = None
        self._changing = asyncio.Lock()

    async def turn_to(self, config: Config) -> None:
        """Listen as this says, from now on. Raises `UsageError`, and then all is as before."""
        async with self._changing:
            await self._turn_to(config.http)
        self._mirrors = config.mirrors
        if self._app is not None:
            self._app.turn_to(config.mirrors)

    async def _turn_to(self, http: HttpConfig | None) -> None:
        if http == self._http:
            return
        before = self._http
        if http and before and self._app and http.listen == before.listen:
            self._app.access.token, self._http = http.token, http
            # Whoever watches has to show the new token.
            if http.token != before.token:
                self._app.hub.end()
            return
        if http and before and http.port == before.port:
            await self._move(http, before)
            return
        old = self._thread
        if http is None:
            self._thread = self._app = self._http = None
        else:
            await self._begin(http)
        # Only now: the new one is there before the old one goes.
        if old is not None:
            await asyncio.to_thread(old.stop)

    async def _move(self, http: HttpConfig, before: HttpConfig) -> None:
        """Another address with the same port may not be free before the old one is.

        The old one stays what is wanted: where neither can be had, `_check` tries it again.
        """
        await self.end()
        self._http = before
        try:
            await self._begin(http)
        except UsageError:
            with contextlib.suppress(UsageError):
                await self._begin(before)
            raise

    async def _begin(self, http: HttpConfig) -> None:
        sockets = await asyncio.to_thread(bind_sockets, http.host, http.port)

        app = self._make_app(http)
        thread = ServerThread(app.access, sockets, app.hub.end)
        try:
            await asyncio.to_thread(thread.start)
        except BaseException:
            # Also where this was cancelled: nobody else knows of the thread.
            await asyncio.to_thread(thread.stop)
            raise
        self._app, self._thread, self._http = app, thread, http
        log.info("listener.started", listen=http.listen, token=http.token is not None)

    def _make_app(self, http: HttpConfig) -> ListenerApp:
        from kbsync.server.app import ListenerApp

        app = ListenerApp(self._runs, self._state, self._cure, self._open_target, self.counters, self.monitor)
        app.turn_to(self._mirrors)
        app.access.token = http.token
        return app

    async def keep(self) -> None:
        """Show that the loop turns, and begin again where the listener ended by itself. Until cancelled."""
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
            log.error(
                "listener.failed", listen=http.listen, detail="it is not there any more; it is begun anew"
            )
            try:
                await self._begin(http)
            except UsageError as error:
                log.error("listener.failed", listen=http.listen, detail=str(error))

    async def end(self) -> None:
        """Listen no more. Repeatable."""
        thread, app = self._thread, self._app
        self._thread = self._app = self._http = None
        if thread is not None:
            await asyncio.to_thread(thread.stop)
        if app is not None:
            await asyncio.to_thread(app.state_reader.close)
