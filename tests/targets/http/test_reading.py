from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from kbsync.targets.http import bodies
from kbsync.targets.http.errors import AnswerLostError

MIB = 1024 * 1024


class Chunks(httpx.AsyncByteStream):
    def __init__(self, content: bytes, size: int = 65536) -> None:
        self._chunks = [content[at : at + size] for at in range(0, len(content), size)]

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk


def compressed(content: bytes, encoding: str, chunk: int = 65536) -> httpx.Response:
    return httpx.Response(200, headers={"Content-Encoding": encoding}, stream=Chunks(content, chunk))


async def test_a_small_answer_that_unpacks_to_a_huge_one_is_not_unpacked() -> None:
    bomb = gzip.compress(bytes(48 * MIB))
    assert len(bomb) < 65536
    tracemalloc.start()
    try:
        with pytest.raises(AnswerLostError, match="not asked for"):
            await bodies.whole_answer(compressed(bomb, "gzip"), MIB)
        assert tracemalloc.get_traced_memory()[1] < 4 * MIB
    finally:
        tracemalloc.stop()


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
