"""What goes wrong with an answer of a service for vectors, by kind."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from kbsync_standin.faults import Fault

KINDS: Mapping[str, str] = {
    "out-of-order": "rows come in reverse; their index tells",
    "constant-index": "every row has index 0",
    "one-too-few": "the last row is missing",
    "one-too-many": "the last row comes twice",
    "wrong-dimension": "the last vector is one number shorter",
    "own-length": "vectors have the model's own length, whatever was asked for",
    "nan": "the first vector has a NaN",
    "null-number": "the first vector has a null",
    "zero-vector": "the first vector is all zeros",
    "stutter": "a text has no vector the first times it is asked for [args: n: so often (1); word: only "
    "texts with it; form: nan, null, zeros or none (each in turn)]",
    "several-vectors": "each row has a list of vectors",
    "as-base64": "vectors are base64 whether asked for or not",
    "refused": "every request is refused, with `status` (default 400), `code` and `param`",
    "bad-item": "a request with `word` in a text is refused as a whole, with `status` (default 422)",
    "overloaded": "429, as tei says it",
    "no-money": "429 with insufficient_quota",
    "other-model": "another model is named",
    "bare": "the list stands alone",
    "data": "the list is called data",
    "results": "the list is called results",
    "score": "scores are called score",
    "unsorted": "worst first",
    "index-beyond": "one index is beyond the texts",
    "index-twice": "the best index comes twice, the second time with a worse score",
    "index-text": "indexes are texts",
    "fewer": "only the best is given",
    "logits": "scores are logits, negative ones among them",
    "ties": "all scores are equal",
    "echo-null": "documents are echoed with a null text",
    "not-found": "the model is not served: 404, at zhipu 400 with 1211",
}
"""Fault kinds with one line of explanation each."""

Row = dict[str, Any]


def reshaped_rows(rows: list[Row], fault: Fault | None) -> list[Row]:
    """The rows of an answer, embeddings or scores, as the fault has them."""
    change = _ROWS.get(fault.kind) if fault is not None else None
    return change(rows) if change is not None else rows


FORMS = ("nan", "null", "zeros", "none")
"""How a vector is none."""


def without_vector(row: Row, form: str) -> Row:
    """A row whose vector is none, in one of `FORMS`."""
    vector = row["embedding"]
    forms: Mapping[str, list[Any] | None] = {
        "nan": [math.nan, *vector[1:]],
        "null": [None, *vector[1:]],
        "zeros": [0.0] * len(vector),
        "none": None,
    }
    return row | {"embedding": forms[form]}


def _with(rows: list[Row], place: int, **news: Any) -> list[Row]:
    changed = [dict(row) for row in rows]
    changed[place] |= news
    return changed


def _scored(change: Callable[[float], float]) -> Callable[[list[Row]], list[Row]]:
    def apply(rows: list[Row]) -> list[Row]:
        return [row | {"relevance_score": change(row["relevance_score"])} for row in rows]

    return apply


def _logit(share: float) -> float:
    share = min(0.99, max(0.01, share))
    return math.log(share / (1 - share))


_ROWS: Mapping[str, Callable[[list[Row]], list[Row]]] = {
    "out-of-order": lambda rows: rows[::-1],
    "constant-index": lambda rows: [row | {"index": 0} for row in rows],
    "one-too-few": lambda rows: rows[:-1],
    "one-too-many": lambda rows: rows + rows[-1:],
    "wrong-dimension": lambda rows: _with(rows, -1, embedding=rows[-1]["embedding"][:-1]),
    "nan": lambda rows: _with(rows, 0, embedding=[math.nan, *rows[0]["embedding"][1:]]),
    "null-number": lambda rows: _with(rows, 0, embedding=[None, *rows[0]["embedding"][1:]]),
    "zero-vector": lambda rows: _with(rows, 0, embedding=[0.0] * len(rows[0]["embedding"])),
    "several-vectors": lambda rows: [row | {"embedding": [row["embedding"]]} for row in rows],
    "unsorted": lambda rows: rows[::-1],
    "index-beyond": lambda rows: [*rows, rows[0] | {"index": 10_000}],
    "index-twice": lambda rows: [*rows, rows[0] | {"relevance_score": -1.0}],
    "index-text": lambda rows: [row | {"index": str(row["index"])} for row in rows],
    "fewer": lambda rows: rows[:1],
    "logits": _scored(_logit),
    "ties": _scored(lambda _: 0.5),
    "echo-null": lambda rows: [row | {"document": {"text": None}} for row in rows],
}
