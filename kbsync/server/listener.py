"""The listener of a daemon: begun, changed and ended as the config has it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from kbsync.config.model import Config, HttpConfig, MirrorConfig
from kbsync.engine.mirror import MirrorRun
from kbsync.errors import UsageError
from kbsync.server.counters import Counters, LoopMonitor

if TYPE_CHECKING:
    from kbsync.server.app import Application, OpenForReading
    from kbsync.server.connections import ServerThread

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
        self._app: Application | None = None
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
        from kbsync.server.connections import ServerThread  # loaded only for who listens

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

    def _make_app(self, http: HttpConfig) -> Application:
        from kbsync.server.app import Application

        app = Application(self._runs, self._state, self._cure, self._open_target, self.counters, self.monitor)
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
