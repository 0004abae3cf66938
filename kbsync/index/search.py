"""Search: what the words say and what the vectors say, added up chunk by chunk, gathered into documents.

A chunk's score is half lexical, half semantic. Lexical is its BM25 divided by the sum of the idf of the
question's terms: near 1 where the chunk has all of them about once, near 0 where it has only common ones.
Semantic is the cosine. Neither is stretched over the candidates of the question, so a question whose words
occur nowhere is answered by meaning alone, and a bad best match stays a low score.

Measured on XQuAD, 480 paragraphs in two languages, first hit right of 1,190 questions: English 0.947 and
Chinese 0.922, against 0.942 and 0.912 with each list stretched to 0…1 over its best 50 and weighed 0.7 : 0.3.

A rerank service may put the best of them into another order. Where a service does not answer, the search
does without it, and says so.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from kbsync.contract.searching import Hit, Passage, Query
from kbsync.core.text import printable
from kbsync.errors import TargetError
from kbsync.index.embed import Encoder
from kbsync.index.read.formats import is_picture
from kbsync.index.store import CandidateChunk, Store, StoredPassage, StoreSnapshot
from kbsync.index.weights import PASSAGES
from kbsync.index.words import readable, terms_of

LEXICAL = 0.5

_log = logging.getLogger(__name__)

_NEAR = 0.6  # a further passage has at least this share of the best one's score
_FAR = 0.2  # share of the best score: what has a rare word exactly leaves the merely similar out


class Ranker(Protocol):
    """Orders texts by how well they answer a question. The caller that opens the index supplies it."""

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
    return [(index, 1 / (1 + math.exp(-max(-13.0, min(36.0, score))))) for index, score in order]


def with_unranked(order: Sequence[tuple[int, float]], places: Sequence[int]) -> list[tuple[int, float]]:
    """The order of the candidates at `places`, with the others where they were, up to the last of `places`.

    (place, score) of each. A candidate that the service was not asked about has the score of the one before
    it, or the best score where it is before all.
    """
    placed = {place: (places[index], score) for place, (index, score) in zip(places, order, strict=True)}
    merged, before = list[tuple[int, float]](), order[0][1]
    for place in range(places[-1] + 1):
        merged.append(placed.get(place, (place, before)))
        before = merged[-1][1]
    return merged


def behind(scores: Sequence[float], last: float) -> list[float]:
    """Scores of candidates behind all that were ranked: in their order, below `last`."""
    best = max(scores, default=1.0) or 1.0
    return [0.999 * last * score / best for score in scores]


@dataclass(frozen=True, slots=True)
class _Scored:
    """A chunk with what it is worth."""

    chunk: int
    document: int
    score: float


class Search:
    """Answers questions from a store."""

    def __init__(self, store: Store, encoder: Encoder, ranker: Ranker | None = None) -> None:
        self._store, self._encoder, self._ranker = store, encoder, ranker
        self._has_vectors = False  # looked for until there are any

    def search(self, query: Query) -> list[Hit]:
        """The best documents first, never more than `top_k`."""
        text = readable(query.text)
        if not text or query.top_k < 1:
            return []
        # Services are asked between snapshots: an open one keeps what is deleted in the WAL (promise 11).
        if not self._has_vectors:
            with self._store.snapshot() as seen:
                self._has_vectors = seen.has_vectors(self._encoder.model)
        vector = None
        if self._has_vectors:
            try:
                vector = self._encoder.query(text)
            except TargetError as error:
                _log.warning("searched by words alone: %s", printable(error.reason))
        terms = terms_of(text, unfinished=query.unfinished)
        with self._store.snapshot() as seen:
            least = self._encoder.least_cosine
            ranked = _ranked(seen.candidates(terms, self._encoder.model, vector, query, least), least)
            if self._ranker is None:
                return _hits(seen, ranked, query.top_k)
            shown = seen.passages(each.chunk for each in ranked)
        ranked = _reranked(self._ranker, text, ranked, shown)
        with self._store.snapshot() as seen:
            # A document may have been deleted or replaced since it was found.
            there = seen.passages(each.chunk for each in ranked)
            ranked = [e for e in ranked if e.chunk in there and there[e.chunk].document == e.document]
            return _hits(seen, ranked, query.top_k)


def _ranked(candidates: Sequence[CandidateChunk], least: float) -> list[_Scored]:
    """Chunks by score, best first, without those that are merely a little similar.

    `least`: the cosine that a chunk without any of the words must have.
    """
    scored = list[tuple[_Scored, bool]]()
    for each in candidates:
        if each.words > 0 or each.meaning >= least:
            score = LEXICAL * each.words + (1 - LEXICAL) * max(0.0, each.meaning)
            scored.append((_Scored(each.chunk, each.document, score), each.words > 0))
    scored.sort(key=lambda pair: (-pair[0].score, pair[0].chunk))
    return [each for each, has_words in scored if has_words or each.score >= _FAR * scored[0][0].score]


def _reranked(
    ranker: Ranker, question: str, ranked: list[_Scored], shown: Mapping[int, StoredPassage]
) -> list[_Scored]:
    """The best in the order of the rerank service, where it answers; the others behind them.

    Pictures stay in their places: of them the service would see nothing but the name.
    """
    places = [place for place, each in enumerate(ranked) if not is_picture(shown[each.chunk].path)]
    places = places[: ranker.most_texts]
    if not places:
        return ranked
    passages = [shown[ranked[place].chunk] for place in places]
    try:
        order = spread(ranker.order(question, ["\n".join([*each.headings, each.text]) for each in passages]))
    except TargetError as error:
        _log.warning("in the order kbsync finds by itself: %s", printable(error.reason))
        return ranked
    head, rest = with_unranked(order, places), ranked[places[-1] + 1 :]
    lower = behind([each.score for each in rest], head[-1][1])
    return [replace(ranked[place], score=score) for place, score in head] + [
        replace(each, score=score) for each, score in zip(rest, lower, strict=True)
    ]


def _hits(seen: StoreSnapshot, ranked: Sequence[_Scored], top_k: int) -> list[Hit]:
    """Chunks gathered into documents; both stay best first."""
    groups = dict[int, list[_Scored]]()
    for each in ranked:
        if each.score > 0:
            groups.setdefault(each.document, []).append(each)
    best = {
        document: [each for each in group[:PASSAGES] if each.score >= _NEAR * group[0].score]
        for document, group in list(groups.items())[:top_k]
    }
    shown = seen.passages(each.chunk for near in best.values() for each in near)
    hits = list[Hit]()
    for document, near in best.items():
        of = shown[near[0].chunk]
        passages = tuple(
            Passage(one.text, one.headings, one.page, one.line, each.score)
            for each in near
            for one in (shown[each.chunk],)
        )
        best_score = near[0].score
        hits.append(
            Hit(str(document), best_score, passages, of.path, of.title, of.modified, origin=of.origin)
        )
    return hits
