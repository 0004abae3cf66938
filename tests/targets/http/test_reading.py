from __future__ import annotations

import gzip
import json
import tracemalloc
import zlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from kbsync.targets.http import bodies
from kbsync.targets.http.errors import AnswerLostError, TooLargeError

MIB = 1024 * 1024


class Chunks(httpx.AsyncByteStream):
    def __init__(self, content: bytes, size: int = 65536) -> None:
        self._chunks = [content[at : at + size] for at in range(0, len(content), size)]

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk


def packed(content: bytes, encoding: str, chunk: int = 65536) -> httpx.Response:
    return httpx.Response(200, headers={"Content-Encoding": encoding}, stream=Chunks(content, chunk))


@pytest.mark.parametrize("chunk", [1, 7, 65536])
@pytest.mark.parametrize(
    ("pack", "encoding"),
    [(gzip.compress, "gzip"), (gzip.compress, " X-GZIP"), (zlib.compress, "deflate"), (bytes, "identity")],
)
async def test_what_was_packed_is_unpacked(pack: Any, encoding: str, chunk: int) -> None:
    content = b"0123456789" * 300
    assert await bodies.whole(packed(pack(content), encoding, chunk), MIB) == content


async def test_a_small_answer_that_unpacks_to_a_huge_one_is_left_at_the_limit() -> None:
    bomb = gzip.compress(bytes(48 * MIB))
    assert len(bomb) < 65536
    tracemalloc.start()
    try:
        with pytest.raises(TooLargeError):
            await bodies.whole(packed(bomb, "gzip"), MIB)
        assert tracemalloc.get_traced_memory()[1] < 4 * MIB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("encoding", ["gzip, gzip", "br", "zstd", "gzip\x1b[2J"])
async def test_packing_that_was_not_asked_for_is_not_read(encoding: str) -> None:
    with pytest.raises(AnswerLostError, match="not asked for") as caught:
        await bodies.whole(packed(gzip.compress(gzip.compress(b"a")), encoding), MIB)
    assert str(caught.value).isprintable()


async def test_packed_bytes_that_are_cut_off_or_damaged_are_lost() -> None:
    content = gzip.compress(b"text" * 1000)
    with pytest.raises(AnswerLostError, match="cut off"):
        await bodies.whole(packed(content[:-9], "gzip"), MIB)
    with pytest.raises(AnswerLostError, match="damaged"):
        await bodies.whole(packed(content[:9] + b"rubbish" + content[20:], "gzip"), MIB)


async def test_an_empty_answer_is_whole_whatever_its_packing() -> None:
    assert await bodies.whole(packed(b"", "gzip"), MIB) == b""


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b'{"a": 1}', {"a": 1}),
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        ('{"a": 1}'.encode("utf-16"), {"a": 1}),
        (b"", None),
        (b"<html>", None),
        (b'{"a": ', None),
        (b"\xff\xfe\xfd", None),
        (b"[" * 100_000, None),
        (b"1" * 10_000, None),
    ],
)
def test_json_is_read_or_there_is_none(content: bytes, value: Any) -> None:
    assert bodies.parsed(content) == value


def test_an_excerpt_is_short_and_printable() -> None:
    text = bodies.excerpt(b"\x1b[31m\r\n  \xff " + "文".encode() * 1000)
    assert text.isprintable()
    assert len(text) == 300


def test_an_excerpt_does_not_parse() -> None:
    assert bodies.excerpt(json.dumps({"a": "b\nc"}).encode()) == '{"a": "b\\nc"}'
