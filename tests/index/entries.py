"""Documents of the index for tests, and vectors of no model."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from kbsync.index.document import Chunk, Entry
from kbsync.index.embed import Vectors


class Numbers:
    """Computes vectors of eight numbers from the key; records the texts."""

    takes_pictures, at_once, least_cosine = False, 2**31, 0.0

    def __init__(self, model: str = "numbers", dimensions: int = 8) -> None:
        self.model, self._dimensions = model, dimensions
        self.embedded: list[str] = []

    def begin(self, chunks: Sequence[Chunk]) -> Future[Vectors]:
        self.embedded += [chunk.text for chunk in chunks]
        future = Future[Vectors]()
        future.set_result({chunk.key: self.vector(chunk.key) for chunk in chunks})
        return future

    def query(self, text: str) -> Any:
        import numpy as np

        return np.frombuffer(self.vector(hashlib.sha256(text.encode()).hexdigest()), np.float16).astype("f4")

    def close(self) -> None:
        """Do nothing: it holds no resources."""

    def vector(self, key: str) -> bytes:
        """Return the vector of the text with this key."""
        parts = [byte / 2048 for byte in bytes.fromhex(key)[: self._dimensions]]
        return struct.pack(f"{len(parts)}e", *parts)


def piece(text: str) -> Chunk:
    return Chunk(text, text, hashlib.sha256(text.encode()).hexdigest(), ("Part",), None, 1)


def entry(
    upload: int, *texts: str, path: str = "", title: str | None = None, replaces: int | None = None
) -> Entry:
    return Entry(
        upload_id=upload,
        path=path or f"folder/file-{upload}.md",
        name="name",
        digest=hashlib.sha256("".join(texts).encode()).hexdigest(),
        size=1,
        recipe="r",
        modified=1.0,
        title=title,
        tags=("tag",),
        chunks=tuple(map(piece, texts)),
        vectors={},
        replaces=replaces,
    )
