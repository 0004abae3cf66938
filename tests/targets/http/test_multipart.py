from __future__ import annotations

from email import message_from_bytes

import pytest

from kbsync.targets.http.bodies import CHUNK, RequestBody, form
from kbsync.targets.http.errors import BodyChangedError
from tests.targets.http.bodies import Bytes, Vanished, part


async def no_wait(_size: int) -> None:
    """Every byte may go at once."""


async def pieces_of(outflow: RequestBody, chunk: int = CHUNK) -> list[bytes]:
    outflow.open(no_wait, chunk)
    try:
        return [piece async for piece in outflow]
    finally:
        outflow.close()


async def test_a_form_has_its_fields_in_order_then_the_file() -> None:
    outflow = form({"knowledge_type": "1", "word": "文"}, part(Bytes(b"\x00\xff text"), "文 件.txt"), "B")
    assert (
        b"".join(await pieces_of(outflow))
        == (
            '--B\r\nContent-Disposition: form-data; name="knowledge_type"\r\n\r\n1\r\n'
            '--B\r\nContent-Disposition: form-data; name="word"\r\n\r\n文\r\n'
            '--B\r\nContent-Disposition: form-data; name="files"; filename="文 件.txt"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode()
        + b"\x00\xff text\r\n--B--\r\n"
    )
    assert outflow.headers["Content-Type"] == "multipart/form-data; boundary=B"


async def test_a_name_cannot_end_its_quotes_or_its_line() -> None:
    outflow = form({}, part(filename='a"; filename*=x\r\nX: y\\.txt'), "B")
    sent = b"".join(await pieces_of(outflow))
    assert b'filename="a%22; filename*=x%0D%0AX: y\\.txt"\r\n' in sent


async def test_a_name_that_is_no_text_is_not_sent() -> None:
    with pytest.raises(UnicodeEncodeError):
        form({}, part(filename="a\udcff.txt"))


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK])
async def test_the_length_is_exact_and_no_piece_is_large(size: int) -> None:
    content = bytes(range(256)) * (size // 256 + 1)
    outflow = form({"a": "1"}, part(Bytes(content[:size])))
    pieces = await pieces_of(outflow)
    assert max(map(len, pieces)) <= CHUNK
    assert len(pieces) == -(-outflow.size // CHUNK)
    assert sum(map(len, pieces)) == int(outflow.headers["Content-Length"]) == outflow.sent
    head = f"Content-Type: {outflow.headers['Content-Type']}\r\n\r\n".encode()
    parts = message_from_bytes(head + b"".join(pieces)).get_payload()
    assert isinstance(parts, list)
    assert parts[1].get_payload(decode=True) == content[:size]  # type: ignore[union-attr]


@pytest.mark.parametrize(("content", "says"), [(b"x" * 99, 100), (b"x" * 101, 100), (b"", 1), (b"x", 0)])
@pytest.mark.parametrize("chunk", [7, 100, CHUNK])
async def test_a_file_of_another_length_never_arrives_whole(content: bytes, says: int, chunk: int) -> None:
    body = Bytes(content, says=says)
    outflow = form({}, part(body))
    with pytest.raises(BodyChangedError):
        await pieces_of(outflow, chunk)
    assert outflow.sent < outflow.size
    assert body.is_let_go


async def test_a_file_that_is_gone_is_told_in_words() -> None:
    with pytest.raises(BodyChangedError, match="cannot be opened: No such file"):
        await pieces_of(form({}, part(Vanished())))
