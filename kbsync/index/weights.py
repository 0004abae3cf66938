"""The weights of words: BM25 with three fields.

They are the same in every store, so that all stores rank alike.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from functools import cached_property, lru_cache
from itertools import chain

from kbsync.dataclass import dataclass
from kbsync.index.words import MAX_TERMS, Term, has_cjk

LEXICAL = 0.5
"""The weight of the word score in a chunk's score; the rest comes from the similarity in meaning."""

NAME = 0.5
"""The weight of a term in a document's title, tags or file name, for each of its chunks.

For a chunk whose headings and text don't contain the term, 1 is added to this weight.
"""

WHOLE_NAME = 1.0
"""An amount added to `NAME` if the question contains the file name: "the report 26 file", "paper 7 budget".
"""

EXACT_NAME = 3.0
"""An amount added to the score of a document whose file name is the question, so that the document ranks
first.

No passage about that file gets as high a score, even if it contains the name as a code, in a heading and in a
sentence.
"""

FIELDS = (1.0, 1.5, 1.0)
"""The weights of a term in a chunk: among the other forms of words, in the headings, and in the text."""

_SATURATION, _BM25_SATURATION = 1.4, 2.2
"""The maximum that a word in the headings and text of a chunk adds to the chunk's score, as a multiple of
the word's idf, and the same maximum in plain BM25.
"""

TOGETHER, ADJACENT, ELSEWHERE = 0.5, 0.5, 0.25
"""`TOGETHER`: the weight, in a chunk's score, of the share of the question that is in one sentence (ADR
9). The others: the weights, in that share, of terms in an adjacent sentence and in any other sentence.
"""

FURTHER, USUAL = 0.2, 0.7
"""`FURTHER`: the weight, in the score of a document's chunks, of the average score of its second and third
best chunks. `USUAL`: the share of the best chunk's score at which these change nothing (ADR 9).
"""

READ_DOCUMENTS = 10
"""Number of best documents whose sentences are compared with the question."""

TRANSLATED = 0.6
"""The factor for the score of a chunk found through the question's translation. With a larger factor, wrong
translations would displace hits in the question's own language.
"""

DEPTH = 150
"""Number of chunks to fetch by words and by meaning. If they belong to too few documents, more are
fetched.
"""

CODE, CODE_ALONE = 1.0, 3.0
"""Added to the word score of a chunk that contains all codes in the question as written, such as a date, a
version or an identifier: `CODE` times their share of the question's terms, rising to `CODE_ALONE` for a
question that consists only of codes. Otherwise, chunks with scattered parts of a code would rank as high,
and files named after the parts would rank higher.
"""


def code_points(share: float) -> float:
    """Return the points that a code adds to the word score. `share`: its share of the question's terms."""
    return share * (CODE + (CODE_ALONE - CODE) * share)


NAMED_CHUNKS = 400
"""Maximum number of chunks to score because of their documents' names."""

PASSAGES = 3
"""Maximum number of chunks shown per document."""

MAX_ROWS = 4_000
"""Maximum number of chunks to find by words; more common terms only add to the scores of chunks already
found."""


SAMPLED_VECTORS = 200
"""Number of vectors to sample when estimating the similarity of unrelated texts."""

MIN_VECTORS = 50
"""With fewer vectors, the similarity of unrelated texts isn't estimated, because the documents in a small
folder are often about a single subject.
"""


def least_cosine(count: int, mean_square: float, square_of_mean: float) -> float:
    """Return the cosine below which texts are unrelated, estimated from a sample of `count` passages. 0 means
    unknown.

    `mean_square` is the mean of the vectors' squared lengths, and `square_of_mean` is the squared length of
    their mean. Together, they give the mean cosine of two passages without comparing all pairs.
    """
    if count < MIN_VECTORS:
        return 0.0
    similarity = (count * square_of_mean - mean_square) / (count - 1)
    # A ninth yields MIN_COSINE for the built-in model, with which unrelated English texts have 0.1 (ADR 9).
    return min(1.0, max(0.0, similarity + (1 - similarity) / 9))


@dataclass(frozen=True, slots=True)
class Frequency:
    """How often a term occurs: the numbers of documents with it in their text, of documents with it in their
    name, and of chunks with it.

    The idf depends on the number of documents, not chunks. Otherwise, a large document would make a word seem
    common even if few other documents contain it.
    """

    texts: int = 0
    names: int = 0
    chunks: int = 0

    @property
    def documents(self) -> int:
        """Return the number of documents that contain the term, as used for the idf."""
        return max(self.texts, self.names)


@dataclass(frozen=True, slots=True)
class TermWeights:
    """The idf of each term. `rare` terms find chunks, and `common` terms only add to the scores of chunks.
    `total`: the sum by which scores are divided.
    """

    rare: Mapping[Term, float]
    common: Mapping[Term, float]
    total: float
    unique: Set[Term]
    """The terms that occur in the text of only one document."""

    def raise_certain(self, scores: dict[int, float], by_term: Mapping[Term, dict[int, float]]) -> set[int]:
        """Raise the score of each chunk that can't match by chance to at least `total`. Return these
        chunks.

        Such a chunk contains all terms of the question, and one of these terms occurs in no other
        document. `by_term`: the points that each term adds to the `scores`, by chunk.
        """
        points_by_chunk = [by_term.get(term, {}) for term in self.all_terms if not term.is_guess]
        certain = {
            chunk
            for term in self.unique
            for chunk in by_term.get(term, ())
            if all(chunk in points for points in points_by_chunk)
        }
        for chunk in certain:
            factor = max(1.0, self.total / scores[chunk])
            scores[chunk] *= factor
            for points in by_term.values():
                if chunk in points:
                    points[chunk] *= factor
        return certain

    @property
    def all_terms(self) -> Mapping[Term, float]:
        """Return the idf of all terms."""
        return {**self.rare, **self.common}


def share_together(
    idf: Mapping[Term, float],
    sentences: Sequence[Set[str]],
    around: Set[str],
    scattered: Set[str] = frozenset(),
) -> float:
    """Return the highest share of the question's terms in one sentence, weighted by idf, from 0 to 1.

    `sentences`: the stems in each sentence. `around`: the stems in the headings and the name of the chunk.
    `scattered`: stems that get no extra weight for being in the same sentence.
    """
    sought = dict[str, float]()
    for term, weight in idf.items():
        if not term.goes_on:
            stems = term.stem.split()  # several only for a word in parts
            sought |= dict.fromkeys(stems, weight / len(stems))
    prefixes = {term.prefix: term.stem for term in idf if term.prefix}
    # Not the weight of the same word as written, which is a guess.
    sought |= {term.stem: weight for term, weight in idf.items() if term.prefix}

    def sought_in(stems: Set[str]) -> set[str]:
        inflected = {
            stem for prefix, stem in prefixes.items() if any(other.startswith(prefix) for other in stems)
        }
        return inflected.union(sought.keys() & stems)

    around, sentences = sought_in(around), list(map(sought_in, sentences))
    total = sum(weight for term, weight in idf.items() if not (term.goes_on or term.is_guess))
    anywhere = around.union(*sentences)
    least = sum(ELSEWHERE * weight for stem, weight in sought.items() if stem in scattered & anywhere)
    best = 0.0
    for number, sentence in enumerate(sentences):
        adjacent = around.union(*sentences[max(0, number - 1) : number + 2])
        shares = (
            weight * (1.0 if stem in sentence else ADJACENT if stem in adjacent else ELSEWHERE)
            for stem, weight in sought.items()
            if stem in anywhere and stem not in scattered
        )
        best = max(best, sum(shares))
    return min(1.0, (best + least) / total) if total else 0.0


def saturation_of(term: Term) -> float:
    """Return how much of its idf a term may add to the score of a chunk that contains it often.

    Without a limit, a source file with one word of the question in every line would rank above an answer with
    all of the words. A Chinese character may occur often in a text because many of its words contain it.
    """
    return _BM25_SATURATION if len(term.stem) == 1 and has_cjk(term.stem) else _SATURATION


FEW_DOCUMENTS = 40
"""Number of documents below which the share of chunks with a term counts, too.

With more documents, it doesn't count, because a single large log may have most of the chunks (ADR 9).
"""


LARGE = 1_000
"""Maximum number of chunks in a document that hardly ever matches by chance. A longer document often
matches by chance.
"""

_CHANCE = 0.5  # with 0.1, the log of benchmarks/big_log.py came first for 54 of 600 queries; with 0.5, for 6


@lru_cache(1_024)
def weight_of_size(chunks: int) -> float:
    """Return the weight of a match in a document with this many chunks.

    It is lower for long documents, because a long log matches any two words.
    """
    return 1 / (1 + _CHANCE * math.log(max(1, chunks / LARGE)))


def length_correction(words: int, average: float, other_average: float) -> Callable[[float], float]:
    """Return a function that adjusts a term's BM25 weight, without its idf, from one average length to
    another.

    It applies to chunks with this number of `words`. `other_average` is the average over documents, not
    chunks. Otherwise, a log of short lines would make all other chunks seem long.
    """
    if not average or not other_average:
        return lambda weight: weight
    before, after = (1.2 * (0.25 + 0.75 * words / length) for length in (average, other_average))

    def rescale(weight: float) -> float:
        room = 2.2 - weight
        count = weight * before / (room if room > 1e-6 else 1e-6)
        return count * 2.2 / (count + after)

    return rescale


def _idf(total: int, count: int) -> float:
    """Return the idf as computed by SQLite's bm25()."""
    count = min(total, count)
    return max(1e-6, math.log((total - count + 0.5) / (count + 0.5)))


def select_terms(
    terms: Sequence[Term], frequencies: Mapping[Term, Frequency], documents: int, chunks: int
) -> TermWeights:
    """Return the terms' weights. `documents` and `chunks`: the total numbers of documents and chunks."""
    share = min(1.0, documents / FEW_DOCUMENTS)
    prefixes = {term.stem for term in terms if term.goes_on}
    # The last word of an unfinished question counts as a whole word only if some document has it.
    candidates = [
        term
        for term in terms
        if frequencies[term].documents or not (term.is_guess or (term.stem in prefixes and not term.goes_on))
    ]
    idfs = dict[Term, float]()
    for term in candidates:
        frequency = frequencies[term]
        idfs[term] = share * _idf(documents, frequency.documents) + (1 - share) * _idf(
            chunks, max(frequency.chunks, frequency.names)
        )
    highest = max((idf for term, idf in idfs.items() if not term.is_guess), default=0.0)
    rare, common, total, rows = dict[Term, float](), dict[Term, float](), 0.0, 0
    for term in sorted(candidates, key=lambda term: frequencies[term].documents)[:MAX_TERMS]:
        # A rare spelling of a common word says no more than the word.
        frequency, idf = frequencies[term], min(idfs[term], highest) if term.is_guess else idfs[term]
        # The word that a guess replaces is in the sum itself, so a guess counts less than a match.
        total += 0.0 if term.is_guess else idf
        if rows + frequency.chunks <= MAX_ROWS:
            rare[term] = idf
            rows += frequency.chunks
        else:
            common[term] = idf
    unique = {
        term
        for term in chain(rare, common)
        if frequencies[term].texts == 1 and not (frequencies[term].names or term.is_guess)
    }
    return TermWeights(rare, common, total, unique)


class NameScores:
    """The documents whose names contain terms of a question.

    `chunks`: the chunks that contain each term. `exact`: the documents whose file name or path is the
    question. `whole`: the documents whose file name has several words and is part of the question.
    """

    def __init__(self, idf: Mapping[Term, float]) -> None:
        self.idf = idf
        self.documents = defaultdict[int, list[Term]](list)
        self.chunks: Mapping[Term, Collection[int]] = {}
        self.exact: Collection[int] = ()
        self.whole: Collection[int] = ()
        self._found_terms = dict[int, list[tuple[float, Collection[int]]]]()
        """For each document, the idf of each term in its name, with the chunks that contain the term."""

    def set_exact(self, documents: Collection[int]) -> None:
        """Record the `documents` whose file name or path is the question.

        Their names are treated as if they contained all terms, including terms from a folder or extension.
        """
        self.exact = documents
        terms = [term for term in self.idf if not (term.goes_on or term.is_guess)]
        for document in documents:
            self.documents[document] = list(dict.fromkeys([*self.documents[document], *terms]))

    def points(self, document: int, chunk: int) -> float:
        """Return the name's contribution to the score of a chunk."""
        if document not in self.documents:
            return 0.0
        if (terms := self._found_terms.get(document)) is None:
            terms = [(self.idf[term], self.chunks.get(term, ())) for term in self.documents[document]]
            self._found_terms[document] = terms
        weight = NAME + WHOLE_NAME * (document in self.whole)
        return sum(idf * (weight + (chunk not in chunks)) for idf, chunks in terms)

    def by_term(self, document: int, chunk: int) -> dict[Term, float]:
        """Return the contribution of each term of the name to the score of a chunk."""
        weight = NAME + WHOLE_NAME * (document in self.whole)
        return {
            term: self.idf[term] * (weight + (chunk not in self.chunks.get(term, ())))
            for term in self.documents.get(document, ())
        }

    def of_several_words(self) -> list[int]:
        """Return the best documents whose names contain several of the terms."""
        return [document for document in self.best if len(self.documents[document]) > 1]

    @cached_property
    def best(self) -> list[int]:
        """The documents whose names match best, best first."""
        points = {number: sum(self.idf[term] for term in terms) for number, terms in self.documents.items()}
        ranked = sorted(points, key=lambda number: (-points[number], number))
        return list(dict.fromkeys([*self.exact, *ranked]))[:DEPTH]
