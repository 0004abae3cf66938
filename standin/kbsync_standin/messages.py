"""Defines the values that the server and an application exchange: requests, responses, letters, the time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

JSON_TYPE = "application/json; charset=utf-8"


@dataclass(slots=True)
class Request:
    """One HTTP request, read whole.

    `number` counts the requests of one server from 1. `path` is percent-decoded and without the query,
    `raw_target` is what stood in the request line. In `query` the last of equal names wins. Names in
    `headers` are lower-case; the values of equal names are joined with `, `.
    """

    number: int
    method: str
    path: str
    raw_target: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Response:
    """An answer. The server adds `Date` and `Content-Length`; a header given as "" is not sent at all.

    `parts`: the lengths of the pieces that its body goes out in, `every` seconds apart; none: all at once.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    parts: tuple[int, ...] = ()
    every: float = 0.0

    @staticmethod
    def json(value: Any, status: int = 200) -> Response:
        """`value` as UTF-8 JSON. Raises `TypeError` for what JSON cannot say."""
        body = json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
        return Response(status, body, {"content-type": JSON_TYPE})

    def having(self, **headers: str) -> Response:
        """The same with other values for some headers, whose names are lower-case with `_` for `-`."""
        changed = {name.replace("_", "-"): value for name, value in headers.items()}
        kept = {name.lower(): value for name, value in self.headers.items()}
        return replace(self, headers=kept | changed)


@dataclass(frozen=True, slots=True)
class Letter:
    """What the vendor sends by itself: JSON by POST, `at` seconds since the epoch by the stand-in's clock.

    `about`: the document. `slow`: real seconds between the two halves of the body.
    """

    at: float
    about: str
    url: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    slow: float = 0.0


class StandInClock:
    """The stand-in's time: the clock given (real time by default) plus what it was advanced by.

    No test has to sleep until a document is ready.
    """

    def __init__(self, real: Callable[[], float] = time.time) -> None:
        self._real = real
        self._offset = 0.0

    def now(self) -> float:
        """Return the stand-in's time in epoch seconds."""
        return self._real() + self._offset

    def advance(self, seconds: float) -> None:
        """From now on it is `seconds` later (earlier, if negative)."""
        self._offset += seconds
