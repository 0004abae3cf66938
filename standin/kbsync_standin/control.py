"""The control API under `/_standin`: what tests and curious people may see and change."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from kbsync_standin.application import Application
from kbsync_standin.faults import Faults, parsed
from kbsync_standin.late import LateWork
from kbsync_standin.messages import Request, Response
from kbsync_standin.requests import Requests

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

Call = Callable[[Request], Response]


def is_control(path: str) -> bool:
    """The path belongs to the control API."""
    return path == PREFIX or path.startswith(PREFIX + "/")


class Control:
    """Answers the control API of one server. What makes no sense is answered 400 with a sentence."""

    def __init__(self, app: Application, faults: Faults, requests: Requests, late: LateWork) -> None:
        self._app = app
        self._faults = faults
        self._requests = requests
        self._late = late
        self._calls: Mapping[str, Mapping[str, Call]] = {
            "": {"GET": self._overview},
            "/requests": {"GET": self._show_requests, "DELETE": self._clear_requests},
            "/documents": {"GET": self._documents, "POST": self._put_foreign},
            "/journal": {"GET": lambda request: _answer(self._app.journal())},
            "/violations": {"GET": lambda request: _answer(self._app.violations)},
            "/faults": {"GET": self._show_faults, "POST": self._add_faults, "DELETE": self._clear_faults},
            "/behaviour": {"GET": self._show_behaviour, "PUT": self._set_behaviour},
            "/time": {"GET": self._time, "POST": self._advance},
            "/reset": {"POST": self._reset},
        }

    def answer(self, request: Request) -> Response:
        """Do what is asked."""
        calls = self._calls.get(request.path.removeprefix(PREFIX).rstrip("/"))
        if calls is None:
            known = ", ".join(PREFIX + route for route in ROUTES)
            return _refusal(404, f"there is no {request.path}; there are {known}")
        call = calls.get(request.method)
        if call is None:
            sentence = f"{request.path} takes {' and '.join(calls)}, not {request.method}"
            return _refusal(405, sentence).having(allow=", ".join(calls))
        try:
            return call(request)
        except ValueError as error:
            return _refusal(400, str(error))
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            return _refusal(500, f"the stand-in broke down: {error!r}")

    def _overview(self, request: Request) -> Response:
        return _answer(
            {
                "app": self._app.name,
                "now": self._app.clock.now(),
                "total": self._requests.total,
                "by_op": dict(self._requests.by_op),
                "in_flight": self._requests.in_flight,
                "in_flight_max": self._requests.in_flight_max,
                "violations": len(self._app.violations),
                "late": len(self._late),
                "faults": self._waiting(),
                "kinds": self._faults.kinds,
                "routes": {PREFIX + route: line for route, line in ROUTES.items()},
            }
        )

    def _waiting(self) -> list[dict[str, Any]]:
        return [dataclasses.asdict(fault) for fault in self._faults.all]

    def _show_requests(self, request: Request) -> Response:
        return _answer(self._requests.snapshot())

    def _clear_requests(self, request: Request) -> Response:
        self._requests.clear()
        return self._show_requests(request)

    def _documents(self, request: Request) -> Response:
        return _answer(self._app.snapshot())

    def _put_foreign(self, request: Request) -> Response:
        return _answer(self._app.put_foreign(_object(request)), 201)

    def _show_faults(self, request: Request) -> Response:
        return _answer({"faults": self._waiting()})

    def _add_faults(self, request: Request) -> Response:
        given = _value(request)
        # All are read before one is added: a list with a mistake in it changes nothing.
        faults = [
            self._faults.checked(parsed(one)) for one in (given if isinstance(given, list) else [given])
        ]
        for fault in faults:
            self._faults.add(fault)
        return _answer({"faults": self._waiting()}, 201)

    def _clear_faults(self, request: Request) -> Response:
        self._faults.clear()
        return self._show_faults(request)

    def _show_behaviour(self, request: Request) -> Response:
        return _answer(dataclasses.asdict(self._app.behaviour))

    def _set_behaviour(self, request: Request) -> Response:
        self._app.set_behaviour(_object(request))
        return self._show_behaviour(request)

    def _time(self, request: Request) -> Response:
        return _answer({"now": self._app.clock.now()})

    def _advance(self, request: Request) -> Response:
        given = _object(request)
        if given.keys() != {"advance"} or not _is_finite(given["advance"]):
            raise ValueError('the time is advanced by {"advance": seconds}')
        self._app.clock.advance(given["advance"])
        self._late.catch_up()
        return self._time(request)

    def _reset(self, request: Request) -> Response:
        self._late.clear()
        self._faults.clear()
        self._requests.clear()
        self._app.reset()
        self._app.violations.clear()
        return self._overview(request)


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _answer(value: Any, status: int = 200) -> Response:
    # What an application holds may have values that JSON has no word for: they are shown as text.
    return Response.json(json.loads(json.dumps(value, default=str)), status)


def _refusal(status: int, sentence: str) -> Response:
    return Response.json({"error": sentence}, status)


def _value(request: Request) -> Any:
    try:
        return json.loads(request.body)
    except ValueError as error:
        raise ValueError(f"the body is no JSON: {error}") from None


def _object(request: Request) -> dict[str, Any]:
    value = _value(request)
    if not isinstance(value, dict):
        raise ValueError("the body has to be a JSON object")
    return value
