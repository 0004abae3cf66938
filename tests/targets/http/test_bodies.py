from __future__ import annotations

import io
import tracemalloc
from email import message_from_bytes
from typing import BinaryIO, cast

import pytest

from kbsync.targets.http.bodies import CHUNK, FilePart, RequestBody, form_body
from kbsync.targets.http.errors import BodyChangedError
from tests.targets.bodies import BytesBody
from tests.targets.http.bodies import part


async def no_wait(_size: int) -> None:
    """Every byte may go at once."""


async def pieces_of(body: RequestBody, chunk: int = CHUNK) -> list[bytes]:
    body.start(no_wait, chunk)
    try:
        return [piece async for piece in body]
    finally:
        body.close()


async def test_a_form_has_its_fields_in_order_then_the_file() -> None:
    body = form_body({"knowledge_type": "1", "word": "文"}, part(BytesBody(b"\x00\xff text"), "文 件.txt"))
    boundary = body.headers["Content-Type"].removeprefix("multipart/form-data; boundary=").encode()
    assert (
        b"".join(await pieces_of(body)).replace(boundary, b"B")
        == (
            '--B\r\nContent-Disposition: form-data; name="knowledge_type"\r\n\r\n1\r\n'
            '--B\r\nContent-Disposition: form-data; name="word"\r\n\r\n文\r\n'
            '--B\r\nContent-Disposition: form-data; name="files"; filename="文 件.txt"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode()
        + b"\x00\xff text\r\n--B--\r\n"
    )


async def test_a_name_cannot_end_its_quotes_or_its_line() -> None:
    body = form_body({}, part(filename='a"; filename*=x\r\nX: y.txt'))
    sent = b"".join(await pieces_of(body))
    assert b'filename="a%22; filename*=x%0D%0AX: y.txt"\r\n' in sent


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK])
async def test_the_length_is_exact_and_no_piece_is_large(size: int) -> None:
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


@pytest.mark.parametrize(("content", "says"), [(b"x" * 99, 100), (b"x" * 101, 100), (b"", 1), (b"x", 0)])
@pytest.mark.parametrize("chunk", [7, 100, CHUNK])
async def test_a_file_of_another_length_never_arrives_whole(content: bytes, says: int, chunk: int) -> None:
    file = BytesBody(content, says=says)
    body = form_body({}, part(file))
    with pytest.raises(BodyChangedError):
        await pieces_of(body, chunk)
    assert body.sent < body.size
    assert file.is_let_go


async def test_a_large_file_is_never_in_memory() -> None:
    class Zeros(io.RawIOBase):
        left = 100_000_000

        def read(self, size: int = -1) -> bytes:
            size = min(size, self.left)
            self.left -= size
            return bytes(size)

    class Large:
        size = Zeros.left

        def open(self) -> BinaryIO:
            return cast(BinaryIO, Zeros())

    tracemalloc.start()
    try:
        body = form_body({}, FilePart("files", "a.bin", Large()))
        body.start(no_wait)
        sent = 0
        async for piece in body:
            sent += len(piece)
        body.close()
        assert sent == body.size > Large.size
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
