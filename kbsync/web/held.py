"""What waits for a person, as the page shows it: lists, each with a version for exactly its members."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kbsync.engine.status import unapproved, waiting_renewals
from kbsync.state.holds import DELETIONS, RENEWALS, Hold
from kbsync.state.store import Tx

KINDS = (DELETIONS, RENEWALS)
MOST_HELD = 500


@dataclass(frozen=True, slots=True)
class HeldList:
    """Documents to be deleted, or to be indexed anew. `paths` are the first of them.

    `size` in bytes and `changes` of the settings are told of renewals.
    """

    kind: str = DELETIONS
    holds: tuple[int, ...] = ()
    version: str = ""
    count: int = 0
    paths: tuple[str, ...] = ()
    size: int = 0
    changes: str = ""

    def to_json(self) -> dict[str, Any]:
        """For the page."""
        told = {"kind": self.kind, "version": self.version, "count": self.count, "paths": list(self.paths)}
        return told | ({"size": self.size, "changes": self.changes} if self.kind == RENEWALS else {})


def held_list(tx: Tx, name: str, kind: str = DELETIONS, most: int = MOST_HELD) -> HeldList:
    """What is held of a mirror and not approved. Goes through all of it: for when a person asks."""
    record = tx.mirrors.named(name)
    holds = [] if record is None else unapproved(tx, record.id, kind)
    digest, count, paths = hashlib.sha256(kind.encode()), 0, list[str]()
    for path, *proof in _members(tx, holds):
        digest.update(json.dumps([path, *proof]).encode())
        count += 1
        if len(paths) < most:
            paths.append(path)
    numbers, version = tuple(hold.id for hold in holds), digest.hexdigest()[:32]
    held = HeldList(kind, numbers, version, count, tuple(paths))
    if kind == DELETIONS or record is None:
        return held
    waiting = waiting_renewals(tx, record.id)
    return replace(held, size=waiting.size, changes=waiting.changes)


def kind_of(told: str) -> str:
    """The kind of hold that somebody names. Raises `ValueError`."""
    if told not in KINDS:
        raise ValueError(f"kind is one of {', '.join(KINDS)}")
    return told


def renewals_json(tx: Tx, mirror: int) -> dict[str, Any] | None:
    """How many documents wait to be indexed anew, and why; None where none does."""
    waiting = waiting_renewals(tx, mirror)
    told = {"count": waiting.documents, "size": waiting.size, "changes": waiting.changes}
    return told if waiting.documents else None


def _members(tx: Tx, holds: Sequence[Hold]) -> Iterable[tuple[str, int, int, str]]:
    """Each member's path, hold and upload, and what is held about it: its digest or its wanted recipe."""
    for hold in holds:
        if hold.kind == DELETIONS:
            for item in tx.holds.items(hold.id):
                yield item.path, hold.id, item.upload, item.digest
        else:
            for path, row in tx.renewals.members(hold.mirror, hold.id):
                yield path, hold.id, row.upload, row.recipe
