"""Receives callbacks in which a service announces finished documents. A callback only triggers a poll.

Source: section 3.9 of the service's knowledge API manual. The service POSTs JSON, without a signature, and
expects `code` 200 within two seconds. Callbacks may be duplicated, late, early or missing.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable, Collection, Mapping

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from kbsync.config.secrets import Secret
from kbsync.config.target import CALLBACK_PATH
from kbsync.server.responses import body_of

MAX_BODY_BYTES = 16 * 1024
PATIENCE = 1.0
"""Seconds to wait for a body; the service waits two seconds for the response."""

MAX_WAITING = 1000
"""Maximum number of a mirror's documents that may wait for a check; the usual polling covers the others."""

EVERY = 1.0
"""Seconds between deliveries of ids to the mirrors."""

_EVENT = "knowledge_construction"
_MAX_ID_LENGTH = 64

Deliver = Callable[[str, Collection[str]], Awaitable[None]]
"""Called with a mirror's name and document ids, in the mirrors' loop."""


class CallbackQueue:
    """Passes the ids from callbacks to `loop`, at most once every `EVERY` seconds.

    A service may send thousands of callbacks, one for each document.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        deliver: Deliver,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._loop, self._deliver, self._sleep = loop, deliver, sleep
        self._waiting: dict[str, set[str]] = {}
        self._passing: asyncio.Task[None] | None = None

    def hear(self, mirror: str, remote_id: str) -> None:
        """Record that a document may have changed.

        This can be called from any thread, and returns at once.
        """
        self._loop.call_soon_threadsafe(self._note, mirror, remote_id)

    def _note(self, mirror: str, remote_id: str) -> None:
        ids = self._waiting.setdefault(mirror, set())
        if len(ids) < MAX_WAITING:
            ids.add(remote_id)
        if self._passing is None or self._passing.done():
            self._passing = self._loop.create_task(self._pass_on())

    async def _pass_on(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, {}
            for mirror, ids in batch.items():
                await self._deliver(mirror, ids)
            await self._sleep(EVERY)


class CallbackRoute:
    """The route for callbacks. `secrets` has a secret for each mirror, and may be replaced at any time."""

    def __init__(self, hear: Callable[[str, str], None], secrets: Mapping[str, Secret]) -> None:
        self._hear = hear
        self.secrets = secrets

    def route(self) -> Route:
        """Return the route for the application."""
        return Route(f"{CALLBACK_PATH}{{secret}}", self.called, methods=["POST"])

    async def called(self, request: Request) -> Response:
        """Return 200 for any body, so that the service doesn't repeat the callback.

        Return 404 for an unknown path.
        """
        received, mirror = request.path_params["secret"].encode(), None
        # Compare with all secrets, so that a wrong one takes as long to check as the correct one.
        for name, secret in self.secrets.items():
            if hmac.compare_digest(received, secret.reveal().encode()):
                mirror = name
        if mirror is None:
            return PlainTextResponse("not found\n", 404)
        try:
            remote_id = document_in(await body_of(request, MAX_BODY_BYTES, PATIENCE))
        except HTTPException:
            remote_id = None
        if remote_id is not None:
            self._hear(mirror, remote_id)
        return JSONResponse({"code": 200, "message": "success"})


def document_in(body: bytes) -> str | None:
    """Return the id of the event's document, or None for any other body.

    The status in the event is ignored.
    """
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError):
        return None
    event = payload.get("event") if isinstance(payload, dict) and payload.get("eventId") == _EVENT else None
    match event.get("documentId") if isinstance(event, dict) else None:
        case str() as document_id if document_id.isascii() and 0 < len(document_id) <= _MAX_ID_LENGTH:
            return document_id
        case bool():
            return None
        case int() as number:
            return str(number)
    return None
