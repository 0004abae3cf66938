"""What the page and scripts may ask (GET), and what a person may ask for in the browser (POST).

A POST goes into the inbox, as what commands ask for does. Somebody else's page can make a browser send
requests, so a POST has to come from the page's own origin and to show, in a header, a word that only the page
could read.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from kbsync.contract.searching import Query
from kbsync.errors import StateError
from kbsync.server.events import EventHub, EventStream
from kbsync.server.metrics import CONTENT_TYPE, rendered
from kbsync.server.responses import PATIENCE, TooMuchError, body_of, json_answer, refusal
from kbsync.server.views import MOST_ITEMS, DocumentPage, Views, kind_of, path_at
from kbsync.state.approvals import DELETIONS
from kbsync.state.files import NOTED

log = structlog.get_logger("kbsync")

LARGEST_BODY = 64 * 1024
LONGEST_POST = 10.0
"""Seconds for a request to be in the inbox, on disk."""
SEARCH_SECONDS = 20.0
SEARCHES_AT_ONCE = 2
LONGEST_QUERY = 1000
MOST_HITS = 50

WORD_HEADER = "x-kbsync-word"
UNKNOWN_MIRROR = "there is no mirror of this name"
CHANGED = "what is held is not what was shown; look at it again"

Post = Callable[[str, str, Mapping[str, Any]], Awaitable[None]]
"""Leaves `verb` for a mirror, with its arguments, in the inbox. Raises `StateError`."""

Search = Callable[[Query, str], Awaitable[Mapping[str, Any]]]
"""Searches the mirrors, or the one named, in their loop."""

Answer = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class ActionRequest:
    """The body of a POST. `paths` None: all that failed. `version`: of the held list of a `kind` as shown."""

    mirror: str
    paths: list[str] | None = None
    version: str = ""
    kind: str = DELETIONS

    @classmethod
    def read(cls, body: bytes) -> ActionRequest:
        """Raises `ValueError` with what is wrong."""
        try:
            told = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise ValueError("the body is no JSON") from error
        if not isinstance(told, dict) or not isinstance(told.get("mirror"), str):
            raise ValueError('the body names no mirror: {"mirror": "…"}')
        kind, paths = kind_of(str(told.get("kind", DELETIONS))), told.get("paths")
        if paths is not None and not (isinstance(paths, list) and all(isinstance(one, str) for one in paths)):
            raise ValueError("paths is no list of texts")
        return cls(told["mirror"], paths, str(told.get("version", "")), kind)


class Api:
    """The routes below /api/, and /metrics. `word` is new at each start and told to who may see the page."""

    def __init__(self, views: Views, hub: EventHub, search: Search, post: Post) -> None:
        self.word = secrets.token_urlsafe(24)
        self._views, self._hub, self._search, self._post = views, hub, search, post
        self._searching = asyncio.Semaphore(SEARCHES_AT_ONCE)

    def routes(self) -> list[Route]:
        """For the application."""

        async def retry(action: ActionRequest) -> Response:
            return await self._leave("retry", action.mirror, {"paths": action.paths})

        async def verify(action: ActionRequest) -> Response:
            return await self._leave("audit", action.mirror, {})

        return [
            Route("/metrics", _in_json(self.metrics)),
            Route("/api/status", _in_json(self.status)),
            Route("/api/held", _in_json(self.held)),
            Route("/api/search", _in_json(self.search)),
            Route("/api/events", self.events),
            Route("/api/retry", self._action(retry), methods=["POST"]),
            Route("/api/approve", self._action(self._approve), methods=["POST"]),
            Route("/api/verify", self._action(verify), methods=["POST"]),
        ]

    async def metrics(self, _request: Request) -> Response:
        """The text of Prometheus."""
        return Response(rendered(await self._views.figures()), media_type=CONTENT_TYPE)

    async def status(self, request: Request) -> Response:
        """`kbsync status --json`; with `documents=1` and `limit`, `state`, `after` pages of documents."""
        asked = _document_page(request.query_params) if request.query_params.get("documents") else None
        told = await self._views.status(asked, request.query_params.get("mirror"))
        return json_answer(told, headers={WORD_HEADER: self.word})

    async def held(self, request: Request) -> Response:
        """What of `mirror` waits for a person, with the version that `approve` has to name.

        Deletions, or with `kind=renewals` documents to be indexed again.
        """
        name = request.query_params.get("mirror", "")
        kind = kind_of(request.query_params.get("kind", DELETIONS))
        if not self._views.knows(name):
            return refusal(UNKNOWN_MIRROR, 404)
        return json_answer((await self._views.held(name, kind)).to_json())

    async def search(self, request: Request) -> Response:
        """Hits for `q`, at most `k`, of `mirror` or of all; with `unfinished=1` for what is being typed."""
        given, name = request.query_params, request.query_params.get("mirror", "")
        text = given.get("q", "").strip()
        if not 0 < len(text) <= LONGEST_QUERY:
            raise ValueError(f"q is a query of 1 to {LONGEST_QUERY} characters")
        query = Query(text, _number(given, "k", 10, MOST_HITS), unfinished=given.get("unfinished") == "1")
        if name and not self._views.knows(name):
            return refusal(UNKNOWN_MIRROR, 404)
        if self._searching.locked():
            return refusal("other searches are under way; try again in a moment", 503)
        try:
            async with self._searching, asyncio.timeout(SEARCH_SECONDS):
                return json_answer(await self._search(query, name))
        except TimeoutError:
            return refusal(f"no answer within {SEARCH_SECONDS:.0f} s", 504)

    async def events(self, _request: Request) -> Response | EventStream:
        """The stream of events."""
        client = self._hub.join()
        if client is None:
            return refusal("too many pages are open", 503)
        return EventStream(self._hub, client, {WORD_HEADER: self.word})

    # -- what a person asks for ------------------------------------------------------------------------

    def _action(self, carry_out: Callable[[ActionRequest], Awaitable[Response]]) -> Answer:
        async def take(request: Request) -> Response:
            if why := self._distrust(request.headers):
                return refusal(why, 403)
            try:
                action = ActionRequest.read(await body_of(request, LARGEST_BODY, PATIENCE))
                if not self._views.knows(action.mirror):
                    return refusal(UNKNOWN_MIRROR, 404)
                return await carry_out(action)
            except (ValueError, TooMuchError) as error:
                return refusal(str(error), 400)
            except StateError as error:
                return refusal(str(error), 503)
            except TimeoutError:
                why = f"the mirrors did not take it within {LONGEST_POST:.0f} s; look before you ask again"
                return refusal(why, 503)

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
        # A form of another site can send any type but this one without asking first (CORS).
        if headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return "it is no application/json"
        return ""

    async def _approve(self, action: ActionRequest) -> Response:
        """Exactly what was shown (promise 5): more cannot join a hold, and a changed list is refused."""
        held = await self._views.held(action.mirror, action.kind)
        if not held.count or not hmac.compare_digest(held.version.encode(), action.version.encode()):
            return refusal(CHANGED, 409)
        return await self._leave("approve", action.mirror, {"holds": list(held.holds)})

    async def _leave(self, verb: str, mirror: str, args: Mapping[str, Any]) -> Response:
        async with asyncio.timeout(LONGEST_POST):
            await self._post(verb, mirror, args)
        log.info("order.taken", mirror=mirror, verb=verb)
        return json_answer({"asked": verb, "mirror": mirror}, 202)


def _in_json(answer: Answer) -> Answer:
    """What is wrong with the question or the state is told as JSON."""

    async def told(request: Request) -> Response:
        try:
            return await answer(request)
        except ValueError as error:
            return refusal(str(error), 400)
        except StateError as error:
            return refusal(str(error), 503)

    return told


def _document_page(given: Mapping[str, str]) -> DocumentPage:
    """Raises `ValueError`."""
    state = given.get("state")
    known = {status.word: status for status in NOTED}
    if state is not None and state not in known:
        raise ValueError(f"state is one of {', '.join(known)}")
    after = path_at(given.get("after", ""))
    return DocumentPage(_number(given, "limit", 100, MOST_ITEMS), known.get(state or ""), after)


def _number(given: Mapping[str, str], name: str, usual: int, most: int) -> int:
    told = given.get(name, str(usual))
    if not (told.isascii() and told.isdecimal() and 1 <= int(told[:9]) <= most):
        raise ValueError(f"{name} is a number from 1 to {most}")
    return int(told)
