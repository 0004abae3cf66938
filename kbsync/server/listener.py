"""Where to listen: sockets that are bound before anything else depends on them.

The listener of a daemon: begun, changed and ended as the config has it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from kbsync.config.callbacks import callback_secrets
from kbsync.config.model import Config, HttpConfig
from kbsync.config.secret import Secret
from kbsync.contract.searching import Query
from kbsync.engine.mirror import MirrorRun
from kbsync.errors import StateError, UsageError
from kbsync.server.callbacks import CallbackQueue, CallbackRoute
from kbsync.server.counters import Counters
from kbsync.server.health import LoopMonitor, Readiness
from kbsync.server.search import OpenForReading, search
from kbsync.server.views import StateReader, Views
from kbsync.source.wake import wake

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

    from kbsync.server.auth import AccessControl
    from kbsync.server.connections import ServerThread
    from kbsync.server.events import EventHub


BACKLOG = 64


def bind_sockets(host: str, port: int) -> list[socket.socket]:
    """Listening sockets, one for each address of `host`; `port` 0 takes a free one for each.

    Raises `UsageError` with the cure where one cannot be had; then none is left open.
    """
    with ExitStack() as opened:
        sockets = [opened.enter_context(_listening(*one)) for one in _addresses(host, port)]
        opened.pop_all()
    return sockets


def _addresses(host: str, port: int) -> Iterator[tuple[int, tuple[object, ...]]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise UsageError(
            f"http.listen: {host} is no name of this machine ({error.strerror or error}); "
            "write an address, such as 127.0.0.1"
        ) from error
    yield from dict.fromkeys((family, address) for family, _, _, _, address in found)


def _listening(family: int, address: tuple[object, ...]) -> socket.socket:
    try:
        one = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise UsageError(_refusal(error, address)) from error
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind(address)
        one.listen(BACKLOG)
    except OSError as error:
        one.close()
        raise UsageError(_refusal(error, address)) from error
    return one


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


T = TypeVar("T")

log = structlog.get_logger("kbsync")


class HttpListener:
    """What is listened on now. `runs`: the mirrors at work by name, as they come and go.

    `state`: the file of their state, `cure`: how a command is written that can be pasted, `reading`: opens
    the target of a mirror that has none open. Its methods are called in the loop of the mirrors, once that
    runs.
    """

    def __init__(
        self,
        runs: Mapping[str, MirrorRun],
        state: Path = Path("state.db"),
        cure: Callable[[str], str] = lambda command: f"kbsync {command}",
        reading: OpenForReading | None = None,
    ) -> None:
        self.heart = LoopMonitor()
        self.counting = Counters(runs)
        self._runs, self._state, self._reading = runs, state, reading
        self._view = StateReader(state)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._outlook = Views(self._view, self.heart, lambda: self._ask(self.counting.look), cure)
        self._hub: EventHub | None = None
        self._readiness = Readiness(runs)
        self._secrets: Mapping[str, Secret] = {}
        self._callbacks: CallbackRoute | None = None
        self._hearsay: CallbackQueue | None = None
        self._http: HttpConfig | None = None
        self._door: AccessControl | None = None
        self._thread: ServerThread | None = None
        self._changing = asyncio.Lock()

    async def turn_to(self, config: Config) -> None:
        """Listen as this says, from now on. Raises `UsageError`, and then all is as before."""
        async with self._changing:
            await self._turn_to(config.http)
        self._outlook.mirrors = config.mirrors
        self._secrets = callback_secrets(config.mirrors)
        if self._callbacks is not None:
            self._callbacks.secrets = self._secrets

    async def _turn_to(self, http: HttpConfig | None) -> None:
        if http == self._http:
            return
        before = self._http
        if (
            http is not None
            and before is not None
            and http.listen == before.listen
            and self._door is not None
        ):
            self._door.token, self._http = http.token, http
            if http.token != before.token and self._hub is not None:
                self._hub.end()  # whoever watches shows the new one
            return
        if http is not None and before is not None and http.port == before.port:
            await self._move(http, before)
            return
        await self._begin_beside(http)

    async def _begin_beside(self, http: HttpConfig | None) -> None:
        """The new one is there before the old one goes."""
        old = self._thread
        if http is None:
            self._thread = self._door = self._http = None
        else:
            await self._begin(http)
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
        from kbsync.server.connections import ServerThread

        door = self._make_door(http)
        assert self._hub is not None
        thread = ServerThread(door, sockets, self._hub.end)
        try:
            await asyncio.to_thread(thread.start)
        except BaseException:
            await asyncio.to_thread(thread.stop)  # nobody else knows of it
            raise
        self._door, self._thread, self._http = door, thread, http
        log.info("listener.started", listen=http.listen, token=http.token is not None)

    def _make_door(self, http: HttpConfig) -> AccessControl:
        from kbsync.server.auth import AccessControl
        from kbsync.server.health import HealthRoutes

        self._loop = asyncio.get_running_loop()
        if self._hearsay is None:
            self._hearsay = CallbackQueue(self._loop, self._hurry)
        self._callbacks = CallbackRoute(self._hearsay.hear, self._secrets)
        routes = [self._callbacks.route(), *self._make_routes()]
        pages = HealthRoutes(self.heart, lambda: self._ask(self._readiness.look))
        return AccessControl(pages.app(routes), http.token)

    def _make_routes(self) -> Sequence[BaseRoute]:
        from kbsync.server import page
        from kbsync.server.api import ApiRoutes, PageActions
        from kbsync.server.events import EventHub

        self._hub = EventHub(self._outlook.frame, self._outlook.news)
        orders = PageActions(self._outlook, lambda *order: self._ask(partial(self._post, *order)))
        return [*page.routes(), *ApiRoutes(self._outlook, orders, self._hub, self._seek).routes()]

    async def _ask(self, question: Callable[[], Awaitable[T]]) -> T:
        """What the loop of the mirrors says, for the listener's."""
        assert self._loop is not None

        async def asked() -> T:
            return await question()

        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(asked(), self._loop))

    async def _seek(self, query: Query, mirror: str) -> Mapping[str, Any]:
        return await self._ask(lambda: search(self._runs, query, mirror, self._reading))

    async def _post(self, verb: str, mirror: str, args: Mapping[str, Any]) -> None:
        """Into the inbox, as a command would. Raises `StateError`."""
        run = self._runs.get(mirror)
        if run is None:
            raise StateError("the mirror is not at work at this moment; try again")
        await run.store.write(lambda tx: tx.inbox.post(verb, mirror, args, run.clock.wall()))
        await asyncio.to_thread(wake, self._state.parent)

    async def _hurry(self, mirror: str, ids: Collection[str]) -> None:
        """What cannot be hurried is looked at in its own time."""
        run = self._runs.get(mirror)
        if run is None:
            return
        try:
            await run.hurry(ids)
        except StateError:
            return  # the worker says so
        except Exception:
            log.exception("callback.failed", mirror=mirror)

    async def keep(self) -> None:
        """Beat, and begin anew where the listener ended by itself. Until cancelled."""
        beating = asyncio.create_task(self.heart.keep_beating())
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
        thread, self._thread, self._door, self._http = self._thread, None, None, None
        if thread is not None:
            await asyncio.to_thread(thread.stop)
            await asyncio.to_thread(self._view.close)


CHECK_EVERY = 30.0
"""Seconds between looks at whether the listener is there."""
