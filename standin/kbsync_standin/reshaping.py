"""Faults that change an answer: each makes another `Response` of the one that was right."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from dataclasses import replace
from email.utils import formatdate
from typing import Any

from kbsync_standin.faults import Fault
from kbsync_standin.messages import Response
from kbsync_standin.wire import phrase

Args = Mapping[str, Any]
Reshape = Callable[[Response, Args, float], Response]

DATE_AHEAD_SECONDS = 30
HUGE_SECONDS = 10**9


def undone(fault: Fault) -> Response:
    """The answer that is sent, damaged as the fault has it, where the work was not done."""
    sentence = {"message": "the stand-in has not done the work", "code": 503}
    return Response.json(sentence, 200 if fault.kind in _NEVER_WHOLE else 503)


_NEVER_WHOLE = frozenset(
    {"cut-headers", "cut-body", "reset-reading", "headers-then-silence", "truncated-json"}
)


def reshaped(response: Response, fault: Fault, now: float) -> Response:
    """The answer as the fault has it; the same where it concerns the sending only."""
    reshape = _RESHAPES.get(fault.kind)
    return response if reshape is None else reshape(response, fault.args, now)


def _page(status: int, title: str) -> Response:
    body = f"<html>\r\n<head><title>{title}</title></head>\r\n<body><h1>{title}</h1></body>\r\n</html>\r\n"
    return Response(status, body.encode(), {"content-type": "text/html; charset=utf-8"})


def _status(_: Response, args: Args, now: float) -> Response:
    status = args["status"]
    answer = _status_body(status, args["body"])
    wish = args["retry_after"]
    return answer if wish is None else answer.having(retry_after=_retry_after(wish, now))


def _status_body(status: int, body: Any) -> Response:
    if body is None:
        return _page(status, f"{status} {phrase(status).decode()}".strip())
    if isinstance(body, str):
        return Response(status, body.encode(), {"content-type": "text/plain; charset=utf-8"})
    return Response.json(body, status)


def _retry_after(wish: float | str, now: float) -> str:
    if wish == "date":
        return formatdate(now + DATE_AHEAD_SECONDS, usegmt=True)
    return str(HUGE_SECONDS if wish == "huge" else wish)


def _redirect(_: Response, args: Args, now: float) -> Response:
    status = args["status"]
    return _page(status, phrase(status).decode()).having(location=args["to"])


def _truncated(response: Response, args: Args, now: float) -> Response:
    whole = response.body if len(response.body) > 1 else b'{"code":'
    return replace(response, body=whole[: len(whole) // 2])


def _html(_: Response, args: Args, now: float) -> Response:
    return _page(200, "502 Bad Gateway")


def _gzip(response: Response, args: Args, now: float) -> Response:
    return replace(response, body=gzip.compress(response.body)).having(content_encoding="gzip")


_RESHAPES: Mapping[str, Reshape] = {
    "status": _status,
    "redirect": _redirect,
    "truncated-json": _truncated,
    "html": _html,
    "gzip": _gzip,
    "empty": lambda response, args, now: replace(response, status=200, body=b""),
    "bom": lambda response, args, now: replace(response, body=b"\xef\xbb\xbf" + response.body),
    "wrong-type": lambda response, args, now: response.having(content_type="text/plain"),
    "no-date": lambda response, args, now: response.having(date=""),
    "connection-close": lambda response, args, now: response.having(connection="close"),
}
