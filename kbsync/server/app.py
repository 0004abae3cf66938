"""The application that the listener serves: the page, the API that the page and scripts use, and its routes.

It runs in a thread and a loop of its own, so each question to a mirror goes through `_ask` to the loop of the
mirrors. Loaded only where the config has `http:`, since it brings Starlette along.

A GET reads. A POST leaves an order in the inbox, as a command does. Another site's page can make a browser
send requests, so a POST has to come from our own page and show, in a header, a word that only our page could
read.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import secrets
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import aclosing, asynccontextmanager
from functools import cache, partial
from importlib.resources import files
from typing import Any

import structlog
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from kbsync.config.model import MirrorConfig
from kbsync.config.secrets import Secret
from kbsync.config.target import callback_secrets
from kbsync.contract.searching import Query
from kbsync.contract.target import Target
from kbsync.core.text import path_at
from kbsync.engine.clock import Ask, ask_in
from kbsync.engine.mirror import MirrorRun
from kbsync.engine.status import FOLDER_MISSING
from kbsync.errors import StateError, Unavailable, UsageError
from kbsync.installation import Installation
from kbsync.search import OpenMirrors, hit_json, search, shortened
from kbsync.server.auth import API, ASSETS, ASSISTANTS, AccessControl
from kbsync.server.callbacks import CallbackQueue, CallbackRoute
from kbsync.server.events import EventHub, EventStream
from kbsync.server.health import HealthRoutes, Readiness
from kbsync.server.metrics import Counters, LoopMonitor, rendered
from kbsync.server.responses import body_of, json_answer, refusal
from kbsync.server.views import MOST_ITEMS, DocumentPage, StateReader, Views
from kbsync.source.wake import wake
from kbsync.state.approvals import DELETIONS, RENEWALS
from kbsync.state.files import NOTED
from kbsync.state.read_only import ReadsState

log = structlog.get_logger("kbsync")

MOST_PASSAGES = 2
LONGEST_PASSAGE = 2000
"""Passages of a hit, and characters of each, that a search shows."""

LARGEST_BODY = 64 * 1024
BODY_SECONDS = 2.0
ORDER_SECONDS = 10.0
"""For an order to be in the inbox, on disk."""

SEARCH_SECONDS = 20.0
SEARCHES_AT_ONCE = 2
LONGEST_QUERY = 1000
MOST_HITS = 50

WORD_HEADER = "x-kbsync-word"

PAGE = "page.html"
TYPES = {
    PAGE: "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
"""All files that are served; no other name is looked for."""


MakeAssistants = Callable[[OpenMirrors, Ask], ASGIApp]
"""Makes what answers assistants. Raises `UsageError` where a package is missing."""


class AssistantRoute:
    """What answers assistants, made when the first one asks: the protocol's package takes long to load."""

    def __init__(self, make: MakeAssistants | None, opened: OpenMirrors, ask: Ask) -> None:
        self._make = make and partial(make, opened, ask)
        self._app: asyncio.Task[ASGIApp] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if self._make is None:
            raise HTTPException(404, "assistants are not answered here")
        if self._app is None or (self._app.done() and self._app.exception() is not None):
            self._app = asyncio.create_task(asyncio.to_thread(self._make))
        try:
            app = await asyncio.shield(self._app)
        except UsageError as error:
            raise HTTPException(501, str(error)) from error
        await app(scope, receive, send)


class RunningMirrors:
    """The mirrors at work with the targets that they have open. Used in their loop.

    `runs`: by name, as they come and go. `read`: reads the state.
    """

    will_mirror, obstacle = True, ""

    def __init__(self, installation: Installation, runs: Mapping[str, MirrorRun], read: ReadsState) -> None:
        self.installation, self._runs, self.read = installation, runs, read

    @asynccontextmanager
    async def target(self, mirror: MirrorConfig) -> AsyncIterator[Target]:
        """The target that is open anyway, or one for this answer. Raises `KbsyncError`."""
        run = self._runs.get(mirror.name)
        if run is not None and run.bound is not None:
            # The mirror's own: no model is loaded for a search, and no lock is taken.
            yield run.bound.target
        elif run is not None and run.halt is not None and run.halt.reason == FOLDER_MISSING:
            # Only the folder is missing; the knowledge base can be searched as ever.
            opening = asyncio.to_thread(self.installation.target, mirror, read_only=True)
            async with aclosing(await opening) as target:
                yield target
        else:
            raise Unavailable("its target is not open; its status says why")

    async def take_new_secrets(self, _names: Collection[str]) -> bool:
        """The mirrors take them by themselves."""
        return False


class ListenerApp:
    """Made in the loop of the mirrors, for one start of the listener.

    `installation`: that of the mirrors. `runs`: those at work by name, as they come and go. `assistants`
    makes what answers them. `token` may be changed at any time; `word` is another one at each start.
    """

    def __init__(
        self,
        installation: Installation,
        runs: Mapping[str, MirrorRun],
        counters: Counters,
        monitor: LoopMonitor,
        assistants: MakeAssistants | None,
        token: Secret | None,
    ) -> None:
        self.token = token
        self._ask: Ask = partial(ask_in, loop := asyncio.get_running_loop())
        self._runs, self._state_dir = runs, installation.state_dir
        self._searching = asyncio.Semaphore(SEARCHES_AT_ONCE)
        self.word = secrets.token_urlsafe(24)
        self.state_reader = StateReader(installation.state_file)
        self._mirrors = RunningMirrors(installation, runs, self.state_reader.read)
        self.views = Views(self.state_reader, monitor, lambda: self._ask(counters.look), installation.cure)
        self.hub = EventHub(self.views.frame, self.views.news)
        self._callbacks = CallbackRoute(CallbackQueue(loop, self._hurry).hear, {})
        readiness = Readiness(runs)
        orders = {"retry": "retry", "approve": "approve", "verify": "audit"}
        routes = [
            *HealthRoutes(monitor, lambda: self._ask(readiness.look)).routes(),
            self._callbacks.route(),
            Route("/", asset),
            Route(f"{ASSETS}{{name}}", asset),
            Route("/metrics", self.metrics),
            Route(ASSISTANTS, AssistantRoute(assistants, self._mirrors, self._ask)),
            Route(f"{API}status", self.status),
            Route(f"{API}held", self.held),
            Route(f"{API}search", self.search),
            Route(f"{API}events", self.events),
            *(
                Route(f"{API}{name}", partial(self.order, verb), methods=["POST"])
                for name, verb in orders.items()
            ),
        ]
        errors: dict[Any, Any] = {HTTPException: _refused, StateError: _state_failed}
        self.access = AccessControl(Starlette(routes=routes, exception_handlers=errors), lambda: self.token)
        """What is served: the application behind the access checks."""

    def turn_to(self, installation: Installation) -> None:
        """Show the mirrors of this one, and let their services call back."""
        self.views.mirrors = installation.config.mirrors
        self._mirrors.installation = installation
        self._callbacks.secrets = callback_secrets(installation.config.mirrors)

    # -- what is read ------------------------------------------------------------------------------------

    async def metrics(self, _request: Request) -> Response:
        """The text format of Prometheus."""
        return Response(rendered(await self.views.figures()), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    async def status(self, request: Request) -> Response:
        """`kbsync status --json`; with `documents=1` and `limit`, `state`, `after` pages of documents."""
        given, page = request.query_params, None
        if given.get("documents"):
            known = {status.word: status for status in NOTED}
            state = given.get("state")
            if state is not None and state not in known:
                raise HTTPException(400, f"state is one of {', '.join(known)}")
            try:
                after = path_at(given.get("after", ""))
            except ValueError as error:
                raise HTTPException(400, "after is what the page before gave as next") from error
            page = DocumentPage(_number(given, "limit", 100, MOST_ITEMS), known.get(state or ""), after)
        told = await self.views.status(page, given.get("mirror"))
        return json_answer(told, headers={WORD_HEADER: self.word})

    async def held(self, request: Request) -> Response:
        """What of `mirror` waits for a person, with the version that `approve` has to name.

        Deletions, or with `kind=renewals` documents to be indexed again.
        """
        name, kind = request.query_params.get("mirror", ""), _kind_in(request.query_params)
        self._check_mirror(name)
        return json_answer((await self.views.held(name, kind)).to_json())

    async def search(self, request: Request) -> Response:
        """The reply to `q`: `k` hits of `mirror` or of all; with `unfinished=1` for what is being typed."""
        given, name = request.query_params, request.query_params.get("mirror", "")
        text = given.get("q", "").strip()
        if not 0 < len(text) <= LONGEST_QUERY:
            raise HTTPException(400, f"q is a query of 1 to {LONGEST_QUERY} characters")
        most, unfinished = _number(given, "k", 10, MOST_HITS), given.get("unfinished") == "1"
        query, only = Query(text, most, unfinished=unfinished, own=bool(name)), [name] if name else []
        if name:
            self._check_mirror(name)
        if self._searching.locked():
            raise HTTPException(503, "other searches are running; try again in a moment")

        try:
            async with self._searching, asyncio.timeout(SEARCH_SECONDS):
                # In the loop of the mirrors, where they come and go.
                reply = await self._ask(lambda: search(self._mirrors, query, only, soon=True))
        except TimeoutError as error:
            raise HTTPException(504, f"no answer within {SEARCH_SECONDS:.0f} s") from error
        hits = (shortened(each, LONGEST_PASSAGE, passages=MOST_PASSAGES, plain=True) for each in reply.hits)
        return json_answer({"hits": list(map(hit_json, hits)), "notes": reply.note_lines()})

    async def events(self, _request: Request) -> EventStream:
        """The stream of events."""
        client = self.hub.join()
        if client is None:
            raise HTTPException(503, "too many pages are open")
        return EventStream(self.hub, client, {WORD_HEADER: self.word})

    # -- what a person orders ------------------------------------------------------------------------------

    async def order(self, verb: str, request: Request) -> Response:
        """Leave `verb` for a mirror in the inbox.

        The body names the `mirror`; for a retry `paths`, or all that failed; for an approval the `version` of
        the held list of a `kind` as it was shown.
        """
        self._check_own_page(request.headers)
        try:
            told = json.loads(await body_of(request, LARGEST_BODY, BODY_SECONDS))
        except (ValueError, RecursionError) as error:
            raise HTTPException(400, "the body is not JSON") from error
        if not isinstance(told, dict) or not isinstance(told.get("mirror"), str):
            raise HTTPException(400, 'the body names no mirror: {"mirror": "…"}')
        mirror, paths, kind = told["mirror"], told.get("paths"), _kind_in(told)
        if paths is not None and not (isinstance(paths, list) and all(isinstance(one, str) for one in paths)):
            raise HTTPException(400, "paths is a list of strings")
        self._check_mirror(mirror)
        args: dict[str, Any] = {}
        if verb == "retry":
            args["paths"] = paths
        elif verb == "approve":
            # Exactly what was shown (promise 5): nothing can join a hold, and a changed list is refused.
            held, version = await self.views.held(mirror, kind), str(told.get("version", ""))
            if not held.count or not hmac.compare_digest(held.version.encode(), version.encode()):
                raise HTTPException(409, "the list has changed since it was shown; look at it again")
            args["holds"] = list(held.holds)
        try:
            async with asyncio.timeout(ORDER_SECONDS):
                await self._ask(partial(self._post, verb, mirror, args))
        except TimeoutError as error:
            why = f"kbsync did not take it within {ORDER_SECONDS:.0f} s; look before you ask again"
            raise HTTPException(503, why) from error
        log.info("order.taken", mirror=mirror, verb=verb)
        return json_answer({"asked": verb, "mirror": mirror}, 202)

    def _check_own_page(self, headers: Mapping[str, str]) -> None:
        """Refuse what another page may have made a browser send."""
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        if site not in (None, "same-origin"):
            raise HTTPException(403, "the request comes from another site")
        # A browser says itself that the request is our own page's. A proxy may put its own name into `Host`.
        hosts = (headers.get("host"), headers.get("x-forwarded-host"))
        if origin is not None and site is None and origin.partition("://")[2] not in hosts:
            why = "the request comes from another origin; a proxy must pass Host on or set X-Forwarded-Host"
            raise HTTPException(403, why)
        if not hmac.compare_digest(headers.get(WORD_HEADER, "").encode(), self.word.encode()):
            raise HTTPException(403, f"the header {WORD_HEADER} lacks the word that GET /api/status gives")
        # A form of another site can send any type but this one without asking first (CORS).
        if headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise HTTPException(403, "the body is not application/json")

    def _check_mirror(self, name: str) -> None:
        if not any(one.name == name for one in self.views.mirrors):
            raise HTTPException(404, "there is no mirror of this name")

    # -- the loop of the mirrors ---------------------------------------------------------------------------

    async def _post(self, verb: str, mirror: str, args: Mapping[str, Any]) -> None:
        """Leave a message in the inbox. Raises `StateError`."""
        run = self._runs.get(mirror)
        if run is None:
            raise StateError("the mirror is not running at the moment; try again")
        await run.store.write(lambda tx: tx.inbox.post(verb, mirror, args, run.clock.wall()))
        await asyncio.to_thread(wake, self._state_dir)

    async def _hurry(self, mirror: str, ids: Collection[str]) -> None:
        """A service called back about these documents. What cannot be asked about now is polled anyway."""
        run = self._runs.get(mirror)
        if run is None or run.bound is None:
            return
        try:
            await run.bound.hurry(ids)
        except StateError:
            # The worker meets it as well, and logs it.
            return
        except Exception:
            log.exception("callback.failed", mirror=mirror)


@cache
def content(name: str) -> bytes:
    """One of `TYPES`."""
    return files("kbsync.server").joinpath("static", name).read_bytes()


async def asset(request: Request) -> Response:
    """The page, or one of its parts. They hold nobody's data, so they need no token."""
    name = request.path_params.get("name", PAGE)
    if name not in TYPES:
        return PlainTextResponse("not found\n", 404)
    return Response(content(name), media_type=TYPES[name])


def _kind_in(given: Mapping[str, Any]) -> str:
    kind = str(given.get("kind", DELETIONS))
    if kind not in (DELETIONS, RENEWALS):
        raise HTTPException(400, f"kind is {DELETIONS} or {RENEWALS}")
    return kind


def _number(given: Mapping[str, str], name: str, usual: int, most: int) -> int:
    told = given.get(name, str(usual))
    if not (told.isascii() and told.isdecimal() and 1 <= int(told[:9]) <= most):
        raise HTTPException(400, f"{name} is a number from 1 to {most}")
    return int(told)


async def _refused(_request: Request, error: HTTPException) -> Response:
    return json_answer({"error": error.detail}, error.status_code, dict(error.headers or {}))


async def _state_failed(_request: Request, error: StateError) -> Response:
    return refusal(str(error), 503)
