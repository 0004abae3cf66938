"""The listener of a daemon: begun, changed and ended as the config has it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
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
from kbsync.source.canary import wake
from kbsync.web.callbacks import Callbacks, Hearsay
from kbsync.web.counting import Counting
from kbsync.web.heart import Heart
from kbsync.web.outlook import Outlook
from kbsync.web.readiness import Readiness
from kbsync.web.seeking import Reading, search
from kbsync.web.viewing import View

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

    from kbsync.web.door import Door
    from kbsync.web.server import ServerThread
    from kbsync.web.streams import Hub

T = TypeVar("T")

log = structlog.get_logger("kbsync")


class Listening:
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
        reading: Reading | None = None,
    ) -> None:
        self.heart = Heart()
        self.counting = Counting(runs)
        self._runs, self._state, self._reading = runs, state, reading
        self._view = View(state)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._outlook = Outlook(self._view, self.heart, lambda: self._ask(self.counting.look), cure)
        self._hub: Hub | None = None
        self._readiness = Readiness(runs)
        self._secrets: Mapping[str, Secret] = {}
        self._callbacks: Callbacks | None = None
        self._hearsay: Hearsay | None = None
        self._http: HttpConfig | None = None
        self._door: Door | None = None
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
        from kbsync.web.places import bound

        sockets = await asyncio.to_thread(bound, http.host, http.port)
        from kbsync.web.server import ServerThread

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

    def _make_door(self, http: HttpConfig) -> Door:
        from kbsync.web.door import Door
        from kbsync.web.pages import Pages

        self._loop = asyncio.get_running_loop()
        if self._hearsay is None:
            self._hearsay = Hearsay(self._loop, self._hurry)
        self._callbacks = Callbacks(self._hearsay.hear, self._secrets)
        routes = [self._callbacks.route(), *self._make_routes()]
        pages = Pages(self.heart, lambda: self._ask(self._readiness.look))
        return Door(pages.app(routes), http.token)

    def _make_routes(self) -> Sequence[BaseRoute]:
        from kbsync.web import assets
        from kbsync.web.api import Api
        from kbsync.web.orders import Orders
        from kbsync.web.streams import Hub

        self._hub = Hub(self._outlook.frame, self._outlook.news)
        orders = Orders(self._outlook, lambda *order: self._ask(partial(self._post, *order)))
        return [*assets.routes(), *Api(self._outlook, orders, self._hub, self._seek).routes()]

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
