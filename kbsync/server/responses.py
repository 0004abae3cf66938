"""What requests bring and what answers are made of.

The dashboard's files, out of the package. They hold nobody's data, so they need no token.
"""

from __future__ import annotations

import asyncio
import json
from functools import cache
from importlib.resources import files
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

PATIENCE = 2.0
"""Seconds for a body to come."""


class TooMuchError(Exception):
    """A body that is longer than it may be, or did not come whole or in time."""


async def body_of(request: Request, largest: int, seconds: float) -> bytes:
    """The whole body. Raises `TooMuchError`."""
    body = b""
    try:
        async with asyncio.timeout(seconds):
            async for piece in request.stream():
                body += piece
                if len(body) > largest:
                    raise TooMuchError(f"more than {largest} bytes")
    except (TimeoutError, ClientDisconnect) as error:
        raise TooMuchError("it did not come whole") from error
    return body


def json_answer(told: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """JSON in plain ASCII: names may hold what is no Unicode, which no encoding would take."""
    return Response(json.dumps(told).encode("ascii"), status, headers, "application/json")


def refusal(why: str, status: int) -> Response:
    """`{"error": why}`."""
    return json_answer({"error": why}, status)


PREFIX = "/assets/"
PAGE = "page.html"
TYPES = {
    PAGE: "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
"""Everything that is served; no other name is looked for."""


@cache
def content(name: str) -> bytes:
    """One of `TYPES`."""
    return files("kbsync.server").joinpath("static", name).read_bytes()


def routes() -> list[Route]:
    """For the application."""
    return [Route("/", page), Route(f"{PREFIX}{{name}}", asset)]


async def page(_request: Request) -> Response:
    """The dashboard."""
    return _answer(PAGE)


async def asset(request: Request) -> Response:
    """One of its parts."""
    return _answer(request.path_params["name"])


def _answer(name: str) -> Response:
    if name not in TYPES:
        return PlainTextResponse("not found\n", 404)
    return Response(content(name), media_type=TYPES[name])
