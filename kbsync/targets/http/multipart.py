"""Bodies of requests as streams of known length: JSON, and multipart with one file."""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

import httpx

from kbsync.contract.mirroring import Body
from kbsync.targets.http.failures import BodyChangedError, BodyMissingError

CHUNK = 64 * 1024
"""Bytes that are read and sent at a time, at most."""

Take = Callable[[int], Awaitable[None]]
"""Waits until so many bytes may be sent."""

_UNFIT = re.compile(r'[\x00-\x1f\x7f"]')


@dataclass(frozen=True, slots=True)
class Part:
    """A file in a form: the field's name, the file's own name, its bytes."""

    name: str
    filename: str
    body: Body
    content_type: str = "application/octet-stream"


class Outflow(httpx.AsyncByteStream):
    """The bytes of a request's body, at most `chunk` at a time, each waited for with `take`.

    `open` before it is sent and `close` after it. `sent` counts bytes given away. Raises
    `BodyChangedError` before the last byte where a file is not as long as it was said to be, so that the
    receiver can never take a changed file for the whole one.
    """

    def __init__(self, content_type: str, head: bytes, part: Part | None = None, tail: bytes = b"") -> None:
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

    def __aiter__(self) -> Outflow:
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


def form(fields: Mapping[str, str], part: Part, boundary: str = "") -> Outflow:
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
    return Outflow(f"multipart/form-data; boundary={boundary}", "".join(pieces).encode(), part, tail)


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
