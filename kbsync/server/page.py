"""The dashboard's files, out of the package. They hold nobody's data, so they need no token."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

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
