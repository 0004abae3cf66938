"""The weights of words in every store, so that all find the same: BM25 over three fields."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from kbsync.index.words import MOST_TERMS, Term

LEXICAL = 0.5
"""The share of words in a score; the rest is meaning."""

NAME = 0.5
"""The weight of a term in the title, the tags or the file name of a document, for each of its chunks. It
counts once more for a chunk that has it neither in its headings nor in its text."""

EXACT_NAME = 1.0
"""What a document's score gains if the question is the name of its file: it comes first."""

FIELDS = (2.0, 1.5, 1.0)
"""The weight of a term in the name that an older kbsync gave a chunk, in its headings and in its text."""

TRANSLATED = 0.6
"""The share of its score that a chunk keeps if the translation of the question finds it: with more, wrong
translations displace hits in the question's own language."""

DEPTH = 150
"""Chunks to fetch by words and by meaning; more if they belong to few documents."""

NAMED_CHUNKS = 1_000
"""Maximum number of chunks to score because of the names of their documents."""

PASSAGES = 3
"""Maximum number of chunks shown of one document."""

MOST_ROWS = 6_000
"""Maximum number of chunks to score by words; beyond that, the commonest terms are dropped."""


def select_terms(
    terms: Sequence[Term], frequencies: Mapping[Term, int], chunks: int
) -> tuple[dict[Term, float], float]:
    """Return the rarest terms with the idf of each, as many as can be scored in good time, and the sum of
    all.

    `frequencies`: how many of the `chunks` have each term.
    """
    prefixes = {term.stem for term in terms if term.goes_on}
    # The last word of an unfinished question counts as a whole word only if some chunk has it.
    candidates = [t for t in terms if t.goes_on or t.stem not in prefixes or frequencies[t]]
    rarest, total, rows = dict[Term, float](), 0.0, 0
    for term in sorted(candidates, key=frequencies.__getitem__)[:MOST_TERMS]:
        count = frequencies[term]
        # The idf as in SQLite's bm25().
        idf = max(1e-6, math.log((chunks - count + 0.5) / (count + 0.5)))
        # The word that a guess stands for is in the sum itself, so a guess weighs less than a match.
        total += 0.0 if term.is_guess else idf
        rows += count
        if not rarest or rows <= MOST_ROWS:
            rarest[term] = idf
    return rarest, total


class NameScores:
    """The documents whose names have some terms of a question.

    `chunks` are those that have them, too. `exact`: the documents whose file has the question for its name.
    """

    def __init__(self, idf: Mapping[Term, float]) -> None:
        self._idf = idf
        self.documents = defaultdict[int, list[Term]](list)
        self.chunks = defaultdict[Term, set[int]](set)
        self.exact: Collection[int] = ()

    def points(self, document: int, chunk: int) -> float:
        """Return what the name adds to the score of a chunk."""
        if (terms := self.documents.get(document)) is None:
            return 0.0
        return sum([self._idf[term] * (NAME + (chunk not in self.chunks[term])) for term in terms])

    def best(self) -> list[int]:
        """Return the documents with the best names, these first."""
        points = {number: sum(self._idf[term] for term in terms) for number, terms in self.documents.items()}
        ranked = sorted(points, key=lambda number: (-points[number], number))
        return list(dict.fromkeys([*self.exact, *ranked]))[:DEPTH]
