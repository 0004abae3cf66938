"""Reads the bodies of requests and writes JSON answers."""

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
    """The whole body. Raises `HTTPException` where it is longer or does not come whole in time."""
    body = b""
    try:
        async with asyncio.timeout(seconds):
            async for piece in request.stream():
                body += piece
                if len(body) > largest:
                    raise HTTPException(too_large, f"the body has more than {largest} bytes")
    except (TimeoutError, ClientDisconnect) as error:
        raise HTTPException(too_late, "the body did not arrive whole") from error
    return body


def json_answer(told: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """JSON in plain ASCII."""
    # File names may hold bytes that are no Unicode, which no encoding but an escape takes.
    return Response(json.dumps(told).encode("ascii"), status, headers, "application/json")


def refusal(why: str, status: int) -> Response:
    """`{"error": why}`."""
    return json_answer({"error": why}, status)
