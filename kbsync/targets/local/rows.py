"""The values that go into the index and come out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kbsync.targets.local.pieces import Chunk


@dataclass(frozen=True, slots=True)
class Entry:
    """A document ready to be stored. `vectors`: float16 bytes by key, for the keys that need one.

    `replaces` is the id of the document whose place it takes, in the same transaction.
    """

    upload_id: int
    path: str
    name: str
    digest: str
    size: int
    recipe: str
    modified: float
    title: str | None
    tags: tuple[str, ...]
    chunks: tuple[Chunk, ...]
    vectors: Mapping[str, bytes]
    replaces: int | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """A document of the index, without its chunks."""

    id: int
    upload_id: int | None
    path: str
    name: str
    digest: str
    size: int
    recipe: str
    created: float
