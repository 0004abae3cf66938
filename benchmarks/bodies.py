"""Documents in memory, as targets accept them."""

from __future__ import annotations

import io
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Text:
    """A body in memory."""

    content: bytes

    @property
    def size(self) -> int:
        """The length in bytes."""
        return len(self.content)

    def open(self) -> io.BytesIO:
        """Return a stream at the start."""
        return io.BytesIO(self.content)
