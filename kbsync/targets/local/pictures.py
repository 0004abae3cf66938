"""Pictures as documents: found by what they show, where the embedding service has vectors for them."""

from __future__ import annotations

import hashlib

from kbsync.contract.mirroring import Outgoing
from kbsync.errors import Rejected
from kbsync.targets.local.formats import extension_of
from kbsync.targets.local.pieces import Chunk, Picture

MEDIA_TYPES = {"png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "webp": "image/webp"}
"""By extension."""

LARGEST = 10_000_000
"""Bytes; a request holds it a third larger, and in memory."""

_BEGINNINGS = {"image/png": b"\x89PNG\r\n\x1a\n", "image/jpeg": b"\xff\xd8\xff", "image/webp": b"RIFF"}
_PIECE = 65_536


def is_picture(path: str) -> bool:
    """By its extension."""
    return extension_of(path) in MEDIA_TYPES


def picture_chunk(document: Outgoing) -> Chunk:
    """The one chunk of a picture, shown by its name. Raises `Rejected` for what is none, or is too large."""
    media_type = MEDIA_TYPES[extension_of(document.path)]
    if document.body.size > LARGEST:
        raise Rejected(
            f"{document.body.size} bytes, over the limit for pictures of {LARGEST}", code="too-large"
        )
    with document.body.open() as body:
        content = b"".join(iter(lambda: body.read(_PIECE), b""))
    if not content.startswith(_BEGINNINGS[media_type]):
        raise Rejected(f"the bytes are not those of a picture ({media_type})", code="no-picture")
    name = document.path.rpartition("/")[2]
    return Chunk(name, "", hashlib.sha256(content).hexdigest(), picture=Picture(content, media_type))
