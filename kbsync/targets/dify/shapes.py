"""The service's answers as values, and its errors as ours. Pure.

Unknown fields are ignored; what has another shape is None. An error is `{"code", "message", "status"}`
(api/libs/external_api.py). One code stands for many things there, so the words decide: every refusal of a
plan is `forbidden`, every wrong field and refused file is `invalid_param`, often without a word.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from kbsync.contract.managing import BaseCard
from kbsync.contract.searching import Passage
from kbsync.contract.target import DocState, DocStatus
from kbsync.core.text import printable
from kbsync.errors import Halted, NameTaken, Rejected, TargetError, Unavailable, Unsure
from kbsync.targets.http.errors import HttpAnswer, Judge, by_status
from kbsync.targets.http.reading import (
    DocumentRow,
    ListPage,
    count_of,
    id_of,
    number,
    object_of,
    objects_in,
    page_in,
    text_of,
)


class DifyCall(enum.StrEnum):
    """What is asked for; the word used in metrics and messages."""

    BASE = "base"
    UPLOAD = "upload"
    LIST = "list"
    DETAIL = "detail"
    DELETE = "delete"
    FILE = "file"
    RETRIEVE = "retrieve"
    BASES = "bases"
    CREATE_BASE = "create-base"
    EDIT_BASE = "edit-base"
    DELETE_BASE = "delete-base"


# -- answers -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Dataset:
    """A knowledge base. `doc_form`: how its documents are cut, "" before the first.

    `retrieval`: how it is searched, as a request has it.
    """

    card: BaseCard
    provider: str
    doc_form: str
    retrieval: Mapping[str, Any] = field(default_factory=dict)


def dataset_of(body: Any) -> Dataset | None:
    """A knowledge base (api/fields/dataset_fields.py)."""
    told = object_of(body)
    base_id = id_of(told.get("id"))
    if base_id is None:
        return None
    technique = text_of(told.get("indexing_technique"))
    card = BaseCard(
        base_id,
        text_of(told.get("name")),
        text_of(told.get("description")),
        text_of(told.get("embedding_model")),
        count_of(told.get("document_count")),
        settings={"indexing_technique": technique} if technique else {},
    )
    doc_form, provider = text_of(told.get("doc_form")), text_of(told.get("provider"))
    return Dataset(card, provider, doc_form, _retrieval(told.get("retrieval_model_dict"), technique))


_RETRIEVAL = ["search_method", "reranking_enable", "reranking_model", "reranking_mode", "weights"]
_RETRIEVAL += ["score_threshold_enabled", "score_threshold"]


def _retrieval(value: object, technique: str) -> Mapping[str, Any]:
    """The fields of a search; its defaults where the base has none (api/services/hit_testing_service.py)."""
    method = "keyword_search" if technique == "economy" else "semantic_search"
    usual = {"search_method": method, "reranking_enable": False, "score_threshold_enabled": False}
    told = _without_nulls(object_of(value))
    return usual | {key: told[key] for key in _RETRIEVAL if key in told}


def _without_nulls(value: Mapping[str, Any]) -> dict[str, Any]:
    """What is not set comes back as null, and null is no value that a request may have."""
    kept = {key: _without_nulls(one) if isinstance(one, dict) else one for key, one in value.items()}
    return {key: one for key, one in kept.items() if one is not None and one != {}}


def bases_of(body: Any) -> ListPage[BaseCard] | None:
    """A page of knowledge bases."""
    told = object_of(body)
    return page_in(
        told.get("data"), told.get("total"), lambda one: base.card if (base := dataset_of(one)) else None
    )


def page_of(body: Any) -> ListPage[DocumentRow] | None:
    """A page of documents."""
    return page_in(object_of(body).get("data"), object_of(body).get("total"), document_of)


def document_of(value: object) -> DocumentRow | None:
    """A document (api/fields/document_fields.py); its file's size stands in `data_source_detail_dict`."""
    told = object_of(value)
    remote_id = id_of(told.get("id"))
    if remote_id is None:
        return None
    detail = told.get("data_source_detail_dict") or told.get("data_source_info")
    size = count_of(object_of(object_of(detail).get("upload_file")).get("size"))
    name, created = text_of(told.get("name")), count_of(told.get("created_at"))
    return DocumentRow(remote_id, name, size, created, status_of(told))


_WORKING = frozenset(("waiting", "parsing", "cleaning", "splitting", "indexing", "paused"))
_HIDDEN = "it is {} in Dify, so that no search finds it; a retry uploads it anew"


def status_of(told: Mapping[str, Any]) -> DocStatus:
    """Searchable is what is completed, enabled and not archived (api/models/dataset.py, `display_status`)."""
    match told.get("indexing_status"):
        case "error":
            words = _quoted(text_of(told.get("error"))) or "Dify could not index it and gives no reason"
            return DocStatus(DocState.FAILED, words, "error", "quota" if _MONEY.search(words) else "")
        case "completed" if told.get("archived") is True:
            return DocStatus(DocState.FAILED, _HIDDEN.format("archived"), "archived", is_final=True)
        case "completed" if told.get("enabled") is False:
            return DocStatus(DocState.FAILED, _HIDDEN.format("disabled"), "disabled", is_final=True)
        # Dify calls completed what it found no passage in. Lists tell words, details segments.
        case "completed" if 0 in (count_of(told.get("word_count")), count_of(told.get("segment_count"))):
            return DocStatus(DocState.FAILED, "Dify found no text in it", "no-text")
        case "completed" if told.get("enabled") is True and told.get("archived") is False:
            return DocStatus(DocState.READY)
        case str(word) if word in _WORKING:
            return DocStatus(DocState.INDEXING)
    return DocStatus(DocState.UNKNOWN)


def matches_of(body: Any) -> tuple[tuple[str, Passage], ...] | None:
    """What a search found, best first: passages, each with the id of its document."""
    records = object_of(body).get("records")
    if not isinstance(records, list):
        return None
    found = []
    for record in objects_in(records):
        segment = object_of(record.get("segment"))
        # Questions and answers are two fields of one piece.
        text = "\n".join(filter(None, (text_of(segment.get("content")), text_of(segment.get("answer")))))
        remote_id = id_of(segment.get("document_id"))
        if remote_id is not None:
            found.append((remote_id, Passage(text, score=number(record.get("score")) or 0.0)))
    return tuple(found)


# -- errors ------------------------------------------------------------------------------------------------

GONE = "document-gone"
"""Our code for a document that is not there, the base being there: Dify looks for the base first."""

LIMITED = "rate-limited"
_A_MINUTE = 60.0
"""Seconds of Dify's window; refused requests count in it, too (api/controllers/service_api/wraps.py)."""

_MONEY = re.compile(
    r"limit of your subscription|insufficient[_ ]?(?:quota|balance|credits?)|quota[_ ](?:has been )?exceeded|"
    r"exceeded your current quota|quota .{0,60}exhausted|余额不足",
    re.IGNORECASE,
)
_TAKES_DOCUMENTS = frozenset({DifyCall.UPLOAD, DifyCall.DELETE})
_LONGEST = 200


def judge_for(address: str, dataset_id: str) -> Judge:
    """The reading of answers from `address` about the knowledge base of the config."""
    return partial(_judged, address=address, dataset_id=dataset_id)


def _judged(answer: HttpAnswer, address: str, dataset_id: str) -> TargetError | None:
    told = object_of(answer.body)
    code, status = text_of(told.get("code")), count_of(told.get("status")) or answer.status
    is_told = bool(code) and "message" in told and status >= 400
    if not is_told:
        # The answer to a deletion has no body.
        is_done = answer.status == 204 and answer.op in (DifyCall.DELETE, DifyCall.DELETE_BASE)
        return None if is_done else by_status(answer, of_item=answer.op in _TAKES_DOCUMENTS)
    said = _quoted(text_of(told.get("message")))
    reason = f"{SENTENCES.get(code, 'Dify refused the request')} ({': '.join(filter(None, (code, said)))})"
    if status >= 500:
        return Unsure(reason, code=code)
    if status == 429 or "rate limit" in said:
        return Unavailable(reason, code=LIMITED, retry_after=answer.retry_after or _A_MINUTE)
    if _MONEY.search(said) or code == "provider_quota_exceeded":
        return Halted("quota", f"{reason}; see to the plan or the model provider's account", code=code)
    match code:
        case "unauthorized":
            advice = "put a key of the knowledge API into api_key, from Knowledge > Service API in Dify"
            return Halted("credentials", f"{reason}; {advice}", code=code)
        case "not_found" | "invalid_param" if re.match("dataset (not found|does not exist)", said.lower()):
            advice = "correct dataset_id (or base_url) in the config"
            where = f"knowledge base {dataset_id} is not at {address} for this api_key"
            return Halted("knowledge-base-missing", f"{where}: {said}; {advice}", code=code)
        case "not_found" if said.startswith("Document"):
            return Rejected(reason, code=GONE)
        case "not_found":  # a route: nothing of Dify's is at this address
            return by_status(answer)
        case "invalid_param" if found := re.fullmatch(r"(\w+) is required\.", said):
            return Rejected(reason, code=found[1])
        case "forbidden" if answer.op not in _TAKES_DOCUMENTS or "api access" in said.lower():
            advice = "see that the key's workspace may use it and that its API access is on in Dify"
            return Halted("credentials", f"{reason}; {advice}", code=code)
        case "forbidden":
            return Rejected(reason, code=code, may_pass=True)
        case "document_indexing" | "dataset_not_initialized" | "completion_request_error":
            return Unavailable(reason, code=code)
        case "dataset_name_duplicate":
            return NameTaken(reason, code=code)
    return Rejected(reason, code=code)


SENTENCES = {
    "unauthorized": "Dify does not know the api_key",
    "forbidden": "Dify forbids it",
    "invalid_param": "Dify finds a field or the file invalid; of a file it may be the size or the format",
    "file_too_large": "the file is too large for this installation of Dify",
    "unsupported_file_type": "this installation of Dify does not take the format",
    "archived_document_immutable": "the document is archived in Dify; unarchive it there",
    "document_indexing": "Dify is at work on the document",
    "dataset_not_initialized": "the knowledge base is not ready for searches",
    "dataset_name_duplicate": "there is a knowledge base of this name",
    "dataset_in_use": "apps use the knowledge base; remove it from them first",
    "dataset_indexing_in_progress": "documents of the knowledge base are still being indexed",
    "provider_not_initialize": "Dify has no model for this; choose one under Settings > Model Provider",
    "provider_quota_exceeded": "the model provider's quota is used up",
    "completion_request_error": "the model provider failed",
}
"""The codes that are known, each with what it means."""


def _quoted(text: str) -> str:
    return printable(" ".join(text.split()))[:_LONGEST]
