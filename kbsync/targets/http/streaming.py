"""JSON that carries whole files in base64, made while it is sent: no file is held in memory."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import BinaryIO

from kbsync.contract.mirroring import Body
from kbsync.targets.http.failures import BodyMissingError
from kbsync.targets.http.multipart import CHUNK, Outflow, Take, exactly, joined


def base64_size(size: int) -> int:
    """Bytes that `size` bytes have in base64."""
    return 4 * -(-size // 3)


class JsonStream(Outflow):
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
