"""The store in a single SQLite file.

One connection writes, one looks up documents, and one searches. Lookups and searches write nothing to the
disk, and a search doesn't wait for a listing.
"""

from __future__ import annotations

import json
import math
import sys
import threading
from bisect import bisect_right, insort
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import apsw

from kbsync.contract.searching import Query, selector, type_endings
from kbsync.core.selection import plain_part
from kbsync.dataclass import dataclass
from kbsync.errors import Halted, Rejected, StateError, TargetError, Unavailable, UnmadeError, UsageError
from kbsync.index.codes import Spelling, codes_in, joined_phrase, phrase_spellings, phrase_test
from kbsync.index.dates import whole_dates
from kbsync.index.document import Chunk, Entry
from kbsync.index.embed import Encoder
from kbsync.index.errors import storage_error
from kbsync.index.file_names import find_named, names_sought, whole_name_test
from kbsync.index.spelling import FIRST_LETTERS, Unknown, find_unknown
from kbsync.index.sqlite import vectors
from kbsync.index.sqlite.readahead import read_tables_ahead
from kbsync.index.sqlite.schema import APPLICATION_ID, FILE, FIRST_VERSION, VERSION, WHOLE, is_empty, newer
from kbsync.index.sqlite.vectors import Cosines, Matrix
from kbsync.index.sqlite.writer import Writer
from kbsync.index.store import (
    BetterQuestion,
    CandidateChunk,
    Stored,
    StoredPassage,
    WordScores,
    first_of_each,
)
from kbsync.index.weights import (
    DEPTH,
    FIELDS,
    MAX_ROWS,
    NAMED_CHUNKS,
    PASSAGES,
    Frequency,
    NameScores,
    TermWeights,
    length_correction,
    saturation_of,
    select_terms,
)
from kbsync.index.words import Term, Tokeniser, as_stored, naming_text, readable, word_with, written_terms
from kbsync.permissions import exists
from kbsync.state.db import DamagedError, identity, open_reader, state_errors, transaction, unbind

if TYPE_CHECKING:
    from kbsync.index.embed import Vector

MAX_FREQUENCIES = 10_000
"""Maximum number of words whose frequencies are cached, which takes about 3 MB."""

_NO_FILE = (-1, -1)

_Row = tuple[int, int, int | None, float]
"""The numbers of a chunk, its document and its slot, and the score of the chunk."""


@dataclass(frozen=True, slots=True)
class _Scope:
    """The scope of a search: the `chunks` with the phrases, with their documents. None means all chunks of
    `documents`, or of all documents if that is None, too.

    `whole`: the documents whose chunks are all in scope.
    """

    documents: set[int] | None
    chunks: Mapping[int, int] | None = None
    whole: set[int] = field(default_factory=set)

    def admits(self, document: int, chunk: int) -> bool:
        """Return whether the search may return this chunk."""
        if self.documents is not None and document not in self.documents:
            return False
        return self.chunks is None or chunk in self.chunks or document in self.whole


class Reader:
    """A connection for reading the index in `folder`. Calls may come from any thread, but run one at a time.

    If the file is replaced, the new one is opened, so that every read uses the current index.
    """

    def __init__(self, folder: Path) -> None:
        """Open the index.

        Raises `UnmadeError` if there is none that this version can read, or `StateError` if the file can't be
        read.
        """
        self._path = folder / FILE
        self._guard = threading.Lock()
        self._is_closed = False
        self._identity = _NO_FILE
        self._open()

    def close(self) -> None:
        """Close the file. May be called again."""
        with self._guard:
            self._is_closed = True
            self._connection.close()

    @contextmanager
    def snapshot(self) -> Iterator[apsw.Connection]:
        """Let all reads inside the block see the same snapshot."""
        with self._guard, state_errors(self._path):
            if self._is_closed:
                raise StateError(f"{self._path} is closed")
            if identity(self._path) != self._identity:
                self._connection.close()
                # Reset in case opening fails: a new file may get the old one's inode.
                self._identity = _NO_FILE
                self._open()
            with transaction(self._connection):
                yield self._connection

    def _open(self) -> None:
        """Open the current file, and drop data cached from an earlier one."""
        path = self._path
        if not exists(path):
            raise UnmadeError(f"the index {path} doesn't exist")
        with state_errors(path):
            connection = open_reader(path)
            with transaction(connection):  # in one snapshot, because the file may be under construction
                marks = connection.pragma("application_id"), connection.pragma("user_version")
                nothing_yet = is_empty(connection)
        if marks not in ((APPLICATION_ID, FIRST_VERSION), (APPLICATION_ID, VERSION)):
            connection.close()
            if nothing_yet:
                raise UnmadeError(f"the index {path} is empty")
            if marks[0] == APPLICATION_ID and marks[1] > VERSION:
                raise newer(path, marks[1])
            raise UnmadeError(
                f"{path} was created by a different version of kbsync; the next pass will create a new one"
            )
        with state_errors(path):
            for table in _WORD_TABLES:
                connection.execute(_VOCABULARY.replace("@table", table))
        self._connection = connection
        self._identity = identity(path) or _NO_FILE
        self._matrix = Matrix(connection)
        self._better_matrix = Matrix(connection, "better", "better")
        self._data_version = -1  # the commit that the cached counts are from: none yet

    def _forget_after_commit(self) -> None:
        """Drop cached counts after a commit. Between commits, searches share the counts of common words."""
        version: int = self._connection.pragma("data_version")
        if version != self._data_version:
            self._frequencies: dict[Term, Frequency] = {}
            self._sizes: dict[int, int] = {}
            self._least_cosines: dict[str, float] = {}
            self._last_unknown: tuple[Sequence[Term], list[Unknown]] = (), []
            self._has_phrase = dict[str, bool]()  # of the same question
            self._last_scope: tuple[Query | None, _Scope] = None, _Scope(None)
            self._last_cosines: tuple[Vector, Callable[[], Cosines]] | None = None
            self._documents: int = (_varints(self._connection.execute(_NAMES_ROWS).get or b"") or [0])[0]
            # The average number of words per chunk: over all chunks, as bm25() uses it, and averaged over the
            # documents or a sample of them.
            averages = self._connection.execute("SELECT block FROM words_data WHERE id = 1").get or b""
            self._chunks, *words = _varints(averages) or [0]
            every = self._documents // _SAMPLED + 1
            if every > 1:
                read_tables_ahead(self._connection, "run", "words_docsize")
            sample = [_word_count(sizes) for (sizes,) in self._connection.execute(_SAMPLE, (every,))]
            self._rescale = _Rescale(sum(words) / max(1, self._chunks), sum(sample) / max(1, len(sample)))
            self._documents_before = [(0, 0)]
            self._data_version = version

    def has_vectors(self, model: str) -> bool:
        """Return whether any document has vectors from `model`."""
        return vectors.find_model(self._connection, model) is not None

    def candidates(
        self,
        terms: Sequence[Term],
        model: str,
        vector: Vector | None,
        query: Query,
        least: float = 0.0,
        better: BetterQuestion | None = None,
    ) -> list[CandidateChunk]:
        """Return the best chunks by words and the best by meaning, each with both scores."""
        self._forget_after_commit()
        # A word as written says more than its other inflections, and than other words with the same prefix.
        as_written = (Term(term.surface, term.stem, is_guess=True) for term in terms if term.prefix)
        terms = [*terms, *as_written]
        frequencies = {term: self._frequency(term) for term in terms}
        # The search for the translation of a question uses the same query, and may use its vector.
        if self._last_scope[0] is not query:
            self._last_scope = query, self._scope(query)
        elif not any(frequency.documents for frequency in frequencies.values()) and (
            vector is None or (self._last_cosines is not None and self._last_cosines[0] is vector)
        ):
            return []
        scope = self._last_scope[1]
        wait_for_cosines = self._start_cosines(model, vector, better)
        weights = select_terms(terms, frequencies, self._documents, self._chunks)
        scores, by_term = self._score_words(weights)
        certain = weights.raise_certain(scores, by_term)
        name_scores = self._score_names(weights.all_terms, query.text, scope.documents)
        name_scores.chunks = by_term
        # A search for more documents than it can find would read all chunks.
        admitted_count = self._documents if scope.documents is None else len(scope.documents)
        document_count = min(query.top_k, admitted_count)
        lexical, coded = self._select_by_words(scores, name_scores, query.text, scope, document_count)
        rows = [*coded.values(), *lexical.values()]
        points = {chunk: score for chunk, _, _, score in rows}
        of_names = self._connection.execute(_OF_DOCUMENTS, (json.dumps(name_scores.best), NAMED_CHUNKS))
        named_rows = [row for row in of_names if scope.admits(row[1], row[0])]
        cosines, known = None, dict[int, float]()
        if wait_for_cosines is not None:
            cosines, semantic = wait_for_cosines(), _Selection(scope, document_count)
            self._take_nearest(semantic, cosines, least)
            rows += semantic.rows.values()
        found, by_name = ({chunk: document for chunk, document, *_ in each} for each in (rows, named_rows))
        slots = {chunk: slot for chunk, _, slot, *_ in [*rows, *named_rows] if slot is not None}
        if cosines is not None:
            known = cosines.of(slots.values())
        # A chunk found by words gets its cosine too; one found by meaning counts as having none of the words.
        points |= {chunk: scores[chunk] for chunk in by_name if chunk in scores and chunk not in found}
        sizes = self._sizes
        unsized = {*found.values(), *by_name.values()}.difference(sizes)
        sizes.update(self._connection.execute(_SIZES, (json.dumps(list(unsized)),)))
        word_scores = WordScores(
            weights, points, by_term, name_scores, certain, coded, is_explained=query.explain
        )
        meanings = {chunk: known[slot] for chunk, slot in slots.items() if slot in known}
        candidates = word_scores.candidates(found, by_name, meanings, sizes)
        if cosines is None:
            return candidates
        candidates.sort(key=lambda item: item.score, reverse=True)
        best = {item.chunk: item.document for item in candidates[:_CORRECTED]}
        exact = cosines.exact(slots[chunk] for chunk in best if chunk in slots)
        meanings |= {chunk: exact[slots[chunk]] for chunk in best if slots.get(chunk, -1) in exact}
        return word_scores.candidates(best, {}, meanings, sizes) + candidates[_CORRECTED:]

    def _select_by_words(
        self,
        scores: Mapping[int, float],
        name_scores: NameScores,
        question: str,
        scope: _Scope,
        document_count: int,
    ) -> tuple[dict[int, _Row], dict[int, _Row]]:
        """Return the chunks with the best scores, and the best of the chunks that contain the words of a code
        in succession.

        Both results are dicts keyed by chunk number.
        """
        share = DEPTH // max(1, document_count)
        lexical, coded = (_Selection(scope, document_count, share) for _ in range(2))
        rows = self._with_owners(_best_first(scores), lexical)
        if name_scores.documents:
            first = sorted(
                islice(rows, 2 * DEPTH), key=lambda row: -(row[3] + name_scores.points(row[1], row[0]))
            )
            rows = chain(first, rows)
        if scope.chunks is not None:
            # A chunk with a phrase is a hit without any other word of the question.
            phrased = ((chunk, sys.float_info.epsilon) for chunk in first_of_each(scope.chunks))
            rows = chain(rows, self._with_owners(phrased, lexical))
        lexical.take(rows)
        points_of_coded = {chunk: scores.get(chunk, 0.0) for chunk in self._find_codes(question)}
        coded.take(self._with_owners(_best_first(points_of_coded), coded))
        return lexical.rows, coded.rows

    def start(self, model: str, vector: Vector | None, better: BetterQuestion | None = None) -> None:
        """Start comparing the question with the passages. `candidates` waits for the cosines."""
        self._forget_after_commit()
        self._start_cosines(model, vector, better)

    def _start_cosines(
        self, model: str, vector: Vector | None, better: BetterQuestion | None
    ) -> Callable[[], Cosines] | None:
        """Start computing the question's cosine with every passage, using the better model's vector where
        there is one.

        Return a function that waits for the cosines, or None if there is nothing to compute.
        """
        stored_model = None if vector is None else vectors.find_model(self._connection, model)
        # A service may have changed the length of its vectors: old and new ones can't be compared.
        if vector is None or stored_model is None or len(vector) != stored_model.dimensions:
            return None
        if self._last_cosines is None or self._last_cosines[0] is not vector:
            self._last_cosines = None  # frees 4 MB for each million passages
            cosines = self._matrix.start(stored_model, vector)
            if better is not None:
                better_model = vectors.find_model(self._connection, better.model)
                if better_model is not None:
                    wait_for_better = self._better_matrix.start(better_model, better.vector)
                    combined, factors = cosines(), (better.scale, better.offset, better.other_factor)
                    combined.replace_by_better(wait_for_better(), *factors)
                    cosines = lambda: combined  # noqa: E731
            self._last_cosines = vector, cosines
        return self._last_cosines[1]

    def _score_words(self, weights: TermWeights) -> tuple[dict[int, float], dict[Term, dict[int, float]]]:
        """Return the chunks that contain some of the terms, scored by all terms, and each term's
        contribution.

        The score is BM25 with the given idf; each term adds at most `saturation_of`, and a code in parts adds
        nothing if the chunk also has it as one word. If the rarer terms are in only a few documents, common
        terms also find chunks: each document's first chunks, and those that contain all terms.
        """
        scores, by_term = defaultdict[int, float](float), dict[Term, dict[int, float]]()
        rescale = self._rescale
        for term, idf in weights.rare.items():
            rows: list[Any] = self._connection.execute(_MATCH, (_expression([term]),)).fetchall()
            # SQLite's own idf counts passages, so one large document would determine which words are rare.
            own_idf = max(1e-6, math.log((self._chunks - len(rows) + 0.5) / (len(rows) + 0.5)))
            limit = saturation_of(term)
            points = {
                chunk: idf * min(limit, rescale[sizes](score / own_idf)) for chunk, score, sizes in rows
            }
            for chunk, score in points.items():
                scores[chunk] += score
            by_term[term] = points
        scored = frozenset(scores)
        having = {term: set[int]() for term in weights.common}
        frequency = max((self._frequency(term).documents for term in weights.rare), default=0)
        if weights.common and frequency < DEPTH:
            every = " AND ".join(_expression([term]) for term in weights.common)
            having_all = self._chunks_with(every, DEPTH)
            for at, term in enumerate(weights.common):
                having[term].update(having_all)
                if at < _FINDING:
                    having[term].update(self._sample(_expression([term])))
        for term, idf in weights.common.items():
            # Searching for the rare terms once more takes longer than reading that many chunks.
            if weights.rare and self._frequency(term).chunks <= min(
                MAX_ROWS, _READ_FOR_EACH * len(weights.rare)
            ):
                having[term].update(scored.intersection(self._chunks_with(_expression([term]), -1)))
            elif weights.rare:
                both = f"({_expression(weights.rare)}) AND {_expression([term])}"
                having[term].update(self._chunks_with(both, -1))
            for chunk in having[term]:
                scores[chunk] += idf
            by_term[term] = dict.fromkeys(having[term], idf)
        by_stem = {term.stem: points for term, points in by_term.items()}
        for stem, points in by_stem.items():  # the index has `E-4471` both in parts and as one word
            for chunk in points.keys() & by_stem.get(stem.replace(" ", ""), {}).keys() if " " in stem else ():
                scores[chunk] -= points.pop(chunk)
        return scores, by_term

    def _chunks_with(self, expression: str, limit: int) -> list[int]:
        """Return up to `limit` chunks (-1: all) that match a full-text query, in order."""
        rows: list[Any] = self._connection.execute(_CHUNKS_WITH, (expression, limit)).fetchall()
        return list(chain.from_iterable(rows))

    def _sample(self, expression: str) -> list[int]:
        """Return the first chunks that contain a term, in order, but at most a few hundred from each
        document.
        """
        sample, start = list[int](), 0
        for _ in range(_BATCHES):
            rows: list[Any] = self._connection.execute(_CHUNKS_FROM, (expression, start)).fetchall()
            sample += [chunk for (chunk,) in rows]
            if len(rows) < _BATCH or (following := self._next_document(sample[-1])) is None:
                break
            start = following
        return sample

    def _score_names(self, idf: Mapping[Term, float], question: str, admitted: set[int] | None) -> NameScores:
        """Return the documents with some of these terms in their names."""
        name_scores = NameScores(idf)
        for term in idf:
            if not self._frequency(term).names:
                continue
            rows = self._connection.execute(_NAMES_WITH, (_expression([term]),))
            admitted_rows = (number for (number,) in rows if admitted is None or number in admitted)
            for document in islice(admitted_rows, MAX_ROWS):
                name_scores.documents[document].append(term)
        name_scores.set_exact(self._named(question, admitted))
        has_whole, listed = whole_name_test(readable(question)), json.dumps(name_scores.of_several_words())
        paths = self._connection.execute(_PATHS, (listed,))
        name_scores.whole = {number for number, path in paths if has_whole(unbind(path))}
        return name_scores

    def _named(self, question: str, admitted: set[int] | None) -> set[int]:
        """Return the documents whose file name or path equals the question."""
        question = readable(question)
        if not (names := names_sought(question)):
            return set()
        expression = " OR ".join(map(_quoted, names))
        rows = islice(self._connection.execute(_PATHS_NAMED, (expression,)), MAX_ROWS)
        admitted_rows = (row for row in rows if admitted is None or row[0] in admitted)
        named = find_named(question, ((number, unbind(path)) for number, path in admitted_rows))
        return set(named[:DEPTH])

    def _with_owners(self, matches: Iterable[tuple[int, float]], selection: _Selection) -> Iterator[_Row]:
        """Yield each match with its document, skipping most of those that `selection` has no room for."""
        firsts, lasts = list[int](), dict[int, int]()

        def is_needless(chunk: int) -> bool:
            at = bisect_right(firsts, chunk) - 1
            return at >= 0 and chunk <= lasts[firsts[at]]

        useful = ((chunk, score) for chunk, score in matches if not is_needless(chunk))
        while batch := dict(islice(useful, DEPTH)):
            rows = self._connection.execute(_OWNERS, (json.dumps(list(batch)),))
            owners = {chunk: (document, slot) for chunk, document, slot in rows}
            for chunk in filter(owners.__contains__, batch):
                document, slot = owners[chunk]
                yield chunk, document, slot, batch[chunk]
                if selection.is_full(document) and not is_needless(chunk):
                    first, last, _ = self._connection.execute(_RUN_OF, (chunk,)).get
                    insort(firsts, first)
                    lasts[first] = last

    def estimate_least_cosine(self, model: str) -> float:
        """Return the cosine below which texts are unrelated, as of the latest commit."""
        self._forget_after_commit()
        if model not in self._least_cosines:
            stored_model = vectors.find_model(self._connection, model)
            self._least_cosines[model] = (
                0.0 if stored_model is None else vectors.estimate_least_cosine(self._connection, stored_model)
            )
        return self._least_cosines[model]

    def unknown(self, terms: Sequence[Term]) -> list[Unknown]:
        """Return the terms that no document contains, each with a similar term that a document contains,
        if any.
        """
        self._forget_after_commit()
        # A search calls this once to find similar words, and once to report them.
        if self._last_unknown[0] != terms:
            rare = [term for term in terms if term.goes_on or not self._frequency(term).documents]
            lookups = (self._occurring, self._beginning, self._words_with, self._first_phrase)
            unknown = find_unknown(rare, *lookups)
            self._last_unknown, self._has_phrase = (terms, unknown), {}
        return self._last_unknown[1]

    def has_phrase(self, phrase: str) -> bool:
        """Return whether a document contains the phrase or has it as its file name or path."""
        self._forget_after_commit()
        # A search calls this once to score its hits, and once to report unknown codes.
        if phrase not in self._has_phrase:
            spellings = phrase_spellings(phrase)
            in_text, in_name = _phrase_expressions(spellings)
            self._has_phrase[phrase] = bool(spellings) and bool(
                self._chunks_with(in_text, 1)
                or self._connection.execute(_COUNT_NAMES, (in_name, 1)).get
                or self._named(phrase, None)
            )
        return self._has_phrase[phrase]

    def _words_with(self, stem: str) -> Iterator[tuple[str, str]]:
        """Yield the words with this stem in a few documents, each in the form used in the index and as
        written. If none is found quickly, yield any word with the stem.
        """
        word, is_found = word_with(stem), False
        for text in self._few_texts_with(word):
            for term, written in written_terms(text):
                if stem in (term.stem, term.surface):  # older words have their endings
                    is_found = True
                    yield term.surface, written
        if not is_found:
            yield word, word

    def _first_phrase(self, phrases: Iterable[str]) -> tuple[str, str]:
        """Return the stems of the first of these phrases that a document has, joined by single characters,
        and the phrase as written there. Return ("", "") if there is none.

        Only a few texts with the phrase are read.
        """
        tokeniser = Tokeniser()
        stems_by_phrase = {phrase: tokeniser.tokens(phrase) for phrase in phrases}
        counts = self._occurring(set(chain.from_iterable(stems_by_phrase.values())))
        for phrase, stems in stems_by_phrase.items():
            if not 0 < min(counts.get(stem, 0) for stem in stems) <= _MAX_PHRASE_CANDIDATES:
                continue
            for text in self._few_texts_with(phrase):
                if written := joined_phrase(text, phrase):
                    return " ".join(stems), written
        return "", ""

    def _few_texts_with(self, phrase: str) -> Iterator[str]:
        """Yield the texts of a few passages with these words, and then those of a few names."""
        expression = _quoted(phrase)
        rows: Iterable[Any] = self._connection.execute(f"{_TEXTS_WITH} LIMIT 9", (expression,))
        yield from (f"{headings} {text}" for _, headings, text in rows)
        names: Iterable[Any] = self._connection.execute(f"{_NAMING_TEXTS_WITH} LIMIT 9", (expression,))
        yield from (naming_text(title, json.loads(tags), unbind(path)) for _, title, tags, path in names)

    def _occurring(self, stems: Iterable[str]) -> dict[str, int]:
        """Return the stems that occur, each with the number of chunks or names that contain it.

        A look at all stems with the same first letters is as fast as looking up a few of them.
        """
        counts, by_beginning = Counter[str](), defaultdict[str, set[str]](set)
        for stem in stems:
            by_beginning[stem[:FIRST_LETTERS]].add(stem)
        many = {key: group for key, group in by_beginning.items() if len(group) >= _MANY_STEMS}
        for beginning, group in many.items():
            for stem, count in self._beginning(beginning, min(map(len, group)), max(map(len, group))):
                if stem in group:
                    counts[stem] = max(counts[stem], count)
        sought = json.dumps([*chain.from_iterable(by_beginning[key] for key in by_beginning.keys() - many)])
        for table in _WORD_TABLES:
            counts |= Counter(dict(self._connection.execute(_ROWS_OF.replace("@table", table), (sought,))))
        return counts

    def _beginning(self, beginning: str, shortest: int, longest: int) -> Iterator[tuple[str, int]]:
        """Yield the stems with this prefix and a length within these limits, each with the number of
        chunks or names that contain it.
        """
        values = (beginning, f"{beginning}{_BEYOND}", shortest, longest)
        for table in _WORD_TABLES:
            yield from self._connection.execute(_ROWS_BEGINNING.replace("@table", table), values)

    def passages(self, chunks: Iterable[int]) -> Mapping[int, StoredPassage]:
        """Return the passage of each chunk that exists and belongs to a document."""
        by_chunk = dict[int, StoredPassage]()
        for chunk in chunks:
            for document, path, title, modified, text, headings, page, line in self._connection.execute(
                _SHOWN, (chunk,)
            ):
                by_chunk[chunk] = StoredPassage(
                    document, unbind(path), title, modified, text, tuple(json.loads(headings)), page, line
                )
        return by_chunk

    def _scope(self, query: Query) -> _Scope:
        """Return the filters, phrases and excluded words in `query`."""
        documents: set[int] | None = None
        if query.paths or query.types or query.after is not None:
            documents = self._select(query.paths, query.types, query.after)
        elif query.selects or query.excluded:
            documents = {number for (number,) in self._connection.execute("SELECT id FROM document")}
        if documents is not None:
            for path in query.excluded_paths:
                documents -= self._select(paths=(path,))
            if query.excluded_types:
                documents -= self._select(types=query.excluded_types)
            for excluded in query.excluded:
                chunks, named = self._find_phrase(excluded)
                documents -= {document for _, document in self._with_documents(chunks)} | named
        phrased, whole = dict[int, int](), set[int]()
        for phrase in query.phrases:
            chunks, named = self._find_phrase(phrase)
            document_of = dict(self._with_documents(chunks))
            having = {*document_of.values(), *named}
            documents = having if documents is None else documents & having
            phrased |= document_of
            whole |= named
        if documents is None or not query.phrases:
            return _Scope(documents)
        in_scope = {chunk: document for chunk, document in phrased.items() if document in documents}
        return _Scope(documents, in_scope, whole)

    def _select(
        self, paths: tuple[str, ...] = (), types: tuple[str, ...] = (), after: float | None = None
    ) -> set[int]:
        """Return the documents that all of these filters select."""
        selects = selector(Query("", paths=paths, types=types, after=after))
        # This excludes most documents in a tenth of the time of the exact path test.
        conditions, values = list[str](), list[str | float]()
        if after is not None:
            conditions.append("modified >= ?")
            values.append(after)
        for part in filter(None, map(plain_part, paths)):
            conditions.append("(typeof(path) = 'blob' OR instr(path, ?))")
            values.append(part)
        if types and all(map(str.isascii, types)):
            endings = type_endings(types)
            tests = " OR ".join(["lower(substr(path, ?)) = ?"] * len(endings))
            conditions.append(f"(typeof(path) = 'blob' OR {tests})")
            values += [value for ending in endings for value in (-len(ending), ending)]
        statement = f"SELECT id, path, modified FROM document WHERE {' AND '.join(conditions) or 1}"  # noqa: S608
        rows = self._connection.execute(statement, values)
        return {document for document, path, modified in rows if selects(unbind(path), modified)}

    def _find_phrase(self, phrase: str) -> tuple[list[int], set[int]]:
        """Return the chunks that contain a phrase, in order, and the documents whose names contain it or
        whose paths it is.
        """
        if not (spellings := phrase_spellings(phrase)):
            return [], set()
        in_text, in_name = _phrase_expressions(spellings)
        named = self._named(phrase, None)
        if all(len(spelling.parts) == 1 for spelling in spellings):
            chunks = self._chunks_with(in_text, -1)
            return chunks, named.union(*self._connection.execute(_NAMES_WITH, (in_name,)))
        has_phrase = phrase_test(phrase)
        rows: Iterable[Any] = self._connection.execute(_TEXTS_WITH, (in_text,))
        chunks = [
            chunk
            for chunk, headings, text in rows
            if has_phrase(text) or has_phrase("\n".join(json.loads(headings)))
        ]
        names: Iterable[Any] = self._connection.execute(_NAMING_TEXTS_WITH, (in_name,))
        named.update(
            document
            for document, title, tags, path in names
            if has_phrase(naming_text(title, json.loads(tags), unbind(path)))
        )
        return chunks, named

    def _find_codes(self, question: str) -> list[int]:
        """Return chunks that contain the words of a code in the question in direct succession, or the same
        date.
        """
        chunks = dict[int, None]()
        for code in codes_in(readable(question)):
            for _, _, form in whole_dates(code):
                chunks |= dict.fromkeys(self._sample(f'"{form}"'))
            if not (spellings := phrase_spellings(code)):
                continue
            every_word = _every(" ".join(spellings[0].parts).split())
            count: int = self._connection.execute(_COUNT_CHUNKS, (every_word, _MAX_CODE_CANDIDATES + 1)).get
            if count <= _MAX_CODE_CANDIDATES:
                chunks |= dict.fromkeys(self._sample(_phrase_expressions(spellings)[0]))
        return list(chunks)

    def _with_documents(self, chunks: Iterable[int]) -> Iterator[tuple[int, int]]:
        """Yield each chunk that belongs to a document with that document. The chunks must be sorted."""
        last, document = 0, None
        for chunk in chunks:
            if chunk > last:
                _, last, document = self._connection.execute(_RUN_OF, (chunk,)).get
            if document is not None and chunk <= last:
                yield chunk, document

    def _frequency(self, term: Term) -> Frequency:
        """Return the number of documents that contain a term in their text, the number of documents that
        contain it in their name, and the number of chunks that contain it.
        """
        if term not in self._frequencies:
            expression = _expression([term])
            documents, chunks = self._count_documents(expression)
            if chunks >= _COUNTED_ROWS:
                chunks = self._connection.execute(_COUNT_CHUNKS, (expression, MAX_ROWS + 1)).get
            names: int = self._connection.execute(_COUNT_NAMES, (expression, MAX_ROWS + 1)).get
            if len(self._frequencies) >= MAX_FREQUENCIES:
                self._frequencies.clear()
            self._frequencies[term] = Frequency(documents, names, chunks)
        return self._frequencies[term]

    def _count_documents(self, expression: str) -> tuple[int, int]:
        """Return the number of documents whose text contains a term, and the number of chunks that contain
        it.

        For a common term, the first number is only an estimate, and the second is at least `_COUNTED_ROWS`.
        """
        count, start, chunks = 0, 0, 0
        for _ in range(_BATCHES):
            rows: int
            documents: int
            rows, documents, last = self._connection.execute(_COUNT_FROM, (expression, start)).get
            count, chunks = count + documents, chunks + rows
            if rows < _COUNTED_ROWS:
                return count, chunks
            if (following := self._next_document(last)) is None:
                return count, chunks
            start = following
            if count >= _ENOUGH:
                break
        return round(count * self._documents / max(1, self._count_documents_before(start))), chunks

    def _count_documents_before(self, chunk: int) -> int:
        """Return the number of documents that begin before a chunk."""
        counts = self._documents_before  # counted earlier, by chunk
        at = bisect_right(counts, chunk, key=lambda pair: pair[0])
        first, covered = counts[at - 1]
        if first != chunk:
            covered += self._connection.execute(_DOCUMENTS_BETWEEN, (first, chunk)).get
            if len(counts) >= _MAX_COUNTS:
                counts[1:] = []
                at = 1
            counts.insert(at, (chunk, covered))
        return covered

    def _next_document(self, chunk: int) -> int | None:
        """Return the first chunk of the document after the one that this chunk belongs to, or None if there
        is no such document.

        Most chunks with a given word may belong to a single 60 MB log, which this skips in one step.
        """
        *_, document = self._connection.execute(_RUN_OF, (chunk,)).get
        first: int | None = self._connection.execute(_RUN_OF_OTHER, (chunk, document)).get
        return first

    def _take_nearest(self, selection: _Selection, cosines: Cosines, least: float) -> None:
        """Add the nearest chunks to `selection`."""
        nearest = self._nearest(cosines, least)
        selection.take(islice(nearest, _VISITED))
        if selection.is_enough:
            return
        # The missing documents are distant, for example because of a filter: if they are few, check only
        # them instead of all nearer chunks.
        documents = selection.scope.documents
        if documents is None:
            some = "SELECT id FROM document LIMIT ?"
            documents = {number for (number,) in self._connection.execute(some, (_FEW_DOCUMENTS + 1,))}
        missing = documents - selection.documents.keys() if len(selection.rows) >= DEPTH else documents
        listed = json.dumps(list(missing))
        if (
            len(documents) > _FEW_DOCUMENTS
            or sum(size for _, size in self._connection.execute(_SIZES, (listed,))) > _FEW_CHUNKS
        ):
            selection.take(nearest)
            return
        chunks = [row for row in self._connection.execute(_OF_DOCUMENTS, (listed, -1)) if row[2] is not None]
        known = cosines.of(slot for *_, slot in chunks)
        rows = [(*row, known.get(row[2], 0.0)) for row in chunks]
        selection.take(sorted((row for row in rows if row[3] > least), key=lambda row: (-row[3], row[0])))

    def _nearest(self, cosines: Cosines, least: float) -> Iterator[_Row]:
        """Yield all chunks, nearest first."""
        start, stop = 0, DEPTH
        while slots := cosines.best(start, stop, least):
            for at in range(0, len(slots), DEPTH):
                listed = json.dumps(slots[at : at + DEPTH])
                rows: list[Any] = self._connection.execute(_IN_SLOTS, (listed,)).fetchall()
                known = cosines.of(slot for *_, slot in rows)
                yield from ((chunk, document, slot, known[slot]) for chunk, document, slot in rows)
            start, stop = stop, stop * 4


_CORRECTED = 100
"""Number of top candidates whose cosines are corrected from the stored vectors."""

_BATCH, _BATCHES = 128, 12
"""For a common term: the number of chunks to read per batch, and the maximum number of batches."""

_COUNTED_ROWS, _ENOUGH = 512, 128
"""When counting the documents that contain a term: the number of chunks to read per batch, and the number
of documents that is enough for an estimate.
"""

_MAX_CODE_CANDIDATES = 100_000
"""Maximum number of chunks to search for a code, among those that contain all of its words; this takes
about 25 ms.
"""

_MANY_STEMS = 30
"""Number of stems with the same first letters from which on all stems with these letters are read instead."""

_MAX_PHRASE_CANDIDATES = 10_000
"""Maximum number of passages with the rarest word of a phrase to look for the phrase in."""

_FINDING = 2
"""Maximum number of common terms to search for if no rarer term matches a chunk."""

_MAX_COUNTS = 20_000
"""Maximum number of counted positions to cache, in about 3 MB of memory."""

_READ_FOR_EACH = 100
"""Number of chunks with a common term that can be read in the time that one more lookup of a rarer term
takes."""

_WORD_TABLES = ("words", "names")
"""The full-text indexes."""

_VOCABULARY = """
PRAGMA query_only = 0;  -- it forbids temporary tables as well; the file itself is open for reading only
CREATE VIRTUAL TABLE temp.in_@table USING fts5vocab(main, @table, row);
PRAGMA query_only = 1;
"""
_BEYOND = "\U0010ffff"
_ROWS_OF = "SELECT term, doc FROM json_each(?) JOIN temp.in_@table ON term = value"
_ROWS_BEGINNING = """
SELECT term, doc FROM temp.in_@table WHERE term BETWEEN ? AND ? AND length(term) BETWEEN ? AND ?
"""
_PATHS_NAMED = """
SELECT document.id, path FROM names JOIN document ON document.id = names.rowid WHERE names MATCH ?
"""
_PATHS = "SELECT document.id, document.path FROM json_each(?) CROSS JOIN document ON document.id = value"
_NAMES_WITH = "SELECT rowid FROM names WHERE names MATCH ?"
_NAMING_TEXTS_WITH = """
SELECT document.id, title, tags, path FROM names JOIN document ON document.id = names.rowid
  WHERE names MATCH ?
"""
_COUNT_CHUNKS = "SELECT count(*) FROM (SELECT 1 FROM words WHERE words MATCH ? LIMIT ?)"
_COUNT_NAMES = "SELECT count(*) FROM (SELECT 1 FROM names WHERE names MATCH ? LIMIT ?)"
_CHUNKS_FROM = f"SELECT rowid FROM words WHERE words MATCH ? AND rowid >= ? LIMIT {_BATCH}"  # noqa: S608
_COUNT_FROM = f"""
SELECT count(*), count(DISTINCT document), max(chunk) FROM (
  SELECT rowid AS chunk,
    (SELECT document FROM run WHERE first <= words.rowid ORDER BY first DESC LIMIT 1) AS document
  FROM words WHERE words MATCH ? AND rowid >= ? LIMIT {_COUNTED_ROWS})
"""  # noqa: S608
_DOCUMENTS_BETWEEN = "SELECT count(*) FROM run WHERE first >= ? AND first < ? AND place = 0"
_RUN_OF_OTHER = "SELECT first FROM run WHERE first > ? AND document IS NOT ? ORDER BY first LIMIT 1"
_SIZES = "SELECT value, sum(chunks) FROM json_each(?) CROSS JOIN run ON document = value GROUP BY value"
_CHUNKS_WITH = "SELECT rowid FROM words WHERE words MATCH ? LIMIT ?"


_TEXTS_WITH = """
SELECT chunk.id, chunk.headings, text FROM words JOIN chunk ON chunk.id = words.rowid WHERE words MATCH ?
  ORDER BY words.rowid
"""
_RUN_OF = """
SELECT first, first + chunks - 1, document FROM run WHERE first <= ? ORDER BY first DESC LIMIT 1
"""


def _every(phrases: Iterable[str]) -> str:
    """Return the full-text query for all of these words in direct succession."""
    return " AND ".join(map(_quoted, phrases))


def _phrase_expressions(spellings: Iterable[Spelling]) -> tuple[str, str]:
    """Return the full-text queries for a phrase in any of these spellings, one for `words` and one for
    `names`.
    """
    in_text, in_name = list[str](), list[str]()
    for spelling in spellings:
        parts = _every(spelling.parts)
        identifier = f" AND (name : ({_every([spelling.identifier])}))" if spelling.identifier else ""
        # Other forms of words follow the text, so only a single word may be one.
        columns = "{headings body} : " if " " in parts or identifier else ""
        in_text.append(f"({columns}({parts}){identifier})")
        in_name.append(f"(({parts}){identifier})")
    return " OR ".join(in_text), " OR ".join(in_name)


def _expression(terms: Iterable[Term]) -> str:
    """Return the full-text query for any of the terms."""
    return " OR ".join(
        f"{_quoted(term.prefix or term.surface)}*" if term.prefix or term.goes_on else _quoted(term.surface)
        for term in terms
    )


def _quoted(phrase: str) -> str:
    """Return the full-text query for these words in direct succession."""
    return f'"{as_stored(phrase)}"'


# A chunk's row doesn't have its document; its run has it: the run with the greatest `first` up to the chunk.
_OWN = (
    "run.first = (SELECT max(first) FROM run WHERE first <= chunk.id)"
    " AND chunk.id < run.first + run.chunks AND run.document NOTNULL"
)
_MATCH = f"""
SELECT words.rowid, -rank, sz FROM words CROSS JOIN words_docsize ON id = words.rowid
  WHERE words MATCH ? AND rank MATCH 'bm25{FIELDS}'
"""  # noqa: S608
_NAMES_ROWS = "SELECT block FROM names_data WHERE id = 1"
_SAMPLE = """
SELECT sz FROM run CROSS JOIN words_docsize ON id = first + chunks / 2 WHERE place = 0 AND document % ? = 0
"""
_OWNERS = f"""
SELECT chunk.id, run.document, chunk.slot
  FROM json_each(?) CROSS JOIN chunk ON chunk.id = value CROSS JOIN run ON {_OWN}
"""  # noqa: S608
_IN_SLOTS = f"""
SELECT chunk.id, run.document, chunk.slot
  FROM json_each(?) CROSS JOIN chunk ON chunk.slot = value CROSS JOIN run ON {_OWN} ORDER BY key, chunk.id
"""  # noqa: S608
# In the order of the loops, without sorting: a document may have many chunks.
_OF_DOCUMENTS = """
SELECT chunk.id, run.document, chunk.slot
  FROM json_each(?) CROSS JOIN run INDEXED BY run_document ON run.document = value
  CROSS JOIN chunk ON chunk.id BETWEEN first AND first + chunks - 1
  LIMIT ?
"""
_SHOWN = (
    "SELECT document.id, path, document.title, modified, text, headings, page + pages, line + lines"  # noqa: S608
    f" FROM chunk CROSS JOIN run ON {_OWN} CROSS JOIN document ON document.id = run.document"
    " WHERE chunk.id = ?"
)


def _varints(content: bytes) -> list[int]:
    """Decode SQLite's varints, which have 7 bits per byte, with the most significant bits first."""
    numbers, number = list[int](), 0
    for byte in content:
        number = number << 7 | byte & 0x7F
        if byte < 0x80:
            numbers.append(number)
            number = 0
    return numbers


def _word_count(sizes: bytes) -> int:
    """Return the number of words in a chunk, given the word counts of its columns."""
    return sum(sizes) if sizes.isascii() else sum(_varints(sizes))  # each byte below 128 is a number


class _Rescale(dict[bytes, Callable[[float], float]]):
    """Caches length corrections by the word counts of a chunk's columns, because many chunks have the same
    counts.
    """

    def __init__(self, average: float, other_average: float) -> None:
        super().__init__()
        self._averages = average, other_average

    def __missing__(self, sizes: bytes) -> Callable[[float], float]:
        if len(self) >= _MAX_SIZES:
            self.clear()
        correct = self[sizes] = length_correction(_word_count(sizes), *self._averages)
        return correct


_MAX_SIZES = 20_000
"""Maximum number of word counts to cache, in about 2 MB of memory."""


def _best_first(scores: Mapping[int, float]) -> Iterator[tuple[int, float]]:
    """Yield chunks with their scores, best first. They are all sorted only if the caller needs all of
    them.
    """
    least = max(sorted(scores.values(), reverse=True)[_SORTED - 1 : _SORTED], default=0.0)
    order = lambda item: (-item[1], item[0])  # noqa: E731
    yield from sorted((item for item in scores.items() if item[1] >= least), key=order)
    yield from sorted((item for item in scores.items() if item[1] < least), key=order)


_SORTED = 2 * DEPTH
"""Number of top chunks, by word score, to sort first; most searches need no more."""

_VISITED = 4 * DEPTH
"""Number of nearest chunks to read before trying anything else."""

_SAMPLED = 1_000
"""Number of documents to sample for the average length; up to twice as many are read."""

_FEW_DOCUMENTS, _FEW_CHUNKS = 1_000, 10_000
"""Maximum numbers of documents and of chunks for which checking the chunks one by one takes no longer than
reading them by distance.
"""


class _Selection:
    """Collects `DEPTH` rows in the scope, or more if these cover fewer than `document_count` documents."""

    def __init__(self, scope: _Scope, document_count: int, share: int = DEPTH) -> None:
        """Start with no rows.

        `document_count`: the number of documents to cover. The scope has at least this many documents.
        `share`: the maximum number of rows from one document.
        """
        self.scope, self._wanted, self._share = scope, document_count, share
        self.rows = dict[int, _Row]()
        self.documents = dict[int, int]()  # number of rows by document

    @property
    def is_enough(self) -> bool:
        """Whether no more rows are needed."""
        is_short = len(self.documents) < self._wanted
        return not self._wanted or (len(self.rows) >= DEPTH and not is_short)

    def is_full(self, document: int) -> bool:
        """Return whether to skip further rows from this document, so that a large document leaves room for
        others.
        """
        count = self.documents.get(document, 0)
        return count >= PASSAGES and (len(self.rows) >= DEPTH or count >= self._share)

    def take(self, rows: Iterable[_Row]) -> None:
        """Add as many of these rows as are needed, best first."""
        if self.is_enough:
            return
        for row in rows:
            if not self.scope.admits(row[1], row[0]):
                continue
            # Some rows appear twice.
            if row[0] not in self.rows and not self.is_full(row[1]):
                self.rows[row[0]] = row
                self.documents[row[1]] = self.documents.get(row[1], 0) + 1
                if self.is_enough:
                    return


_COLUMNS = "id, upload_id, path, name, digest, size, recipe, created"
_TEXTS = """
SELECT text FROM run JOIN chunk ON chunk.id BETWEEN first AND first + chunks - 1
  WHERE document = ? ORDER BY place, chunk.id
"""
_TEXT_IN = "SELECT text, headings FROM chunk WHERE slot = ? LIMIT 1"
_CHECK = """
SELECT (SELECT value FROM meta WHERE key = 'uuid'), (SELECT count(*) FROM document),
  (SELECT value FROM meta WHERE key = 'changes')
"""
_ENTRY = """
SELECT upload_id, path, name, digest, size, recipe, title, tags, modified FROM document WHERE id = ?
"""
_CHUNKS = """
SELECT text, headings, page + pages, line + lines, slot.key, slot.id, slot.model
  FROM run JOIN chunk ON chunk.id BETWEEN first AND first + chunks - 1 LEFT JOIN slot ON slot.id = chunk.slot
  WHERE document = ? ORDER BY place, chunk.id
"""


class SqliteStore:
    """A `Store` in `folder`."""

    def __init__(self, folder: Path, *, writer: Callable[[Path], Writer] | None = Writer) -> None:
        """Open or create the store. Without a `writer`, nothing is locked or written.

        Raises `UnmadeError` if there is nothing to read yet, `StateError` if another process is writing or
        the file can't be used, and `TargetError` if the folder isn't writable.
        """
        self._folder = folder
        self._open_writer = writer
        self._writer = None if writer is None else writer(folder)
        # A listing of a large base holds its connection for a long time, and a search must not wait for it.
        self._reader = Reader(folder)
        self._finder: Reader | None = None  # most writing processes never search
        self._opening = threading.Lock()
        self.checked_revision = 0
        self._damage = ""  # the damage, if any; the next `check` then sets the file aside

    @property
    def address(self) -> str:
        """The file's URL."""
        return (self._folder.absolute() / FILE).as_uri()

    @property
    def writers(self) -> tuple[str, str]:
        """Return the name of this writer, which is stored with its first change, and the name of the previous
        writer.
        """
        if self._writer is not None:
            return self._writer.name, self._writer.former
        with self._open_snapshot() as connection:
            return "", connection.execute("SELECT value FROM meta WHERE key = 'writer'").get or ""

    @property
    def revision(self) -> int | None:
        """Return the number of changes made to the file, up to and including this writer's last change."""
        return None if self._writer is None else self._writer.revision

    def check(self) -> tuple[str, int]:
        """Return the id of the file, and the number of documents in it."""
        with self._target_errors(), self._opening:  # two checks must not both replace the index
            if self._open_writer and self._writer and (self._damage or not self._writer.is_current):
                if self._damage:
                    self._writer.discard(self._damage)
                else:
                    self._writer.close()
                self._writer = self._open_writer(self._folder)
                self._damage = ""
        with self._open_snapshot() as connection:
            uuid, documents, self.checked_revision = connection.execute(_CHECK).get
            return uuid, documents

    def put(self, entries: Sequence[Entry], encoder: Encoder) -> list[int | Rejected]:
        """Store each document."""
        with self._target_errors():
            outcomes = self._current_writer().put(entries, encoder)
            # Documents written to a file that was removed meanwhile are not stored, whatever SQLite says.
            self._current_writer()
            return outcomes

    def delete(self, documents: Sequence[int]) -> bool:
        """Remove these documents if they exist."""
        with self._target_errors():
            return self._current_writer().delete(documents)

    def rename(self, document: int, path: str, name: str, modified: float) -> None:
        """Change a document's path, name and time."""
        with self._target_errors():
            self._current_writer().rename(document, path, name, modified)

    def leave(self) -> None:
        """Do nothing, because the index doesn't record an owner."""

    def page(self, after: int, limit: int) -> Sequence[Stored]:
        """Return documents by id."""
        with self._open_snapshot() as connection:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM document WHERE id > ? AND {WHOLE} ORDER BY id LIMIT ?",  # noqa: S608
                (after, limit),
            )
            return [Stored(row[0], row[1], unbind(row[2]), unbind(row[3]), *row[4:]) for row in rows]

    def find_existing(self, documents: Iterable[int]) -> set[int]:
        """Return which of these documents exist."""
        with self._open_snapshot() as connection:
            find = f"SELECT id FROM document WHERE id = ? AND {WHOLE}"  # noqa: S608
            return {
                document for document in documents if connection.execute(find, (document,)).get is not None
            }

    def find_embedded(self, model: str, keys: Iterable[str]) -> set[str]:
        """Return the keys that have a vector."""
        with self._open_snapshot() as connection:
            stored_model = vectors.find_model(connection, model)
            raw = (bytes.fromhex(key) for key in keys)
            return (
                {key.hex() for key in vectors.find_slots(connection, stored_model, raw)}
                if stored_model
                else set()
            )

    def find_without_better(
        self, model: str, better: str, limit: int, skipped: Collection[bytes] = ()
    ) -> dict[bytes, str]:
        """Return up to `limit` passages without a vector from the model `better`. A passage is identified
        by the key of its vector from `model`.

        If the text of a passage doesn't contain its headings, the headings are added.
        """
        with self._open_snapshot() as connection:
            first = vectors.find_model(connection, model)
            if first is None:
                return {}
            pairs = vectors.find_without_better(
                connection, first, vectors.find_model(connection, better), limit, skipped
            )
            texts = dict[bytes, str]()
            for key, slot in pairs:
                row = connection.execute(_TEXT_IN, (slot,)).get
                if row is None:
                    continue
                text, headings = row
                missing = (heading for heading in json.loads(headings) if heading not in text)
                texts[key] = "\n".join([*missing, text])
            return texts

    def put_better(self, model: str, better: str, new_vectors: Mapping[bytes, bytes]) -> None:
        """Store vectors from the model `better` for the passages that still exist. A passage is identified
        by the key of its vector from `model`.
        """
        with self._target_errors():
            self._current_writer().put_better(model, better, new_vectors)

    def texts(self, document: int) -> Sequence[str] | None:
        """Return the texts of a document's chunks."""
        with self._open_snapshot() as connection:
            if connection.execute("SELECT 1 FROM document WHERE id = ?", (document,)).get is None:
                return None
            return [text for (text,) in connection.execute(_TEXTS, (document,))]

    def entry(self, document: int, model: str) -> Entry | None:
        """Return a document in its original form, for another store.

        Return None if it doesn't exist or lacks vectors from `model`.
        """
        with self._open_snapshot() as connection:
            row = connection.execute(_ENTRY, (document,)).get
            stored_model = vectors.find_model(connection, model)
            rows: list[Any] = connection.execute(_CHUNKS, (document,)).fetchall()
            if (
                row is None
                or stored_model is None
                or any(of_model != stored_model.id for *_, of_model in rows)
            ):
                return None
            by_slot = vectors.read(connection, stored_model.width, (slot for *_, slot, _ in rows))
        upload_id, path, name, digest, size, recipe, title, tags, modified = row
        return Entry(
            upload_id=upload_id or 0,
            path=unbind(path),
            name=unbind(name),
            digest=digest,
            size=size,
            recipe=recipe,
            modified=modified,
            title=title,
            tags=tuple(json.loads(tags)),
            # The vectors' inputs are not kept, and no vector is recomputed.
            chunks=tuple(
                Chunk(text, "", key.hex(), tuple(json.loads(headings)), page, line)
                for text, headings, page, line, key, *_ in rows
            ),
            vectors={key.hex(): by_slot[slot] for *_, key, slot, _ in rows},
        )

    @contextmanager
    def snapshot(self) -> Iterator[Reader]:
        """Return a consistent snapshot of the store."""
        with self._target_errors():
            with self._opening:
                if self._finder is None:
                    self._finder = Reader(self._folder)
            with self._finder.snapshot():
                yield self._finder

    def tidy(self) -> bool:
        """Do one step of remaining work."""
        with self._target_errors():
            return self._writer is not None and self._writer.tidy()

    def purge(self) -> bool:
        """Remove all deleted text, and empty the WAL, which may contain texts. Because removing words from
        a large index takes a long time, the WAL is also emptied beforehand.
        """
        if self._writer is None:
            return True
        with self._target_errors():
            is_clear = self._writer.scrub()
            if not self._writer.tidy():
                return is_clear
            while self._writer.tidy():
                pass
            return self._writer.scrub()

    def erase(self) -> None:
        """Erase the words of deleted texts, and empty the WAL."""
        if self._writer is not None:
            with self._target_errors():
                self._writer.erase()

    def stop(self) -> None:
        """Stop after the current step."""
        if self._writer is not None:
            self._writer.stop()

    def close(self) -> None:
        """Close the readers, which would prevent the WAL from being emptied, and then the store."""
        for connection in (self._finder, self._reader, self._writer):
            if connection is not None:
                connection.close()

    def _current_writer(self) -> Writer:
        """Return the writer, if writing is allowed and its file is still the one in the folder."""
        if self._writer is None:
            raise Halted("read-only", f"{self._folder} was opened read-only")
        if self._damage or not self._writer.is_current:
            raise self._index_gone()
        return self._writer

    def _index_gone(self) -> Unavailable:
        return Unavailable(
            f"the index in {self._folder} is gone; kbsync will create a new one", code="index-gone"
        )

    @contextmanager
    def _open_snapshot(self) -> Iterator[apsw.Connection]:
        """Yield a connection for reading. All reads inside the block see the same snapshot."""
        with self._target_errors(), self._reader.snapshot() as connection:
            yield connection

    @contextmanager
    def _target_errors(self) -> Iterator[None]:
        """Turn errors from the file into a `TargetError`."""
        try:
            yield
        except UnmadeError as error:
            if self._writer is None:
                raise
            raise self._index_gone() from error
        except (TargetError, UsageError):
            raise
        except (apsw.CorruptError, apsw.NotADBError, DamagedError) as error:
            self._damage = error.what if isinstance(error, DamagedError) else str(error)
            raise Unavailable(
                f"the index in {self._folder} is damaged ({self._damage}) and was "
                "set aside; kbsync will create a new one",
                code="index-damaged",
            ) from error
        except (apsw.Error, OSError, StateError) as error:
            raise storage_error(self._folder, error) from error
