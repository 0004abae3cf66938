"""Bodies of requests as streams of known length: JSON, and multipart with one file.

JSON that carries whole files in base64, made while it is sent: no file is held in memory.

Reading an answer's bytes: bounded, whatever the sender says of their length or packs into them.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, BinaryIO

import httpx

from kbsync.contract.target import Body
from kbsync.core.text import printable
from kbsync.targets.http.errors import (
    EXCERPT,
    AnswerLostError,
    BodyChangedError,
    BodyMissingError,
    TooLargeError,
)

CHUNK = 64 * 1024
"""Bytes that are read and sent at a time, at most."""

Take = Callable[[int], Awaitable[None]]
"""Waits until so many bytes may be sent."""

_UNFIT = re.compile(r'[\x00-\x1f\x7f"]')


@dataclass(frozen=True, slots=True)
class FilePart:
    """A file in a form: the field's name, the file's own name, its bytes."""

    name: str
    filename: str
    body: Body
    content_type: str = "application/octet-stream"


class RequestBody(httpx.AsyncByteStream):
    """The bytes of a request's body, at most `chunk` at a time, each waited for with `take`.

    `open` before it is sent and `close` after it. `sent` counts bytes given away. Raises
    `BodyChangedError` before the last byte where a file is not as long as it was said to be, so that the
    receiver can never take a changed file for the whole one.
    """

    def __init__(
        self, content_type: str, head: bytes, part: FilePart | None = None, tail: bytes = b""
    ) -> None:
        self._head, self._part, self._tail = head, part, tail
        self._content_type = content_type
        self._file: BinaryIO | None = None
        self._pieces: Iterator[bytes] = iter(())
        self._take: Take | None = None
        self.sent = 0

    @property
    def size(self) -> int:
        """Length in bytes."""
        return len(self._head) + (self._part.body.size if self._part else 0) + len(self._tail)

    @property
    def headers(self) -> Mapping[str, str]:
        """What the receiver has to know of it."""
        return {"Content-Type": self._content_type, "Content-Length": str(self.size)}

    def open(self, take: Take, chunk: int = CHUNK) -> None:
        """Begin; raises `BodyMissingError` where the file cannot be opened."""
        self._take = take
        if self._part is not None:
            try:
                self._file = self._part.body.open()
            except OSError as error:
                raise BodyMissingError(f"the file cannot be opened: {error.strerror or error}") from None
        self._pieces = joined(self._read(chunk), chunk)

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()

    def __aiter__(self) -> RequestBody:
        return self

    async def __anext__(self) -> bytes:
        """The next piece, when it may be sent."""
        piece = next(self._pieces, None)
        if piece is None:
            raise StopAsyncIteration
        if self._take is not None:
            await self._take(len(piece))
        self.sent += len(piece)
        return piece

    def _read(self, chunk: int) -> Iterator[bytes]:
        yield self._head
        if self._part is not None and self._file is not None:
            yield from exactly(self._file, self._part.body.size, chunk)
        yield self._tail


def form(fields: Mapping[str, str], part: FilePart, boundary: str = "") -> RequestBody:
    """A multipart body: the fields in their order, then the file. Raises UnicodeEncodeError on odd names.

    Names are raw UTF-8 in quotes with `"` and controls as `%22` and the like (WHATWG form encoding), and
    never `filename*`, which many Java parsers drop.
    """
    boundary = boundary or secrets.token_hex(16)
    pieces = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{_quoted(name)}"\r\n\r\n{text}\r\n'
        for name, text in fields.items()
    ]
    pieces.append(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{_quoted(part.name)}"; '
        f'filename="{_quoted(part.filename)}"\r\nContent-Type: {part.content_type}\r\n\r\n'
    )
    tail = f"\r\n--{boundary}--\r\n".encode()
    return RequestBody(f"multipart/form-data; boundary={boundary}", "".join(pieces).encode(), part, tail)


def _quoted(name: str) -> str:
    return _UNFIT.sub(lambda found: f"%{ord(found[0]):02X}", name)


def exactly(file: BinaryIO, size: int, chunk: int) -> Iterator[bytes]:
    """`size` bytes of a file, which has to end there."""
    left = size
    if not size and _read(file, 1):
        raise BodyChangedError("the file is no longer empty")
    while left:
        piece = _read(file, min(chunk, left))
        if not piece:
            raise BodyChangedError(f"the file is {left} bytes shorter than it was")
        left -= len(piece)
        if not left and _read(file, 1):
            raise BodyChangedError(f"the file is longer than the {size} bytes it had")
        yield piece


def _read(file: BinaryIO, size: int) -> bytes:
    try:
        return file.read(size)
    except (OSError, ValueError) as error:
        raise BodyChangedError(f"the file cannot be read: {error}") from None


def joined(pieces: Iterator[bytes], chunk: int) -> Iterator[bytes]:
    """The same bytes in pieces of `chunk` and a last one: each costs a write to the network."""
    rest = bytearray()
    for piece in pieces:
        rest += piece
        while len(rest) > chunk:
            yield bytes(rest[:chunk])
            del rest[:chunk]
    if rest:
        yield bytes(rest)


def base64_size(size: int) -> int:
    """Bytes that `size` bytes have in base64."""
    return 4 * -(-size // 3)


class JsonWithFiles(RequestBody):
    """A body of JSON in pieces: bytes as they are, a file as base64 (its quotes stand around it)."""

    def __init__(self, pieces: Sequence[bytes | Body]) -> None:
        super().__init__("application/json", b"")
        self._parts = pieces
        self._files: dict[int, BinaryIO] = {}
        self._open = ExitStack()

    @property
    def size(self) -> int:
        """Length in bytes."""
        return sum(len(one) if isinstance(one, bytes) else base64_size(one.size) for one in self._parts)

    def open(self, take: Take, chunk: int = CHUNK) -> None:
        """Begin; raises `BodyMissingError` where a file cannot be opened."""
        self._take = take
        for place, part in enumerate(self._parts):
            if not isinstance(part, bytes):
                self._files[place] = self._opened(part)
        self._pieces = joined(self._read(chunk), chunk)

    def close(self) -> None:
        """Let go of the files."""
        self._open.close()

    def _opened(self, body: Body) -> BinaryIO:
        try:
            return self._open.enter_context(body.open())
        except OSError as error:
            raise BodyMissingError(f"the file cannot be opened: {error.strerror or error}") from None

    def _read(self, chunk: int) -> Iterator[bytes]:
        for place, part in enumerate(self._parts):
            if isinstance(part, bytes):
                yield part
            else:
                yield from _encoded(exactly(self._files[place], part.size, chunk))


def _encoded(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Base64 of all of it; three bytes at a time make four, whatever the pieces are."""
    rest = b""
    for piece in pieces:
        whole = rest + piece
        end = len(whole) - len(whole) % 3
        rest = whole[end:]
        yield base64.b64encode(whole[:end])
    yield base64.b64encode(rest)


STEP = 64 * 1024
"""Bytes that are unpacked at a time."""

_PACKED = {"gzip", "x-gzip", "deflate"}
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS


class Unpacking:
    """Takes the packing off an answer a step at a time. Raises `AnswerLostError` on what cannot be unpacked.

    httpx would unpack a whole chunk at once, several layers deep: 64 KiB can be many GiB.
    """

    def __init__(self, encoding: str) -> None:
        name = encoding.strip().lower()
        if name not in _PACKED | {"", "identity"}:
            raise AnswerLostError(f"it is packed as {printable(name)[:40]!r}, which was not asked for")
        self._stream = zlib.decompressobj(_GZIP_OR_ZLIB) if name in _PACKED else None
        self._is_empty = True

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """What a chunk unpacks to, in pieces of at most `STEP`."""
        self._is_empty = False
        if self._stream is None:
            yield chunk
            return
        while chunk and not self._stream.eof:
            if piece := self._unpack(chunk):
                yield piece
            chunk = self._stream.unconsumed_tail

    def end(self) -> None:
        """No more comes."""
        if self._stream is not None and not (self._stream.eof or self._is_empty):
            raise AnswerLostError("its packed bytes are cut off")

    def _unpack(self, chunk: bytes) -> bytes:
        assert self._stream is not None
        try:
            return self._stream.decompress(chunk, STEP)
        except zlib.error:
            raise AnswerLostError("its packed bytes are damaged") from None


async def pieces(response: httpx.Response, most: int) -> AsyncGenerator[bytes, None]:
    """The unpacked bytes of an answer. Raises `TooLargeError` where they are more than `most`."""
    count = 0
    async for piece in _unpacked(response):
        count += len(piece)
        if count > most:
            raise TooLargeError(f"it is larger than {most:,} bytes")
        yield piece


async def _unpacked(response: httpx.Response) -> AsyncIterator[bytes]:
    if response.is_stream_consumed:  # a transport that held all of it has unpacked it as well
        yield response.content
        return
    unpacking = Unpacking(response.headers.get("content-encoding", ""))
    async for chunk in response.aiter_raw():
        for piece in unpacking.feed(chunk):
            yield piece
    unpacking.end()


async def whole(response: httpx.Response, most: int) -> bytes:
    """All bytes of an answer, as `pieces` gives them."""
    return b"".join([piece async for piece in pieces(response, most)])


def parsed(content: bytes) -> Any | None:
    """The JSON in `content`, with or without BOM; None where it is none."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def excerpt(content: bytes) -> str:
    """The beginning of an answer on one printable line."""
    beginning = content[: 4 * EXCERPT].decode("utf-8", "replace")
    return printable(" ".join(beginning.split()))[:EXCERPT]
