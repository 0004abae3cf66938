"""Fetches the candidates for a question, in one transaction with a consistent snapshot."""

from __future__ import annotations

import re
import sys
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kbsync.contract.searching import Origin, Query, type_endings
from kbsync.core.selection import one_pattern, plain_part
from kbsync.dataclass import dataclass
from kbsync.errors import UnmadeError, UsageError
from kbsync.index.codes import code_test, codes_in, phrase_spellings, phrase_test
from kbsync.index.dates import whole_dates
from kbsync.index.file_names import find_named, names_sought, whole_name_test
from kbsync.index.postgres.connections import Connection
from kbsync.index.postgres.writing import UNIT, clean, term_of, unbind
from kbsync.index.spelling import Unknown
from kbsync.index.store import BetterQuestion, CandidateChunk, StoredPassage, WordScores, first_of_each
from kbsync.index.weights import (
    DEPTH,
    MAX_ROWS,
    NAMED_CHUNKS,
    PASSAGES,
    SAMPLED_VECTORS,
    Frequency,
    NameScores,
    TermWeights,
    least_cosine,
    saturation_of,
    select_terms,
)
from kbsync.index.words import HYPHEN_MARK, Term, Tokeniser, naming_text, readable

if TYPE_CHECKING:
    from kbsync.index.embed import Vector

HNSW_FROM = 50_000
"""Number of passages above which kbsync creates a vector index; comparing a question with a thousand vectors
takes 0.5 ms."""

FEW = 20_000
"""Maximum number of passages whose vectors a search compares one by one. If there are more, the search reads
the nearest ones from the vector index until enough of them pass the filter.
"""

MAX_SCORED_PASSAGES = 10_000
"""Maximum number of passages to score by common words, for a question without rarer ones."""

MAX_LISTED_DOCUMENTS = 5_000
"""Maximum number of documents that a query lists after a filter. If there are more, the server applies the
filter to each passage.
"""

MAX_CODE_CANDIDATES = 1_000
"""Maximum number of passages to check for a code, among those that contain all of its words."""

MAX_PHRASE_CANDIDATES = 20_000
"""Maximum number of passages to check for a phrase, among those that contain all of its words."""

MAX_PATH_LENGTH = 4_096
"""Maximum length of a path filter in characters, the same as for paths; the server refuses long patterns.
"""

_COUNTED = 2_000
"""Maximum number of passages to count for a term; for more common terms, kbsync uses the server's statistics.
"""

_SAMPLED = 2_000
"""Number of documents to sample when estimating the average length of a passage."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPED_IN_LIKE = str.maketrans({character: f"\\{character}" for character in "\\%_"})

_Row = tuple[int, int, float]
"""The ids of a passage and its document, and the score of the passage."""


@dataclass(frozen=True, slots=True)
class _Scope:
    """The scope of a search: an SQL condition on rows of `words` and of `vector`, with its parameters. ""
    means all rows.

    `of_names`: the same for rows of `document`. `documents`: the number of documents, if that may be less
    than a search asks for. `passages`: the passages in scope that contain the phrases, with their documents,
    or None if there are no phrases.
    """

    condition: str
    of_names: str
    values: Mapping[str, Any]
    documents: int
    is_few: bool = False
    passages: Mapping[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Viewpoint:
    """Determines whose documents a search in a base covers.

    `owner`: the row that the mirror's prefix or token identifies, if any. `is_own`: whether that row belongs
    to this machine and folder. `nothing`: the message if there is no row.
    """

    base: str
    host: str
    owner: int | None
    is_own: bool
    nothing: str


class PostgresSnapshot:
    """A consistent snapshot of the documents of all owners or, if the query says so, of the mirror alone."""

    def __init__(self, connection: Connection, viewpoint: Viewpoint) -> None:
        """Store the connection, which must be in a `REPEATABLE READ` transaction."""
        self._connection, self._viewpoint = connection, viewpoint

    def has_vectors(self, model: str) -> bool:
        """Return whether any document has vectors from `model`."""
        return self._model(model) is not None

    def start(self, model: str, vector: Vector | None, better: BetterQuestion | None = None) -> None:
        """Do nothing, because the server compares the vectors."""

    def candidates(
        self,
        terms: Sequence[Term],
        model: str,
        vector: Vector | None,
        query: Query,
        least: float = 0.0,
        better: BetterQuestion | None = None,
    ) -> list[CandidateChunk]:
        """Return the best chunks by words and the best by meaning, each with both scores.

        Raises `UnmadeError` if the query wants only the mirror's own documents but there are none.
        """
        if query.own and self._viewpoint.owner is None:
            raise UnmadeError(self._viewpoint.nothing)
        scope = self._scope(query)
        document_count = min(query.top_k, scope.documents)  # with fewer, it would read all passages
        nearest = list[_Row]()
        stored_model = None if vector is None else self._model(model)
        # A service may have changed the length of its vectors, and old and new ones can't be compared.
        if vector is not None and stored_model is not None and len(vector) == stored_model[1]:
            nearest = self._by_meaning(stored_model, vector, scope, document_count, least)
        nearest_passages = [passage for passage, *_ in nearest]
        coded = self._find_codes(query.text, scope)
        lexical, by_name, name_scores, selected, length = self._by_words(
            terms, query.text, scope, document_count, nearest_passages, coded
        )
        needs_terms = query.explain or selected.unique
        by_term = self._by_term(lexical, selected, length) if needs_terms else {}
        if scope.passages is not None:
            # A passage with a phrase is a hit without any other word of the question.
            least_score = sys.float_info.epsilon
            lexical = [*((*row, least_score) for row in first_of_each(scope.passages).items()), *lexical]
            by_name = {passage: by_name[passage] for passage in by_name.keys() & scope.passages.keys()}
        document_of = {passage: document for passage, document, _ in [*lexical, *nearest]} | coded
        documents = document_of | by_name
        points = {passage: score for passage, _, score in lexical}
        certain = selected.raise_certain(points, by_term)
        cosines = {passage: score for passage, _, score in nearest}
        self._find_named_words(name_scores, documents)
        if vector is not None and stored_model is not None and nearest and documents.keys() - cosines.keys():
            # A passage found by words gets its cosine too; one found by meaning has none of the words.
            rows = self._connection.execute(
                _COSINES.replace("@distance", _distance(stored_model[1])),
                {
                    "model": stored_model[0],
                    "vector": str(vector.tolist()),
                    "passages": list(documents.keys() - cosines.keys()),
                },
            )
            cosines.update(rows)
        listed = list(set(documents.values()))
        sizes: dict[int, int] = dict(self._connection.execute(_SIZES, (listed,)).fetchall())
        word_scores = WordScores(
            selected, points, by_term, name_scores, certain, coded, is_explained=query.explain
        )
        return word_scores.candidates(document_of, by_name, cosines, sizes)

    def estimate_least_cosine(self, model: str) -> float:
        """Estimate the cosine below which texts are unrelated, from a sample of the vectors."""
        stored_model = self._model(model)
        if stored_model is None:
            return 0.0
        values = {"model": stored_model[0], "count": SAMPLED_VECTORS, "most": 10 * SAMPLED_VECTORS}
        [(count, *means)] = self._connection.execute(_SIMILARITY, values)
        return least_cosine(count, *means) if count else 0.0

    def unknown(self, terms: Sequence[Term]) -> list[Unknown]:
        """Return the terms that no document contains.

        Words are stored as hashes, so similar words can't be found, only a word stored with its ending by an
        older version.
        """
        finished = [term for term in terms if not term.goes_on]
        inflected = (term for term in finished if term.stem != term.surface and not term.surface.isascii())
        whole = [Term(term.surface, term.surface) for term in inflected]
        frequencies = self._frequencies([*finished, *whole])[0]
        stored = {term.surface: term.surface for term in whole if frequencies[term].documents}
        absent = (term.surface for term in finished if not frequencies[term].documents)
        return [Unknown(word, stored.get(word, ""), stored.get(word, "")) for word in absent]

    def has_phrase(self, phrase: str) -> bool:
        """Return whether a document contains the phrase or has it as its file name or path.

        Also return True if more than `MAX_CODE_CANDIDATES` passages or names contain all its words.
        """
        occurrences = self._occurrences(phrase, MAX_CODE_CANDIDATES, is_any_enough=True)
        return any(True for _ in occurrences) or bool(self._named(phrase, _Scope("", "", {}, 0)))

    def passages(self, chunks: Iterable[int]) -> Mapping[int, StoredPassage]:
        """Return the passage of each chunk that exists and belongs to a document."""
        rows = self._connection.execute(
            "SELECT p.id, o.id, token::text, host, mirror, folder, extract(epoch FROM seen)::float8,"
            " d.id, path, title, modified, text, headings, page, line"
            " FROM passage p JOIN document d USING (content) JOIN owner o ON o.id = d.owner"
            " WHERE p.id = ANY(%s::bigint[])",
            (list(chunks),),
        )
        passages, viewpoint = dict[int, StoredPassage](), self._viewpoint
        for number, owner, token, host, mirror, folder, seen_at, document, path, *columns in rows:
            is_own = viewpoint.is_own and owner == viewpoint.owner
            is_here = host == viewpoint.host
            origin = Origin(
                viewpoint.base, host, mirror, Path(unbind(folder)), seen_at, is_own, is_here, token
            )
            title, modified, text, headings, page, line = columns
            passages[number] = StoredPassage(
                document, unbind(path), title, modified, text, tuple(headings), page, line, origin
            )
        return passages

    def _model(self, name: str) -> tuple[int, int] | None:
        row = self._connection.execute("SELECT id, dimensions FROM model WHERE name = %s", (name,)).fetchone()
        return None if row is None else (row[0], row[1])

    def _scope(self, query: Query) -> _Scope:
        """Return the filters, phrases and excluded words in `query`, and the owner, as SQL conditions."""
        having, lacking = list[set[int]](), set[int]()
        passages, whole = set[int](), set[int]()
        for phrase in query.phrases:
            matches, named = self._find_phrase(phrase)
            having.append({*matches.values(), *named})
            passages.update(matches)
            whole |= named
        for excluded in query.excluded:
            matches, named = self._find_phrase(excluded)
            lacking |= {*matches.values(), *named}
        contents = set.intersection(*having) - lacking if having else None
        scope = self._filter_scope(query, contents, lacking)
        if contents is None:
            return scope
        values = {**scope.values, "passages": list(passages), "whole": list(whole)}
        rows = self._connection.execute(_PHRASED.replace("@scope", scope.of_names), values)
        documents: dict[int, int] = dict(rows.fetchall())
        condition = "AND passage = ANY(%(phrased)s::bigint[])"
        values = {**scope.values, "phrased": list(documents)}
        return replace(scope, condition=condition, values=values, is_few=True, passages=documents)

    def _find_phrase(self, phrase: str) -> tuple[dict[int, int], set[int]]:
        """Return the passages that contain a phrase, each with its content id.

        Also return the ids of contents whose names contain it or whose paths it is.
        """
        documents = list(self._named(phrase, _Scope("", "", {}, 0)))
        passages, named = dict[int, int](), set[int]()
        for (content,) in self._connection.execute(_CONTENTS_OF, (documents,)) if documents else ():
            named.add(content)
        for passage, content in self._occurrences(phrase, MAX_PHRASE_CANDIDATES):
            if passage is None:
                named.add(content)
            else:
                passages[passage] = content
        return passages, named

    def _occurrences(
        self, phrase: str, most: int, *, is_any_enough: bool = False
    ) -> Iterator[tuple[int | None, int]]:
        """Yield (passage, content id) for each passage that contains a phrase, and (None, content id) for
        each name that does.

        At most `most` of the passages or names that contain all the words of a longer phrase are checked.
        `is_any_enough`: whether the caller needs only one match. If so, and there are more candidates than
        `most`, one of them is assumed to match without being checked.
        """
        has_phrase = phrase_test(phrase)
        for terms, is_word in _terms_of_spellings(phrase).items():
            values: dict[str, Any] = {"terms": list(terms), "most": most}
            if is_word:  # no text has to be checked
                values["most"] = 1 if is_any_enough else None
                yield from self._connection.execute(_PASSAGES_WITH, values)
                yield from self._connection.execute(_NAMED_WITH, values)
                continue
            rows = self._connection.execute(_TEXTS_WITH, values).fetchall()
            is_sure = is_any_enough and len(rows) == most
            for passage, content, headings, text in rows:
                if is_sure or has_phrase(text) or has_phrase("\n".join(headings)):
                    yield passage, content
            rows = self._connection.execute(_NAMES_WITH, values).fetchall()
            is_sure = is_any_enough and len(rows) == most
            for content, title, tags, path in rows:
                if is_sure or has_phrase(naming_text(title, tags, unbind(path))):
                    yield None, content

    def _find_codes(self, question: str, scope: _Scope) -> dict[int, int]:
        """Return some passages in the scope that contain a code from the question, with their documents."""
        codes = codes_in(readable(question))
        documents = dict[int, int]()
        for code in codes:
            has_phrase, dates = phrase_test(code), [form for _, _, form in whole_dates(code)]
            for terms in [*_terms_of_spellings(code), *((term_of(form),) for form in dates)]:
                values = {**scope.values, "terms": list(terms), "most": MAX_CODE_CANDIDATES}
                rows = self._connection.execute(_CODED.replace("@scope", scope.condition), values)
                has_code = code_test(code) if dates else has_phrase
                documents.update(
                    (passage, document)
                    for passage, document, headings, text in rows
                    if has_code(text) or has_code("\n".join(headings))
                )
        return first_of_each(documents)

    def _filter_scope(self, query: Query, contents: set[int] | None, lacking: set[int]) -> _Scope:
        """Return the filters in `query` as a scope, limited to `contents` (None: all) except those in
        `lacking`.
        """
        owner = self._viewpoint.owner if query.own else None
        own_condition, own_row, values = "", "", dict[str, Any]()
        if owner is not None:
            own_condition, own_row, values = "AND owner = %(owner)s", "WHERE id = %(owner)s", {"owner": owner}
        conditions, filter_values = _conditions(query, contents, lacking)
        if not conditions:
            [(few, documents)] = self._connection.execute(
                f"SELECT sum(passages) <= %(few)s, coalesce(sum(documents), 0)::bigint FROM owner {own_row}",  # noqa: S608
                {**values, "few": FEW},
            )
            return _Scope(own_condition, own_condition, values, documents, bool(own_condition and few))
        values |= filter_values
        where = f"{conditions} {own_condition}"
        rows = self._connection.execute(
            f"SELECT content FROM document WHERE {where} LIMIT %(most)s",  # noqa: S608
            {**values, "most": MAX_LISTED_DOCUMENTS + 1},
        ).fetchall()
        if len(rows) > MAX_LISTED_DOCUMENTS:
            # Checked for each row found: a subquery in place of a value keeps the planner from reading all
            # admitted documents first.
            subquery = "SELECT p.id FROM passage p JOIN document USING (content) WHERE p.id = passage"
            return _Scope(f"AND passage = ({subquery} AND {where})", f"AND {where}", values, sys.maxsize)
        admitted = {"contents": [content for (content,) in rows]}
        of_names = "AND content = ANY(%(contents)s::bigint[])"
        among = "passage WHERE content = ANY(%(contents)s::bigint[])"
        [(few,)] = self._connection.execute(
            f"SELECT count(*) <= %(few)s FROM (SELECT FROM {among} LIMIT %(few)s + 1) AS found",  # noqa: S608
            {**admitted, "few": FEW},
        )
        if few:
            condition = f"AND passage IN (SELECT id FROM {among})"  # noqa: S608
            return _Scope(condition, of_names, admitted, len(rows), is_few=True)
        subquery = "SELECT content FROM passage p WHERE p.id = passage"
        return _Scope(f"AND ({subquery}) = ANY(%(contents)s::bigint[])", of_names, admitted, len(rows))

    # -- words

    def _by_words(
        self,
        terms: Sequence[Term],
        question: str,
        scope: _Scope,
        document_count: int,
        near: Sequence[int],
        coded: Collection[int],
    ) -> tuple[list[_Row], dict[int, int], NameScores, TermWeights, float]:
        """Return the best matches by words, found in the same way as in SQLite.

        The result has the first passages of the documents whose names match best, all names with some of
        the terms, the weights of the terms, and the average length of a passage. Very common words find only
        passages in `near`, and add to the scores of passages that other words find. The passages in `coded`
        are scored, too.
        """
        # The index can't look up prefixes, so an unfinished last word counts only if it is a whole word, with
        # or without a hyphen.
        prefixes = {term.stem for term in terms if term.goes_on}
        finished = list(dict.fromkeys(replace(term, goes_on=False, prefix="") for term in terms))
        frequencies, documents, chunks, length = self._frequencies(finished)
        known = {term.stem.removeprefix(HYPHEN_MARK) for term in finished if frequencies[term].documents}
        complete = [
            term
            for term in finished
            if term.stem not in prefixes or term.stem.removeprefix(HYPHEN_MARK) in known
        ]
        if not all(term.is_guess for term in complete):  # a guess can't count without the word it replaces
            finished = complete
        selected = select_terms(finished, frequencies, documents, chunks)
        name_scores = NameScores(selected.all_terms)
        # Averaged over the documents or a sample of them: otherwise a log with short lines would make all
        # other passages seem long.
        share = min(100.0, 100.0 * _SAMPLED / max(1, documents))
        [(average,)] = self._connection.execute(_AVERAGE_LENGTH, (share,))
        average_length = float(average or 0.0) or length / max(1, chunks)
        if not name_scores.idf:
            return [], {}, name_scores, selected, average_length
        by_name = self._by_name(name_scores, question, scope)
        values = {
            "common": [term_of(term.stem) for term in selected.common],
            "common_idf": list(selected.common.values()),
            "length": average_length,
            **scope.values,
        }
        match = _MATCH.replace("@common", _COMMON if selected.common else "0")
        finding = {term: idf for term, idf in selected.rare.items() if frequencies[term].chunks}
        among, condition, common = {*by_name, *coded}, scope.condition, [*selected.common]
        if not finding and common and near and frequencies[common[0]].chunks > MAX_SCORED_PASSAGES:
            finding = dict.fromkeys(common, 0.0)
            values["near"], condition = near, f"{condition} AND passage = ANY(%(near)s::bigint[])"
        elif not finding and common:
            two_are_few = sum(frequencies[term].chunks for term in common[:2]) <= MAX_SCORED_PASSAGES
            finding = dict.fromkeys(common[: 2 if two_are_few else 1], 0.0)
        elif common and max(frequencies[term].documents for term in finding) < DEPTH:
            among.update(near)
        values |= _weighed(finding)
        rows = list[_Row]() if not finding else self._best_of_each(match, condition, values, document_count)
        if among:
            every = {**dict.fromkeys(selected.common, 0.0), **selected.rare}
            values |= _weighed(every)
            values |= {"near": list(among), "limit": len(among)}
            statement = _BEST.replace("@best", match.replace("@scope", "AND passage = ANY(%(near)s)"))
            rows += self._connection.execute(statement, values).fetchall()
        return rows, by_name, name_scores, selected, average_length

    def _by_term(
        self, rows: Sequence[_Row], weights: TermWeights, average_length: float
    ) -> dict[Term, dict[int, float]]:
        """Return the points that each term adds to the scores of these passages."""
        if not rows:
            return {}
        by_term = {term: dict[int, float]() for term in weights.all_terms}
        passages = [passage for passage, *_ in rows]
        rare = {term_of(term.stem): term for term in weights.rare}
        values = {**_weighed(weights.rare), "length": average_length, "passages": passages}
        for passage, number, points in self._connection.execute(_POINTS, values):
            by_term[rare[number]][passage] = points
        common = {term_of(term.stem): term for term in weights.common}
        for number, passage in self._connection.execute(_HAVING, (list(common), passages)):
            by_term[common[number]][passage] = weights.common[common[number]]
        return by_term

    def _best_of_each(
        self, match: str, condition: str, values: Mapping[str, Any], document_count: int
    ) -> list[_Row]:
        """Return the best passages by words: `DEPTH` of them, or more until they cover `document_count`
        documents.

        The number of passages from each document is limited, so that a large document leaves room for others.
        """
        share = max(PASSAGES, DEPTH // max(1, document_count))
        best, counts, limit = dict[int, _Row](), Counter[int](), DEPTH
        values = {**values, "full": list[int]()}
        while True:
            statement = _BEST.replace("@best", match.replace("@scope", condition))
            rows = self._connection.execute(statement, {**values, "limit": limit}).fetchall()
            for row in rows:
                if row[0] not in best and counts[row[1]] < share:
                    best[row[0]] = row
                    counts[row[1]] += 1
            is_enough = len(best) >= DEPTH and len(counts) >= document_count
            if is_enough or len(rows) < limit:
                return list(best.values())
            if not values["full"]:
                condition += _OF_OTHERS
            values["full"] = [document for document, count in counts.items() if count >= share]
            limit *= 4

    def _named(self, question: str, scope: _Scope) -> set[int]:
        """Return the documents whose file name or path equals the question."""
        question, tokeniser = readable(question), Tokeniser()
        paths = dict[int, str]()
        for name in names_sought(question):
            terms = sorted(set(map(term_of, tokeniser.tokens(name))))
            values = {"terms": terms, "most": MAX_ROWS, **scope.values}
            rows = self._connection.execute(_PATHS_NAMED.replace("@scope", scope.of_names), values)
            paths.update((document, unbind(path)) for document, path in rows)
        return set(sorted(find_named(question, paths.items()))[:DEPTH])

    def _by_name(self, name_scores: NameScores, question: str, scope: _Scope) -> dict[int, int]:
        """Fill `name_scores`.

        Return the first passages of the documents whose names match best, each with its document.
        """
        by_number = {term_of(term.stem): term for term in name_scores.idf}
        rows = self._connection.execute(
            _NAMED.replace("@scope", scope.of_names),
            {"terms": list(by_number), "most": MAX_ROWS, **scope.values},
        )
        for number, document in rows:
            name_scores.documents[document].append(by_number[number])
        name_scores.set_exact(self._named(question, scope))
        if not name_scores.best:
            return {}
        has_whole = whole_name_test(readable(question))
        paths = self._connection.execute(_PATHS, (name_scores.of_several_words(),))
        name_scores.whole = {number for number, path in paths if has_whole(unbind(path))}
        return dict(self._connection.execute(_OF_NAMES, (name_scores.best, NAMED_CHUNKS)).fetchall())

    def _find_named_words(self, name_scores: NameScores, documents: Mapping[int, int]) -> None:
        """Record which passages contain words from the name of their document."""
        by_number = {term_of(t.stem): t for terms in name_scores.documents.values() for t in terms}
        if passages := [p for p, document in documents.items() if document in name_scores.documents]:
            having = defaultdict[Term, set[int]](set)
            for number, passage in self._connection.execute(_HAVING, (list(by_number), passages)):
                having[by_number[number]].add(passage)
            name_scores.chunks = having

    def _frequencies(self, terms: Sequence[Term]) -> tuple[dict[Term, Frequency], int, int, int]:
        """Return the frequency of each term, and the total numbers of documents, passages and words."""
        numbers = [term_of(term.stem) for term in terms]
        rows = self._connection.execute(_FREQUENCIES, {"terms": numbers, "most": _COUNTED}).fetchall()
        documents, chunks, length = rows[0][4:] if rows else (0, 0, 0)
        counts = {number: Frequency(*its) for number, *its, _, _, _ in rows}
        return {term: counts[term_of(term.stem)] for term in terms}, documents, chunks, length

    # -- meaning

    def _by_meaning(
        self,
        model: tuple[int, int],
        vector: Vector,
        scope: _Scope,
        document_count: int,
        least: float,
    ) -> list[_Row]:
        """Return the nearest passages: `DEPTH` of them, or more until they cover `document_count` documents
        or their cosine falls to `least`.

        Only passages with a cosine above 0 are returned.
        """
        distance = _distance(model[1])
        # A sum keeps the server from using the index of vectors.
        nearest = _NEAREST.replace("@order", f"({distance}) + 0" if scope.is_few else distance)
        nearest = nearest.replace("@distance", distance).replace("@scope", scope.condition)
        statement = _BEST.replace("@best", nearest)
        values = {"model": model[0], "vector": str(vector.tolist()), **scope.values}
        limit = DEPTH
        while True:
            rows = self._connection.execute(statement, {**values, "limit": limit}).fetchall()
            is_all = len(rows) < limit or rows[-1][2] <= least
            if is_all or len({document for _, document, _ in rows}) >= document_count:
                return [(passage, document, score) for passage, document, score in rows if score > 0]
            limit *= 4


# For common terms, the server's statistics have the share of passages; use it as the share of documents, too.
_FREQUENCIES = """
SELECT q.term, coalesce((common.share * n.documents)::bigint, counted.documents),
  (SELECT count(*) FROM (SELECT FROM document d WHERE d.terms @> ARRAY[q.term] LIMIT 20000) AS named),
  coalesce((common.share * n.passages)::bigint, counted.passages), n.documents, n.passages, n.words
FROM unnest(%(terms)s::integer[]) q(term)
CROSS JOIN (
  SELECT coalesce(sum(documents), 0)::bigint AS documents, coalesce(sum(passages), 0)::bigint AS passages,
    coalesce(sum(words), 0)::bigint AS words FROM owner
) n
LEFT JOIN (
  SELECT term, share FROM pg_stats,
    unnest(most_common_elems::text::integer[], most_common_elem_freqs) AS common(term, share)
  WHERE schemaname = 'kbsync' AND tablename = 'words' AND attname = 'terms'
) common ON common.term = q.term AND common.share * n.passages > %(most)s
LEFT JOIN LATERAL (
  SELECT count(*) AS passages, count(DISTINCT content) AS documents FROM (
    SELECT passage FROM words WHERE common.term IS NULL AND terms @> ARRAY[q.term] LIMIT 20000
  ) AS having_it JOIN passage ON passage.id = having_it.passage
) counted ON true
"""

# REPEATABLE, so that two searches rank alike.
_AVERAGE_LENGTH = """
SELECT avg(words::float8 / passages) FROM document TABLESAMPLE SYSTEM (%s) REPEATABLE (0) WHERE passages > 0
"""

# Term by term, because checking all terms in each passage that has any of them takes four times as long.
_OCCURRENCES = f"""
  SELECT passage, length, term, idf, most,
    {UNIT}::float8 * get_byte(counts, array_position(terms, term) - 1) AS n,
    @common::float8 AS common
  FROM unnest(%(terms)s::integer[], %(idf)s::float8[], %(saturations)s::float8[]) q(term, idf, most)
  CROSS JOIN LATERAL (
    SELECT * FROM words WHERE terms @> ARRAY[q.term] @scope OFFSET 0) AS having_it
  OFFSET 0
"""  # noqa: S608

_BM25 = (
    "idf * least(most,"
    " 2.2::float8 * n / (n + 1.2::float8 * (0.25::float8 + 0.75::float8 * length / %(length)s)))"
)

_MATCH = f"""
SELECT passage, sum({_BM25}) + max(common) AS score FROM ({_OCCURRENCES}) AS weighed
GROUP BY passage ORDER BY score DESC, passage LIMIT %(limit)s
"""  # noqa: S608

_POINTS = f"SELECT passage, term, {_BM25} FROM ({_OCCURRENCES}) AS weighed".replace("@common", "0").replace(  # noqa: S608
    "@scope", "AND passage = ANY(%(passages)s::bigint[])"
)

# The idf of the common terms in a passage.
_COMMON = """(
  SELECT coalesce(sum(c.idf), 0) FROM unnest(%(common)s::integer[], %(common_idf)s::float8[]) c(term, idf)
  WHERE c.term = ANY(terms)
)"""

_OF_OTHERS = """
AND (SELECT d.id FROM passage p JOIN document d USING (content) WHERE p.id = passage)
  <> ALL(%(full)s::bigint[])
"""

_NAMED = """
SELECT q.term, d.id FROM unnest(%(terms)s::integer[]) q(term)
CROSS JOIN LATERAL (
  SELECT id FROM document WHERE terms @> ARRAY[q.term] @scope ORDER BY id LIMIT %(most)s) d
"""

_PATHS_NAMED = """
SELECT id, path FROM document WHERE terms @> %(terms)s::integer[] @scope ORDER BY id LIMIT %(most)s
"""

_PATHS = "SELECT id, path FROM document WHERE id = ANY(%s::bigint[])"

_PASSAGES_WITH = """
SELECT passage, p.content FROM words w JOIN passage p ON p.id = passage
WHERE w.terms @> %(terms)s::integer[] LIMIT %(most)s
"""

_TEXTS_WITH = """
SELECT passage, p.content, p.headings, p.text FROM words w JOIN passage p ON p.id = passage
WHERE w.terms @> %(terms)s::integer[] LIMIT %(most)s
"""

_CODED = """
SELECT passage, d.id, p.headings, p.text FROM (
  SELECT passage FROM words WHERE terms @> %(terms)s::integer[] @scope LIMIT %(most)s
) AS having_all JOIN passage p ON p.id = passage JOIN document d USING (content)
"""

_CONTENTS_OF = "SELECT content FROM document WHERE id = ANY(%s::bigint[])"

_NAMED_WITH = """
SELECT NULL::bigint, content FROM document WHERE terms @> %(terms)s::integer[] LIMIT %(most)s
"""

_NAMES_WITH = """
SELECT content, title, tags, path FROM document WHERE terms @> %(terms)s::integer[] LIMIT %(most)s
"""

_PHRASED = """
SELECT p.id, d.id FROM passage p JOIN document d USING (content)
WHERE (p.id = ANY(%(passages)s::bigint[]) OR content = ANY(%(whole)s::bigint[])) @scope
"""

_SIZES = "SELECT id, passages FROM document WHERE id = ANY(%s::bigint[])"

_OF_NAMES = """
SELECT p.id, d.id FROM unnest(%s::bigint[]) WITH ORDINALITY AS best(id, at)
JOIN document d USING (id) JOIN passage p USING (content) ORDER BY at, place LIMIT %s
"""

_HAVING = """
SELECT q.term, passage FROM unnest(%s::integer[]) q(term), words
WHERE passage = ANY(%s::bigint[]) AND terms @> ARRAY[q.term]
"""

_BEST = """
SELECT best.passage, d.id, best.score FROM (@best) AS best
JOIN passage p ON p.id = best.passage JOIN document d USING (content)
ORDER BY best.score DESC, best.passage
"""

_NEAREST = """
SELECT passage, -(@distance) AS score FROM vector
WHERE model = %(model)s @scope ORDER BY @order LIMIT %(limit)s
"""

# A key is a digest, so the first keys are a random sample. Equal texts have one key.
_SIMILARITY = """
SELECT count(*), avg(l2_norm(embedding)^2), l2_norm(avg(embedding))^2 FROM (
  SELECT DISTINCT ON (key) embedding FROM (
    SELECT key, embedding FROM vector WHERE model = %(model)s ORDER BY key LIMIT %(most)s
  ) AS first_keys ORDER BY key LIMIT %(count)s
) AS sample
"""

_COSINES = """
SELECT passage, -(@distance) FROM vector
WHERE model = %(model)s AND passage = ANY(%(passages)s::bigint[])
"""


def _terms_of_spellings(phrase: str) -> dict[tuple[int, ...], bool]:
    """Return the distinct sets of terms that a passage with the phrase may contain, one for each spelling.

    For each set, also return whether its spelling is a single word.
    """
    stemmer = Tokeniser()
    of_each = (
        stemmer.tokens(" ".join([*spelling.parts, spelling.identifier]))
        for spelling in phrase_spellings(phrase)
    )
    return {tuple(sorted(set(map(term_of, words)))): len(words) == 1 for words in of_each}


def _weighed(terms: Mapping[Term, float]) -> dict[str, Any]:
    """Return the terms and their idf, as parameters for an SQL statement."""
    return {
        "terms": [term_of(term.stem) for term in terms],
        "idf": list(terms.values()),
        "saturations": list(map(saturation_of, terms)),
    }


def _distance(dimensions: int) -> str:
    """Return the SQL for the negated cosine of two vectors of length 1, written as in the vector index."""
    return f"embedding::halfvec({dimensions}) <#> %(vector)s::halfvec({dimensions})"


def _conditions(
    query: Query, contents: Collection[int] | None, lacking: Collection[int]
) -> tuple[str, dict[str, Any]]:
    """Return the filters in `query` as SQL conditions on a row of `document`, with their parameters, or ""
    for all rows.

    `contents`: if not None, a row must have one of these contents. `lacking`: a row must not have any of
    these contents.
    """
    conditions, values = list[str](), dict[str, Any]()
    if contents is not None:
        conditions.append("content = ANY(%(having)s::bigint[])")
        values["having"] = list(contents)
    elif lacking:
        conditions.append("content <> ALL(%(lacking)s::bigint[])")
        values["lacking"] = list(lacking)
    if query.after is not None:
        conditions.append("modified >= %(after)s")
        values["after"] = query.after
    for name, sign, types in ("types", "", query.types), ("excluded_types", "NOT", query.excluded_types):
        if types:
            conditions.append(f"{sign} lower(shown) LIKE ANY(%({name})s)")
            endings = (_storable(ending).translate(_ESCAPED_IN_LIKE) for ending in type_endings(types))
            values[name] = [f"%{ending}" for ending in endings]
    paths = [*((path, "") for path in query.paths), *((path, "NOT") for path in query.excluded_paths)]
    for at, (path, sign) in enumerate(paths):
        # Searching for one part first excludes most paths: the pattern takes ten times as long.
        conditions.append(f"{sign} (strpos(shown, %(part{at})s) > 0 AND shown ~ %(path{at})s)")
        values |= {f"path{at}": _pattern(path), f"part{at}": clean(plain_part(path))}
    return " AND ".join(conditions), values


def _storable(text: str) -> str:
    """Return the user's input in a form that PostgreSQL accepts.

    Paths that aren't UTF-8 have the same form in the column `shown`.
    """
    return clean(_SURROGATE.sub("\ufffd", text))


def _pattern(path: str) -> str:
    """Return a gitignore pattern as a PostgreSQL regular expression. Raises `UsageError`."""
    if len(path) > MAX_PATH_LENGTH:
        raise UsageError(
            f"the path pattern is too long: {len(path)} characters, at most {MAX_PATH_LENGTH} are allowed"
        )
    try:
        line = one_pattern(path)
    except ValueError as error:
        raise UsageError(f"the path pattern {path!r} is not a gitignore pattern: {error}") from error
    # PostgreSQL has no atomic groups, and needs none, because its matcher doesn't backtrack.
    name = line.expression.pattern.replace("(?>", "(?:")
    begin, end = "(?:^|/)" if line.by_name else "^", "/" if line.folders_only else "(?:/|$)"
    return _storable(f"{begin}(?:{name}){end}")
