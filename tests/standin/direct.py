"""Calls a stand-in's application without a server, on a clock that the test sets."""

from __future__ import annotations

from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlsplit

import httpx

from kbsync_standin.faults import Fault
from kbsync_standin.messages import Request, Response, StandInClock
from tests.services import access


class Direct:
    """A stand-in without a server. `now`: the time, in seconds since the epoch. A document takes two
    seconds.
    """

    service: ClassVar[str]
    now = 1_699_843_200.0

    def __init__(self, **switches: Any) -> None:
        self.app = access.stand_in(self.service, 0, (2.0, 2.0), StandInClock(lambda: self.now))
        self.app.set_behaviour(switches)

    def send(
        self,
        method: str,
        target: str,
        *,
        key: str = access.KEY,
        headers: dict[str, str] | None = None,
        fault: Fault | None = None,
        **content: Any,
    ) -> Response:
        """Return the response to a request. `content`: its body, as `httpx.Request` accepts it."""
        settings = {"authorization": f"Bearer {key}"} if headers is None else headers
        sent = httpx.Request(method, f"http://here{target}", headers=settings, **content)
        query = dict(parse_qsl(urlsplit(target).query))
        request = Request(method, sent.url.path, target, query, dict(sent.headers), sent.read())
        return self.app.answer(request, fault)  # type: ignore[no-any-return]
