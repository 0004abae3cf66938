"""One request of a client, from its headers to the end of the response, with the injected faults."""

from __future__ import annotations

import asyncio
import gzip
import http
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import replace
from email.utils import formatdate
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from kbsync_standin.faults import Fault
from kbsync_standin.kinds import BEFORE_BODY, TRANSPORT
from kbsync_standin.line import Line
from kbsync_standin.messages import Request, Response

if TYPE_CHECKING:
    from kbsync_standin.server import LogEntry, Server

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MAX_BODY_BYTES = 120_000_000
PEEK_BYTES = 64 << 10
"""How much of a body to read for the subject when a fault has to be chosen before the rest arrives."""

_PIECE_BYTES = 256 << 10
_BLANKS = b" " * _PIECE_BYTES
_NO_BODY = frozenset({204, 304})
_PHRASES = {status.value: status.phrase for status in http.HTTPStatus}
_WITHOUT_ANSWER = frozenset({"lost-answer", "hang", "late-effect", "cut-headers"})
_NEVER_WHOLE = frozenset(
    {"cut-headers", "cut-body", "reset-reading", "headers-then-silence", "truncated-json"}
)


class TooLarge(Exception):
    """A request's body is larger than `MAX_BODY_BYTES`."""


class Gone(Exception):
    """The client disconnected during its request."""


class Exchange:
    """One request and its response."""

    def __init__(
        self, server: Server, line: Line, head: Request, entry: LogEntry, receive: Receive, send: Send
    ) -> None:
        self._server, self._line, self._head, self._entry = server, line, head, entry
        self._receive, self._send = receive, send
        self._body = bytearray()
        self._is_whole = False
        self._fault: Fault | None = None

    async def run(self) -> None:
        """Read the request, do the work and respond, with the faults that apply. Raises `Gone` when the
        client leaves.
        """
        try:
            await self._run()
        except TooLarge:
            sentence = {"message": f"a request may have at most {MAX_BODY_BYTES} bytes"}
            await self._send_whole(Response.json(sentence, 413).having(connection="close"))

    async def _run(self) -> None:
        server, entry = self._server, self._entry
        # Refuse a body that is announced as too large without reading it, as gateways do.
        announced = int(self._head.headers.get("content-length", 0))
        if announced > MAX_BODY_BYTES:
            raise TooLarge
        # Faults that act while the request arrives are chosen from the first bytes that identify its subject.
        if early := server.faults.any_of(BEFORE_BODY, entry.op):
            if server.faults.needs_subject(entry.op):
                await self._read(PEEK_BYTES)
            self._head.body = bytes(self._body)
            entry.subject = server.subject_of_beginning(self._head)
            self._take_fault()
            match entry.fault:
                case "close-before":
                    self._line.close()
                    return
                case "reset-connect":
                    self._line.reset()
                    return
                case "reset-sending":
                    await self._read(announced // 2)
                    self._line.reset()
                    return
        slowly = self._fault is not None and self._fault.kind == "slow-reading"
        await self._read(rate=self._fault.args["bytes_per_second"] if self._fault and slowly else None)
        request = self._head
        request.body = bytes(self._body)
        entry.subject = server.subject(request)
        if not early:
            self._take_fault()
        response = self._response(request)
        if server.latency:
            await asyncio.sleep(server.latency)
        await self._answer(response)

    def _take_fault(self) -> None:
        self._fault = self._server.faults.take(self._entry.op, self._entry.subject)
        self._entry.fault = "" if self._fault is None else self._fault.kind

    async def _read(self, enough: float = float("inf"), rate: float | None = None) -> None:
        """Read the request's body, or at least `enough` bytes of it; `rate` in bytes a second."""
        clock = asyncio.get_running_loop().time
        started = clock()
        while not self._is_whole and len(self._body) < enough:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise Gone
            self._body += message["body"]
            self._is_whole = not message["more_body"]
            if len(self._body) > MAX_BODY_BYTES:
                raise TooLarge
            if rate is not None:
                await asyncio.sleep(started + len(self._body) / rate - clock())

    def _response(self, request: Request) -> Response:
        """Return the correct response; a transport fault decides whether the work is done before, after or
        never.
        """
        fault = self._fault
        if fault is None or fault.kind not in TRANSPORT:
            return self._server.answer(request, fault)
        if fault.kind == "late-effect" and fault.effect:
            self._server.late.schedule(fault.args["after"], lambda: self._server.answer(request, None))
        elif fault.effect:
            return self._server.answer(request, None)
        # Without the work there is no real response; faults that damage a response still need one.
        sentence = {"message": "the stand-in did no work", "code": 503}
        return Response.json(sentence, 200 if fault.kind in _NEVER_WHOLE else 503)

    async def _answer(self, response: Response) -> None:
        """Send the response, damaged as the fault requires."""
        line, kind, args = self._line, self._entry.fault, self._fault.args if self._fault else {}
        if self._fault is not None:
            response = _changed(response, self._fault, self._server.app.clock.now())
        self._entry.status = 0 if kind in _WITHOUT_ANSWER else response.status
        # Promise at least two bytes, so that cutting the body in half always loses one.
        promised = max(2, len(response.body))
        match kind:
            case "lost-answer":
                line.close()
            case "hang":
                await line.silence(args["seconds"])
                line.close()
            case "late-effect":
                if args["hang"]:
                    await line.silence(None)
                line.close()
            case "cut-headers":
                head = self._raw_head(response, b"HTTP/1.1")
                line.write(head[: len(head) // 2])
                line.close()
            case "cut-body" | "reset-reading":
                await self._send_head(response.having(content_length=str(promised)))
                await self._send_body(response.body[: promised // 2], more=True)
                line.close() if kind == "cut-body" else line.reset()
            case "headers-then-silence":
                await self._send_head(response.having(content_length=str(promised)))
                await line.silence(args["seconds"])
                line.close()
            case "very-large-body":
                length = max(args["bytes"], len(response.body))
                await self._send_head(response.having(content_length=str(length), connection="close"))
                await self._send_body(response.body, more=length > len(response.body))
                for remaining in range(length - len(response.body), 0, -_PIECE_BYTES):
                    # Stop, or gigabytes would be written into a socket that nobody reads.
                    if line.disconnected.is_set():
                        raise Gone
                    await self._send_body(
                        _BLANKS[: min(remaining, _PIECE_BYTES)], more=remaining > _PIECE_BYTES
                    )
            case "http10":
                # Without a length, closing the connection ends the response.
                bare = response.having(content_length="", connection="")
                line.write(self._raw_head(bare, b"HTTP/1.0") + response.body)
                line.close()
            case "late-answer":
                # Don't write to a client that gave up meanwhile.
                if await line.silence(args["seconds"]):
                    await self._send_whole(response)
            case "drip":
                # uvicorn writes the whole response at once; hold it back and send it byte by byte.
                line.hold()
                await self._send_whole(response)
                await line.drip(args["every"])
            case _ if response.every:
                await self._send_whole(response)
            case _:
                with line.together():
                    await self._send_whole(response)

    async def stay_open(self) -> None:
        """After the response, close the connection without notice if the fault requires it."""
        fault = self._fault
        if fault is None or fault.kind != "keepalive-close":
            return
        # A client's connection pool meets this: it learns that the server has closed only when it sends.
        if fault.args["on_next"]:
            self._line.closes_on_next = True
        else:
            self._line.is_deaf = True
            await asyncio.sleep(fault.args["after"])
            self._line.close()

    async def _send_whole(self, response: Response) -> None:
        """Send the response, at once or in its parts."""
        self._entry.status = response.status
        await self._send_head(response)
        body = b"" if response.status in _NO_BODY else response.body
        for length in response.parts if response.every else ():
            if not await self._line.silence(response.every):
                return
            await self._send_body(body[:length], more=True)
            body = body[length:]
        await self._send_body(body)

    async def _send_head(self, response: Response) -> None:
        start = {"type": "http.response.start", "status": response.status, "headers": self._fields(response)}
        await self._send(start)

    async def _send_body(self, body: bytes, more: bool = False) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": more})

    def _fields(self, response: Response) -> list[tuple[bytes, bytes]]:
        """Return the response's header fields; add `Date` and `Content-Length`, and drop empty ones."""
        fields = {name.lower(): value for name, value in response.headers.items()}
        if "date" not in fields:
            fields["date"] = formatdate(self._server.app.clock.now(), usegmt=True)
        if response.status not in _NO_BODY:
            fields.setdefault("content-length", str(len(response.body)))
        return [
            (name.encode(), value.encode("latin-1", "replace")) for name, value in fields.items() if value
        ]

    def _raw_head(self, response: Response, version: bytes) -> bytes:
        """Return the raw head of a response that bypasses uvicorn, which would reject invalid ones."""
        line = b"%s %d %s\r\n" % (version, response.status, _PHRASES.get(response.status, "").encode())
        return line + b"".join(b"%s: %s\r\n" % field for field in self._fields(response)) + b"\r\n"


def request_of(scope: MutableMapping[str, Any]) -> Request:
    """Return the request without its body."""
    target = scope["raw_path"].decode("latin-1")
    query = scope["query_string"].decode("latin-1")
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return Request(
        method=scope["method"],
        path=scope["path"],
        raw_target=f"{target}?{query}" if query else target,
        query=dict(parse_qsl(query, keep_blank_values=True)) if query else {},
        headers=headers,
    )


def _changed(response: Response, fault: Fault, now: float) -> Response:
    """Apply the fault to the response; faults that only affect sending return it unchanged."""
    args = fault.args
    match fault.kind:
        case "status":
            status, body = args["status"], args["body"]
            if body is None:
                replacement = _page(status, f"{status} {_PHRASES.get(status, '')}".strip())
            elif isinstance(body, str):
                replacement = Response(status, body.encode(), {"content-type": "text/plain; charset=utf-8"})
            else:
                replacement = Response.json(body, status)
            after = args["retry_after"]
            if after == "date":
                after = formatdate(now + 30, usegmt=True)
            elif after == "huge":
                after = 10**9
            return replacement if after is None else replacement.having(retry_after=str(after))
        case "redirect":
            return _page(args["status"], _PHRASES[args["status"]]).having(location=args["to"])
        case "truncated-json":
            content = response.body if len(response.body) > 1 else b'{"code":'
            return replace(response, body=content[: len(content) // 2])
        case "html":
            return _page(200, "502 Bad Gateway")
        case "gzip":
            return replace(response, body=gzip.compress(response.body)).having(content_encoding="gzip")
        case "empty":
            return replace(response, status=200, body=b"")
        case "bom":
            return replace(response, body=b"\xef\xbb\xbf" + response.body)
        case "wrong-type":
            return response.having(content_type="text/plain")
        case "no-date":
            return response.having(date="")
        case "connection-close":
            return response.having(connection="close")
        case _:
            return response


def _page(status: int, title: str) -> Response:
    body = f"<html>\r\n<head><title>{title}</title></head>\r\n<body><h1>{title}</h1></body>\r\n</html>\r\n"
    return Response(status, body.encode(), {"content-type": "text/html; charset=utf-8"})
