"""What is turned into a vector: a text, or a picture."""

from __future__ import annotations

import base64
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Item:
    """A text, or the bytes of a picture with its media type."""

    text: str = ""
    picture: bytes = b""
    media_type: str = ""

    @property
    def weight(self) -> int:
        """Characters it takes of a request, about."""
        return len(self.text) + 4 * len(self.picture) // 3

    @property
    def data_uri(self) -> str:
        """A picture as text (RFC 2397)."""
        return f"data:{self.media_type};base64,{base64.b64encode(self.picture).decode()}"

    def shortened(self) -> Item:
        """The first half of a text."""
        return Item(self.text[: len(self.text) // 2])
