"""What a person asks for in the browser: it goes into the inbox, as what commands ask for does.

A page of somebody else's can make a browser send requests. So an order has to come from the same origin as
the page, and to show in a header a word that only the page could read.

What the page and scripts read: status, what is held, searches, events, and metrics.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from kbsync.contract.searching import Query
from kbsync.errors import StateError
from kbsync.server.events import EventHub, EventStream
from kbsync.server.page import PATIENCE, TooMuchError, body_of, json_answer, refusal
from kbsync.server.views import MOST_ITEMS, DocumentPage, Views, kind_of, path_at
from kbsync.state.approvals import DELETIONS
from kbsync.state.files import NOTED

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute
    from starlette.types import Receive, Scope, Send

    from kbsync.server.counters import MetricFigures


log = structlog.get_logger("kbsync")

LARGEST_BODY = 64 * 1024
LONGEST = 10.0
"""Seconds for an order to be on disk."""

WORD_HEADER = "x-kbsync-word"
UNKNOWN = "there is no mirror of this name"
CHANGED = "what is held is not what was shown; look at it again"

Post = Callable[[str, str, Mapping[str, Any]], Awaitable[None]]
"""Leaves `verb` for a mirror, with its arguments, and wakes it. Raises `StateError`."""


@dataclass(frozen=True, slots=True)
class ActionRequest:
    """What was asked for. `paths` None: all that failed. `version`: of the held list of a `kind` as shown."""

    mirror: str
    paths: tuple[str, ...] | None = None
    version: str = ""
    kind: str = DELETIONS

    @classmethod
    def read(cls, body: bytes) -> ActionRequest:
        """Raises `ValueError` with what is wrong."""
        try:
            told = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise ValueError("the body is no JSON") from error
        match told:
            case {"mirror": str(mirror), **rest}:
                kind = kind_of(str(rest.get("kind", DELETIONS)))
                return cls(mirror, _paths(rest.get("paths")), str(rest.get("version", "")), kind)
        raise ValueError('the body names no mirror: {"mirror": "…"}')


def _paths(told: object) -> tuple[str, ...] | None:
    match told:
        case None:
            return None
        case [*paths] if all(isinstance(path, str) for path in paths):
            return tuple(map(str, paths))
    raise ValueError("paths is no list of texts")


@dataclass(slots=True)
class PageActions:
    """The routes. `word` is made anew at each start, and told to whoever may look at the page."""

    outlook: Views
    post: Post
    word: str = field(default_factory=lambda: secrets.token_urlsafe(24))

    def routes(self) -> list[BaseRoute]:
        """For the application."""
        from starlette.routing import Route

        return [
            Route(f"/api/{name}", self._taking(order), methods=["POST"])
            for name, order in (("retry", self._retry), ("approve", self._approve), ("verify", self._verify))
        ]

    def _taking(
        self, carry_out: Callable[[ActionRequest], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def take(request: Request) -> Response:
            why = self._distrust(request.headers)
            if why:
                return refusal(why, 403)
            try:
                order = ActionRequest.read(await body_of(request, LARGEST_BODY, PATIENCE))
                return await self._known(order, carry_out)
            except (ValueError, TooMuchError) as error:
                return refusal(str(error), 400)
            except StateError as error:
                return refusal(str(error), 503)
            except TimeoutError:
                return refusal(
                    f"the mirrors did not take it within {LONGEST:.0f} s; look before you ask again", 503
                )

        return take

    def _distrust(self, headers: Mapping[str, str]) -> str:
        """Why a request may be somebody else's; '' where it is the page's own."""
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        if site not in (None, "same-origin"):
            return "it comes from another site"
        if origin is not None and origin.partition("://")[2] != headers.get("host"):
            return "it comes from another origin"
        if not hmac.compare_digest(headers.get(WORD_HEADER, "").encode(), self.word.encode()):
            return f"the header {WORD_HEADER} does not have the word that GET /api/status gives"
        if headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return "it is no application/json"
        return ""

    async def _known(
        self, order: ActionRequest, carry_out: Callable[[ActionRequest], Awaitable[Response]]
    ) -> Response:
        if not self.outlook.knows(order.mirror):
            return refusal(UNKNOWN, 404)
        return await carry_out(order)

    async def _retry(self, order: ActionRequest) -> Response:
        paths = None if order.paths is None else list(order.paths)
        return await self._ask("retry", order.mirror, {"paths": paths})

    async def _verify(self, order: ActionRequest) -> Response:
        return await self._ask("audit", order.mirror, {})

    async def _approve(self, order: ActionRequest) -> Response:
        """Exactly what was shown: more cannot join a hold, and a changed list is refused."""
        held = await self.outlook.held(order.mirror, order.kind)
        if not held.count or not hmac.compare_digest(held.version.encode(), order.version.encode()):
            return refusal(CHANGED, 409)
        return await self._ask("approve", order.mirror, {"holds": list(held.holds)})

    async def _ask(self, verb: str, mirror: str, args: Mapping[str, Any]) -> Response:
        async with asyncio.timeout(LONGEST):
            await self.post(verb, mirror, args)
        log.info("order.taken", mirror=mirror, verb=verb)
        return json_answer({"asked": verb, "mirror": mirror}, 202)


SEARCH_SECONDS = 20.0
SEARCHES_AT_ONCE = 2
LONGEST_QUERY = 1000
MOST_HITS = 50

Seek = Callable[[Query, str], Awaitable[Mapping[str, Any]]]
"""Searches the mirrors, or the one named; asks their loop."""

Answer = Callable[["Request"], Awaitable["Response"]]


class ApiRoutes:
    """The routes."""

    def __init__(self, outlook: Views, orders: PageActions, hub: EventHub, seek: Seek) -> None:
        self._outlook, self._orders, self._hub, self._seek = outlook, orders, hub, seek
        self._seeking = asyncio.Semaphore(SEARCHES_AT_ONCE)

    def routes(self) -> list[BaseRoute]:
        """For the application. What `/metrics` needs is loaded here: no scrape waits for it."""
        from starlette.routing import Route

        from kbsync.server.metrics import CONTENT_TYPE, rendered

        return [
            Route("/metrics", _telling(partial(self.metrics, rendered, CONTENT_TYPE))),
            Route("/api/status", _telling(self.status)),
            Route("/api/held", _telling(self.held)),
            Route("/api/search", _telling(self.search)),
            Route("/api/events", self.events),
            *self._orders.routes(),
        ]

    async def metrics(
        self, render: Callable[[MetricFigures], bytes], content_type: str, _request: Request
    ) -> Response:
        """The text of Prometheus."""
        from starlette.responses import Response

        return Response(render(await self._outlook.figures()), media_type=content_type)

    async def status(self, request: Request) -> Response:
        """`kbsync status --json`; with `documents=1` and `limit`, `state`, `after` pages of documents."""
        asked = _asked(request.query_params) if request.query_params.get("documents") else None
        told = await self._outlook.status(asked, request.query_params.get("mirror"))
        return json_answer(told, headers={WORD_HEADER: self._orders.word})

    async def held(self, request: Request) -> Response:
        """What of `mirror` waits for a person, with the version that `approve` has to name.

        Deletions, or with `kind=renewals` documents to be indexed again.
        """
        name = request.query_params.get("mirror", "")
        kind = kind_of(request.query_params.get("kind", DELETIONS))
        if not self._outlook.knows(name):
            return refusal(UNKNOWN, 404)
        return json_answer((await self._outlook.held(name, kind)).to_json())

    async def search(self, request: Request) -> Response:
        """Hits for `q`, at most `k`, of `mirror` or of all; with `unfinished=1` for what is being typed."""
        query, name = _query(request.query_params), request.query_params.get("mirror", "")
        if name and not self._outlook.knows(name):
            return refusal(UNKNOWN, 404)
        if self._seeking.locked():
            return refusal("other searches are under way; try again in a moment", 503)
        try:
            async with self._seeking, asyncio.timeout(SEARCH_SECONDS):
                return json_answer(await self._seek(query, name))
        except TimeoutError:
            return refusal(f"no answer within {SEARCH_SECONDS:.0f} s", 504)

    async def events(self, _request: Request) -> Response:
        """The stream of events."""
        client = self._hub.join()
        if client is None:
            return refusal("too many pages are open", 503)
        return lasting(EventStream(self._hub, client, {WORD_HEADER: self._orders.word}))


def lasting(stream: EventStream) -> Response:
    """The stream, as a route has to give it."""
    from starlette.responses import Response

    class Lasting(Response):
        """An answer that lasts."""

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await stream(scope, receive, send)

    return Lasting()


def _telling(answer: Answer) -> Answer:
    """What is wrong with the question or the state is told as JSON."""

    async def told(request: Request) -> Response:
        try:
            return await answer(request)
        except ValueError as error:
            return refusal(str(error), 400)
        except StateError as error:
            return refusal(str(error), 503)

    return told


def _asked(given: Mapping[str, str]) -> DocumentPage:
    """Raises `ValueError`."""
    state = given.get("state")
    known = {status.word: status for status in NOTED}
    if state is not None and state not in known:
        raise ValueError(f"state is one of {', '.join(known)}")
    after = path_at(given.get("after", ""))
    return DocumentPage(_number(given, "limit", 100, MOST_ITEMS), known.get(state or ""), after)


def _query(given: Mapping[str, str]) -> Query:
    """Raises `ValueError`."""
    text = given.get("q", "").strip()
    if not 0 < len(text) <= LONGEST_QUERY:
        raise ValueError(f"q is a query of 1 to {LONGEST_QUERY} characters")
    unfinished = given.get("unfinished") == "1"
    return Query(text, _number(given, "k", 10, MOST_HITS), unfinished=unfinished)


def _number(given: Mapping[str, str], name: str, usual: int, most: int) -> int:
    told = given.get(name, str(usual))
    if not (told.isascii() and told.isdecimal() and 1 <= int(told[:9]) <= most):
        raise ValueError(f"{name} is a number from 1 to {most}")
    return int(told)
