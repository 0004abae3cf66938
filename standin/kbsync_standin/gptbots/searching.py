"""Questions to the search: what they may say, and the order of what was found."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kbsync_standin.gptbots.strict import Breach, is_within, text_of

RANKING_MODELS = ("BGE-Rerank", "Jina-reranker-v2-base-multilingual", "Jina-colbert-v2", "BCE-Rerank")

_FIELDS = (
    "prompt",
    "top_k",
    "group_ids",
    "data_ids",
    "embedding_rate",
    "rerank_version",
    "doc_correlation",
)


@dataclass(frozen=True, slots=True)
class Question:
    """A request to search, understood. `bases`, `ids` None: all of them."""

    prompt: str
    top_k: int
    bases: set[str] | None
    ids: set[str] | None
    ranking: str
    least_score: float


def question_of(body: Mapping[str, Any]) -> Question:
    """Raises `Breach`."""
    unknown = body.keys() - set(_FIELDS)
    if unknown:
        raise Breach(f"{', '.join(sorted(unknown))} in a search")
    if not is_within(body.get("top_k"), 1, 50):
        raise Breach(f"top_k is {body.get('top_k')!r}")
    _share(body, "embedding_rate", 0, 1)
    ranking = body.get("rerank_version", "")
    if ranking and ranking not in RANKING_MODELS:
        raise Breach(f"rerank_version is {ranking!r}")
    return Question(
        text_of(body, "prompt"),
        body["top_k"],
        _ids(body, "group_ids"),
        _ids(body, "data_ids"),
        ranking,
        _share(body, "doc_correlation", 0.1, 0.95) or 0.0,
    )


def ranked(rows: Sequence[dict[str, Any]], question: Question) -> list[dict[str, Any]]:
    """The best first: by a ranking model, the shorter the better. Too low a score is left out."""
    if question.ranking:
        rows = [{**row, "score": _rank(row)} for row in rows]
        rows = sorted(rows, key=lambda row: -row["score"])
    return [row for row in rows if row["score"] >= question.least_score]


def _rank(row: Mapping[str, Any]) -> float:
    """How much of the passage was asked for, at a guess."""
    return float(row["score"]) / len(re.findall(r"\w+", row["content"]))


def _share(body: Mapping[str, Any], key: str, least: float, most: float) -> float | None:
    value = body.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise Breach(f"{key} is {value!r}")
    return value


def _ids(body: Mapping[str, Any], key: str) -> set[str] | None:
    value = body.get(key)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise Breach(f"{key} is no list of ids")
    return set(value)
