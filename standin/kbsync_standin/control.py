"""The control API under `/_standin`: what tests and curious people may see and change."""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from kbsync_standin.faults import parsed

if TYPE_CHECKING:
    from kbsync_standin.server import Server

PREFIX = "/_standin"
ROUTES = {
    "": "an overview",
    "/requests": "what was asked; DELETE counts from nothing",
    "/documents": "what is held; POST stores one as somebody else",
    "/journal": "the effects in order",
    "/violations": "what clients did against the vendor's rules",
    "/faults": "faults waiting; POST adds one or a list, DELETE removes all",
    "/behaviour": "the switches; PUT changes some",
    "/time": 'POST {"advance": seconds}',
    "/reset": "POST: nothing held, counted or waiting",
}


class Shown(JSONResponse):
    """JSON for people to read; values that JSON has no word for are shown as text."""

    def render(self, content: Any) -> bytes:
        """With blanks after commas and colons."""
        return json.dumps(content, ensure_ascii=False, default=str).encode("utf-8", "surrogatepass")


def is_control(path: str) -> bool:
    """The path belongs to the control API."""
    return path == PREFIX or path.startswith(PREFIX + "/")


def control(server: Server) -> Starlette:
    """The control API of one server. What makes no sense is answered 400 with a sentence."""
    app, faults, requests = server.app, server.faults, server.requests

    def waiting() -> list[dict[str, Any]]:
        return [asdict(fault) for fault in faults.all]

    def overview() -> dict[str, Any]:
        return {
            "app": app.name,
            "now": app.clock.now(),
            "total": requests.total,
            "by_op": dict(requests.by_op),
            "in_flight": requests.in_flight,
            "in_flight_max": requests.in_flight_max,
            "violations": len(app.violations),
            "late": len(server.late),
            "faults": waiting(),
            "kinds": faults.kinds,
            "routes": {PREFIX + route: line for route, line in ROUTES.items()},
        }

    async def show(request: Request) -> Shown:
        shows: dict[str, Callable[[], Any]] = {
            "": overview,
            "/requests": requests.snapshot,
            "/documents": app.snapshot,
            "/journal": app.journal,
            "/violations": lambda: app.violations,
            "/faults": lambda: {"faults": waiting()},
            "/behaviour": lambda: asdict(app.behaviour),
            "/time": lambda: {"now": app.clock.now()},
        }
        return Shown(shows[request.url.path.removeprefix(PREFIX)]())

    async def clear_requests(request: Request) -> Shown:
        requests.clear()
        return await show(request)

    async def put_foreign(request: Request) -> Shown:
        return Shown(app.put_foreign(await _object(request)), 201)

    async def add_faults(request: Request) -> Shown:
        given = await _value(request)
        # All are read before one is added: a list with a mistake in it changes nothing.
        for fault in [faults.checked(parsed(one)) for one in (given if isinstance(given, list) else [given])]:
            faults.add(fault)
        return Shown({"faults": waiting()}, 201)

    async def clear_faults(request: Request) -> Shown:
        faults.clear()
        return await show(request)

    async def set_behaviour(request: Request) -> Shown:
        app.set_behaviour(await _object(request))
        return await show(request)

    async def advance(request: Request) -> Shown:
        given = await _object(request)
        seconds = given.get("advance")
        is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
        if given.keys() != {"advance"} or not is_number or not math.isfinite(seconds or 0):
            raise ValueError('the time is advanced by {"advance": seconds}')
        app.clock.advance(seconds or 0)
        server.late.catch_up()
        return await show(request)

    async def reset(request: Request) -> Shown:
        server.late.clear()
        faults.clear()
        requests.clear()
        app.reset()
        app.violations.clear()
        return Shown(overview())

    calls: dict[tuple[str, str], Callable[[Request], Awaitable[Shown]]] = {
        ("DELETE", "/requests"): clear_requests,
        ("POST", "/documents"): put_foreign,
        ("POST", "/faults"): add_faults,
        ("DELETE", "/faults"): clear_faults,
        ("PUT", "/behaviour"): set_behaviour,
        ("POST", "/time"): advance,
        ("POST", "/reset"): reset,
    }

    def route(path: str) -> Route:
        methods = {method: call for (method, at), call in calls.items() if at == path}
        if path != "/reset":
            methods["GET"] = show

        async def call(request: Request) -> Shown:
            return await methods[request.method if request.method != "HEAD" else "GET"](request)

        return Route(PREFIX + path, call, methods=list(methods))

    async def refuse(request: Request, error: Exception) -> Shown:
        return Shown({"error": str(error)}, 400)

    async def unknown(request: Request, error: Exception) -> Shown:
        known = ", ".join(PREFIX + path for path in ROUTES)
        return Shown({"error": f"there is no {request.url.path}; there are {known}"}, 404)

    async def wrong_method(request: Request, error: Exception) -> Shown:
        headers = error.headers if isinstance(error, HTTPException) else None
        sentence = f"{request.url.path} does not take {request.method}"
        return Shown({"error": sentence}, 405, headers)

    async def broken(request: Request, error: Exception) -> Shown:
        return Shown({"error": f"the stand-in broke down: {error!r}"}, 500)

    handlers = {ValueError: refuse, 404: unknown, 405: wrong_method, Exception: broken}
    return Starlette(routes=[route(path) for path in ROUTES], exception_handlers=handlers)


async def _value(request: Request) -> Any:
    try:
        return json.loads(await request.body())
    except ValueError as error:
        raise ValueError(f"the body is no JSON: {error}") from None


async def _object(request: Request) -> dict[str, Any]:
    value = await _value(request)
    if not isinstance(value, dict):
        raise ValueError("the body has to be a JSON object")
    return value
