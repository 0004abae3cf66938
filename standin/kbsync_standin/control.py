"""The control API under `/_standin`, for tests and for trying a stand-in by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from kbsync_standin.faults import parse_fault

if TYPE_CHECKING:
    from kbsync_standin.server import Server

PREFIX = "/_standin"
ROUTES = {
    "": "an overview",
    "/requests": "the requests; DELETE resets the counts",
    "/documents": "all documents; POST stores one as another user",
    "/journal": "all events in order",
    "/violations": "requests against the service's rules",
    "/faults": "faults waiting; POST adds one or a list, DELETE removes all",
    "/behaviour": "the switches; PUT changes some",
    "/time": 'POST {"advance": seconds}',
    "/reset": "POST: back to the initial state",
}


Asgi = Callable[[MutableMapping[str, Any], Any, Any], Awaitable[None]]


class ControlResponse(JSONResponse):
    """A response in JSON that people can read; values that JSON lacks are shown as text."""

    def render(self, content: Any) -> bytes:
        """Encode with spaces after commas and colons."""
        return json.dumps(content, ensure_ascii=False, default=str).encode("utf-8", "surrogatepass")


def is_control(path: str) -> bool:
    """Return whether the path belongs to the control API."""
    return path == PREFIX or path.startswith(PREFIX + "/")


def control(server: Server) -> Asgi:
    """Return the control API of one server. Invalid requests get a 400 with a sentence."""
    app, faults, requests = server.app, server.faults, server.requests

    def overview(_: Any = None) -> dict[str, Any]:
        return {
            "app": app.name,
            "now": app.clock.now(),
            **{key: value for key, value in requests.snapshot().items() if key != "log"},
            "violations": len(app.violations),
            "late": len(server.late),
            **waiting(),
            "kinds": faults.kinds,
            "routes": {PREFIX + route: line for route, line in ROUTES.items()},
        }

    def waiting(_: Any = None) -> dict[str, Any]:
        return {"faults": [asdict(fault) for fault in faults.all]}

    def clear_requests(_: Any) -> dict[str, Any]:
        requests.clear()
        return requests.snapshot()

    def add_faults(body: Any) -> dict[str, Any]:
        # Check every fault before adding the first: a list with a mistake changes nothing.
        items = body if isinstance(body, list) else [body]
        for fault in [faults.validate(parse_fault(item)) for item in items]:
            faults.add(fault)
        return waiting()

    def clear_faults(_: Any) -> dict[str, Any]:
        faults.clear()
        return waiting()

    def set_behaviour(body: Any) -> dict[str, Any]:
        app.set_behaviour(_object(body))
        return asdict(app.behaviour)

    def advance(body: Any) -> dict[str, Any]:
        seconds: Any = _object(body).get("advance")
        is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
        if body.keys() != {"advance"} or not is_number or not math.isfinite(seconds):
            raise ValueError('advance the time with {"advance": seconds}')
        server.advance_here(seconds)
        return {"now": app.clock.now()}

    def reset(_: Any) -> dict[str, Any]:
        for state in (server.late, faults, requests):
            state.clear()
        app.reset()
        return overview()

    calls: dict[tuple[str, str], Callable[[Any], Any]] = {
        ("GET", ""): overview,
        ("GET", "/requests"): lambda _: requests.snapshot(),
        ("DELETE", "/requests"): clear_requests,
        ("GET", "/documents"): lambda _: app.snapshot(),
        ("POST", "/documents"): lambda given: app.put_foreign(_object(given)),
        ("GET", "/journal"): lambda _: app.journal(),
        ("GET", "/violations"): lambda _: app.violations,
        ("GET", "/faults"): waiting,
        ("POST", "/faults"): add_faults,
        ("DELETE", "/faults"): clear_faults,
        ("GET", "/behaviour"): lambda _: asdict(app.behaviour),
        ("PUT", "/behaviour"): set_behaviour,
        ("GET", "/time"): lambda _: {"now": app.clock.now()},
        ("POST", "/time"): advance,
        ("POST", "/reset"): reset,
    }

    def answer(method: str, path: str, body: bytes) -> ControlResponse:
        methods = [known_method for known_method, suffix in calls if PREFIX + suffix == path]
        if not methods:
            paths = ", ".join(PREFIX + suffix for suffix in ROUTES)
            return ControlResponse({"error": f"there is no {path}; there are {paths}"}, 404)
        if method not in methods:
            sentence = f"{path} does not take {method}"
            return ControlResponse({"error": sentence}, 405, {"allow": ", ".join(methods)})
        name = path.removeprefix(PREFIX)
        is_stored = method == "POST" and name in ("/documents", "/faults")
        try:
            value = _value(body) if method in ("POST", "PUT") and name != "/reset" else None
            return ControlResponse(calls[method, name](value), 201 if is_stored else 200)
        except ValueError as error:
            return ControlResponse({"error": str(error)}, 400)

    async def asgi(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        method = "GET" if request.method == "HEAD" else request.method
        await answer(method, request.url.path, await request.body())(scope, receive, send)

    return asgi


def _value(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError as error:
        raise ValueError(f"the body is not JSON: {error}") from None


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("the body has to be a JSON object")
    return value
