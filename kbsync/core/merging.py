"""What several targets found, as one list."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")


def merged(answers: Iterable[tuple[Hashable, Sequence[T]]], score: Callable[[T], float]) -> list[T]:
    """All that was found, best first. An answer is a scale and what was found, best first.

    Scores of one scale are compared. Those of different scales mean different things (a service's 1.00
    may be worse than another's 0.30), so of several scales the best hits come first, then the second best,
    and so on.
    """
    scales: dict[Hashable, list[Sequence[T]]] = {}
    for scale, found in answers:
        scales.setdefault(scale, []).append(found)
    ranked = [_by_score(lists, score) for lists in scales.values()]
    most = max(map(len, ranked), default=0)
    return [found[rank] for rank in range(most) for found in ranked if rank < len(found)]


def _by_score(lists: Sequence[Sequence[T]], score: Callable[[T], float]) -> Sequence[T]:
    """One list stays in its target's own order."""
    if len(lists) == 1:
        return lists[0]
    return sorted((each for found in lists for each in found), key=lambda each: -score(each))
