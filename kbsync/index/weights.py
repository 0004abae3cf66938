"""What words are worth in every store, so that all of them find the same: BM25 over three fields."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from kbsync.index.words import MOST_TERMS, Term

FIELDS = (2.0, 1.5, 1.0)
"""How much a term counts in the name, in the headings and in the text of a chunk."""

DEPTH = 150
"""Chunks taken by words and by meaning; more where they are of few documents."""

PASSAGES = 3
"""Chunks of one document that are shown at most."""

MOST_ROWS = 6_000
"""Chunks that may have to be weighed by words; beyond, the commonest terms are left out."""


def telling(
    terms: Sequence[Term], frequencies: Mapping[Term, int], chunks: int
) -> tuple[dict[Term, float], float]:
    """The rarest terms with the idf of each, as many as can be weighed in good time, and the sum of all.

    `frequencies`: of `chunks` in all, so many have the term.
    """
    begun = {term.stem for term in terms if term.goes_on}
    # The last word of an unfinished question counts as it stands only where some chunk has it.
    asked = [t for t in terms if t.goes_on or t.stem not in begun or frequencies[t]]
    kept, total, rows = dict[Term, float](), 0.0, 0
    for term in sorted(asked, key=frequencies.__getitem__)[:MOST_TERMS]:
        count = frequencies[term]
        # How telling a term is, as SQLite's bm25() has it.
        idf = max(1e-6, math.log((chunks - count + 0.5) / (count + 0.5)))
        total += idf
        rows += count
        if not kept or rows <= MOST_ROWS:
            kept[term] = idf
    return kept, total
