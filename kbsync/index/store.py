"""The interface of an index store, which stores documents and returns candidates for a question.

There are two stores, `kbsync.index.sqlite.store` and `kbsync.index.postgres.store`. `kbsync.index.search`
scores the candidates, so both stores rank alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import field
from functools import partial
from typing import TYPE_CHECKING, Protocol

from kbsync.contract.searching import Origin, Query
from kbsync.dataclass import dataclass
from kbsync.errors import TargetError
from kbsync.index.document import Entry
from kbsync.index.embed import Encoder
from kbsync.index.spelling import Unknown
from kbsync.index.weights import (
    DEPTH,
    EXACT_NAME,
    LEXICAL,
    PASSAGES,
    TOGETHER,
    NameScores,
    TermWeights,
    weight_of_size,
)
from kbsync.index.words import Term

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kbsync.index.embed import Vector


@dataclass(frozen=True, slots=True)
class Stored:
    """A document in the store, without its chunks."""

    id: int
    upload_id: int | None
    path: str
    name: str
    digest: str
    size: int
    recipe: str
    created: float


@dataclass(frozen=True, slots=True)
class MatchedTerms:
    """The points of each term in a chunk and in the name of its document.

    Their sum, divided by `total`, is the chunk's `words`.
    """

    text: Mapping[Term, float]
    name: Mapping[Term, float]
    total: float


@dataclass(frozen=True, slots=True)
class CandidateChunk:
    """A chunk that may answer a question.

    `words` is its BM25 score plus the idf of the terms in its document's name, divided by the sum of the idf
    of all terms: near 1 if it has each of them about once, 0 if it has none. `meaning` is the cosine of its
    vector with the question's, 0 without one. `is_named`: the question is the document's file name. `size`:
    the number of chunks in its document; 1 if the chunk can't match by chance.

    `matched` returns the terms of `words` if the query asks for an explanation. `is_translated`: the
    question's translation found it. `codes`: the question's codes that the chunk has as written, with their
    shares of `words`. `may_have_code`: the chunk has the words of a code one after the other. `idf`: that of
    the question's terms. `together`: the share of the question in one sentence of the chunk
    (`weights.share_together`), and `further`: what the document's second and third best chunks add to the
    score or subtract from it, both 0 unless the chunk is one of the best.
    """

    chunk: int
    document: int
    words: float
    meaning: float
    is_named: bool = False
    size: int = 1
    matched: Callable[[], MatchedTerms] | None = None
    is_translated: bool = False
    codes: Mapping[str, float] = field(default_factory=dict)
    may_have_code: bool = False
    idf: Mapping[Term, float] = field(default_factory=dict)
    together: float = 0.0
    further: float = 0.0

    @property
    def score(self) -> float:
        """Return the score. Half of it is for the words, and half is for the meaning.

        It is higher if one sentence contains the words, the question is the file name or other chunks of the
        document are good, and lower if the document has a very large number of chunks.
        """
        content = LEXICAL * self.words + (1 - LEXICAL) * max(0.0, self.meaning) + TOGETHER * self.together
        return content * weight_of_size(self.size) + EXACT_NAME * self.is_named + self.further


@dataclass(frozen=True, slots=True)
class WordScores:
    """The word scores for a question.

    These are the `points` of the chunks that contain some of its words, what each term adds to them, and
    which of its words are in the names of documents. `certain`: the chunks that can't match by chance.
    `coded`: the chunks that contain the words of a code in succession.
    """

    weights: TermWeights
    points: Mapping[int, float]
    by_term: Mapping[Term, Mapping[int, float]]
    names: NameScores
    certain: Collection[int]
    coded: Collection[int]
    is_explained: bool

    def candidates(
        self,
        found: Mapping[int, int],
        by_name: Mapping[int, int],
        cosines: Mapping[int, float],
        sizes: Mapping[int, int],
    ) -> list[CandidateChunk]:
        """Return chunks with their scores.

        These are all chunks that were found by words, codes or meaning, and the best chunk of each document
        that was found only by its name. `found`, `by_name`: the chunks with their documents. `sizes`: the
        number of chunks in each document.
        """

        def candidate(chunk: int, document: int) -> CandidateChunk:
            score = self.points.get(chunk, 0.0) + self.names.points(document, chunk)
            return CandidateChunk(
                chunk,
                document,
                words=score / self.weights.total if score else 0.0,
                meaning=cosines.get(chunk, 0.0),
                is_named=document in self.names.exact,
                size=1 if chunk in self.certain else sizes.get(document, 1),
                matched=partial(self._matched, chunk, document) if self.is_explained else None,
                may_have_code=chunk in self.coded,
                idf=self.names.idf,
            )

        only_named = (candidate(*item) for item in by_name.items() if item[0] not in found)
        return [*(candidate(*item) for item in found.items()), *few_of_each(only_named)]

    def _matched(self, chunk: int, document: int) -> MatchedTerms:
        by_term = self.by_term.items() if chunk in self.points else ()
        text = {term: points[chunk] for term, points in by_term if chunk in points}
        return MatchedTerms(text, self.names.by_term(document, chunk), self.weights.total)


def few_of_each(candidates: Iterable[CandidateChunk]) -> Iterator[CandidateChunk]:
    """Yield the best chunks of each document, at most as many as a hit shows."""
    counts = Counter[int]()
    for candidate in sorted(candidates, key=lambda candidate: (-candidate.score, candidate.chunk)):
        counts[candidate.document] += 1
        if counts[candidate.document] <= PASSAGES:
            yield candidate


def first_of_each(documents: Mapping[int, int]) -> dict[int, int]:
    """Return the first chunks of each document, at most as many as a hit shows, and at most `DEPTH` in total.

    The chunks are given and returned with their documents.
    """
    first, counts = dict[int, int](), Counter[int]()
    for chunk, document in sorted(documents.items()):
        counts[document] += 1
        if counts[document] <= PASSAGES and len(first) < DEPTH:
            first[chunk] = document
    return first


@dataclass(frozen=True, slots=True)
class BetterQuestion:
    """The vector of a question from a better model, and the name of the model.

    Its cosines times `scale`, plus `offset`, are comparable to those from the model that embeds all passages.
    `other_factor`: the factor for the cosines of passages that have no vector from the better model.
    """

    model: str
    vector: NDArray[np.float32]
    scale: float
    offset: float
    other_factor: float = 1.0


@dataclass(frozen=True, slots=True)
class StoredPassage:
    """A chunk as shown in hits, with data about its document."""

    document: int
    path: str
    title: str | None
    modified: float
    text: str
    headings: tuple[str, ...]
    page: int | None
    line: int | None
    origin: Origin | None = None


class StoreSnapshot(Protocol):
    """A consistent snapshot of the store.

    While it is open, deleted text remains in the files (promise 11).
    """

    def has_vectors(self, model: str) -> bool:
        """Return whether any document has vectors from `model`."""

    def start(self, model: str, vector: Vector | None, better: BetterQuestion | None = None) -> None:
        """Start comparing the question with the passages in the background, if the store can do that.

        `candidates` waits for the result.
        """

    def candidates(
        self,
        terms: Sequence[Term],
        model: str,
        vector: Vector | None,
        query: Query,
        least: float = 0.0,
        better: BetterQuestion | None = None,
    ) -> Sequence[CandidateChunk]:
        """Return the best chunks by words, the best by meaning, and chunks with the question's codes, from at
        least `query.top_k` documents, or from all if there are fewer; all queries cost the same.

        Only documents that the filters in `query` admit are included. By meaning alone, chunks below the
        cosine `least` are omitted. Passages with a vector from the `better` model are compared by that
        vector. Raises `UsageError` for an invalid path pattern.
        """

    def estimate_least_cosine(self, model: str) -> float:
        """Return the cosine below which texts are unrelated, estimated from a sample of the vectors."""

    def unknown(self, terms: Sequence[Term]) -> Sequence[Unknown]:
        """Return the terms that no document contains, each with a similar term that a document contains,
        if any.
        """

    def has_phrase(self, phrase: str) -> bool:
        """Return whether a document contains the words of `phrase` in direct succession, or has them as its
        file name or path.

        Any spelling of the words is accepted. The words must be in a script that has spaces between words.
        Also return True if it would take a long time to rule out a match.
        """

    def passages(self, chunks: Iterable[int]) -> Mapping[int, StoredPassage]:
        """Return the passage of each chunk that exists and belongs to a document."""


class Store(Protocol):
    """Stores documents. Calls block, and may come from any thread.

    Raises `Unavailable` or `Halted` if the store itself is to blame, but never because of a document.
    """

    @property
    def address(self) -> str:
        """The store's location, as a URL without a username or password."""

    @property
    def writers(self) -> tuple[str, str]:
        """Return the name of this instance as a writer ('' if it only reads), and the name of the previous
        writer.
        """

    @property
    def revision(self) -> int | None:
        """Return the store's revision after this instance's last change, or None if it only reads."""

    @property
    def checked_revision(self) -> int:
        """Return the store's revision as it was before the last `check`. Each change to the store
        increases it.
        """

    def check(self) -> tuple[str, int]:
        """Return the store's identity and its number of documents.

        A store that is missing or damaged is replaced.
        """

    def put(self, entries: Sequence[Entry], encoder: Encoder) -> Sequence[int | TargetError]:
        """Store each document and make it searchable, in place of the one that it replaces.

        Return each one's id, or why it wasn't stored. If all of them go into one transaction, errors from the
        store are raised. Otherwise, a document that wasn't stored gets the error, and one that may have been
        stored gets `Unsure`. `encoder` computes vectors that existed when the entry was made but have since
        disappeared.
        """

    def delete(self, documents: Sequence[int]) -> bool:
        """Remove these documents if they exist.

        Return False if `purge` still has to erase the last traces of them.
        """

    def rename(self, document: int, path: str, name: str, modified: float) -> None:
        """Change a document's path, name and time.

        Safe to repeat. Raises `Rejected` for an unknown document.
        """

    def leave(self) -> None:
        """Handle the removal of the mirror that stored documents here. If none of its documents are left,
        forget the mirror.

        Safe to repeat.
        """

    def page(self, after: int, limit: int) -> Sequence[Stored]:
        """Return up to `limit` complete documents with ids greater than `after`, in order.

        A complete document has all its passages.
        """

    def find_existing(self, documents: Iterable[int]) -> set[int]:
        """Return which of `documents` exist with all their passages."""

    def find_embedded(self, model: str, keys: Iterable[str]) -> set[str]:
        """Return which of `keys` have a vector from `model`."""

    def texts(self, document: int) -> Sequence[str] | None:
        """Return the texts of a document's chunks in order, or None for an unknown document."""

    def snapshot(self) -> AbstractContextManager[StoreSnapshot]:
        """Return a snapshot for a search. Raises `UnmadeError` if nothing has been mirrored yet."""

    def tidy(self) -> bool:
        """Do one step of the work that an interrupted change left behind.

        Return whether there may be more.
        """

    def purge(self) -> bool:
        """Finish all remaining work, so that no file contains deleted text.

        Return False if that must be retried later.
        """

    def stop(self) -> None:
        """Start no further step of long work."""

    def close(self) -> None:
        """Close files. May be called again."""
