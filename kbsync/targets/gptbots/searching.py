"""Questions to the vendor's search and what comes back, as the contract has it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kbsync.contract.searching import Hit, Passage, Query
from kbsync.targets.gptbots.settings import SearchWish
from kbsync.targets.gptbots.wire import Match

MOST_PASSAGES = 50
"""`top_k` at its most: passages, of which several may be of one document."""

RANKING = "BGE-Rerank"
"""The ranking model where the config names none."""

OVERLOADED = frozenset({"50000"})
"""The code of an internal error, which may be that of the ranking model."""


@dataclass(frozen=True, slots=True)
class Question:
    """One request to the search. `prompt` is not empty. `wish.rerank_version` None: not ranked."""

    prompt: str
    wish: SearchWish

    def body(self, base: str) -> dict[str, object]:
        """The JSON of `POST /v1/vector/match`: this base, never `data_ids` beside it, the two are united."""
        wish = self.wish
        told = {
            "embedding_rate": wish.embedding_rate,
            "doc_correlation": wish.doc_correlation,
            "rerank_version": wish.rerank_version,
        }
        body: dict[str, object] = {"prompt": self.prompt, "top_k": MOST_PASSAGES, "group_ids": [base]}
        return body | {key: value for key, value in told.items() if value is not None}

    @property
    def unranked(self) -> Question:
        """The same without a ranking model."""
        return replace(self, wish=replace(self.wish, rerank_version=None))


def question_of(query: Query, wish: SearchWish) -> Question | None:
    """As the config wants it, and ranked where the query wants that; None: there is nothing to look for."""
    if not query.text.strip():
        return None
    ranking = wish.rerank_version or (RANKING if query.rerank else None)
    return Question(query.text, replace(wish, rerank_version=ranking))


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
