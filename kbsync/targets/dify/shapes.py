"""Parses Dify's responses and classifies its errors, without I/O.

Parsers ignore unknown fields and return None for an unexpected shape. An error is `{"code", "message",
"status"}` (api/libs/external_api.py). Dify uses the same code for many errors, so the rules check the message
first: every plan limit is `forbidden`, and every invalid field or refused file is `invalid_param`, often
without a message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from kbsync.contract.searching import Passage
from kbsync.contract.target import BaseCard, DocStatus
from kbsync.core.text import printable
from kbsync.dataclass import dataclass
from kbsync.errors import NameTaken, NotOffered, Rejected, TargetError, Unavailable, Unsure
from kbsync.targets.http import reading, rules
from kbsync.targets.http.errors import HttpResponse
from kbsync.targets.http.reading import DocumentRow, Fields, ListPage, Match, value_at
from kbsync.targets.http.rules import ErrorCase, ErrorRule, case_of, classify


@dataclass(frozen=True, slots=True)
class Dataset:
    """A knowledge base.

    `settings`: how Dify splits and indexes its documents, as in an upload; "" and unset before the first one.
    `kind`: "" for a general base, or a description of the kind for a base that doesn't accept uploaded files.
    `retrieval`: its search settings, as in a request. `fields`: the metadata fields by name, with "" for a
    field that kbsync can't fill. `has_metadata`: whether this version of Dify has metadata.
    """

    card: BaseCard
    settings: Mapping[str, str]
    kind: str
    retrieval: Mapping[str, Any]
    fields: dict[str, str]
    has_metadata: bool


@reading.row_reader
def dataset_of(payload: Fields) -> Dataset:
    """Parse a knowledge base (api/fields/dataset_fields.py)."""
    # `DatasetRuntimeMode` in api/models/enums.py; versions before pipelines have no mode.
    mode = printable(payload.text("runtime_mode"))[:40]
    kind = "" if mode in ("", "general") else f"of the kind {mode}"
    if mode == "rag_pipeline" or (not kind and payload.id("pipeline_id")):
        kind = "a knowledge pipeline of Dify"
    if payload.text("provider") == "external":
        kind = "external to Dify"
    # Without settings of its own, a base has Dify's defaults (api/services/hit_testing_service.py).
    settings = {key: text for key in ("doc_form", "indexing_technique") if (text := payload.text(key))}
    method = "keyword_search" if settings.get("indexing_technique") == "economy" else "semantic_search"
    retrieval = {"search_method": method, "reranking_enable": False, "score_threshold_enabled": False}
    # `dataset_retrieval_model_fields` are the fields of a request (`RetrievalModel`).
    retrieval |= _without_nulls(payload.object("retrieval_model_dict"))
    # `DatasetDocMetadataResponse`
    fields = {
        field.text("name"): (field.id("id") or "") if field.get("type") == "string" else ""
        for field in payload.objects("doc_metadata")
    }
    has_metadata = isinstance(payload.get("doc_metadata"), list)
    card = reading.card_in(payload, "indexing_technique")
    return Dataset(card, settings, kind, retrieval, fields, has_metadata)


def _without_nulls(value: Mapping[str, Any]) -> dict[str, Any]:
    """Remove nulls. Dify returns unset values as null, which isn't allowed in a request."""
    fields = {key: _without_nulls(item) if isinstance(item, dict) else item for key, item in value.items()}
    return {key: item for key, item in fields.items() if item is not None and item != {}}


@reading.row_reader
def document_of(payload: Fields) -> DocumentRow:
    """Parse a document (api/fields/document_fields.py). Its file's size is in `data_source_detail_dict`."""
    detail = payload.get("data_source_detail_dict") or payload.get("data_source_info")
    size = reading.object_of(detail).object("upload_file").count("size")
    name, created = payload.text("name"), payload.count("created_at")
    return DocumentRow(payload["id"], name, size, created, status_of(payload))


def stored_of(body: Any) -> DocumentRow | None:
    """Return the document that an upload created."""
    return document_of(value_at(body, "document"))


def page_of(body: Any) -> ListPage[DocumentRow] | None:
    """Return a page of the list of documents."""
    return reading.page_in(value_at(body, "data"), value_at(body, "total"), document_of)


def is_deleted(response: HttpResponse) -> bool:
    """Return whether the response confirms a deletion.

    A confirmation is a 204 or, in older versions, a 200 with the number 204 or the word success.
    """
    return 204 in (response.status, response.body) or response.fields.get("result") == "success"


_WORKING = frozenset(("waiting", "parsing", "cleaning", "splitting", "indexing", "paused"))


def status_of(payload: Fields) -> DocStatus:
    """Return a document's status.

    A document is searchable if it is completed, enabled and not archived (api/models/dataset.py,
    `display_status`).
    """
    hidden = "disabled" if payload.get("enabled") is False else ""
    hidden = "archived" if payload.get("archived") is True else hidden
    match payload.get("indexing_status"):
        case "error":
            words = payload.text("error")
            return rules.failed(words, "error", is_quota=_PLAN.search(words) is not None)
        case "completed" if hidden:
            words = f"the document is {hidden} in Dify, so searches don't find it"
            return rules.failed(f"{words}; retry it to upload it again", hidden, is_final=True)
        # Dify reports a document without passages as completed. Lists have its word count, details its
        # segment count.
        case "completed" if 0 in (payload.count("word_count"), payload.count("segment_count")):
            return rules.failed("Dify found no text in the document", "no-text")
        case "completed" if payload.get("enabled") is True and payload.get("archived") is False:
            return rules.READY
        case str(word) if word in _WORKING:
            return rules.INDEXING
    return rules.UNKNOWN


def matches_of(body: Any) -> tuple[Match, ...] | None:
    """Return the passages that a search found, best first, or None if the shape is unexpected."""
    return reading.matches_in(value_at(body, "records"), _match)


def _match(record: Fields) -> tuple[object, Passage]:
    segment = record.object("segment")
    # A question-and-answer segment has its text in two fields.
    text = "\n".join(filter(None, (segment.text("content"), segment.text("answer"))))
    return segment.get("document_id"), Passage(text, score=record.number("score") or 0.0)


# -- errors ------------------------------------------------------------------------------------------------

_METADATA = frozenset({"create-field", "describe"})
LIMITED = "rate-limited"
_A_MINUTE = 60.0
"""Length of Dify's rate limit window in seconds.

Refused requests count, too (api/controllers/service_api/wraps.py).
"""

_PLAN = re.compile(
    r"limit of your subscription|quota[_ ](?:has been )?exceeded|quota .{0,60}exhausted", re.IGNORECASE
)
_NO_DATASET = re.compile(r"\Adataset (?:not found|does not exist)", re.IGNORECASE)
_NO_DOCUMENT = re.compile(r"\ADocument")
_API_ACCESS = re.compile(r"api access", re.IGNORECASE)


def classify_response(response: HttpResponse) -> TargetError | None:
    """Classify a response. Return None on success."""
    payload = response.fields
    code, status = payload.text("code"), payload.count("status") or response.status
    is_error = bool(code) and "message" in payload and status >= 400
    case = case_of(response, code=code if is_error else "", is_error=is_error)
    # The status in the body is Dify's own; the HTTP status may be a proxy's.
    case = replace(case, status=status) if is_error else case
    return classify(case, RULES, partial(rules.describe_answer, sentences=SENTENCES))


def _is_rate_limit(case: ErrorCase) -> bool:
    """Return whether a response means too many requests. Dify Cloud's is `forbidden` (wraps.py)."""
    return case.status == 429 or rules.BUSY.search(case.matched_text) is not None


_PLAN_HINT = "check the plan or the model provider's account"
_KEY_HINT = "set api_key to a key from Knowledge > Service API in Dify"
_ACCESS_HINT = (
    "check in Dify that the key's workspace may use the knowledge base and that its API access is enabled"
)

RULES: tuple[ErrorRule, ...] = (
    # Uploads share the plan's request limit (wraps.py): a refused metadata request must not slow them down.
    ErrorRule(Rejected, call=_METADATA, when=_is_rate_limit, as_code=LIMITED),
    # The plan or a firewall may allow uploads but no metadata.
    ErrorRule(Rejected, call=_METADATA, status={403}, as_code=LIMITED),
    # A successful deletion has an empty response body.
    ErrorRule(None, call={"delete", "delete-base"}, status={204}, reported=False),
    # Every version of Dify has this call, so the response came from a gateway in front of it.
    ErrorRule(Unavailable, call={"base"}, status={404, 405}, reported=False, hint=rules.NO_CALL_HINT),
    # The server may have done the work before it failed.
    ErrorRule(Unsure, status=rules.SERVER_ERROR, reported=True),
    # Dify passes on the model provider's message: an empty account, also under 429.
    rules.no_money(reported=True, hint=_PLAN_HINT),
    # Refused requests count toward the limit, too.
    rules.slow_down(when=_is_rate_limit, reported=True, pause=_A_MINUTE),
    # The plan's space is used up: also `forbidden`.
    rules.no_room(reported=True),
    # Any other plan limit is `forbidden` or `invalid_param`; the message tells them apart.
    rules.no_quota(pattern=_PLAN, reported=True, hint=_PLAN_HINT),
    # The model provider's quota.
    rules.no_quota(code={"provider_quota_exceeded"}, hint=_PLAN_HINT),
    # The key.
    rules.no_access(code={"unauthorized"}, hint=_KEY_HINT),
    # Dify checks that the base exists before it looks for anything in it.
    rules.no_base(pattern=_NO_DATASET, reported=True),
    # Document not found, Document Not Exists.
    ErrorRule(Rejected, code={"not_found"}, pattern=_NO_DOCUMENT, as_code=rules.GONE),
    # An unknown route: this URL doesn't belong to Dify.
    ErrorRule(NotOffered, code={"not_found"}, hint=rules.NO_CALL_HINT, as_code="404"),
    # This may be about a single document.
    ErrorRule(
        Rejected, code={"forbidden"}, unless=_API_ACCESS, when=lambda case: case.is_of_document, may_pass=True
    ),
    # The request wasn't about a document, or the workspace's API is switched off.
    rules.no_access(code={"forbidden"}, hint=_ACCESS_HINT),
    # Dify is still working on the document, or the model's provider failed.
    ErrorRule(Unavailable, code={"document_indexing", "dataset_not_initialized", "completion_request_error"}),
    # Only `kb create` gets this error.
    ErrorRule(NameTaken, code={"dataset_name_duplicate"}),
    # The document is to blame (api/controllers/service_api/app/error.py).
    ErrorRule(Rejected, code={"file_too_large", "unsupported_file_type", "archived_document_immutable"}),
    # Any other code is a refusal, regardless of the HTTP status.
    ErrorRule(Rejected, reported=True),
)
"""Dify uses one code for many errors, so most rules check the message first."""

SENTENCES = {
    "invalid_param": "a field or the file is invalid; if it is the file, check its size and format",
    "archived_document_immutable": "the document is archived in Dify; unarchive it there",
}
"""A clearer sentence for each code whose own message says too little."""
