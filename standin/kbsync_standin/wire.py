"""One connection: HTTP/1.1 as h11 reads and writes it, and the ways to break it off."""

from __future__ import annotations

import asyncio
import contextlib
import http
import socket
import struct
from urllib.parse import parse_qsl, unquote

import h11

from kbsync_standin.messages import Request, Response

MAX_BODY_BYTES = 120_000_000
CHUNK_BYTES = 256 << 10
MAX_HEAD_BYTES = 64 << 10
LINGER_SECONDS = 5.0

_PHRASES = {status.value: status.phrase for status in http.HTTPStatus}
_NO_BODY = frozenset({204, 304})


class TooLarge(Exception):
    """A request's body is above `MAX_BODY_BYTES`."""


class Gone(Exception):
    """The client has gone in the middle of its request."""


class Wire:
    """One client's connection, request after request."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._parts: list[bytes] = []
        self._read_bytes = 0
        self._whole = True
        self._method = b""

    async def head(self) -> Request | None:
        """The next request without its body, its number 0; None when the client sends no more.

        Raises `h11.RemoteProtocolError` for what is not HTTP.
        """
        self._parts, self._read_bytes, self._whole = [], 0, False
        event = await self._event()
        if not isinstance(event, h11.Request):
            return None
        self._method = event.method
        return _request(event)

    async def read(self, enough: float = float("inf"), bytes_per_second: float | None = None) -> bytes:
        """The request's body, or the beginning of it once at least `enough` bytes have come.

        Raises `TooLarge`, `Gone`, `h11.RemoteProtocolError`. May be called again for more.
        """
        clock = asyncio.get_running_loop().time
        begun = clock()
        piece = CHUNK_BYTES if bytes_per_second is None else max(1, int(bytes_per_second / 10))
        while not self._whole and self._read_bytes < enough:
            await self._read_more(piece)
            if bytes_per_second is not None:
                await asyncio.sleep(begun + self._read_bytes / bytes_per_second - clock())
        return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)

    def rendered(self, response: Response, date: str) -> tuple[bytes, bytes]:
        """The answer as it goes over the wire: head (with `Date` and length) and body.

        The protocol takes it as sent: write both whole, or break the connection off.
        """
        bodyless = self._method == b"HEAD" or response.status in _NO_BODY
        fields = header_fields(response, date)
        event = h11.Response(status_code=response.status, headers=fields, reason=phrase(response.status))
        head = self._sent(event)
        body = b"" if bodyless or not response.body else self._sent(h11.Data(data=response.body))
        return head, body + self._sent(h11.EndOfMessage())

    def _sent(self, event: h11.Event) -> bytes:
        return self._http.send(event) or b""

    async def write(self, *parts: bytes) -> None:
        """Send, and wait while the client is slow to read. Raises `ConnectionError` when it has gone."""
        self._writer.writelines(parts)
        await self._writer.drain()

    def goes_on(self) -> bool:
        """Both sides are done with this request and another may follow on the connection."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True

    async def next_bytes(self) -> None:
        """Wait until the client sends something more, or goes."""
        if not self._http.trailing_data[0]:
            await self._reader.read(1)

    async def silence(self, seconds: float | None) -> bool:
        """Say nothing for so long (None: for ever); False as soon as the client goes."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while early := await self._reader.read(CHUNK_BYTES):
                    self._http.receive_data(early)
                return False
        return True

    def reset(self) -> None:
        """Break off with a TCP reset."""
        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def close(self) -> None:
        """Close once everything written is sent. Repeatable."""
        if not self._whole:
            await self._linger()
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def _linger(self) -> None:
        """Say that no more will come, and let the client finish what it is sending, unread.

        Closing on unread bytes would make the kernel send a reset, which can destroy an answer.
        """
        with contextlib.suppress(OSError):
            async with asyncio.timeout(LINGER_SECONDS):
                self._writer.write_eof()
                while await self._reader.read(CHUNK_BYTES):
                    pass

    async def _read_more(self, at_most: int) -> None:
        try:
            event = await self._event(at_most)
        except h11.RemoteProtocolError:
            if self._reader.at_eof():
                raise Gone from None
            raise
        if isinstance(event, h11.Data):
            self._parts.append(bytes(event.data))
            self._read_bytes += len(event.data)
            if self._read_bytes > MAX_BODY_BYTES:
                raise TooLarge
        else:
            self._whole = True

    async def _event(self, at_most: int = CHUNK_BYTES) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            if self._http.they_are_waiting_for_100_continue:
                go_on = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
                await self.write(self._sent(go_on))
            self._http.receive_data(await self._reader.read(at_most))
        return event


def announced_bytes(request: Request) -> int:
    """The length of the body that the headers promise, 0 where they say none."""
    return int(request.headers.get("content-length", 0))


def header_fields(response: Response, date: str) -> list[tuple[bytes, bytes]]:
    """The header fields of an answer; `Date` and `Content-Length` are added, empty ones left out."""
    fields = {name.lower(): value for name, value in response.headers.items()}
    fields.setdefault("date", date)
    if response.status not in _NO_BODY:
        fields.setdefault("content-length", str(len(response.body)))
    return [(name.encode(), value.encode("latin-1", "replace")) for name, value in fields.items() if value]


def phrase(status: int) -> bytes:
    """The words that go with a status."""
    return _PHRASES.get(status, "").encode()


def _request(event: h11.Request) -> Request:
    target = event.target.decode("latin-1")
    path, _, query = _origin_form(target).partition("?")
    headers: dict[str, str] = {}
    for raw_name, raw_value in event.headers:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return Request(
        number=0,
        method=event.method.decode("latin-1"),
        path=unquote(path),
        raw_target=target,
        query=dict(parse_qsl(query, keep_blank_values=True)) if query else {},
        headers=headers,
    )


def _origin_form(target: str) -> str:
    """The target without scheme and host, which clients name when they take the server for a proxy."""
    if not target.startswith(("http://", "https://")):
        return target
    rest = target.partition("://")[2]
    return "/" + rest.partition("/")[2]
