"""Questions to the vendor's search and what comes back, as the contract has it. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from kbsync.contract.searching import Hit, Passage, Query
from kbsync.targets.zhipu.wire import Found

LONGEST_QUERY = 1000
"""Characters."""

MOST_PASSAGES, MOST_RECALLED = 20, 100
"""`top_k` and `top_n` at their most: what is filtered later must not be cut before."""

OVERLOADED = frozenset({"1305", "1312"})
"""Codes of a model that has too much work."""

_WORD = re.compile(r"\w+")
_ESCAPED = re.compile(r"~[0-9A-F]{2}")


@dataclass(frozen=True, slots=True)
class Recall:
    """How passages are looked for, in the vendor's words; None: nothing is said of it.

    `ratio`: the weight of vectors, 1 to 99. `model` orders what was found where that is asked for.
    """

    method: str = "mixed"
    ratio: int | None = None
    top_n: int = MOST_RECALLED
    model: str = "rerank"
    threshold: float | None = None

    def fields(self) -> dict[str, object]:
        """What every search says, whatever it looks for."""
        body: dict[str, object] = {"top_n": self.top_n, "recall_method": self.method}
        if self.ratio is not None:
            body["recall_ratio"] = self.ratio
        if self.threshold is not None:
            body["fractional_threshold"] = self.threshold
        return body


USUAL = Recall()


@dataclass(frozen=True, slots=True)
class Question:
    """One request to the search. `text` is not empty. `document_ids` empty: the whole base.

    `rerank`: the vendor's ranking model orders what was found, at a price of its own.
    """

    text: str
    top_k: int
    document_ids: tuple[str, ...] = ()
    rerank: bool = False
    recall: Recall = USUAL

    def body(self, knowledge_id: str) -> dict[str, object]:
        """The JSON of `POST /knowledge/retrieve`; an empty list of documents is never sent."""
        body: dict[str, object] = {
            "query": self.text,
            "knowledge_ids": [knowledge_id],
            "top_k": self.top_k,
            **self.recall.fields(),
        }
        if self.rerank:
            body |= {"rerank_status": 1, "rerank_model": self.recall.model}
        return body | {"document_ids": list(self.document_ids)} if self.document_ids else body


def question_of(query: Query, recall: Recall = USUAL) -> Question | None:
    """As much of a query as the vendor takes; None where there is nothing to look for."""
    text = shortened(query.text)
    return Question(text, MOST_PASSAGES, query.among, query.rerank, recall) if text else None


def question_about(remote_id: str, name: str) -> Question:
    """Looks in one document for the words of its name; tag and extension are none of them.

    Always in the usual way: whether a document can be found is no matter of taste.
    """
    stem = name.rpartition("/")[2].rpartition(".")[0] or name
    readable = _ESCAPED.sub(" ", stem.rpartition("~")[0] or stem)
    spoken = " ".join(_WORD.findall(readable.replace("_", " ")))
    return Question(shortened(spoken) or "document", 1, (remote_id,))


def shortened(text: str) -> str:
    """At most `LONGEST_QUERY` characters, cut between words where there are any."""
    text = text.strip()
    if len(text) <= LONGEST_QUERY:
        return text
    if text[LONGEST_QUERY].isspace():
        return text[:LONGEST_QUERY].rstrip()
    whole, _, _ = text[:LONGEST_QUERY].rpartition(" ")
    return whole.rstrip() or text[:LONGEST_QUERY]


def hits_of(found: Sequence[Found]) -> tuple[Hit, ...]:
    """Documents, best first, each with its passages; `path` is left to whoever knows the ids.

    Scores count only where every passage has one; else the order in which the passages came.
    """
    named = [one for one in found if one.doc_id is not None]
    scored = all(one.score is not None for one in named)
    passages: dict[str, list[Passage]] = {}
    for place, one in enumerate(named):
        score = one.score if scored and one.score is not None else 1.0 / (1 + place)
        passages.setdefault(one.doc_id or "", []).append(Passage(one.text, score=score))
    return tuple(sorted((_hit(*item) for item in passages.items()), key=lambda hit: -hit.score))


def chosen(hits: Sequence[Hit], query: Query) -> Sequence[Hit]:
    """At most `top_k`, unless the caller has yet to select by what this target cannot be told."""
    return hits if query.selects else hits[: query.top_k]


def _hit(doc_id: str, passages: list[Passage]) -> Hit:
    best_first = tuple(sorted(passages, key=lambda passage: -passage.score))
    return Hit(doc_id, best_first[0].score, best_first)
