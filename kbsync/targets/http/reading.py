"""Reading an answer's bytes: bounded, whatever the sender says of their length or packs into them."""

from __future__ import annotations

import json
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Any

import httpx

from kbsync.core.printable import printable
from kbsync.targets.http.answers import EXCERPT
from kbsync.targets.http.failures import AnswerLostError, TooLargeError

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
