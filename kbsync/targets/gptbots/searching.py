"""Questions to the vendor's search and what comes back, as the contract has it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from kbsync.contract import Hit, Passage, Query
from kbsync.targets.gptbots.wire import Match

MOST_PASSAGES = 50
"""`top_k` at its most: passages, of which several may be of one document."""


def hits_of(found: Sequence[Match], query: Query) -> list[Hit]:
    """Documents with their passages, best first; all where the selection is not by document."""
    among = frozenset(query.among)
    by_document: dict[str, list[Match]] = {}
    for one in sorted(found, key=lambda match: -match.score):
        if not among or one.document_id in among:
            by_document.setdefault(one.document_id, []).append(one)
    hits = [
        Hit(key, passages[0].score, tuple(Passage(one.text, score=one.score) for one in passages))
        for key, passages in by_document.items()
    ]
    is_filtered_later = query.selects and not among
    return hits if is_filtered_later else hits[: query.top_k]
