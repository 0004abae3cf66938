"""Request bodies, which are streamed without loading files into memory, and response bodies, which are read
up to a limit.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, BinaryIO, cast

import httpx

from kbsync.contract.target import Body
from kbsync.core.text import printable, replace_surrogates
from kbsync.dataclass import dataclass
from kbsync.targets.http.errors import (
    EXCERPT,
    BodyChangedError,
    BodyMissingError,
    CompressedError,
    TooLargeError,
)

CHUNK = 64 * 1024
"""Maximum number of bytes to read and send at a time."""

JSON, OCTETS = "application/json", "application/octet-stream"

Take = Callable[[int], Awaitable[None]]
"""Waits until the given number of bytes may be sent."""


@dataclass(frozen=True, slots=True)
class FilePart:
    """A file in a multipart form: the name of the field, the name of the file, and its bytes.

    `content_type`: None means the content type that matches the file name's extension.
    """

    name: str
    filename: str
    body: Body
    content_type: str | None = OCTETS


class RequestBody(httpx.AsyncByteStream):
    """The bytes of a request, with a known length.

    `sent` counts the bytes handed over. Call `start` before sending and `close` afterwards. If a file's
    length differs from the measured one, this raises `BodyChangedError` before the last byte, so that a
    changed file never arrives complete (promise 8).
    """

    def __init__(self, content_type: str, size: int, pieces: Iterable[bytes], files: ExitStack) -> None:
        self.size, self.sent = size, 0
        self.headers = {"Content-Type": content_type, "Content-Length": str(size)}
        self._pieces = iter(pieces)
        self._files = files
        self._take: Take | None = None

    def start(self, take: Take, chunk: int = CHUNK) -> None:
        """Yield pieces of at most `chunk` bytes, waiting for `take` before each."""
        self._take, self._pieces = take, _join_pieces(self._pieces, chunk)

    def close(self) -> None:
        """Close the files."""
        self._files.close()

    def __aiter__(self) -> RequestBody:
        return self

    async def __anext__(self) -> bytes:
        """Wait until the next piece may be sent, then return it."""
        piece = next(self._pieces, None)
        if piece is None:
            raise StopAsyncIteration
        if self._take is not None:
            await self._take(len(piece))
        self.sent += len(piece)
        return piece


def json_text(value: Any) -> bytes:
    """Return JSON as bytes.

    Lone surrogates, which occur in undecodable file names, are replaced with question marks.
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8", "replace")


def without_none(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a request that have a value."""
    return {name: value for name, value in fields.items() if value is not None}


def json_body(text: bytes) -> RequestBody:
    """Return a request body for encoded JSON."""
    return RequestBody(JSON, len(text), [text], ExitStack())


def form_body(fields: Mapping[str, Any], part: FilePart) -> RequestBody:
    """Return a multipart body: the fields in order, then the file. Raises `BodyMissingError`.

    A value that isn't text is sent as JSON. Like browsers, httpx writes names as raw UTF-8 in quotes, and
    never as `filename*`, which many Java parsers drop.
    """
    with ExitStack() as files:
        file = files.enter_context(MeasuredFile(part.body))
        sent_file = (part.filename, cast(BinaryIO, file), part.content_type)
        data = {
            name: value if isinstance(value, str) else json_text(value).decode()
            for name, value in fields.items()
        }
        form = httpx.Request("POST", "http://form", data=data, files={part.name: sent_file})
        assert isinstance(form.stream, httpx.SyncByteStream)
        size = int(form.headers["content-length"])
        return RequestBody(form.headers["content-type"], size, form.stream, files.pop_all())


def json_with_files(pieces: Sequence[bytes | Body]) -> RequestBody:
    """Return a JSON body made of pieces: bytes as they are, and a file as base64.

    The quotes are in the pieces around the file. Raises `BodyMissingError` if a file can't be opened.
    """
    with ExitStack() as files:
        opened = [
            piece if isinstance(piece, bytes) else files.enter_context(MeasuredFile(piece))
            for piece in pieces
        ]
        size = sum(len(part) if isinstance(part, bytes) else base64_size(part.size) for part in opened)
        encoded = ([part] if isinstance(part, bytes) else _base64(part) for part in opened)
        return RequestBody(JSON, size, itertools.chain.from_iterable(encoded), files.pop_all())


def base64_size(size: int) -> int:
    """Return the length of `size` bytes in base64."""
    return 4 * -(-size // 3)


class MeasuredFile:
    """A document opened for sending. It yields exactly the measured length, or raises an error (promise 8).

    Raises `BodyMissingError` if it can't be opened. httpx uses `seek` and `tell` to find a file's length;
    they report the length of the hashed bytes, not the file's current length.
    """

    def __init__(self, body: Body) -> None:
        try:
            self._file = body.open()
        except OSError as error:
            raise BodyMissingError(f"the file cannot be opened: {error.strerror or error}") from None
        self.size = self._remaining = body.size

    def __enter__(self) -> MeasuredFile:
        return self

    def __exit__(self, *_error: object) -> None:
        self._file.close()

    def tell(self) -> int:
        """Return the current position."""
        return self.size - self._remaining

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Do nothing, because httpx seeks only to the end, and back to the start before it reads."""
        return self.size if whence == os.SEEK_END else offset

    def read(self, limit: int = CHUNK) -> bytes:
        """Return the next bytes.

        Raises `BodyChangedError` at the last of them if the file is longer or shorter than measured.
        """
        try:
            piece = self._file.read(min(limit, self._remaining))
            self._remaining -= len(piece)
            goes_on = not self._remaining and bool(self._file.read(1))
        except (OSError, ValueError) as error:
            raise BodyChangedError(f"the file cannot be read: {error}") from None
        if self._remaining and not piece:
            raise BodyChangedError(f"the file is now {self._remaining} bytes shorter than before")
        if goes_on:
            raise BodyChangedError(f"the file is now longer than {self.size} bytes")
        return piece


def _base64(file: MeasuredFile) -> Iterator[bytes]:
    """Yield the base64 text of all pieces as a single stream, wherever the pieces are split."""
    rest = b""
    while piece := file.read():
        joined = rest + piece
        end = len(joined) - len(joined) % 3
        rest = joined[end:]
        yield base64.b64encode(joined[:end])
    yield base64.b64encode(rest)


def _join_pieces(pieces: Iterator[bytes], chunk: int) -> Iterator[bytes]:
    """Yield the same bytes in pieces of `chunk`, except that the last one may be shorter.

    Each piece is one write to the network.
    """
    rest = bytearray()
    for piece in pieces:
        rest += piece
        while len(rest) > chunk:
            yield bytes(rest[:chunk])
            del rest[:chunk]
    if rest:
        yield bytes(rest)


async def response_pieces(response: httpx.Response, limit: int) -> AsyncGenerator[bytes, None]:
    """Yield the bytes of a response. Raises `TooLargeError` for more than `limit` bytes.

    Raises `CompressedError` for a compressed response, which kbsync didn't request: a few bytes may unpack to
    gigabytes.
    """
    encoding = response.headers.get("content-encoding", "").strip().lower()
    if encoding not in ("", "identity"):
        raise CompressedError(
            f"the body is compressed with {printable(encoding)[:40]!r}, which kbsync did not request; "
            "turn off compression in the proxy or gateway"
        )
    count = 0
    async for piece in response.aiter_bytes():
        count += len(piece)
        if count > limit:
            raise TooLargeError(f"it is larger than {limit:,} bytes")
        yield piece


async def read_response(response: httpx.Response, limit: int) -> bytes:
    """Return all bytes of a response. Raises the same errors as `response_pieces`."""
    return b"".join([piece async for piece in response_pieces(response, limit)])


def parse_json(content: bytes | str) -> Any | None:
    """Parse the JSON in `content`, with or without a BOM. Return None if it isn't JSON.

    Bytes that aren't text, and lone surrogates, become U+FFFD.
    """
    try:
        # One broken name must not make a whole list unreadable, and a database accepts no lone surrogate.
        if isinstance(content, bytes):
            content = content.decode(json.detect_encoding(content), "replace")
        return json.loads(replace_surrogates(content))
    except (ValueError, RecursionError):
        return None


def excerpt(content: bytes) -> str:
    """Return the beginning of a response as one printable line."""
    beginning = content[: 4 * EXCERPT].decode("utf-8-sig", "replace")
    return printable(" ".join(beginning.split()))[:EXCERPT]
