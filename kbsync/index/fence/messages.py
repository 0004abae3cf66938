"""What a worker answers, and the frames it travels in.

A frame is a length of eight bytes, big-endian, and that many bytes. A request is a frame of JSON with
the format and the document's size, then the document. An answer is one frame of JSON. Nothing is
ever unpickled: the worker has read a stranger's file and may not be itself any more.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

LENGTH = struct.Struct(">Q")

_LONGEST_WORDS = 500
"""Characters of a reason or a title: the worker may say what a stranger's file dictates."""


@dataclass(frozen=True, slots=True)
class Extracted:
    """The text of a document as markdown. `page_starts[i]` is the offset in `text` where page i+1 begins."""

    text: str
    title: str | None = None
    tags: tuple[str, ...] = ()
    page_starts: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """The document cannot be read, and why, for a person."""

    reason: str
    code: str


@dataclass(frozen=True, slots=True)
class Ready:
    """The worker's first words. `resident` is its memory in bytes; `fences` what holds it in."""

    resident: int
    fences: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """One document to read: its format (an extension) and its size in bytes."""

    extension: str
    size: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a request; `resident` is the worker's memory in bytes afterwards."""

    outcome: Extracted | Refused
    resident: int


def frame(content: bytes) -> bytes:
    """`content` with its length before it."""
    return LENGTH.pack(len(content)) + content


def pack_answer(answer: Answer) -> bytes:
    """The frame of an answer."""
    kind = "text" if isinstance(answer.outcome, Extracted) else "refused"
    return _pack({kind: asdict(answer.outcome), "resident": answer.resident})


def unpack_answer(content: bytes) -> Answer:
    """The answer in a frame's content. Raises ValueError for anything else."""
    with _strictly():
        message = json.loads(content)
        resident = int(message["resident"])
        if "refused" in message:
            refused = message["refused"]
            return Answer(Refused(_words(refused["reason"]), _words(refused["code"])[:50]), resident)
        return Answer(_extracted(message["text"]), resident)


def _extracted(fields: dict[str, Any]) -> Extracted:
    title = fields["title"]
    return Extracted(
        text=str(fields["text"]),
        title=None if title is None else _words(title),
        tags=tuple(_words(tag) for tag in fields["tags"][:_LONGEST_WORDS]),
        page_starts=tuple(int(start) for start in fields["page_starts"]),
    )


def _words(said: object) -> str:
    return str(said)[:_LONGEST_WORDS]


def pack_ready(ready: Ready) -> bytes:
    """The frame of the first words."""
    return _pack(asdict(ready))


def unpack_ready(content: bytes) -> Ready:
    """The first words in a frame's content. Raises ValueError for anything else."""
    with _strictly():
        message = json.loads(content)
        return Ready(int(message["resident"]), tuple(str(f) for f in message["fences"]))


def pack_request(request: Request) -> bytes:
    """The frame of a request; the document's bytes follow it."""
    return _pack(asdict(request))


def unpack_request(content: bytes) -> Request:
    """The request in a frame's content."""
    message = json.loads(content)
    return Request(str(message["extension"]), int(message["size"]))


def _pack(message: dict[str, Any]) -> bytes:
    text = json.dumps(message, ensure_ascii=False, separators=(",", ":"))
    return frame(text.encode("utf-8", "replace"))


@contextmanager
def _strictly() -> Iterator[None]:
    """Whatever is wrong with a message is a ValueError."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"not an answer: {error!r}") from error
