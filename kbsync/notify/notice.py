"""What is told: a value, and the JSON that a command or an address gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kbsync import __version__
from kbsync.config.model import Occasion
from kbsync.core.printable import printable
from kbsync.engine.status import iso


@dataclass(frozen=True, slots=True)
class Mishap:
    """A document in quarantine. `path` relative to the folder."""

    path: str
    reason: str

    def to_json(self) -> dict[str, str]:
        """An item of `documents`."""
        return {"path": printable(self.path), "reason": printable(self.reason)}


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to tell of one mirror. `at`: when it happened (of several documents the last), epoch seconds.

    `reason`: of the halt, or of the one that is over, which has neither `detail` nor `cure`. `count`: how
    many went into quarantine since the last notice of them, `documents` the first of these.
    """

    event: Occasion
    mirror: str
    at: float
    reason: str = ""
    detail: str = ""
    cure: str = ""
    count: int = 0
    documents: tuple[Mishap, ...] = ()

    @property
    def text(self) -> str:
        """All of it in a sentence, for whatever shows one line."""
        match self.event:
            case "halted":
                cure = f"; cure: {self.cure}" if self.cure else ""
                said = f"{self.reason}: {self.detail}{cure}"
            case "recovered":
                said = f"works again ({self.reason} is over)"
            case "quarantined":
                noun = "document" if self.count == 1 else "documents"
                first = "".join(f", first {each.path}: {each.reason}" for each in self.documents[:1])
                said = f"{self.count:,} {noun} failed{first}; cure: {self.cure}"
        return printable(f"{self.mirror}: {said}")

    def to_json(self) -> Mapping[str, Any]:
        """What is sent."""
        head = {
            "version": __version__,
            "event": self.event,
            "mirror": self.mirror,
            "at": iso(self.at),
            "text": self.text,
        }
        if self.event == "quarantined":
            items = [each.to_json() for each in self.documents]
            return {**head, "cure": self.cure, "count": self.count, "documents": items}
        words = {"reason": self.reason, "detail": self.detail, "cure": self.cure}
        return {**head, **{key: printable(word) for key, word in words.items()}}
