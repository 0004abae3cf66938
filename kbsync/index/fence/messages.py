"""The frames that a parser process and its parent exchange.

A frame is a length of eight bytes, big-endian, and that many bytes. A request is a frame of JSON with
the format and the document's size, then the document. An answer is one frame of JSON. Nothing is
ever unpickled: the process has read a stranger's file and may not be itself any more.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from kbsync.index.document import Parsed

LENGTH = struct.Struct(">Q")

# Characters of a reason, a title or a tag, and the number of tags: a stranger's file may dictate them.
_LONGEST_WORDS = 500


@dataclass(frozen=True, slots=True)
class Refused:
    """The document cannot be read, and why, for a person."""

    reason: str
    code: str


def pack(message: dict[str, Any]) -> bytes:
    """A frame of JSON."""
    text = json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    return LENGTH.pack(len(text)) + text


def pack_answer(outcome: Parsed | Refused, resident: int) -> bytes:
    """What became of a document, and the memory of the process in bytes."""
    if isinstance(outcome, Refused):
        return pack({"refused": {"reason": outcome.reason, "code": outcome.code}, "resident": resident})
    text = {
        "text": outcome.text,
        "title": outcome.title,
        "tags": outcome.tags,
        "page_starts": outcome.page_starts,
    }
    return pack({"text": text, "resident": resident})


def unpack_answer(content: bytes) -> tuple[Parsed | Refused, int]:
    """What became of a document, and the memory of the process. Raises ValueError for anything else."""
    with _strictly():
        message = json.loads(content)
        resident = int(message["resident"])
        if refused := message.get("refused"):
            return Refused(_words(refused["reason"]), _words(refused["code"])[:50]), resident
        fields = message["text"]
        title = None if fields["title"] is None else _words(fields["title"])
        tags = tuple(_words(tag) for tag in fields["tags"][:_LONGEST_WORDS])
        starts = tuple(int(start) for start in fields["page_starts"])
        text = str(fields["text"])
        return Parsed(text, title=title, tags=tags, page_starts=starts, has_lines=False), resident


def unpack_ready(content: bytes) -> tuple[int, tuple[str, ...]]:
    """The first words of a process: its memory in bytes, and the fences that hold it in."""
    with _strictly():
        message = json.loads(content)
        return int(message["resident"]), tuple(str(fence) for fence in message["fences"])


def _words(said: object) -> str:
    return str(said)[:_LONGEST_WORDS]


@contextmanager
def _strictly() -> Iterator[None]:
    """Whatever is wrong with a message is a ValueError."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"not an answer: {error!r}") from error
