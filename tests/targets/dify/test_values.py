"""What is read from answers of Dify, and what its errors mean for what has to be done."""

from __future__ import annotations

from typing import Any

import pytest

from kbsync.accounts.dify import bases_of
from kbsync.contract.target import DocState
from kbsync.errors import Halted, NameTaken, NotOffered, Rejected, TargetError, Unavailable, Unsure
from kbsync.targets.dify import shapes
from kbsync.targets.dify.shapes import judge
from kbsync.targets.http.errors import HttpAnswer
from kbsync.targets.http.rules import GONE

OF_DOCUMENTS = {"upload", "delete"}
PLAN = "of your subscription."
READY = {"indexing_status": "completed", "enabled": True, "archived": False}


def judged(op: str, status: int, body: Any, text: str = "") -> TargetError | None:
    return judge(HttpAnswer(op, status, {}, body, text, 0.0))


def told(status: int, code: str, message: str = "") -> dict[str, Any]:
    return {"code": code, "message": message, "status": status}


@pytest.mark.parametrize(
    ("row", "state", "words", "halt"),
    [
        (READY, DocState.READY, "", ""),
        ({**READY, "enabled": False}, DocState.FAILED, "disabled in Dify", ""),
        ({**READY, "archived": True}, DocState.FAILED, "archived in Dify", ""),
        ({**READY, "word_count": 0}, DocState.FAILED, "no text", ""),
        ({**READY, "segment_count": 0}, DocState.FAILED, "no text", ""),
        ({**READY, "word_count": 3, "tokens": 0}, DocState.READY, "", ""),
        ({"indexing_status": "waiting", "word_count": 0}, DocState.INDEXING, "", ""),
        ({"indexing_status": "completed", "enabled": True}, DocState.UNKNOWN, "", ""),
        ({"indexing_status": "completed", "archived": False}, DocState.UNKNOWN, "", ""),
        ({"indexing_status": "Completed", "enabled": True, "archived": False}, DocState.UNKNOWN, "", ""),
        ({"indexing_status": "waiting"}, DocState.INDEXING, "", ""),
        ({"indexing_status": "paused"}, DocState.INDEXING, "", ""),
        ({"indexing_status": "error", "error": "bad\nbytes"}, DocState.FAILED, "bad bytes", ""),
        ({"indexing_status": "error", "error": None}, DocState.FAILED, "no reason", ""),
        ({"indexing_status": "error", "error": "insufficient_quota"}, DocState.FAILED, "quota", "quota"),
        ({"indexing_status": "error", "error": "cannot read quota.md"}, DocState.FAILED, "quota.md", ""),
        ({"indexing_status": None}, DocState.UNKNOWN, "", ""),
        ({}, DocState.UNKNOWN, "", ""),
    ],
)
def test_only_what_is_completed_enabled_and_not_archived_is_ready(
    row: dict[str, Any], state: DocState, words: str, halt: str
) -> None:
    status = shapes.status_of(row)
    assert (status.state, status.halt) == (state, halt)
    assert words in status.reason


@pytest.mark.parametrize("op", ["upload", "delete", "list", "detail", "base"])
@pytest.mark.parametrize(
    ("status", "code", "message", "kind", "halt"),
    [
        (401, "unauthorized", "Access token is invalid", Halted, "credentials"),
        (403, "forbidden", "Dataset api access is not enabled.", Halted, "credentials"),
        (403, "forbidden", f"The number of documents has reached the limit {PLAN}", Halted, "quota"),
        (403, "forbidden", f"The vector space has reached the limit {PLAN}", Halted, "quota"),
        (403, "forbidden", f"You have reached the request rate limit {PLAN}", Unavailable, ""),
        (400, "invalid_param", f"You have reached the limit {PLAN} Only 0 can be uploaded.", Halted, "quota"),
        (400, "provider_quota_exceeded", "", Halted, "quota"),
        (404, "not_found", "Dataset not found.", Halted, "knowledge-base-missing"),
        (400, "invalid_param", "Dataset does not exist.", Halted, "knowledge-base-missing"),
        (404, "not_found", "Document Not Exists.", Rejected, ""),
        (404, "not_found", "The requested URL was not found on the server.", NotOffered, ""),
        (400, "document_indexing", "Cannot delete document during indexing.", Unavailable, ""),
        (403, "archived_document_immutable", "The archived document is not editable.", Rejected, ""),
        (413, "file_too_large", "File size exceeded.", Rejected, ""),
        (415, "unsupported_file_type", "File type not allowed.", Rejected, ""),
        (400, "invalid_param", "", Rejected, ""),
        (400, "something_new", "", Rejected, ""),
        (409, "dataset_name_duplicate", "", NameTaken, ""),
        (429, "too_many_requests", "", Unavailable, ""),
        (500, "unknown", "Internal Server Error", Unsure, ""),
    ],
)
def test_errors_mean_what_has_to_be_done(
    op: str, status: int, code: str, message: str, kind: type[TargetError], halt: str
) -> None:
    body = told(status, code, message)
    for http in (status, 200):  # HTTP 200 is not success
        error = judged(op, http, body)
        if kind is NotOffered and http == 200:  # the words are of a route, and a route answered
            continue
        assert type(error) is kind
        assert isinstance(error, TargetError)
        assert getattr(error, "halt", "") == halt


def test_what_is_forbidden_without_a_known_word_blames_a_document_or_the_key() -> None:
    for op in ("upload", "delete", "list", "detail", "base", "retrieve"):
        error = judged(op, 403, told(403, "forbidden", "No permission."))
        assert type(error) is (Rejected if op in OF_DOCUMENTS else Halted)


def test_a_document_is_gone_only_by_the_word_for_it() -> None:
    for words, is_gone in (("Document not found.", True), ("Document Not Exists.", True), ("nothing", False)):
        error = judged("detail", 404, told(404, "not_found", words))
        assert error is not None
        assert (error.code == GONE) is is_gone
    page = judged("delete", 404, None, "<html>Not found</html>")
    assert isinstance(page, NotOffered)


def test_no_body_is_success_of_a_deletion_alone() -> None:
    assert judged("delete", 204, None) is None
    assert isinstance(judged("upload", 204, None), Unsure)
    assert isinstance(judged("delete", 200, None), Unsure)
    assert judged("delete", 200, 204) is None


def test_too_many_requests_are_waited_for_as_long_as_they_count() -> None:
    error = judged("list", 403, told(403, "forbidden", "request rate limit of your subscription"))
    assert isinstance(error, Unavailable)
    assert error.retry_after == 60.0


def test_a_search_is_asked_for_as_the_base_is_set_up_and_without_nulls() -> None:
    dataset = shapes.dataset_of(
        {
            "id": "c42e",
            "indexing_technique": "high_quality",
            "retrieval_model_dict": {
                "search_method": "hybrid_search",
                "reranking_enable": True,
                "reranking_model": {"reranking_provider_name": "p", "reranking_model_name": None},
                "weights": {"weight_type": None, "vector_setting": {"vector_weight": None}},
                "top_k": 3,
                "score_threshold_enabled": False,
                "score_threshold": None,
            },
        }
    )
    assert dataset is not None
    assert dataset.retrieval == {
        "search_method": "hybrid_search",
        "reranking_enable": True,
        "reranking_model": {"reranking_provider_name": "p"},
        "score_threshold_enabled": False,
    }


@pytest.mark.parametrize(("technique", "method"), [("economy", "keyword_search"), (None, "semantic_search")])
def test_a_base_without_settings_of_searches_has_the_usual_ones(technique: str | None, method: str) -> None:
    dataset = shapes.dataset_of({"id": "c42e", "indexing_technique": technique, "retrieval_model_dict": None})
    assert dataset is not None
    assert dataset.retrieval["search_method"] == method


@pytest.mark.parametrize("body", [None, [], {}, {"data": None}, {"records": {}}, {"data": {}}])
def test_an_answer_of_another_shape_is_none(body: Any) -> None:
    assert shapes.page_of(body) is None
    assert bases_of(body) is None
    assert shapes.matches_of(body) is None
    assert shapes.dataset_of(body) is None
    assert shapes.document_of(body) is None


def test_the_size_of_a_file_is_read_in_lists_and_in_details() -> None:
    detail = {"upload_file": {"size": 5}}
    for row in ({"data_source_detail_dict": detail}, {"data_source_info": detail}):
        document = shapes.document_of({"id": "d", "name": "a.md", **row})
        assert document is not None and document.size == 5


def test_questions_and_answers_are_one_passage_and_no_score_is_none() -> None:
    segment = {"document_id": "d", "content": "Where?", "answer": "At the door."}
    found = shapes.matches_of({"records": [{"segment": segment, "score": None}, {"segment": None}]})
    assert found is not None
    [(remote_id, passage)] = found
    assert (remote_id, passage.text, passage.score) == ("d", "Where?\nAt the door.", 0.0)
