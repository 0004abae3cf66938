"""Vectors and scores made of words: alike where the words are."""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
import re
import struct
from collections.abc import Sequence

_WORD = re.compile(r"[a-z0-9]{3,}|[^\W\d_a-z]", re.IGNORECASE)


def vector_of(text: str, dimensions: int) -> list[float]:
    """A vector at length 1; of a text without words one of its own."""
    numbers = [0.0] * dimensions
    for word in _words(text) or [text or "nothing"]:
        digest = hashlib.sha256(word.encode("utf-8", "replace")).digest()
        for place in range(4):
            spot, sign = divmod(int.from_bytes(digest[4 * place : 4 * place + 4]), 2)
            numbers[spot % dimensions] += 1.0 if sign else -1.0
    length = math.sqrt(sum(number * number for number in numbers)) or 1.0
    return [number / length for number in numbers]


def packed(vector: Sequence[float]) -> str:
    """Base64 of little-endian float32."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def score(question: str, text: str) -> float:
    """The share of the question's words that the text has."""
    wanted, found = set(_words(question)), set(_words(text))
    return len(wanted & found) / len(wanted) if wanted else 0.0


def seen_in(picture: str) -> str | None:
    """The words a picture is of: what can be read in its bytes. None for what is no picture as text."""
    head, _, content = picture.rpartition(",")
    if head and not re.fullmatch(r"data:image/(png|jpeg|webp);base64", head):
        return None
    try:
        raw = base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError):
        return None
    return " ".join(part.decode() for part in re.findall(rb"[a-z ]{4,}", raw)) or None


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]
