"""How an answer goes to the client: whole, or broken as a fault has it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from kbsync_standin.messages import Response
from kbsync_standin.wire import CHUNK_BYTES, Wire, header_fields, phrase

Args = Mapping[str, Any]
Send = Callable[[Wire, Response, str, Args], Awaitable[bool]]

WITHOUT_ANSWER = frozenset({"lost-answer", "hang", "late-effect", "cut-headers"})
"""Kinds after which the client knows no status."""


def sender(kind: str) -> Send:
    """The way in which a fault of this kind has an answer sent.

    It takes the wire, the answer, the `Date` and the fault's arguments, and says whether another request
    may follow on the connection. It raises `ConnectionError` when the client goes.
    """
    return _SENDERS.get(kind, send)


async def send(wire: Wire, response: Response, date: str, args: Args) -> bool:
    """Send the answer whole, or in its parts."""
    head, body = wire.rendered(response, date)
    if not response.every:
        await wire.write(head, body)
        return wire.goes_on()
    await wire.write(head)
    for length in response.parts:
        if not await wire.silence(response.every):
            return False
        await wire.write(body[:length])
        body = body[length:]
    return wire.goes_on()


async def _lost(wire: Wire, response: Response, date: str, args: Args) -> bool:
    return False


async def _cut_headers(wire: Wire, response: Response, date: str, args: Args) -> bool:
    head, _ = wire.rendered(response, date)
    await wire.write(head[: len(head) // 2])
    return False


async def _cut_body(wire: Wire, response: Response, date: str, args: Args) -> bool:
    head, body, promised = _promising(response, date)
    await wire.write(head, body[: promised // 2])
    return False


async def _reset_reading(wire: Wire, response: Response, date: str, args: Args) -> bool:
    await _cut_body(wire, response, date, args)
    wire.reset()
    return False


async def _hang(wire: Wire, response: Response, date: str, args: Args) -> bool:
    await wire.silence(args["seconds"])
    return False


async def _late_effect(wire: Wire, response: Response, date: str, args: Args) -> bool:
    if args["hang"]:
        await wire.silence(None)
    return False


async def _late_answer(wire: Wire, response: Response, date: str, args: Args) -> bool:
    still_there = await wire.silence(args["seconds"])
    return still_there and await send(wire, response, date, args)


async def _drip(wire: Wire, response: Response, date: str, args: Args) -> bool:
    head, body = wire.rendered(response, date)
    whole = head + body
    for at in range(len(whole)):
        await wire.write(whole[at : at + 1])
        if not await wire.silence(args["every"]):
            return False
    return wire.goes_on()


async def _headers_then_silence(wire: Wire, response: Response, date: str, args: Args) -> bool:
    head, _, _ = _promising(response, date)
    await wire.write(head)
    await wire.silence(args["seconds"])
    return False


async def _very_large(wire: Wire, response: Response, date: str, args: Args) -> bool:
    length = max(args["bytes"], len(response.body))
    head, body = _by_hand(response.having(content_length=str(length), connection="close"), date)
    await wire.write(head, body)
    for left in range(length - len(body), 0, -CHUNK_BYTES):
        await wire.write(_BLANKS[: min(left, CHUNK_BYTES)])
    return False


async def _http10(wire: Wire, response: Response, date: str, args: Args) -> bool:
    head, body = _by_hand(response.having(content_length="", connection=""), date)
    await wire.write(head.replace(b"HTTP/1.1", b"HTTP/1.0", 1), body)
    return False


def _promising(response: Response, date: str) -> tuple[bytes, bytes, int]:
    """Head, body, and the length that the head promises: there is always something left to be missed."""
    promised = max(2, len(response.body))
    return *_by_hand(response.having(content_length=str(promised)), date), promised


def _by_hand(response: Response, date: str) -> tuple[bytes, bytes]:
    """Head and body, written past the protocol, which would insist that lengths be true."""
    line = b"HTTP/1.1 %d %s\r\n" % (response.status, phrase(response.status))
    fields = [b"%s: %s\r\n" % (name, value) for name, value in header_fields(response, date)]
    return line + b"".join(fields) + b"\r\n", response.body


_BLANKS = b" " * CHUNK_BYTES

_SENDERS: Mapping[str, Send] = {
    "lost-answer": _lost,
    "cut-headers": _cut_headers,
    "cut-body": _cut_body,
    "reset-reading": _reset_reading,
    "hang": _hang,
    "late-answer": _late_answer,
    "late-effect": _late_effect,
    "drip": _drip,
    "headers-then-silence": _headers_then_silence,
    "very-large-body": _very_large,
    "http10": _http10,
}
