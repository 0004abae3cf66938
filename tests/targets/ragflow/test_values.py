"""Tests values read from RAGFlow, without any request: codes, states, pages, passages."""

from __future__ import annotations

from typing import Any

import pytest

from kbsync.accounts.answering import Piece
from kbsync.accounts.ragflow import chats_of, sources_of, texts_of
from kbsync.contract.target import DocState
from kbsync.errors import TargetError, Unavailable, Unsure
from kbsync.targets.http.errors import HttpResponse
from kbsync.targets.ragflow.config import EXTENSIONS
from kbsync.targets.ragflow.shapes import bases_of, classify_response, matches_of, page_of, stored_of
from kbsync_standin.ragflow.app import FORMATS


def classified(body: Any, status: int = 200, op: str = "upload") -> TargetError | None:
    return classify_response(HttpResponse(op, status, {}, body, "", 0.0))


def test_search_without_an_index_finds_nothing() -> None:
    body = {"code": 100, "message": "No chunk found, please upload file and parse it."}
    assert classified(body, op="search") is None
    assert matches_of(body) == ()
    assert isinstance(classified({"code": 100, "message": "KeyError('x')"}, op="search"), Unsure)


def listed(**fields: Any) -> Any:
    row = {"id": "d1", "name": "a.md", "size": 7, "run": "DONE", "status": "1", "chunk_count": 2, **fields}
    page = page_of({"code": 0, "data": {"docs": [row], "total": 1}})
    assert page is not None
    return page.rows[0]


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({}, DocState.READY),
        ({"run": "3"}, DocState.READY),
        ({"run": "UNSTART"}, DocState.INDEXING),
        ({"run": 0}, DocState.INDEXING),
        ({"run": "RUNNING"}, DocState.INDEXING),
        ({"run": "CANCEL"}, DocState.FAILED),
        ({"run": "FAIL"}, DocState.FAILED),
        ({"status": "0"}, DocState.FAILED),
        ({"chunk_count": 0}, DocState.FAILED),
        ({"chunk_count": None}, DocState.READY),
        ({"run": "SCHEDULE"}, DocState.UNKNOWN),
        ({"run": None}, DocState.UNKNOWN),
        ({"run": True}, DocState.UNKNOWN),
    ],
)
def test_only_done_enabled_documents_with_chunks_are_searchable(
    fields: dict[str, Any], state: DocState
) -> None:
    assert listed(**fields).status.state is state


@pytest.mark.parametrize(
    "progress", ["12:00 began\n12:01 [ERROR]no parser\n12:02 Task failed", ["12:01 [ERROR]no parser", "over"]]
)
def test_failure_reason_is_the_error_in_its_progress(progress: object) -> None:
    status = listed(run="FAIL", progress_msg=progress).status
    assert status.reason == "12:01 [ERROR]no parser" and status.halt == ""


@pytest.mark.parametrize(
    "progress", ["Error code: 429 - {'code': 'insufficient_quota'}", "账户余额不足", "Insufficient Balance"]
)
def test_model_without_credit_does_not_blame_the_document(progress: str) -> None:
    assert listed(run="FAIL", progress_msg=progress).status.halt == "quota"


def test_pdf_length_proves_nothing_because_damaged_ones_are_repaired() -> None:
    assert listed().size == 7
    assert listed(name="a.PDF").size is None


def test_times_are_in_milliseconds() -> None:
    assert listed(create_time=1728897061948).created == 1728897061.948
    assert listed(create_time="soon").created is None


def test_list_page_is_validated_by_the_servers_count() -> None:
    for key in ("total", "total_datasets"):
        page = page_of({"code": 0, "data": {"docs": [], key: 5}})
        assert page is not None and page.total == 5
    assert page_of({"code": 0, "data": {"docs": None}}) is None
    assert page_of({"code": 0}) is None


def test_upload_response_names_exactly_one_document() -> None:
    document = {"id": "d1", "name": "a(1).md"}
    stored = stored_of({"code": 0, "data": [document]})
    assert stored is not None and (stored.id, stored.name) == ("d1", "a(1).md")
    for data in ([], [document, document], [{"name": "a.md"}], None):
        assert stored_of({"code": 0, "data": data}) is None


def test_only_pdf_passages_have_a_page() -> None:
    """Other formats have the number of their chunk in its place."""
    chunk = {"document_id": "d1", "content": "text", "similarity": 0.5, "positions": [[4, 1, 2, 3, 4]]}
    pages = []
    for name in ("a.pdf", "a.PDF", "a.md"):
        hits = matches_of({"code": 0, "data": {"chunks": [{**chunk, "document_keyword": name}]}})
        assert hits is not None
        pages.append(hits[0][1].page)
    assert pages == [4, 4, None]
    # As in the reference.
    odd = {**chunk, "document_keyword": "a.pdf", "positions": [""]}
    assert matches_of({"code": 0, "data": {"chunks": [odd]}}) is not None
    assert matches_of({"code": 0, "data": {"chunks": 3}}) is None


def test_datasets_are_read_only_from_a_list() -> None:
    dataset = {"id": "b1", "name": "n", "description": None, "document_count": 3, "chunk_method": "qa"}
    page = bases_of({"code": 0, "data": [dataset, {"name": "without an id"}, None]})
    assert page is not None
    [card] = page.rows
    assert (card.id, card.documents, card.settings) == ("b1", 3, {"chunk_method": "qa"})
    for data in (dataset, None, {}):
        assert bases_of({"code": 0, "data": data}) is None


def test_every_sent_format_can_be_uploaded() -> None:
    assert all(FORMATS.fullmatch(f"a.{extension}") for extension in EXTENSIONS)


# -- chat assistants


def test_passages_are_cited_by_their_position_in_the_answer() -> None:
    chunks = [
        {"document_id": "b", "content": "one", "document_name": "b.pdf", "positions": [[3, 1, 2, 1, 2]]},
        None,
        {
            "document_id": "a",
            "content": "two",
            "similarity": 0.5,
            "document_name": "a.md",
            "positions": [[3]],
        },
        {"content": "of the web", "url": "https://example.org"},
        {"document_id": "b", "content": "three", "document_name": "b.pdf"},
    ]
    sources = sources_of(Piece("", "stop", message={"reference": chunks}))
    assert sources.marks == {"b": ["ID:0", "ID:4"], "a": ["ID:2"]}
    passages = {
        hit.remote_id: [(passage.text, passage.page) for passage in hit.passages]
        for hit in sources.hits or ()
    }
    assert passages == {"b": [("one", 3), ("three", None)], "a": [("two", None)]}
    assert sources_of(Piece("", "stop", message={"reference": {}})).hits is None
    assert sources_of(Piece("", "stop", message={"reference": []})).hits == ()


def test_model_error_arrives_as_answer_text() -> None:
    assert list(texts_of(Piece("<think>hm</think>Nine."))) == ["Nine."]
    texts = []
    with pytest.raises(Unavailable, match="RATE_LIMIT - too many"):
        for text in texts_of(Piece("The office op**ERROR**: RATE_LIMIT - too\nmany")):
            texts.append(text)
    assert texts == ["The office op"]


@pytest.mark.parametrize(
    "data",
    [
        {"chats": [{"id": "c", "dataset_ids": ["d"], "llm_id": "m"}, {"name": "without an id"}], "total": 2},
        [{"id": "c", "datasets": [{"id": "d"}, {}], "llm": {"model_name": "m"}}],
    ],
)
def test_assistants_are_parsed_in_every_versions_format(data: Any) -> None:
    page = chats_of({"code": 0, "data": data})
    assert page is not None
    assert [(row.id, row.bases, row.model) for row in page.rows] == [("c", ("d",), "m")]
    assert chats_of({"code": 0, "data": {"chats": None}}) is None
