"""The values that the server and an application exchange: requests, responses, letters and the time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

JSON_TYPE = "application/json; charset=utf-8"


@dataclass(slots=True)
class Request:
    """One HTTP request with its body.

    `path` is percent-decoded and without the query, `raw_target` comes from the request line. In `query` the
    last of equal names wins. Names in `headers` are lower-case; the values of equal names are joined with
    `, `.
    """

    method: str
    path: str
    raw_target: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Response:
    """A response. The server adds `Date` and `Content-Length`; a header that is "" is not sent.

    `parts`: the lengths of the pieces to send, `every` seconds apart; none: the whole body at once.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    parts: tuple[int, ...] = ()
    every: float = 0.0

    @staticmethod
    def json(value: Any, status: int = 200) -> Response:
        """Return `value` as UTF-8 JSON. Raises `TypeError` if JSON can't represent it."""
        body = json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
        return Response(status, body, {"content-type": JSON_TYPE})

    def having(self, **headers: str) -> Response:
        """Return a copy with some headers replaced; write their names in lower case with `_` for `-`."""
        changed = {name.replace("_", "-"): value for name, value in headers.items()}
        unchanged = {name.lower(): value for name, value in self.headers.items()}
        return replace(self, headers=unchanged | changed)


@dataclass(frozen=True, slots=True)
class Letter:
    """A request that the service sends: JSON by POST, at a time of the stand-in's clock in epoch seconds.

    `slow`: real seconds between the two halves of the body.
    """

    due_at: float
    url: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    slow: float = 0.0


class StandInClock:
    """The stand-in's time: a given clock (real time by default) plus the time it was advanced by.

    Tests advance it instead of sleeping until a document is ready.
    """

    def __init__(self, real: Callable[[], float] = time.time) -> None:
        self._real = real
        self._offset = 0.0

    def now(self) -> float:
        """Return the stand-in's time in epoch seconds."""
        return self._real() + self._offset

    def advance(self, seconds: float) -> None:
        """Advance the time by `seconds`; a negative number sets it back."""
        self._offset += seconds
