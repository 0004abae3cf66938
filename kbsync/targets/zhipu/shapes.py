"""Ids of the vendor: opaque strings for us, and snowflakes that tell when they were made. Pure.

The vendor's answers as values. Nothing is believed: what is missing or of another type is None. Pure.

Unknown fields are ignored; ids come as strings or integers; numbers may come as strings of digits. The one
field that is read strictly is `embedding_stat` (see `states`).

Questions to the vendor's search and what comes back, as the contract has it. Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from kbsync.contract.searching import Hit, Passage, Query
from kbsync.core.text import number_in

_EPOCH_MS = 1_288_834_974_657
_EARLIEST, _LATEST = 1_420_070_400.0, 4_102_444_800.0  # 2015 and 2100: outside it is no time of a document


def id_of(value: object) -> str | None:
    """An id as a string, from JSON text or a JSON integer; None for everything else.

    A float is none: what has more than 53 bits has lost digits already.
    """
    match value:
        case bool():
            return None
        case int():
            return str(value)
        case str():
            return value.strip() or None
    return None


def number_of(some_id: str) -> int | str:
    """An id as it stands in bodies: a number where it looks like one."""
    number = number_in(some_id)
    return some_id if number is None else number


def created_of(remote_id: str) -> float | None:
    """When an id was made, in seconds since the epoch by the vendor's clock; None for ids of another shape.

    `(id >> 22) + 1288834974657` milliseconds, checked against ids and answer times of the service.
    """
    if not (remote_id.isascii() and remote_id.isdigit() and len(remote_id) <= 20):
        return None
    seconds = ((int(remote_id) >> 22) + _EPOCH_MS) / 1000.0
    return seconds if _EARLIEST <= seconds < _LATEST else None


def path_part(value: str) -> str:
    """An id as one part of a URL path."""
    return quote(value, safe="")


SUCCESS = "200"
_LARGEST_SCORE = 1e9  # neither NaN nor infinity is below it
_LATEST_MS = 4_102_444_800_000  # the year 2100


Images = Mapping[str, str]
"""Addresses of pictures by the placeholders that stand for them in the text."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """What is around every answer. `code` is "" where there is none, `at` the vendor's clock in seconds.

    `kind` is `error.type` of the bodies that have it; `failed` says that there is an `error` object.
    """

    code: str
    message: str
    kind: str = ""
    failed: bool = False
    at: float | None = None
    data: Any = None

    @property
    def is_success(self) -> bool:
        """The vendor's own word; the HTTP status has to agree."""
        return self.code == SUCCESS and not self.failed


@dataclass(frozen=True, slots=True)
class FailInfo:
    """`failInfo`, or one of `failedInfos`. `code` is "" where there is none."""

    text: str
    code: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class ZhipuDocument:
    """A document as list and detail show it. `stat` is as it came, of whatever type; `size` in bytes."""

    id: str
    name: str
    stat: object = None
    failure: FailInfo | None = None
    size: int | None = None
    url: str = ""
    knowledge_type: int | None = None
    separators: tuple[str, ...] | None = None
    sentence_size: int | None = None
    parse_image: bool | None = None


@dataclass(frozen=True, slots=True)
class ZhipuPage:
    """One page of the list. `is_null`: there is no list where one is due."""

    rows: tuple[ZhipuDocument, ...]
    total: int | None
    is_null: bool = False


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """One of `successInfos`."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class ZhipuReceipt:
    """The answer to an upload: what was stored and what was not."""

    stored: tuple[StoredDocument, ...]
    failed: tuple[FailInfo, ...]


@dataclass(frozen=True, slots=True)
class KnowledgeData:
    """`knowledgeData`, as far as it matters here. `documents` counts documents."""

    documents: int | None


@dataclass(frozen=True, slots=True)
class Capacity:
    """Bytes and words of the whole account; words are None where they are not told, or nought in all."""

    used: int
    total: int
    used_words: int | None = None
    total_words: int | None = None

    @property
    def lacks_words(self) -> bool:
        """There are bytes left maybe, and no words."""
        return self.used_words is not None and self.used_words >= (self.total_words or self.used_words + 1)


@dataclass(frozen=True, slots=True)
class FoundSlice:
    """One passage that a search found. `doc_id` and `score` are None where the answer does not tell."""

    text: str
    doc_id: str | None
    score: float | None


def envelope_of(body: Any) -> Envelope | None:
    """The envelope of a parsed body; None where it is no JSON object.

    Flat (`code`, `message`) and gateway (`error: {code, message}`) bodies are read; `error` goes first.
    """
    if not isinstance(body, dict):
        return None
    error = body.get("error")
    inner = error if isinstance(error, dict) and error else None
    source = body if inner is None else inner
    return Envelope(
        code=_code(source.get("code")),
        message=text_of(source.get("message")) or text_of(source.get("msg")),
        kind=text_of(source.get("type")) if inner is not None else "",
        failed=inner is not None,
        at=_seconds(body.get("timestamp")),
        data=body.get("data"),
    )


def page_of(body: Any) -> ZhipuPage:
    """A page of `GET /document`."""
    content = data_of(body)
    listed = content.get("list") if isinstance(content, dict) else content
    total = integer(content.get("total")) if isinstance(content, dict) else None
    rows = tuple(row for item in objects_in(listed) if (row := _row(item)) is not None)
    return ZhipuPage(rows, total, not isinstance(listed, list))


def row_of(body: Any, remote_id: str) -> ZhipuDocument | None:
    """The document of `GET /document/{id}`, under the id that was asked for; None: no data."""
    content = data_of(body)
    if not isinstance(content, dict) or not content:
        return None
    return _row({**content, "id": remote_id})


def receipt_of(body: Any, key: str = "fileName") -> ZhipuReceipt:
    """The answer to an upload. Documents are told apart by id; a success without an id is none.

    `key`: what tells of each what was sent, the name of a file or the `url` of a page.
    """
    content = data_of(body)
    content = content if isinstance(content, dict) else {}
    stored = {
        remote_id: StoredDocument(remote_id, text_of(item.get(key)))
        for item in objects_in(content.get("successInfos"))
        if (remote_id := id_of(item.get("documentId"))) is not None
    }
    failed = tuple(
        FailInfo(text_of(item.get("failReason")), name=text_of(item.get(key)))
        for item in objects_in(content.get("failedInfos"))
    )
    return ZhipuReceipt(tuple(stored.values()), failed)


def base_of(body: Any) -> KnowledgeData | None:
    """The knowledge base of `GET /knowledge/{id}`; None where there is no data."""
    content = data_of(body)
    if not isinstance(content, dict) or not content:
        return None
    count = content.get("document_size")
    return KnowledgeData(count if type(count) is int and count >= 0 else None)


def capacity_of(body: Any) -> Capacity | None:
    """The account's bytes from `GET /knowledge/capacity`; None where it does not say, or says nought."""
    content = data_of(body)
    if not isinstance(content, dict):
        return None
    (used, total), (words, most) = (
        [_measure(content.get(part), name) for part in ("used", "total")] for name in ("length", "word_num")
    )
    if used is None or not total:
        return None
    return Capacity(used, total, words, most) if words is not None and most else Capacity(used, total)


def found_of(body: Any) -> tuple[FoundSlice, ...]:
    """The passages of `POST /knowledge/retrieve` that have a text, best first as they came."""
    return tuple(
        FoundSlice(text, _doc_id(item.get("metadata")), number(item.get("score")))
        for item in objects_in(data_of(body))
        if (text := text_of(item.get("text")))
    )


def images_of(body: Any) -> Images:
    """The pictures of `POST /document/slice/image_list/{id}`; empty where the answer has none."""
    content = data_of(body)
    return images_in(content.get("images") if isinstance(content, dict) else None)


def images_in(listed: object) -> Images:
    """Pictures wherever a list of them stands; what is no web address is left out."""
    return {
        placeholder: url
        for item in objects_in(listed)
        if (placeholder := text_of(item.get("text")))
        and (url := text_of(item.get("cos_url"))).startswith(("https://", "http://"))
    }


def integer(value: object) -> int | None:
    """A number that is none of a bool or a fraction: an integer, or a string of digits."""
    if isinstance(value, str):
        return number_in(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def flag_of(value: object) -> bool | None:
    """0, 1, false or true; None for everything else."""
    return bool(value) if isinstance(value, int) and value in (0, 1) else None


def usage_of(value: object) -> Mapping[str, int] | None:
    """Tokens by what they went into; None where it tells none."""
    counts = {key: integer(count) for key, count in value.items()} if isinstance(value, dict) else {}
    return {key: count for key, count in counts.items() if count is not None} or None


def data_of(body: Any) -> Any:
    """What is in the envelope; None where there is nothing."""
    return body.get("data") if isinstance(body, dict) else None


def objects_in(value: object) -> Iterator[dict[str, Any]]:
    """The objects of a list, whatever else is in it."""
    return (item for item in value if isinstance(item, dict)) if isinstance(value, list) else iter(())


def _row(item: dict[str, Any]) -> ZhipuDocument | None:
    remote_id = id_of(item.get("id"))
    if remote_id is None:
        return None
    return ZhipuDocument(
        id=remote_id,
        name=text_of(item.get("name")),
        stat=item.get("embedding_stat"),
        failure=_failure(item.get("failInfo")),
        size=integer(item.get("length")),
        url=text_of(item.get("url")),
        knowledge_type=integer(item.get("knowledge_type")),
        separators=_separators(item.get("custom_separator")),
        sentence_size=integer(item.get("sentence_size")),
        parse_image=flag_of(item.get("parse_image")),
    )


def _failure(value: object) -> FailInfo | None:
    if not isinstance(value, dict):
        return None
    return FailInfo(text_of(value.get("embedding_msg")), _code(value.get("embedding_code")))


def _separators(value: object) -> tuple[str, ...] | None:
    """A list, a list as JSON text, or one plain separator."""
    if isinstance(value, str):
        value = _listed(value)
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return tuple(value)
    return None


def _listed(text: str) -> object:
    try:
        value = json.loads(text)
    except ValueError:
        return [text]
    return value if isinstance(value, list) else [text]


def _doc_id(metadata: object) -> str | None:
    return id_of(metadata.get("doc_id")) if isinstance(metadata, dict) else None


def _measure(part: object, name: str) -> int | None:
    return integer(part.get(name)) if isinstance(part, dict) else None


def _code(value: object) -> str:
    return id_of(value) or ""


def text_of(value: object) -> str:
    """A text; "" for everything else."""
    return value if isinstance(value, str) else ""


def number(value: object) -> float | None:
    """A number that is one; None for everything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < _LARGEST_SCORE else None


def _seconds(value: object) -> float | None:
    milliseconds = integer(value)
    return milliseconds / 1000.0 if milliseconds is not None and 0 < milliseconds < _LATEST_MS else None


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
class RetrieveRequest:
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


def question_of(query: Query, recall: Recall = USUAL) -> RetrieveRequest | None:
    """As much of a query as the vendor takes; None where there is nothing to look for."""
    text = shortened(query.text)
    return RetrieveRequest(text, MOST_PASSAGES, query.among, query.rerank, recall) if text else None


def question_about(remote_id: str, name: str) -> RetrieveRequest:
    """Looks in one document for the words of its name; tag and extension are none of them.

    Always in the usual way: whether a document can be found is no matter of taste.
    """
    stem = name.rpartition("/")[2].rpartition(".")[0] or name
    readable = _ESCAPED.sub(" ", stem.rpartition("~")[0] or stem)
    spoken = " ".join(_WORD.findall(readable.replace("_", " ")))
    return RetrieveRequest(shortened(spoken) or "document", 1, (remote_id,))


def shortened(text: str) -> str:
    """At most `LONGEST_QUERY` characters, cut between words where there are any."""
    text = text.strip()
    if len(text) <= LONGEST_QUERY:
        return text
    if text[LONGEST_QUERY].isspace():
        return text[:LONGEST_QUERY].rstrip()
    whole, _, _ = text[:LONGEST_QUERY].rpartition(" ")
    return whole.rstrip() or text[:LONGEST_QUERY]


def hits_of(found: Sequence[FoundSlice]) -> tuple[Hit, ...]:
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
