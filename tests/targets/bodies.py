"""Documents in memory."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import BinaryIO


@dataclass
class BytesBody:
    """A `Body` of bytes; `says` is the length it claims to have, `opened` the streams it gave out."""

    content: bytes
    says: int | None = None
    opened: list[BinaryIO] = field(default_factory=list)

    @property
    def size(self) -> int:
        return len(self.content) if self.says is None else self.says

    def open(self) -> BinaryIO:
        self.opened.append(io.BytesIO(self.content))
        return self.opened[-1]

    @property
    def is_let_go(self) -> bool:
        return bool(self.opened) and all(stream.closed for stream in self.opened)
