"""A stand-in for services that make vectors and rank texts, in six dialects at once.

The first part of a path is the dialect: `/openai/v1/embeddings`, `/jina/v1/rerank`, `/tei/embed`, and so on.
Vectors are made of words, so texts with common words are near each other; a picture counts as the words in
its bytes.
"""

from __future__ import annotations

from kbsync_standin.messages import StandInClock, Vendor
from kbsync_standin.vectors.app import VectorsApplication

__all__ = ["VectorsApplication", "application"]


def application(
    key: str = "id.secret-for-tests",
    seed: int = 0,
    vectorize: tuple[float, float] = (0.0, 0.0),
    clock: StandInClock | None = None,
) -> Vendor:
    """`key`: the only API key it takes. Nothing is left to chance and nothing takes time."""
    return VectorsApplication(key, clock or StandInClock())
