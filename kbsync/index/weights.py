"""The weights of words in every store, so that all find the same: BM25 over three fields."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from kbsync.index.words import MOST_TERMS, Term

FIELDS = (2.0, 1.5, 1.0)
"""The weight of a term in the name, in the headings and in the text of a chunk."""

DEPTH = 150
"""Chunks to fetch by words and by meaning; more if they belong to few documents."""

PASSAGES = 3
"""The most chunks shown of one document."""

MOST_ROWS = 6_000
"""The most chunks to score by words; beyond that, the commonest terms are dropped."""


def telling(
    terms: Sequence[Term], frequencies: Mapping[Term, int], chunks: int
) -> tuple[dict[Term, float], float]:
    """The rarest terms with the idf of each, as many as can be scored in good time, and the sum of all.

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
        total += idf
        rows += count
        if not rarest or rows <= MOST_ROWS:
            rarest[term] = idf
    return rarest, total
