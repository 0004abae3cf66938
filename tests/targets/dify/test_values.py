"""Tests how Dify's responses are read, and how its errors are classified."""

from __future__ import annotations

from typing import Any

import pytest

from kbsync.accounts.dify import bases_of
from kbsync.contract.target import DocState
from kbsync.errors import TargetError, Unavailable
from kbsync.targets.dify import shapes
from kbsync.targets.dify.shapes import classify_response
from kbsync.targets.http.errors import HttpResponse
from kbsync.targets.http.reading import Fields

READY = {"indexing_status": "completed", "enabled": True, "archived": False}


def classified(op: str, status: int, body: Any, text: str = "") -> TargetError | None:
    return classify_response(HttpResponse(op, status, {}, body, text, 0.0))


def error_body(status: int, code: str, message: str = "") -> dict[str, Any]:
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
def test_only_completed_enabled_unarchived_documents_are_ready(
    row: dict[str, Any], state: DocState, words: str, halt: str
) -> None:
    status = shapes.status_of(Fields(row))
    assert (status.state, status.halt) == (state, halt)
    assert words in status.reason


def test_rate_limit_is_waited_for_as_long_as_its_window() -> None:
    error = classified("list", 403, error_body(403, "forbidden", "request rate limit of your subscription"))
    assert isinstance(error, Unavailable)
    assert error.retry_after == 60.0


def test_search_follows_the_base_settings_and_contains_no_nulls() -> None:
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
        "top_k": 3,
        "score_threshold_enabled": False,
    }


@pytest.mark.parametrize(("technique", "method"), [("economy", "keyword_search"), (None, "semantic_search")])
def test_base_without_search_settings_gets_the_defaults(technique: str | None, method: str) -> None:
    dataset = shapes.dataset_of({"id": "c42e", "indexing_technique": technique, "retrieval_model_dict": None})
    assert dataset is not None
    assert dataset.retrieval["search_method"] == method


@pytest.mark.parametrize("body", [None, [], {}, {"data": None}, {"records": {}}, {"data": {}}])
def test_malformed_response_is_rejected(body: Any) -> None:
    assert shapes.page_of(body) is None
    assert bases_of(body) is None
    assert shapes.matches_of(body) is None
    assert shapes.dataset_of(body) is None
    assert shapes.document_of(body) is None


def test_file_size_is_read_from_lists_and_details() -> None:
    detail = {"upload_file": {"size": 5}}
    for row in ({"data_source_detail_dict": detail}, {"data_source_info": detail}):
        document = shapes.document_of({"id": "d", "name": "a.md", **row})
        assert document is not None and document.size == 5


def test_question_and_answer_is_one_passage_and_a_missing_score_is_none() -> None:
    segment = {"document_id": "d", "content": "Where?", "answer": "At the door."}
    hits = shapes.matches_of({"records": [{"segment": segment, "score": None}, {"segment": None}]})
    assert hits is not None
    [(remote_id, passage)] = hits
    assert (remote_id, passage.text, passage.score) == ("d", "Where?\nAt the door.", 0.0)
