"""Hints: paths to check again. A hint doesn't say anything about a file's state (ADR 10).

Paths are relative to the mirror's root and use `/` as the separator; the root itself is `""`.
"""

from __future__ import annotations

import enum
from collections import OrderedDict
from collections.abc import Iterator

from kbsync.dataclass import dataclass

MAX_HINTS = 10_000
"""Maximum number of hints, about 2 MB of paths; beyond that, a scan of the whole folder is cheaper."""


class HintKind(enum.IntEnum):
    """What a hint asks to check."""

    FILE = 0  # this path
    TREE = 1  # this directory and everything below; only this path if it is no longer a directory
    GONE_TREE = 2  # every known path below: a directory vanished or was moved away


@dataclass(frozen=True, slots=True)
class Hint:
    """Check `path` again."""

    path: str
    kind: HintKind


def ancestors(path: str) -> Iterator[str]:
    """Yield the directories above `path`, from the nearest up to the root (`""`).

    For the root itself, yield nothing.
    """
    while path:
        path = path.rpartition("/")[0]
        yield path


class HintSet:
    """The waiting hints, oldest first and without duplicates.

    If there are too many, all of them are dropped, and everything must be checked. A waiting TREE covers
    every FILE and TREE at or below it, and a GONE_TREE covers every GONE_TREE below it.
    """

    def __init__(self, limit: int = MAX_HINTS) -> None:
        self._limit = limit
        self._waiting: OrderedDict[tuple[HintKind, str], Hint] = OrderedDict()
        self.overflowed = False
        """Whether hints were dropped, so that only a scan of the whole folder can find their changes."""

    def add(self, hint: Hint) -> None:
        """Add `hint` unless it is already known or covered.

        If there are too many hints, drop them all and set `overflowed`.
        """
        key = (hint.kind, hint.path)
        if key in self._waiting or self._is_covered(hint):
            return
        if len(self._waiting) >= self._limit:
            self._waiting.clear()
            self.overflowed = True
        self._waiting[key] = hint

    def take(self, count: int) -> list[Hint]:
        """Remove and return up to `count` hints, oldest first, except for those that another hint covers."""
        batch: list[Hint] = []
        while self._waiting and len(batch) < count:
            _, hint = self._waiting.popitem(last=False)
            if not self._is_covered(hint):
                batch.append(hint)
        return batch

    def _is_covered(self, hint: Hint) -> bool:
        if hint.kind is HintKind.FILE and (HintKind.TREE, hint.path) in self._waiting:
            return True
        covering_kind = HintKind.GONE_TREE if hint.kind is HintKind.GONE_TREE else HintKind.TREE
        return any((covering_kind, folder) in self._waiting for folder in ancestors(hint.path))
