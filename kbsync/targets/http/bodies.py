"""Bodies of requests, sent in pieces without a file in memory, and bodies of answers, read up to a bound."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

import httpx

from kbsync.contract.target import Body
from kbsync.core.text import printable
from kbsync.targets.http.errors import (
    EXCERPT,
    BodyChangedError,
    BodyMissingError,
    CompressedError,
    TooLargeError,
)

CHUNK = 64 * 1024
"""Bytes that are read and sent at a time, at most."""

JSON = "application/json"

Take = Callable[[int], Awaitable[None]]
"""Waits until so many bytes may be sent."""


@dataclass(frozen=True, slots=True)
class FilePart:
    """A file in a form: the field's name, the file's own name, its bytes."""

    name: str
    filename: str
    body: Body
    content_type: str = "application/octet-stream"


class RequestBody(httpx.AsyncByteStream):
    """The bytes of one request, of a length that is known beforehand. `sent` counts bytes given away.

    `start` it before it is sent and `close` it after. A file in it that is not as long as it was measured
    raises `BodyChangedError` before the last byte: a changed file never arrives as a whole one (promise 8).
    """

    def __init__(self, content_type: str, size: int, pieces: Iterable[bytes], files: ExitStack) -> None:
        self.size, self.sent = size, 0
        self.headers = {"Content-Type": content_type, "Content-Length": str(size)}
        self._pieces = iter(pieces)
        self._files = files
        self._take: Take | None = None

    def start(self, take: Take, chunk: int = CHUNK) -> None:
        """Give pieces of at most `chunk` bytes, each waited for with `take`."""
        self._take, self._pieces = take, _joined(self._pieces, chunk)

    def close(self) -> None:
        """Let go of the files."""
        self._files.close()

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


def json_text(value: Any) -> bytes:
    """JSON as bytes. A lone surrogate, as odd file names have, becomes a question mark."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8", "replace")


def json_body(text: bytes) -> RequestBody:
    """A body of JSON that is made already."""
    return RequestBody(JSON, len(text), [text], ExitStack())


def form_body(fields: Mapping[str, str], part: FilePart) -> RequestBody:
    """A multipart body: the fields in their order, then the file. Raises `BodyMissingError`.

    httpx writes names as raw UTF-8 in quotes, as browsers do, and never `filename*`, which many Java
    parsers drop.
    """
    with ExitStack() as files:
        file = files.enter_context(MeasuredFile(part.body))
        sent_file = (part.filename, cast(BinaryIO, file), part.content_type)
        form = httpx.Request("POST", "http://form", data=dict(fields), files={part.name: sent_file})
        assert isinstance(form.stream, httpx.SyncByteStream)
        size = int(form.headers["content-length"])
        return RequestBody(form.headers["content-type"], size, form.stream, files.pop_all())


def file_body(body: Body, content_type: str = "application/octet-stream") -> RequestBody:
    """The bytes of one file and nothing else. Raises `BodyMissingError`."""
    with ExitStack() as files:
        file = files.enter_context(MeasuredFile(body))
        return RequestBody(content_type, file.size, iter(file.read, b""), files.pop_all())


def json_with_files(pieces: Sequence[bytes | Body]) -> RequestBody:
    """A body of JSON in pieces: bytes as they are, a file as base64 (its quotes stand around it).

    Raises `BodyMissingError` where a file cannot be opened.
    """
    with ExitStack() as files:
        opened = [one if isinstance(one, bytes) else files.enter_context(MeasuredFile(one)) for one in pieces]
        size = sum(len(one) if isinstance(one, bytes) else base64_size(one.size) for one in opened)
        return RequestBody(JSON, size, _written(opened), files.pop_all())


def base64_size(size: int) -> int:
    """Bytes that `size` bytes have in base64."""
    return 4 * -(-size // 3)


class MeasuredFile:
    """A document that is read for sending: exactly as long as it was measured, or an error (promise 8).

    Raises `BodyMissingError` where it cannot be opened. `seek` and `tell` are there for httpx, which learns
    the length of a file by them: not the length it has by now, but the one that was hashed.
    """

    def __init__(self, body: Body) -> None:
        try:
            self._file = body.open()
        except OSError as error:
            raise BodyMissingError(f"the file cannot be opened: {error.strerror or error}") from None
        self.size = self._left = body.size

    def __enter__(self) -> MeasuredFile:
        return self

    def __exit__(self, *_error: object) -> None:
        self._file.close()

    def tell(self) -> int:
        """Where reading goes on."""
        return self.size - self._left

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Nothing moves: httpx only asks where the end is, and goes to the start before it reads."""
        return self.size if whence == os.SEEK_END else offset

    def read(self, most: int = CHUNK) -> bytes:
        """The next bytes. Raises `BodyChangedError` with the last of them where the file goes on or ended."""
        try:
            piece = self._file.read(min(most, self._left))
            self._left -= len(piece)
            goes_on = not self._left and bool(self._file.read(1))
        except (OSError, ValueError) as error:
            raise BodyChangedError(f"the file cannot be read: {error}") from None
        if self._left and not piece:
            raise BodyChangedError(f"the file is {self._left} bytes shorter than it was")
        if goes_on:
            raise BodyChangedError(f"the file is longer than the {self.size} bytes it had")
        return piece


def _written(parts: Sequence[bytes | MeasuredFile]) -> Iterator[bytes]:
    for part in parts:
        if isinstance(part, bytes):
            yield part
        else:
            yield from _base64(part)


def _base64(file: MeasuredFile) -> Iterator[bytes]:
    """Base64 of all of it; three bytes at a time make four, whatever the pieces are."""
    rest = b""
    while piece := file.read():
        whole = rest + piece
        end = len(whole) - len(whole) % 3
        rest = whole[end:]
        yield base64.b64encode(whole[:end])
    yield base64.b64encode(rest)


def _joined(pieces: Iterator[bytes], chunk: int) -> Iterator[bytes]:
    """The same bytes in pieces of `chunk` and a last one: each costs a write to the network."""
    rest = bytearray()
    for piece in pieces:
        rest += piece
        while len(rest) > chunk:
            yield bytes(rest[:chunk])
            del rest[:chunk]
    if rest:
        yield bytes(rest)


async def answer_pieces(response: httpx.Response, most: int) -> AsyncGenerator[bytes, None]:
    """The bytes of an answer. Raises `TooLargeError` where they are more than `most`.

    Raises `CompressedError` where they are compressed, which was not asked for: few bytes may be a bomb.
    """
    encoding = response.headers.get("content-encoding", "").strip().lower()
    if encoding not in ("", "identity"):
        raise CompressedError(f"it is compressed with {printable(encoding)[:40]!r}, which was not asked for")
    count = 0
    async for piece in response.aiter_bytes():
        count += len(piece)
        if count > most:
            raise TooLargeError(f"it is larger than {most:,} bytes")
        yield piece


async def whole_answer(response: httpx.Response, most: int) -> bytes:
    """All bytes of an answer, as `answer_pieces` gives them."""
    return b"".join([piece async for piece in answer_pieces(response, most)])


def parsed(content: bytes | str) -> Any | None:
    """The JSON in `content`, with or without BOM; None where it is none."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def excerpt(content: bytes) -> str:
    """The beginning of an answer on one printable line."""
    beginning = content[: 4 * EXCERPT].decode("utf-8", "replace")
    return printable(" ".join(beginning.split()))[:EXCERPT]
