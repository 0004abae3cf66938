"""Hints: which paths to look at again. A hint claims nothing about a file (ADR 10).

Paths are relative to the mirror's root with `/` between parts; the root itself is `""`.
"""

from __future__ import annotations

import enum
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

MOST_HINTS = 10_000
"""About 2 MB of paths; looking at the whole folder is cheaper than more of them."""


class HintKind(enum.IntEnum):
    """How far to look."""

    FILE = 0  # at this path
    TREE = 1  # at this directory and everything below; if it is none any more, at this path
    GONE_TREE = 2  # at every path known below: a directory vanished or was moved away


@dataclass(frozen=True, slots=True)
class Hint:
    """Look at `path` again."""

    path: str
    kind: HintKind


def ancestors(path: str) -> Iterator[str]:
    """The directories above `path`, nearest first, the root (`""`) last; none above the root."""
    while path:
        path = path.rpartition("/")[0]
        yield path


class HintSet:
    """Hints that wait, oldest first, each once; a full set is dropped whole: then all must be looked at.

    A waiting TREE stands for every FILE and TREE at or below it, a GONE_TREE for every GONE_TREE below it.
    """

    def __init__(self, most: int = MOST_HINTS) -> None:
        self._most = most
        self._waiting: OrderedDict[tuple[HintKind, str], Hint] = OrderedDict()
        self.overflowed = False
        """Hints were dropped: only a look at the whole folder finds what they meant."""

    def add(self, hint: Hint) -> None:
        """Remember `hint` unless it is known or covered. May drop all and set `overflowed`."""
        key = (hint.kind, hint.path)
        if key in self._waiting or self._is_covered(hint):
            return
        if len(self._waiting) >= self._most:
            self._waiting.clear()
            self.overflowed = True
        self._waiting[key] = hint

    def take(self, count: int) -> list[Hint]:
        """Remove and return up to `count` hints, oldest first, without those that another one covers."""
        taken: list[Hint] = []
        while self._waiting and len(taken) < count:
            _, hint = self._waiting.popitem(last=False)
            if not self._is_covered(hint):
                taken.append(hint)
        return taken

    def _is_covered(self, hint: Hint) -> bool:
        if hint.kind is HintKind.FILE and (HintKind.TREE, hint.path) in self._waiting:
            return True
        by = HintKind.GONE_TREE if hint.kind is HintKind.GONE_TREE else HintKind.TREE
        return any((by, above) in self._waiting for above in ancestors(hint.path))
