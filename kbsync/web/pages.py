"""What the listener answers. Nothing here waits for a mirror for longer than `PATIENCE`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from kbsync.web.answers import json_answer
from kbsync.web.heart import Heart
from kbsync.web.readiness import Standing

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

PATIENCE = 2.0
FRESH = 1.0
"""Seconds for which an answer of the mirrors is good: so often they are asked at most, by whoever many."""

Look = Callable[[], Awaitable[Sequence[Standing]]]


class Pages:
    """The routes. `look` asks the loop of the mirrors, from this thread's."""

    def __init__(self, heart: Heart, look: Look, steady: Callable[[], float] = time.monotonic) -> None:
        self._heart, self._look, self._steady = heart, look, steady
        self._asked: asyncio.Task[Sequence[Standing]] | None = None
        self._asked_at = 0.0

    def app(self, more: Sequence[BaseRoute] = ()) -> Starlette:
        """The application; `more`: further routes."""
        from starlette.applications import Starlette
        from starlette.routing import Route

        routes = [Route("/healthz", self.health), Route("/readyz", self.readiness), *more]
        return Starlette(routes=routes)

    async def health(self, _request: Request) -> Response:
        """200 while the loop of the mirrors turns."""
        from starlette.responses import PlainTextResponse

        if self._heart.is_beating:
            return PlainTextResponse("ok\n")
        return PlainTextResponse(f"the loop has stood still for {self._heart.silence:.0f} s\n", 503)

    async def readiness(self, _request: Request) -> Response:
        """200 once every mirror's first pass ended and none is halted; else which are not, and why."""
        try:
            standings = await self._standings()
        except TimeoutError:
            why = f"the loop of the mirrors did not answer within {PATIENCE:.0f} s"
            return json_answer({"ready": False, "detail": why, "mirrors": []}, 503)
        is_ready = not any(one.reason for one in standings)
        told = {"ready": is_ready, "mirrors": [one.to_json() for one in standings]}
        return json_answer(told, 200 if is_ready else 503)

    async def _standings(self) -> Sequence[Standing]:
        """Raises `TimeoutError`. One question serves all who ask meanwhile and for a moment after."""
        now = self._steady()
        if self._asked is None or (self._asked.done() and now - self._asked_at >= FRESH):
            self._asked, self._asked_at = asyncio.ensure_future(self._in_time()), now
        return await asyncio.shield(self._asked)

    async def _in_time(self) -> Sequence[Standing]:
        async with asyncio.timeout(PATIENCE):
            return await self._look()
