"""Documents in memory."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from kbsync.contract.target import Outgoing


class Sips(io.BytesIO):
    """A stream whose reads may ask for at most `most` bytes; None: any number."""

    most: int | None = None

    def read(self, size: int | None = -1, /) -> bytes:
        assert self.most is None or (size is not None and 0 <= size <= self.most), f"{size} bytes at once"
        return super().read(size)

    def readinto(self, buffer: Any, /) -> int:
        assert self.most is None or len(buffer) <= self.most, f"{len(buffer)} bytes at once"
        return super().readinto(buffer)


@dataclass
class BytesBody:
    """A `Body` of bytes; `claimed_size` is its claimed length, `streams` holds its streams.

    `most`: the most bytes that a read may ask for; None: any number.
    """

    content: bytes
    claimed_size: int | None = None
    most: int | None = None
    streams: list[BinaryIO] = field(default_factory=list)

    @property
    def size(self) -> int:
        return len(self.content) if self.claimed_size is None else self.claimed_size

    def open(self) -> BinaryIO:
        stream = Sips(self.content)
        stream.most = self.most
        self.streams.append(stream)
        return stream

    @property
    def is_let_go(self) -> bool:
        return bool(self.streams) and all(stream.closed for stream in self.streams)


def outgoing(path: str, content: str | bytes = b"hello", **more: Any) -> Outgoing:
    """Return a document to put. `more`: other fields."""
    data = content if isinstance(content, bytes) else content.encode()
    fields = {"upload_id": 1, "name": path, "mtime": 0.0, "recipe": "auto", "body": BytesBody(data), **more}
    return Outgoing(path=path, digest=hashlib.sha256(data).hexdigest(), size=len(data), **fields)
