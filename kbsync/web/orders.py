"""What a person asks for in the browser: it goes into the inbox, as what commands ask for does.

A page of somebody else's can make a browser send requests. So an order has to come from the same origin as
the page, and to show in a header a word that only the page could read.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog

from kbsync.errors import StateError
from kbsync.state.holds import DELETIONS
from kbsync.web.answers import PATIENCE, TooMuchError, body_of, json_answer, refusal
from kbsync.web.held import kind_of
from kbsync.web.outlook import Outlook

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

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
class Order:
    """What was asked for. `paths` None: all that failed. `version`: of the held list of a `kind` as shown."""

    mirror: str
    paths: tuple[str, ...] | None = None
    version: str = ""
    kind: str = DELETIONS

    @classmethod
    def read(cls, body: bytes) -> Order:
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
class Orders:
    """The routes. `word` is made anew at each start, and told to whoever may look at the page."""

    outlook: Outlook
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
        self, carry_out: Callable[[Order], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def take(request: Request) -> Response:
            why = self._distrust(request.headers)
            if why:
                return refusal(why, 403)
            try:
                order = Order.read(await body_of(request, LARGEST_BODY, PATIENCE))
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

    async def _known(self, order: Order, carry_out: Callable[[Order], Awaitable[Response]]) -> Response:
        if not self.outlook.knows(order.mirror):
            return refusal(UNKNOWN, 404)
        return await carry_out(order)

    async def _retry(self, order: Order) -> Response:
        paths = None if order.paths is None else list(order.paths)
        return await self._ask("retry", order.mirror, {"paths": paths})

    async def _verify(self, order: Order) -> Response:
        return await self._ask("audit", order.mirror, {})

    async def _approve(self, order: Order) -> Response:
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
