"""Reads request bodies and writes JSON responses."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response


async def body_of(
    request: Request, largest: int, seconds: float, *, too_large: int = 400, too_late: int = 400
) -> bytes:
    """Read the whole body. Raises `HTTPException` if it is too long or doesn't arrive in time."""
    body = b""
    try:
        async with asyncio.timeout(seconds):
            async for piece in request.stream():
                body += piece
                if len(body) > largest:
                    raise HTTPException(too_large, f"the request body exceeds {largest} bytes")
    except (TimeoutError, ClientDisconnect) as error:
        raise HTTPException(too_late, "the request body is incomplete") from error
    return body


def json_answer(payload: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return a response with JSON in plain ASCII."""
    # File names may contain bytes that aren't Unicode, which JSON can express only as an escape.
    return Response(json.dumps(payload).encode("ascii"), status, headers, "application/json")


def refusal(why: str, status: int) -> Response:
    """Return the response `{"error": why}`."""
    return json_answer({"error": why}, status)
