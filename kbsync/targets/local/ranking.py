"""What a rerank service says of the best candidates of a search, put into their order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol


class Ranker(Protocol):
    """Orders texts by how well they answer a question. `kbsync.targets.local.serving` has one."""

    @property
    def model(self) -> str:
        """Names the model."""

    @property
    def most_texts(self) -> int:
        """More are not asked about in one question."""

    def order(self, question: str, texts: Sequence[str]) -> list[tuple[int, float]]:
        """(index, score) of every text, best first. Raises `TargetError`."""

    def close(self) -> None:
        """Let go of what it holds."""


def spread(order: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """The same order with scores between 0 and 1: services give shares, or logits of any sign."""
    if all(0 <= score <= 1 for _, score in order):
        return [(index, max(score, 1e-6)) for index, score in order]
    return [(index, _sigmoid(score)) for index, score in order]


def seated(order: Sequence[tuple[int, float]], seats: Sequence[int]) -> list[tuple[int, float]]:
    """The order among `seats`, whose places it has; who sits between them stays, with the score before it.

    (place, score) of everybody up to the last seat. Who sits before all seats has the best score there is.
    """
    placed = {seat: (seats[index], score) for seat, (index, score) in zip(seats, order, strict=True)}
    everybody, before = list[tuple[int, float]](), order[0][1]
    for place in range(seats[-1] + 1):
        everybody.append(placed.get(place, (place, before)))
        before = everybody[-1][1]
    return everybody


def behind(scores: Sequence[float], last: float) -> list[float]:
    """Scores of candidates nobody was asked about: in their order, below `last`."""
    best = max(scores, default=1.0) or 1.0
    return [0.999 * last * score / best for score in scores]


def _sigmoid(score: float) -> float:
    return 1 / (1 + math.exp(-max(-13.0, min(36.0, score))))
