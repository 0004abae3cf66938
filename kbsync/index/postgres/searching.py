"""Candidates for a question, from one transaction that sees one commit."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kbsync.contract.searching import Origin, Query
from kbsync.core.selection import one_pattern
from kbsync.errors import UnmadeError, UsageError
from kbsync.index.postgres.connections import Connection
from kbsync.index.postgres.writing import UNIT, clean, term_of, unbind
from kbsync.index.store import CandidateChunk, StoredPassage
from kbsync.index.weights import DEPTH, telling
from kbsync.index.words import Term

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

HNSW_FROM = 50_000
"""Passages of the base from which on vectors get an index: comparing all takes 0.5 ms for a thousand."""

FEW = 20_000
"""Passages that are compared one by one where a search is about no more: the index of vectors goes through
all that are near until it has enough of them."""

MOST_WEIGHED = 10_000
"""Passages that are weighed by words. Of terms that are commoner, `telling` has left one at most."""

MOST_ADMITTED = 5_000
"""Documents that a filter names to the server; where it admits more, it is asked again for each passage."""

LONGEST_PATH = 4_096
"""Characters of a path that is looked for, as many as a file's may have: the server refuses long patterns."""

_COUNTED = 2_000
"""Passages of a term that are counted; of a commoner one the server's own statistics say how many it has."""

_SURROGATE = re.compile("[\ud800-\udfff]")

_Row = tuple[int, int, float]
"""A passage, its document and its score."""


@dataclass(frozen=True, slots=True)
class _Scope:
    """What a search is about: a condition of rows of `words` and of `vector`, with its values; "" for all.

    `documents`: so many there are, where that may be fewer than a search asks for.
    """

    condition: str
    values: Mapping[str, Any]
    documents: int
    is_few: bool = False


@dataclass(frozen=True, slots=True)
class Viewpoint:
    """Who searches a base. `owner`: the row that its mirror's prefix or token leads to, if any.

    `is_own`: that row is not another machine's or folder's. `nothing`: the sentence where there is no row.
    """

    base: str
    host: str
    owner: int | None
    is_own: bool
    nothing: str


class PostgresSnapshot:
    """The documents of all owners as of one commit, or of one where only its own are asked for."""

    def __init__(self, connection: Connection, viewpoint: Viewpoint) -> None:
        """Inside a transaction of `REPEATABLE READ`."""
        self._connection, self._viewpoint = connection, viewpoint

    def has_vectors(self, model: str) -> bool:
        """Any document has vectors of that model."""
        return self._model(model) is not None

    def candidates(
        self,
        terms: Sequence[Term],
        model: str,
        vector: NDArray[np.float32] | None,
        query: Query,
        least: float = 0.0,
    ) -> list[CandidateChunk]:
        """The best chunks by words and the best by meaning, each with both scores.

        Raises `UnmadeError` where only the asked mirror's are wanted and it has none.
        """
        if query.own and self._viewpoint.owner is None:
            raise UnmadeError(self._viewpoint.nothing)
        scope = self._scope(query)
        wanted = min(query.top_k, scope.documents)  # with fewer it would go through all passages for more
        near = list[_Row]()
        kept = None if vector is None else self._model(model)
        # A service may have begun to give vectors of another length: they cannot be compared.
        if vector is not None and kept is not None and len(vector) == kept[1]:
            near = self._by_meaning(kept, vector, scope, wanted, least)
        lexical, total = self._by_words(terms, scope, wanted, [passage for passage, *_ in near])
        documents = {passage: document for passage, document, _ in [*lexical, *near]}
        points = {passage: score / total for passage, _, score in lexical}
        cosines = {passage: score for passage, _, score in near}
        if vector is not None and kept is not None and near and points.keys() - cosines.keys():
            # What was found by words has its cosine too; what is only near has none of the words.
            rows = self._connection.execute(
                _COSINES.replace("@distance", _distance(kept[1])),
                {
                    "model": kept[0],
                    "vector": _literal(vector),
                    "passages": list(points.keys() - cosines.keys()),
                },
            )
            cosines.update(rows)
        return [
            CandidateChunk(passage, document, points.get(passage, 0.0), cosines.get(passage, 0.0))
            for passage, document in documents.items()
        ]

    def passages(self, chunks: Iterable[int]) -> Mapping[int, StoredPassage]:
        """Those of the chunks that are there and belong to a document."""
        rows = self._connection.execute(
            "SELECT p.id, o.id, token::text, host, mirror, folder, extract(epoch FROM seen)::float8,"
            " d.id, path, title, modified, text, headings, page, line"
            " FROM passage p JOIN document d USING (content) JOIN owner o ON o.id = d.owner"
            " WHERE p.id = ANY(%s::bigint[])",
            (list(chunks),),
        )
        return {
            number: StoredPassage(
                *(document, unbind(path), title, modified, text, tuple(headings), page, line),
                self._origin(*owner),
            )
            for number, *owner, document, path, title, modified, text, headings, page, line in rows
        }

    def _origin(self, owner: int, token: str, host: str, mirror: str, folder: bytes, seen: float) -> Origin:
        viewpoint = self._viewpoint
        is_own = viewpoint.is_own and owner == viewpoint.owner
        return Origin(
            viewpoint.base, host, mirror, Path(unbind(folder)), seen, is_own, host == viewpoint.host, token
        )

    def _model(self, name: str) -> tuple[int, int] | None:
        row = self._connection.execute("SELECT id, dimensions FROM model WHERE name = %s", (name,)).fetchone()
        return None if row is None else (row[0], row[1])

    def _scope(self, query: Query) -> _Scope:
        """The filters of `query`, the owner among them."""
        owner = self._viewpoint.owner if query.own else None
        own, own_row, values = "", "", dict[str, Any]()
        if owner is not None:
            own, own_row, values = "AND owner = %(owner)s", "WHERE id = %(owner)s", {"owner": owner}
        conditions, asked = _conditions(query)
        if not conditions:
            [(few, documents)] = self._connection.execute(
                f"SELECT sum(passages) <= %(few)s, coalesce(sum(documents), 0)::bigint FROM owner {own_row}",  # noqa: S608
                {**values, "few": FEW},
            )
            return _Scope(own, values, documents, bool(own and few))
        values |= asked
        where = f"{conditions} {own}"
        rows = self._connection.execute(
            f"SELECT content FROM document WHERE {where} LIMIT %(most)s",  # noqa: S608
            {**values, "most": MOST_ADMITTED + 1},
        ).fetchall()
        if len(rows) > MOST_ADMITTED:
            # Looked up for each row that is found. The planner would go through all that are admitted first,
            # if it could: it does not for what is in the place of a value.
            here = "SELECT p.id FROM passage p JOIN document USING (content) WHERE p.id = passage"
            return _Scope(f"AND passage = ({here} AND {where})", values, sys.maxsize)
        contents = {"contents": [content for (content,) in rows]}
        among = "passage WHERE content = ANY(%(contents)s::bigint[])"
        [(few,)] = self._connection.execute(
            f"SELECT count(*) <= %(few)s FROM (SELECT FROM {among} LIMIT %(few)s + 1) AS found",  # noqa: S608
            {**contents, "few": FEW},
        )
        if few:
            condition = f"AND passage IN (SELECT id FROM {among})"  # noqa: S608
            return _Scope(condition, contents, len(rows), is_few=True)
        here = "SELECT content FROM passage p WHERE p.id = passage"
        return _Scope(f"AND ({here}) = ANY(%(contents)s::bigint[])", contents, len(rows))

    # -- words

    def _by_words(
        self, terms: Sequence[Term], scope: _Scope, wanted: int, near: Sequence[int]
    ) -> tuple[list[_Row], float]:
        """The best by BM25, as SQLite's bm25() has it, and the sum of the idf of all terms.

        Words that very many passages have tell little: only what is `near` is weighed by them.
        """
        # The index has no beginnings of words. An unfinished last word counts only where it is one already.
        begun = {term.stem for term in terms if term.goes_on}
        whole = [term for term in terms if not term.goes_on]
        chunks, length, frequencies = self._frequencies(whole)
        whole = [term for term in whole if term.stem not in begun or frequencies[term]]
        kept, total = telling(whole, frequencies, chunks)
        if not kept:
            return [], total
        asked = {
            "terms": [term_of(term.stem) for term in kept],
            "idf": list(kept.values()),
            "length": length / max(1, chunks),
            **scope.values,
        }
        if near and sum(frequencies[term] for term in kept) > MOST_WEIGHED:
            asked |= {"near": near}
            scope = replace(scope, condition=f"{scope.condition} AND passage = ANY(%(near)s::bigint[])")
        return self._enough(_MATCH.replace("@scope", scope.condition), asked, wanted), total

    def _frequencies(self, terms: Sequence[Term]) -> tuple[int, int, dict[Term, int]]:
        """Passages and words in all, and the number of passages that have each term."""
        numbers = [term_of(term.stem) for term in terms]
        rows = self._connection.execute(_FREQUENCIES, {"terms": numbers, "most": _COUNTED}).fetchall()
        chunks, length = (rows[0][2], rows[0][3]) if rows else (0, 0)
        counts = {number: count for number, count, *_ in rows}
        return chunks, length, {term: min(counts[term_of(term.stem)], chunks) for term in terms}

    # -- meaning

    def _by_meaning(
        self,
        model: tuple[int, int],
        vector: NDArray[np.float32],
        scope: _Scope,
        wanted: int,
        least: float,
    ) -> list[_Row]:
        """The nearest, but for those that are not near at all; no nearer ones than `least` are asked for."""
        asked = {"model": model[0], "vector": _literal(vector), **scope.values}
        distance = _distance(model[1])
        # For a sum the index of vectors is not used.
        statement = _NEAREST.replace("@order", f"({distance}) + 0" if scope.is_few else distance)
        statement = statement.replace("@distance", distance).replace("@scope", scope.condition)
        return [row for row in self._enough(statement, asked, wanted, least) if row[2] > 0]

    def _enough(
        self, statement: str, values: Mapping[str, Any], wanted: int, least: float = 0.0
    ) -> list[_Row]:
        """The first `DEPTH` rows, and more until they are of `wanted` documents or no better than `least`."""
        limit = DEPTH
        while True:
            rows = self._connection.execute(
                _BEST.replace("@best", statement), {**values, "limit": limit}
            ).fetchall()
            is_all = len(rows) < limit or rows[-1][2] <= least
            if is_all or len({document for _, document, _ in rows}) >= wanted:
                return [(passage, document, score) for passage, document, score in rows]
            limit *= 4


_FREQUENCIES = """
SELECT q.term, CASE WHEN common.share * n.passages > %(most)s THEN (common.share * n.passages)::bigint ELSE
    (SELECT count(*) FROM (SELECT FROM words WHERE terms @> ARRAY[q.term] LIMIT 20000) AS counted) END,
  n.passages, n.words
FROM unnest(%(terms)s::integer[]) q(term)
CROSS JOIN (
  SELECT coalesce(sum(passages), 0)::bigint AS passages, coalesce(sum(words), 0)::bigint AS words FROM owner
) n
LEFT JOIN (
  SELECT term, share FROM pg_stats,
    unnest(most_common_elems::text::integer[], most_common_elem_freqs) AS common(term, share)
  WHERE schemaname = 'kbsync' AND tablename = 'words' AND attname = 'terms'
) common USING (term)
"""

# Term by term: to look for all of them in each passage that has any takes four times as long.
_MATCH = f"""
SELECT passage, sum(
    idf * 2.2::float8 * n / (n + 1.2::float8 * (0.25::float8 + 0.75::float8 * length / %(length)s))) AS score
FROM (
  SELECT passage, length, idf, {UNIT}::float8 * get_byte(counts, array_position(terms, term) - 1) AS n
  FROM unnest(%(terms)s::integer[], %(idf)s::float8[]) q(term, idf)
  CROSS JOIN LATERAL (
    SELECT * FROM words WHERE terms @> ARRAY[q.term] @scope OFFSET 0) AS having_it
  OFFSET 0) AS weighed
GROUP BY passage ORDER BY score DESC, passage LIMIT %(limit)s
"""  # noqa: S608

_BEST = """
SELECT best.passage, d.id, best.score FROM (@best) AS best
JOIN passage p ON p.id = best.passage JOIN document d USING (content)
ORDER BY best.score DESC, best.passage
"""

_NEAREST = """
SELECT passage, -(@distance) AS score FROM vector
WHERE model = %(model)s @scope ORDER BY @order LIMIT %(limit)s
"""

_COSINES = """
SELECT passage, -(@distance) FROM vector
WHERE model = %(model)s AND passage = ANY(%(passages)s::bigint[])
"""


def _distance(dimensions: int) -> str:
    """The cosine, negated, of vectors of length 1: written as the index of vectors has it."""
    return f"embedding::halfvec({dimensions}) <#> %(vector)s::halfvec({dimensions})"


def _literal(vector: NDArray[np.float32]) -> str:
    return f"[{','.join(map(str, vector.tolist()))}]"


def _conditions(query: Query) -> tuple[str, dict[str, Any]]:
    """The filters of `query` as conditions of a row of `document`, with their values; "" for all."""
    conditions, values = list[str](), dict[str, Any]()
    if query.after is not None:
        conditions.append("modified >= %(after)s")
        values["after"] = query.after
    if query.types:
        conditions.append("lower(shown) LIKE ANY(%(endings)s)")
        endings = (_sayable(each).lower().lstrip(".") for each in query.types)
        values["endings"] = [f"%.{_escaped(each)}" for each in endings]
    if query.path is not None:
        # Most paths are refused by a look for one part: the pattern takes ten times as long.
        conditions.append("strpos(shown, %(part)s) > 0 AND shown ~ %(path)s")
        values |= {"path": _pattern(query.path), "part": _part(query.path)}
    return " AND ".join(conditions), values


def _sayable(text: str) -> str:
    """What was typed, as PostgreSQL takes texts: paths that are not UTF-8 are `shown` so, too."""
    return clean(_SURROGATE.sub("\ufffd", text))


def _escaped(text: str) -> str:
    for each in "\\%_":
        text = text.replace(each, f"\\{each}")
    return text


def _part(path: str) -> str:
    """The longest text that stands in every path that a gitignore pattern matches; "" where none is plain."""
    parts = [] if set(path) & set("[\\!#") or not path.isascii() else path.replace("?", "*").split("*")
    return clean(max((each.strip("/ \t\n") for each in parts), key=len, default=""))


def _pattern(path: str) -> str:
    """A gitignore pattern as a regular expression of PostgreSQL. Raises `UsageError`."""
    if len(path) > LONGEST_PATH:
        raise UsageError(f"--path is too long: {len(path)} characters, at most {LONGEST_PATH} are looked for")
    try:
        line = one_pattern(path)
    except ValueError as error:
        raise UsageError(f"--path {path!r} is not a gitignore pattern: {error}") from error
    # PostgreSQL has no atomic groups, and needs none: its own matcher does not try one place after another.
    name = line.expression.pattern.replace("(?>", "(?:")
    begin, end = "(?:^|/)" if line.by_name else "^", "/" if line.folders_only else "(?:/|$)"
    return _sayable(f"{begin}(?:{name}){end}")
