"""What the last audit of a mirror left for people to see, and when it ended; durable."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from kbsync.state.glance import Tx


@dataclass(frozen=True, slots=True)
class Findings:
    """`ended`: epoch seconds when the last audit of this binding ended, or when the first was set.

    duplicate, orphaned: how many documents it found and left alone. mended: how many it saw to. is_audit: one
    did end, and this is what it came to.
    """

    binding: int
    ended: float
    duplicate: int = 0
    orphaned: int = 0
    mended: int = 0
    is_audit: bool = False

    @property
    def sentence(self) -> str:
        """What a person should know; '' for nothing."""
        counts = (counted(self.duplicate, "duplicate"), counted(self.orphaned, "orphaned document"))
        found = " and ".join(filter(None, counts))
        return f"the last audit found {found}" if found else ""


def counted(n: int, what: str) -> str:
    """`1 duplicate`, `2 duplicates`; '' for none."""
    return f"{n} {what}{'s' if n > 1 else ''}" if n else ""


def recall(tx: Tx, mirror: int) -> Findings | None:
    """None where there was no audit yet."""
    known = tx.meta.get(_key(mirror))
    return Findings(**json.loads(known)) if known else None


def keep(tx: Tx, mirror: int, findings: Findings) -> None:
    """In place of those before."""
    tx.meta.set(_key(mirror), json.dumps(asdict(findings)))


def forget(tx: Tx, mirror: int) -> None:
    """A person has seen to them; the time stays."""
    known = recall(tx, mirror)
    if known is not None:
        keep(tx, mirror, Findings(known.binding, known.ended))


def _key(mirror: int) -> str:
    return f"audit:{mirror}"
