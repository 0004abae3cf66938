"""Documents and bases as JSON, in the shapes captured live."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from kbsync_standin.zhipu.answers import Json, dressed
from kbsync_standin.zhipu.behaviour import Behaviour
from kbsync_standin.zhipu.calls import Call
from kbsync_standin.zhipu.documents import BYTES_PER_WORD, HONEST, Base, Disguise, Document, FailInfo, Phase
from kbsync_standin.zhipu.scripts import disguise_of

_CHUNKING = frozenset(
    {"min_chunk_size", "max_chunk_size", "chunk_overlap", "custom_separator", "sentence_size"}
)
_OPTIONAL = _CHUNKING | {"url", "length", "knowledge_type", "word_num", "parse_image"}
_OPTIONAL_OF_BASE = frozenset({"word_num", "length", "contextual", "embedding_model", "description"})


def item(document: Document, call: Call) -> Json:
    """A document as list and detail show it; the look is counted, lies are told as faults want them."""
    phase = document.phase(call.now)
    document.count_look()
    disguise = _play_for(document, call).over(document.disguise_at(call.now))
    fields = _honest(document, phase, call)
    if document.address and call.behaviour.page_urls == "address":
        fields["url"] = document.address
    else:
        fields["url"] = call.signer.url(call.origin, document.id, call.now, disguise.url)
    return _disguised(dressed(fields, call.behaviour, _OPTIONAL), disguise)


def _honest(document: Document, phase: Phase, call: Call) -> Json:
    slicing = document.slicing
    fields: Json = {
        "id": call.written(document.id),
        "name": document.name,
        "url": "",
        "length": document.size,
        "min_chunk_size": 1,
        "max_chunk_size": 500,
        "chunk_overlap": 50,
        "knowledge_type": slicing.knowledge_type,
        "custom_separator": list(slicing.separators) or ["\n"],
        "embedding_stat": _stat(phase.stat, call.behaviour),
        "word_num": 0,
        "parse_image": int(document.parse_image),
    }
    return fields | _sentence_size(document, call.behaviour) | _fail_info(phase.info)


def _stat(stat: int, behaviour: Behaviour) -> Any:
    return {"int": stat, "string": str(stat), "float": float(stat)}[behaviour.stat_form]


def _sentence_size(document: Document, behaviour: Behaviour) -> Json:
    size = document.slicing.sentence_size
    match behaviour.sentence_size:
        case "int":
            return {"sentence_size": size}
        case "string":
            return {"sentence_size": str(size)}
        case _:
            return {}


def _fail_info(info: FailInfo | None) -> Json:
    return {"failInfo": {"embedding_code": info.code, "embedding_msg": info.text}} if info else {}


def _play_for(document: Document, call: Call) -> Disguise:
    if call.op not in ("detail", "list"):
        return HONEST
    name = call.play.arg("name", document.name)
    return disguise_of(call.play) if name in (document.name, document.sent_name) else HONEST


def _disguised(fields: Json, disguise: Disguise) -> Json:
    fields |= disguise.changes
    if disguise.url == "null":
        fields["url"] = None
    gone = (*disguise.without, "url") if disguise.url == "missing" else disguise.without
    return {name: value for name, value in fields.items() if name not in gone} if gone else fields


def shown(document: Document, now: float) -> Json:
    """A document as tests see it: what is really there, whatever clients are told."""
    phase = document.phase(now)
    return {
        "id": document.id,
        "name": document.name,
        "sent_name": document.sent_name,
        "base": document.base.id,
        "size": document.size,
        "sha256": document.sha256,
        "stat": phase.stat,
        "fail_info": asdict(phase.info) if phase.info else None,
        "knowledge_type": document.slicing.knowledge_type,
        "created_ms": int(document.created * 1000),
        "foreign": document.is_foreign,
        "deleted": document.deleted is not None,
        "address": document.address,
        "visits": document.visits,
    }


def base_item(base: Base, call: Call) -> Json:
    """A knowledge base as list and detail show it."""
    fields: Json = {
        "id": call.written(base.id),
        "embedding_id": base.embedding_id,
        "embedding_model": base.embedding_model,
        "name": base.name,
        "description": base.description,
        "background": base.background,
        "icon": base.icon,
        "contextual": base.contextual,
        "word_num": base.size // BYTES_PER_WORD,
        "length": base.size,
        "document_size": len(base.documents),
    }
    return dressed(fields, call.behaviour, _OPTIONAL_OF_BASE)


def extra(fields: Json, call: Call) -> Json:
    """`fields` with unknown ones added where the switch says so."""
    return dressed(fields, call.behaviour)
