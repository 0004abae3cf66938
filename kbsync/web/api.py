"""What the page and scripts read: status, what is held, searches, events, and metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from kbsync.contract.searching import Query
from kbsync.errors import StateError
from kbsync.state.entries import NOTED
from kbsync.state.holds import DELETIONS
from kbsync.web.answers import json_answer, refusal
from kbsync.web.frames import MOST_ITEMS, Asked, path_at
from kbsync.web.held import kind_of
from kbsync.web.orders import UNKNOWN, WORD_HEADER, Orders
from kbsync.web.outlook import Outlook
from kbsync.web.streams import Hub, Stream

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute
    from starlette.types import Receive, Scope, Send

    from kbsync.web.counting import Figures

SEARCH_SECONDS = 20.0
SEARCHES_AT_ONCE = 2
LONGEST_QUERY = 1000
MOST_HITS = 50

Seek = Callable[[Query, str], Awaitable[Mapping[str, Any]]]
"""Searches the mirrors, or the one named; asks their loop."""

Answer = Callable[["Request"], Awaitable["Response"]]


class Api:
    """The routes."""

    def __init__(self, outlook: Outlook, orders: Orders, hub: Hub, seek: Seek) -> None:
        self._outlook, self._orders, self._hub, self._seek = outlook, orders, hub, seek
        self._seeking = asyncio.Semaphore(SEARCHES_AT_ONCE)

    def routes(self) -> list[BaseRoute]:
        """For the application. What `/metrics` needs is loaded here: no scrape waits for it."""
        from starlette.routing import Route

        from kbsync.web.metrics import CONTENT_TYPE, rendered

        return [
            Route("/metrics", _telling(partial(self.metrics, rendered, CONTENT_TYPE))),
            Route("/api/status", _telling(self.status)),
            Route("/api/held", _telling(self.held)),
            Route("/api/search", _telling(self.search)),
            Route("/api/events", self.events),
            *self._orders.routes(),
        ]

    async def metrics(
        self, render: Callable[[Figures], bytes], content_type: str, _request: Request
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

        Deletions, or with `kind=renewals` documents to be indexed anew.
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
        return lasting(Stream(self._hub, client, {WORD_HEADER: self._orders.word}))


def lasting(stream: Stream) -> Response:
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


def _asked(given: Mapping[str, str]) -> Asked:
    """Raises `ValueError`."""
    state = given.get("state")
    known = {status.word: status for status in NOTED}
    if state is not None and state not in known:
        raise ValueError(f"state is one of {', '.join(known)}")
    after = path_at(given.get("after", ""))
    return Asked(_number(given, "limit", 100, MOST_ITEMS), known.get(state or ""), after)


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
