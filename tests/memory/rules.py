"""The rules of an in-memory base for its clients; a violation raises an error.

Each check returns None, or a sentence about the mistake.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kbsync.contract.target import Limits, Outgoing

MAX_NAME_BYTES = 255
PIECE_BYTES = 64 * 1024

_DIGEST = re.compile(r"[0-9a-f]{64}")


class ProtocolViolation(AssertionError):
    """The client broke the contract."""


def extension(name: str) -> str:
    """The lower-case extension of a file name or path without its dot; "" if it has none."""
    stem, dot, last = name.rpartition("/")[2].rpartition(".")
    return last.lower() if dot and stem else ""


def wrong_path(path: str) -> str | None:
    """Require a relative path with `/` between its parts, none of them empty, `.` or `..`."""
    if not path or "\0" in path or any(part in ("", ".", "..") for part in path.split("/")):
        return f"path {path!r} is not a relative path of plain parts"
    return None


def wrong_name(name: str, *, marks: bool) -> str | None:
    """Require a name of 1 to 255 bytes; it is a single part unless the target keeps marks."""
    if not name or "\0" in name:
        return f"name {name!r} is empty or has a NUL"
    if len(name.encode("utf-8", "surrogateescape")) > MAX_NAME_BYTES:
        return f"name {name!r} is longer than {MAX_NAME_BYTES} bytes"
    if "/" in name and not marks:
        return f"name {name!r} has a slash: services drop what comes before it"
    return None


def wrong_kind(path: str, name: str, limits: Limits) -> str | None:
    """Require an extension that `limits` allows and that the name has too, because services go by the
    name.
    """
    if not limits.extensions or path.rpartition("/")[2] in limits.names:
        return None
    if extension(path) not in limits.extensions:
        return f"path {path!r} has an extension that is not taken"
    if extension(name) != extension(path):
        return f"name {name!r} lost the extension of {path!r}"
    return None


def wrong_size(document: Outgoing, limits: Limits) -> str | None:
    """Require that the size is that of the body and within `limits`."""
    if document.size != document.body.size:
        return f"{document.path!r}: size is {document.size}, its body says {document.body.size}"
    most = limits.max_bytes_by_extension.get(extension(document.path), limits.max_bytes)
    if most is not None and document.size > most:
        return f"{document.path!r}: {document.size} bytes are over the limit of {most}"
    return None


def wrongs(document: Outgoing, limits: Limits) -> Iterator[str]:
    """Yield all mistakes of `document` that show without reading its body."""
    result = (
        wrong_path(document.path),
        wrong_name(document.name, marks=limits.marks),
        wrong_kind(document.path, document.name, limits),
        wrong_size(document, limits),
        None if _DIGEST.fullmatch(document.digest) else f"digest {document.digest!r} is no SHA-256",
        None if document.replaces != "" else "replaces is empty: None means a new document",
    )
    yield from filter(None, result)


def wrong_new_slices(path: str, name: str, settings: Mapping[str, Any], limits: Limits) -> str | None:
    """Require that a document is split again under a path of its own kind; `name` is "" if unknown."""
    if not isinstance(settings, Mapping):
        return f"settings must be a mapping, not {settings!r}"
    return wrong_path(path) or wrong_kind(path, name or path, limits)


def wrong_ids(ids: Sequence[str]) -> str | None:
    """Require non-empty ids, each only once."""
    if isinstance(ids, str) or not all(isinstance(id_, str) and id_ for id_ in ids):
        return f"ids must be a sequence of non-empty strings, not {ids!r}"
    return f"an id occurs twice in {ids!r}" if len(set(ids)) < len(ids) else None


async def read_body(document: Outgoing) -> bytes:
    """Read and return the body in pieces. Raises `ProtocolViolation` if it isn't as declared."""
    pieces = []
    with document.body.open() as stream:
        while piece := stream.read(PIECE_BYTES):
            pieces.append(piece)
            await asyncio.sleep(0)
    data = b"".join(pieces)
    if len(data) != document.size:
        raise ProtocolViolation(f"{document.path!r}: declared {document.size} bytes, sent {len(data)}")
    if hashlib.sha256(data).hexdigest() != document.digest:
        raise ProtocolViolation(f"{document.path!r}: the bytes sent have another digest than declared")
    return data
