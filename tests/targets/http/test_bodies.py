"""Tests request bodies, whole responses and streams of events."""

from __future__ import annotations

import gzip
import time
import tracemalloc
from collections.abc import AsyncIterator
from email import message_from_bytes
from typing import Any

import httpx
import pytest

from kbsync.accounts.events import Event, EventReader
from kbsync.targets.http import bodies
from kbsync.targets.http.bodies import CHUNK, RequestBody, form_body
from kbsync.targets.http.errors import UnreadableResponseError
from tests.share import long
from tests.targets.bodies import BytesBody
from tests.targets.http.clients import part


async def no_wait(_size: int) -> None:
    """Allow every byte at once."""


async def pieces_of(body: RequestBody) -> list[bytes]:
    body.start(no_wait, CHUNK)
    try:
        return [piece async for piece in body]
    finally:
        body.close()


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK])
async def test_content_length_is_exact_and_no_chunk_is_large(size: int) -> None:
    content = bytes(range(256)) * (size // 256 + 1)
    body = form_body({"a": "1"}, part(BytesBody(content[:size])))
    pieces = await pieces_of(body)
    assert max(map(len, pieces)) <= CHUNK
    assert len(pieces) == -(-body.size // CHUNK)
    assert sum(map(len, pieces)) == int(body.headers["Content-Length"]) == body.sent
    head = f"Content-Type: {body.headers['Content-Type']}\r\n\r\n".encode()
    parts = message_from_bytes(head + b"".join(pieces)).get_payload()
    assert isinstance(parts, list)
    assert parts[1].get_payload(decode=True) == content[:size]  # type: ignore[union-attr]


MIB = 1024 * 1024


# ---- whole responses


class Chunks(httpx.AsyncByteStream):
    def __init__(self, content: bytes, size: int = 65536) -> None:
        self._chunks = [content[start : start + size] for start in range(0, len(content), size)]

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk


def compressed(content: bytes, encoding: str) -> httpx.Response:
    return httpx.Response(200, headers={"Content-Encoding": encoding}, stream=Chunks(content, 65536))


@long
async def test_decompression_bomb_is_not_unpacked() -> None:
    bomb = gzip.compress(bytes(48 * MIB))
    assert len(bomb) < 65536
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableResponseError, match="did not request"):
            await bodies.read_response(compressed(bomb, "gzip"), MIB)
        assert tracemalloc.get_traced_memory()[1] < 4 * MIB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b'{"a": 1}', {"a": 1}),
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        ('{"a": 1}'.encode("utf-16"), {"a": 1}),
        (b'["\\ud83d", "\\udc80.md", "\\ud83d\\ude00"]', ["\ufffd", "\ufffd.md", "\U0001f600"]),
        (b'["\xed\xa0\xbd", "\xff.md"]', ["\ufffd\ufffd\ufffd", "\ufffd.md"]),
        (b"", None),
        (b"<html>", None),
        (b'{"a": ', None),
        (b"\xff\xfe\xfd", None),
        (b"[" * 100_000, None),
        (b"1" * 10_000, None),
    ],
)
def test_json_is_parsed_or_none(content: bytes, value: Any) -> None:
    assert bodies.parse_json(content) == value


def test_excerpt_is_short_and_printable() -> None:
    text = bodies.excerpt(b"\x1b[31m\r\n  \xff " + "文".encode() * 1000)
    assert text.isprintable()
    assert len(text) == 300


# ---- event streams, in all ways of splitting and writing them


PLAIN = "event:add\nid:7\ndata: naïve 猫\n\n:keep-alive\n\nevent:finish\nid:7\ndata:\n\n"
SPACED = "id: 7\nevent: add\ndata:  naïve 猫\n\n: keep-alive\n\nId: 7\nevent: finish\ndata:\nusage: {}\n\n"
QUOTED = 'Id: "7"\nevent: "add"\ndata: " naïve 猫"\n\n\n\nID: "7"\nEvent: "finish"\nData: ""\n\n'


def read(*pieces: bytes) -> list[Event]:
    reader = EventReader()
    return [event for piece in pieces for event in reader.feed(piece)] + list(reader.end())


@pytest.mark.parametrize("text", [PLAIN, SPACED, QUOTED])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["lf", "crlf", "cr"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["", "bom"])
def test_event_is_the_same_however_it_is_split(text: str, end: str, mark: bytes) -> None:
    content = mark + text.replace("\n", end).encode()
    for cut in range(len(content) + 1):
        events = read(content[:cut], content[cut:])
        assert [(event.name, event.id, event.data) for event in events] == [
            ("add", "7", " naïve 猫"),
            ("finish", "7", ""),
        ]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_event_is_delivered_with_its_last_line_immediately(end: str) -> None:
    reader = EventReader()
    content = "event: add\ndata: a\n\n".replace("\n", end).encode()
    before, last = content[: -len(end)], end[:1].encode()
    assert list(reader.feed(before)) == []
    assert [event.data for event in reader.feed(last)] == ["a"]


def test_long_line_takes_linear_time() -> None:
    """Passages come as one line of hundreds of kilobytes, in the loop that serves all other work."""
    content = f"data: {'知识库' * 150_000}\r\n\r\n".encode()
    started_at = time.process_time()
    [event] = read(*(content[start : start + CHUNK] for start in range(0, len(content), CHUNK)))
    assert len(event.data) == 450_000
    assert time.process_time() - started_at < 3


@pytest.mark.parametrize("left_out", [1, 2])
def test_last_event_needs_no_blank_line(left_out: int) -> None:
    assert [event.data for event in read(b"data: a\n\ndata: b\n\n"[:-left_out])] == ["a", "b"]


def test_data_lines_are_joined_and_other_fields_are_kept() -> None:
    [event] = read(b'data: a\ndata:\ndata: b\nusage: {"total_tokens": 5}\nodd\n\n')
    assert event.data == "a\n\nb"
    assert event.fields == {"usage": '{"total_tokens": 5}', "odd": ""}


def test_quotes_are_part_of_the_text_in_unquoted_streams() -> None:
    assert [event.data for event in read(b'event: add\ndata: "no"\n\n')] == ['"no"']
    assert [event.data for event in read(b'event: "add"\ndata: "a \\"b\\"\\n"\n\n')] == ['a "b"\n']
    assert [event.data for event in read(b'event: "add"\ndata: "a "b""\n\n')] == ['a "b"']


def test_comments_alone_are_no_event() -> None:
    assert read(b": a\n\n:\n\n\n\n") == []


def test_invalid_bytes_affect_only_themselves() -> None:
    assert [event.data for event in read(b"data: a\xff\xfeb\n\n", b"data: c\xe7")] == [
        "a\ufffd\ufffdb",
        "c\ufffd",
    ]
