"""The application that the listener serves: its routes, and what they ask of the loop of the mirrors.

It runs in a thread and a loop of its own, so each question to a mirror goes through `_ask`. Loaded only where
the config has `http:`, since it brings Starlette along.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import structlog
from starlette.applications import Starlette

from kbsync.config.model import MirrorConfig
from kbsync.config.target import callback_secrets
from kbsync.contract.searching import Query
from kbsync.engine.mirror import MirrorRun
from kbsync.errors import StateError
from kbsync.server import page
from kbsync.server.api import Api
from kbsync.server.auth import AccessControl
from kbsync.server.callbacks import CallbackQueue, CallbackRoute
from kbsync.server.counters import Counters, LoopMonitor
from kbsync.server.events import EventHub
from kbsync.server.health import HealthRoutes, Readiness
from kbsync.server.search import OpenForReading, search
from kbsync.server.views import StateReader, Views
from kbsync.source.wake import wake

T = TypeVar("T")

log = structlog.get_logger("kbsync")


class Application:
    """Made in the loop of the mirrors, for one start of the listener.

    `runs`: the mirrors at work by name, as they come and go. `state`: the file of their state. `cure` writes
    a command that can be pasted. `open_target` opens the target of a mirror that has none open.
    """

    def __init__(
        self,
        runs: Mapping[str, MirrorRun],
        state: Path,
        cure: Callable[[str], str],
        open_target: OpenForReading | None,
        counters: Counters,
        monitor: LoopMonitor,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._runs, self._state, self._open_target = runs, state, open_target
        self.state_reader = StateReader(state)
        self.views = Views(self.state_reader, monitor, lambda: self._ask(counters.look), cure)
        self.hub = EventHub(self.views.frame, self.views.news)
        self._callbacks = CallbackRoute(CallbackQueue(self._loop, self._hurry).hear, {})
        readiness = Readiness(runs)
        api = Api(self.views, self.hub, self._search, lambda *action: self._ask(partial(self._post, *action)))
        routes = [
            *HealthRoutes(monitor, lambda: self._ask(readiness.look)).routes(),
            self._callbacks.route(),
            *page.routes(),
            *api.routes(),
        ]
        self.access = AccessControl(Starlette(routes=routes))
        """What is served: the application behind its checks of who asks."""

    def turn_to(self, mirrors: Sequence[MirrorConfig]) -> None:
        """Show these mirrors, and let their services call back."""
        self.views.mirrors = mirrors
        self._callbacks.secrets = callback_secrets(mirrors)

    async def _ask(self, question: Callable[[], Awaitable[T]]) -> T:
        async def asked() -> T:
            return await question()

        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(asked(), self._loop))

    async def _search(self, query: Query, mirror: str) -> Mapping[str, Any]:
        return await self._ask(lambda: search(self._runs, query, mirror, self._open_target))

    async def _post(self, verb: str, mirror: str, args: Mapping[str, Any]) -> None:
        """Leave a message in the inbox, as a command would. Raises `StateError`."""
        run = self._runs.get(mirror)
        if run is None:
            raise StateError("the mirror is not at work at this moment; try again")
        await run.store.write(lambda tx: tx.inbox.post(verb, mirror, args, run.clock.wall()))
        await asyncio.to_thread(wake, self._state.parent)

    async def _hurry(self, mirror: str, ids: Collection[str]) -> None:
        """A service called back about these documents. What cannot be asked about now is polled anyway."""
        run = self._runs.get(mirror)
        if run is None:
            return
        try:
            await run.hurry(ids)
        except StateError:
            return  # the worker says so
        except Exception:
            log.exception("callback.failed", mirror=mirror)
