"""The application that the listener serves: its routes, and what they ask of the loop of the mirrors.

It runs in a thread and a loop of its own, so each question to a mirror goes through `_ask`. Loaded only where
the config has `http:`, since it brings Starlette along.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import structlog
from starlette.applications import Starlette

from kbsync.config.model import MirrorConfig
from kbsync.config.target import callback_secrets
from kbsync.contract.searching import Query
from kbsync.contract.target import Target
from kbsync.engine.halts import FOLDER_MISSING
from kbsync.engine.mirror import MirrorRun
from kbsync.engine.search import FoundDocument, SearchedMirror, merge, search_mirror
from kbsync.errors import StateError
from kbsync.server import responses
from kbsync.server.api import Api
from kbsync.server.auth import AccessControl
from kbsync.server.callbacks import CallbackQueue, CallbackRoute
from kbsync.server.events import EventHub
from kbsync.server.health import HealthRoutes, Readiness
from kbsync.server.metrics import Counters, LoopMonitor
from kbsync.server.views import StateReader, Views
from kbsync.source.wake import wake

T = TypeVar("T")

log = structlog.get_logger("kbsync")

LONGEST_TEXT = 2000
"""Characters of a passage."""

OpenForReading = Callable[[str], Awaitable[Target]]
"""Opens the target of the mirror of this name for reading. Raises `KbsyncError`."""


class ListenerApp:
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
            *responses.routes(),
            *api.routes(),
        ]
        self.access = AccessControl(Starlette(routes=routes))
        """What is served: the application behind its checks of who asks."""

    def turn_to(self, mirrors: Sequence[MirrorConfig]) -> None:
        """Show these mirrors, and let their services call back."""
        self.views.mirrors = mirrors
        self._callbacks.secrets = callback_secrets(mirrors)

    async def _ask(self, question: Callable[[], Awaitable[T]]) -> T:
        # Called there and not here: what it looks at belongs to that loop's thread.
        async def asked() -> T:
            return await question()

        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(asked(), self._loop))

    async def _search(self, query: Query, mirror: str) -> Mapping[str, Any]:
        def begin() -> Awaitable[Mapping[str, Any]]:  # in the loop of the mirrors, where they come and go
            runs = [run for name, run in self._runs.items() if mirror in ("", name)]
            return search(runs, query, self._open_target)

        return await self._ask(begin)

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
        if run is None or run.bound is None:
            return
        try:
            await run.bound.hurry(ids)
        except StateError:
            # The worker meets it as well, and says so.
            return
        except Exception:
            log.exception("callback.failed", mirror=mirror)


async def search(
    runs: Sequence[MirrorRun], query: Query, reading: OpenForReading | None = None
) -> dict[str, Any]:
    """The best documents of all these mirrors that can be searched now. In the loop of the mirrors.

    `silent` names mirrors that could not be asked, and why. Raises nothing.
    """

    async def search_run(run: MirrorRun) -> tuple[SearchedMirror, list[FoundDocument]]:
        async with _opened(run, reading) as target:
            searched = SearchedMirror(run.settings.name, run.settings.root, target, run.store.read)
            return searched, await search_mirror(searched, query)

    answers = await asyncio.gather(*map(search_run, runs), return_exceptions=True)
    silent = {
        run.settings.name: str(answer) or type(answer).__name__
        for run, answer in zip(runs, answers, strict=True)
        if isinstance(answer, BaseException)
    }
    best = merge([each for each in answers if not isinstance(each, BaseException)], query)
    return {"hits": [_hit_json(each) for each in best], "silent": silent}


@asynccontextmanager
async def _opened(run: MirrorRun, reading: OpenForReading | None) -> AsyncIterator[Target]:
    """The target that is open anyway, or one for this search. Raises `LookupError`, and what opening does."""
    if run.bound is not None:
        # The one of the mirror itself: no model is loaded for a search, and no lock is taken.
        yield run.bound.target
    elif reading is not None and run.halt is not None and run.halt.reason == FOLDER_MISSING:
        # Its target is as good to search as ever: it is opened for reading only, as the command does.
        async with aclosing(await reading(run.settings.name)) as target:
            yield target
    else:
        raise LookupError("its target is not open; see what halts it")


def _hit_json(found: FoundDocument) -> dict[str, Any]:
    hit = found.hit
    return {
        "mirror": found.mirror,
        "path": found.path,
        "score": round(hit.score, 4),
        "title": hit.title,
        "modified": hit.modified,
        "passages": [
            {
                "text": one.text[:LONGEST_TEXT],
                "headings": list(one.headings),
                "page": one.page,
                "line": one.line,
            }
            for one in hit.passages[:2]
        ],
    }
