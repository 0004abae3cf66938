"""What requests bring and what answers are made of."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

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
