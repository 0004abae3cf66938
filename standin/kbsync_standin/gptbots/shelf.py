"""The documents of a bot: stored at once, searchable later, changed in place with the old text serving."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

HOME_ID = "67457fea6f658672d6482542"
"""The knowledge base that is there from the start."""


@dataclass(frozen=True, slots=True)
class Base:
    """A knowledge base; `settings`: further ones that it was made with."""

    name: str
    description: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Version:
    """One content. `ready_at` None: never. `fails`: then it is not searchable but failed."""

    content: bytes
    source_url: str
    ready_at: float | None
    fails: bool = False
    address: str = ""

    @property
    def sha256(self) -> str:
        """Of the content, in hex."""
        return hashlib.sha256(self.content).hexdigest()

    def is_over(self, now: float) -> bool:
        """Nothing more happens to it."""
        return self.ready_at is not None and self.ready_at <= now


@dataclass(slots=True)
class Document:
    """A document: `serving` is what searches find, `coming` what is being made of the last content sent."""

    id: str
    base: str
    kind: str
    name: str
    created: float
    updated: float
    coming: Version | None
    source_url: str
    serving: Version | None = None
    changed_at: float | None = None
    deleted_at: float | None = None
    rules: dict[str, Any] = field(default_factory=dict)

    def get_on(self, now: float) -> None:
        """What is done by `now` is swapped in."""
        coming = self.coming
        if coming is None or coming.fails or not coming.is_over(now):
            return
        if self.changed_at is not None:
            self.updated = max(coming.ready_at or now, self.updated + 1)
        self.serving, self.coming = coming, None
        self.source_url = coming.source_url or self.source_url

    def status(self, now: float, working: str, stale: float) -> str:
        """`data_status`; `stale`: so many seconds after a change the old one is still told."""
        self.get_on(now)
        if self.coming is None:
            return "AVAILABLE"
        is_old = self.serving is not None and self.changed_at is not None
        if is_old and now < (self.changed_at or 0.0) + stale:
            return "AVAILABLE"
        return "FAILED" if self.has_failed(now) else working

    def has_failed(self, now: float) -> bool:
        """What was sent last could not be indexed."""
        return self.coming is not None and self.coming.fails and self.coming.is_over(now)

    def snapshot(self, now: float) -> dict[str, Any]:
        """All of it, for tests."""
        self.get_on(now)
        latest = self.coming or self.serving
        return {
            "id": self.id,
            "base": self.base,
            "kind": self.kind,
            "name": self.name,
            "source_url": self.source_url,
            "sha256": latest.sha256 if latest else "",
            "serving": self.serving.sha256 if self.serving else "",
            "deleted": self.deleted_at is not None,
            "rules": dict(self.rules),
            "address": latest.address if latest else "",
            "text": latest.content.decode("utf-8", "replace")[:200] if latest and latest.address else "",
        }


class Shelf:
    """All documents and bases of one bot."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)  # noqa: S311
        self._count = 0
        self.bases: dict[str, Base] = {HOME_ID: Base("Default")}
        self.documents: dict[str, Document] = {}

    def new_id(self, now: float) -> str:
        """24 hex digits; the first 8 are the time, as everywhere with the vendor."""
        self._count += 1
        return f"{int(now) & 0xFFFFFFFF:08x}{self._chance.getrandbits(40):010x}{self._count:06x}"

    def span(self, limits: tuple[float, float]) -> float:
        """How long the making of one document takes."""
        return self._chance.uniform(*limits)

    def alive(self, base: str | None = None) -> Iterator[Document]:
        """Documents that were not deleted, of one base or all."""
        for one in self.documents.values():
            if one.deleted_at is None and base in (None, one.base):
                yield one

    def listed(self, base: str, now: float, lag: float) -> list[Document]:
        """As the list has them, the oldest first: changes of the last `lag` seconds are not in it."""
        rows = []
        for one in self.documents.values():
            is_new = now < one.created + lag
            is_gone = one.deleted_at is not None and now >= one.deleted_at + lag
            if one.base == base and not is_new and not is_gone:
                one.get_on(now)
                rows.append(one)
        return rows

    def shuffled(self, rows: list[Document]) -> list[Document]:
        """In an order that tells nothing, the same every time."""
        return sorted(rows, key=lambda one: hashlib.sha256(one.id.encode()).digest())

    def drop(self, base: str) -> None:
        """As if none of the base's documents had ever been there."""
        self.documents = {key: one for key, one in self.documents.items() if one.base != base}

    def found(
        self, prompt: str, bases: set[str] | None, ids: set[str] | None, now: float
    ) -> list[dict[str, Any]]:
        """Passages that share words with `prompt`, best first; of the union of bases and ids."""
        words = set(re.findall(r"\w+", prompt.lower()))
        rows = []
        for one in self.alive():
            one.get_on(now)
            if one.serving is None or not _is_meant(one, bases, ids):
                continue
            text = one.serving.content.decode("utf-8", "replace")
            share = len(words & set(re.findall(r"\w+", text.lower()))) / max(1, len(words))
            if share:
                row = {"content": text[:2000], "data_id": one.id, "document_name": one.name, "score": share}
                rows.append(row)
        return sorted(rows, key=lambda row: -row["score"])


def _is_meant(one: Document, bases: set[str] | None, ids: set[str] | None) -> bool:
    if bases is None and ids is None:
        return True
    return one.base in (bases or ()) or one.id in (ids or ())
