"""Documents in memory, as targets take them."""

from __future__ import annotations

import io
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Text:
    """A body in memory."""

    content: bytes

    @property
    def size(self) -> int:
        """Length in bytes."""
        return len(self.content)

    def open(self) -> io.BytesIO:
        """A stream from the start."""
        return io.BytesIO(self.content)
