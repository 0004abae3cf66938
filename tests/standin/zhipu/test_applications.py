"""Tests that applications of the stand-in respond like the manual's examples."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from kbsync_standin.zhipu import HOME_ID
from tests.standin.zhipu.client import DirectZhipu

RECALL = {"recall_method": "embedding", "rerank_status": 0, "slice_count": 3}


@pytest.fixture
def service() -> Iterator[DirectZhipu]:
    service = DirectZhipu()
    service.put("hours.txt", "The office opens at nine.")
    yield service


def create(service: DirectZhipu, **fields: object) -> str:
    body = {"name": "desk", "desc": "", "knowledge_ids": [int(HOME_ID)], **fields}
    payload = service.json("POST", "/application", body)
    assert payload["code"] == 200, payload
    return str(payload["data"])


def ask(service: DirectZhipu, ident: str, call: str = "invoke", **fields: object) -> bytes:
    body = {"prompt": [{"role": "user", "content": "when does the office open"}], **fields}
    return service.call("POST", f"/model-api/{ident}/{call}", body).body


def test_bare_id_is_accepted_and_bases_may_be_given_in_either_place(service: DirectZhipu) -> None:
    inside = {"knowledge_ids": [], "knowledge_info": {**RECALL, "knowledge_ids": [HOME_ID]}}
    for ident in (create(service), create(service, **inside)):
        assert service.json("GET", f"/application/{ident}")["data"]["knowledge_ids"] == [int(HOME_ID)]
    assert service.json("GET", "/application", page=1, size=1)["data"]["total"] == 2


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "x" * 21},
        {"desc": "x" * 101},
        {"prompt": "{{user}}"},
        {"prompt": "{{knowledge}}{{knowledge}}{{user}}"},
        {"knowledge_info": {"recall_method": "embedding"}},
        {"max_token": 9000},
        {"top_p": "1"},
        {"temperature": "0"},
        {"temperature": "warm"},
        {"knowledge_info": {**RECALL, "recall_method": "fuzzy"}},
        {"knowledge_info": {**RECALL, "show_recall_result": 1}},
    ],
    ids=str,
)
def test_documented_prohibitions_are_enforced(service: DirectZhipu, fields: dict[str, object]) -> None:
    body = {"name": "desk", "desc": "", "knowledge_ids": [HOME_ID], **fields}
    assert service.json("POST", "/application", body)["code"] == 400
    assert len(service.app.violations) == 1


def test_whole_answer_has_content_usage_and_slices(service: DirectZhipu) -> None:
    data = json.loads(ask(service, create(service), request_id="r-1"))["data"]
    assert (data["requestId"], data["content"]) == ("r-1", "The office opens at nine.")
    assert data["usage"]["total_tokens"] > 0
    [slices] = service.json("GET", "/v2/r-1/slice_info")["data"]["document_slices"]
    assert slices["document"]["name"] == "hours.txt"
    assert [slice_row["text"] for slice_row in slices["slice_info"]] == ["The office opens at nine."]
    assert service.json("GET", "/v2/r-2/slice_info")["code"] != 200


def test_stream_format_matches_the_manual(service: DirectZhipu) -> None:
    text = ask(service, create(service), "sse-invoke", request_id="r-1", incremental=True).decode()
    first, *_, last, end = text.split("\n\n")
    assert first.splitlines() == ['id: "r-1"', 'event: "add"', 'data: "The "']
    assert last.splitlines()[:3] == ['Id: "r-1"', 'event: "finish"', 'data: "."']
    assert last.splitlines()[3].startswith("usage: {")
    assert end == ""


@pytest.mark.parametrize(
    "prompt", [[], [{"role": "user", "content": ""}], [{"role": "system", "content": "x"}]]
)
def test_question_has_an_odd_number_of_non_empty_turns(service: DirectZhipu, prompt: list[object]) -> None:
    payload = service.json("POST", f"/model-api/{create(service)}/invoke", {"prompt": prompt})
    assert payload["code"] == 400


def test_only_the_applications_own_bases_are_searched(service: DirectZhipu) -> None:
    other = service.json("POST", "/knowledge", {"embedding_id": 11, "name": "other"})["data"]["id"]
    ident = create(service, knowledge_ids=[int(other)])
    assert "nine" not in ask(service, ident, knowledge_ids=[HOME_ID]).decode()
