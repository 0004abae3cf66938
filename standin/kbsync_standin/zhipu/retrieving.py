"""POST /knowledge/retrieve: passages for a question."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from kbsync_standin.zhipu import strict
from kbsync_standin.zhipu.answers import Json
from kbsync_standin.zhipu.calls import Call
from kbsync_standin.zhipu.documents import Base, Document
from kbsync_standin.zhipu.naming import extension
from kbsync_standin.zhipu.searching import Match, search
from kbsync_standin.zhipu.shapes import extra
from kbsync_standin.zhipu.strict import Test

MOST_CHARACTERS = 1000


def _is_threshold(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1


_TESTS: Mapping[str, Test] = {
    "query": lambda value: strict.is_text(value) and len(value) <= MOST_CHARACTERS,
    "knowledge_ids": strict.are_texts,
    "document_ids": strict.are_texts,
    "top_k": strict.whole(1, 20),
    "top_n": strict.whole(1, 100),
    "recall_method": strict.one_of("embedding", "keyword", "mixed"),
    "recall_ratio": strict.whole(0, 100),
    "rerank_status": strict.one_of(0, 1),
    "rerank_model": strict.one_of("rerank", "rerank-pro"),
    "fractional_threshold": _is_threshold,
    "request_id": strict.is_string,
}


def retrieve(call: Call) -> list[Json] | None:
    """The best passages of what is searchable now."""
    body = strict.json_body(call.request, _TESTS.keys(), call.rules)
    strict.check_needed(body, ("query", "knowledge_ids"), call.rules)
    strict.check_values(body, _TESTS, call.rules)
    bases = [call.known_base(ident) for ident in body["knowledge_ids"]]
    documents = _searchable(bases, body.get("document_ids"), call)
    threshold = float(body.get("fractional_threshold", 0.0))
    found = search(body["query"], documents, body.get("top_k", 8), threshold)
    return _played([_hit(match, call) for match in found], call)


def _searchable(bases: list[Base], idents: list[str] | None, call: Call) -> Iterator[Document]:
    for base in bases:
        known = base.documents
        wanted = known if idents is None else [ident for ident in idents if ident in known]
        candidates = (known[ident] for ident in wanted)
        yield from (document for document in candidates if document.phase(call.now).stat == 1)


def _hit(match: Match, call: Call) -> Json:
    document = match.document
    ident = hashlib.sha256(f"{document.id} {match.index}".encode()).hexdigest()[:32]
    metadata = {
        "_id": ident,
        "knowledge_id": call.written(document.base.id),
        "know_id": call.written(document.base.id),
        "doc_id": call.written(document.id),
        "doc_name": document.name,
        "doc_url": call.signer.url(call.origin, document.id, call.now),
        "doc_type": extension(document.sent_name),
        "index": match.index,
    }
    fields: Json = {"id": ident, "text": match.passage.text, "score": match.score, "medias": []}
    if document.base.contextual:
        fields["contextual_text"] = match.passage.text
    return extra(fields | {"metadata": extra(metadata, call)}, call)


def _played(hits: list[Json], call: Call) -> list[Json] | None:
    match call.play.kind:
        case "retrieve-empty":
            return []
        case "retrieve-null":
            return None
        case "retrieve-no-scores":
            return [_without(hit, "score") for hit in hits]
        case "retrieve-no-metadata":
            return [_without(hit, "metadata") for hit in hits]
        case "retrieve-deleted":
            return [_of_deleted(call), *hits]
        case _:
            return hits


def _without(hit: Json, name: str) -> Json:
    return {key: value for key, value in hit.items() if key != name}


def _of_deleted(call: Call) -> Json:
    """A passage whose document nobody can read any more: one that was deleted, or never was."""
    gone = (document.id for document in call.account.documents.values() if document.deleted is not None)
    ident = str(call.play.arg("id", next(gone, "1000000000000000000")))
    known = call.account.documents.get(ident)
    metadata = {"doc_id": call.written(ident), "doc_name": known.name if known else "gone.txt", "index": 0}
    return {"id": "0" * 32, "text": "gone", "score": 1.0, "medias": [], "metadata": metadata}
