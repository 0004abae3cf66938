"""Tests that each kind of fault has its effect, and no other."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kbsync_standin.zhipu import HOME_ID
from tests.standin.zhipu.client import ABSENT, START, DirectZhipu

NOTHING = {"embedding_code": 0, "embedding_msg": ""}
HIT = ["id", "medias", "metadata", "score", "text"]
AT = int(START * 1000)
FIELDS = {"set": {"length": "11"}, "missing": ["name", "word_num"]}
SLOW = {"vectorize": [5, 5]}

# A fault is listed before the request it affects; the last column has what the polls see.
SEEN: list[tuple[list[Any], list[Any]]] = [
    # what an answer says
    ([("code-in-200", {"code": 200, "as_string": True}), "put", "code", "names"], [(200, "200"), ["a.txt"]]),
    (
        [("code-in-200", {"code": 400, "as_string": True, "message": "nein"}), "put", "answer"],
        [{"code": "400", "message": "nein", "timestamp": AT}],
    ),
    (
        [("envelope", {"set": {"timestamp": "soon"}, "missing": ["message"]}), "bases", "answer"],
        [{"code": 200, "timestamp": "soon"}],
    ),
    ([("hang",), "put", "code"], [(200, 200)]),  # a kind of the server's means nothing here
    # the name
    ([("other-name",), "put", "kept", "names"], ["a(1).txt", ["a(1).txt"]]),
    ([("other-name", {"answer": "b.txt"}), "put", "kept", "names"], ["b.txt", ["a.txt"]]),
    ([("other-name", {"form": "question_marks"}), "put \u624b.txt", "names"], [["?.txt"]]),
    # the status
    ([SLOW, ("stuck",), "put", "stat", 1e7, "stat"], [0, 0]),
    ([("stuck", {"searchable": True}), "put", "stat", "found"], [0, 1]),
    ([SLOW, ("fails",), "put", "stat", 5, "stat"], [0, 2]),
    ([SLOW, ("relapse", {"after": 5, "back": 2}), "put", 5, "stat", 5, "stat", 2, "stat"], [1, 0, 1]),
    ([SLOW, ("fails-later", {"after": 3600}), "put", 5, "stat", 3600, "stat"], [1, 2]),
    ([("polls", {"n": 2}), "put", "found", "stat", "stats", "stat", "found"], [0, 0, [0], 1, 1]),
    ([("fails", {"runs": 2}), "put", "stat", "reembed", "stat", "reembed", "stat"], [2, 2, 1]),
    (
        [("fails", {"runs": 0, "silent": True}), "put", "stat", "reembed", "stat", "reembed", "stat+info"],
        [2, 2, [2, ABSENT]],
    ),
    *(
        ([("stat", {"value": value}), "put", "put b.txt", "stat", "stats", "found"], [value, [1, value], 2])
        for value in ("1", 1.0, None, 3, 99, "2")
    ),
    (["put", ("stat", {"missing": True}), "stat", "stat"], [ABSENT, 1]),
    ([("stat", {"missing": True, "seconds": 10}), "put", "stat", 10, "stat"], [ABSENT, 1]),
    ([("fail-info", {"value": NOTHING}), "put", "stat+info"], [[1, NOTHING]]),
    ([("fails",), "put", ("fail-info", {"missing": True}), "stat+info"], [[2, ABSENT]]),
    ([("fails",), "put", ("fail-info", {"value": None}), "stat+info"], [[2, None]]),
    (
        [("stat", {"value": 99}), "put", ("url",), "stat+url"],
        [[99, ABSENT]],
    ),  # two wrong values of one document
    # the existing documents
    (["put", ("fields", FIELDS), "row", "names"], [[ABSENT, "11", ABSENT], ["a.txt"]]),
    ([("detail-missing", {"seconds": 15}), "put", "names", "detail", 15, "stat"], [["a.txt"], 404, 1]),
    ([("unlisted", {"seconds": 20}), "put", "names", "stat", 20, "names"], [[], 1, ["a.txt"]]),
    (
        ["put", ("still-listed", {"seconds": 10}), "delete", "row", "detail", 1e9, "names"],
        [["a.txt", 11, 0], 404, []],
    ),
    (["put", ("still-listed",), "delete", "names", 1e9, "names"], [["a.txt"], ["a.txt"]]),
    (["put", ("keeps-document",), "delete", "code", "stat", "effects"], [(200, 200), 1, ["stored"]]),
    (["put", "put b.txt", ("left-out", {"name": "a.txt"}), "names"], [["b.txt"]]),
    (["put", "put b.txt", ("left-out",), "names"], [[]]),
    (["put", ("list-null",), "list"], [{"total": 1, "list": None}]),
    (["put", ("list-null", {"form": "missing"}), "list"], [{"total": 1}]),
    (["put", ("total", {"value": "many"}), "total"], ["many"]),
    (["put", ("total", {"missing": True}), "total"], [ABSENT]),
    # the results of searches
    (["put", ("nothing-found",), "hits"], [[]]),
    (["put", ("retrieve-null",), "hits"], [None]),
    (["put", ("retrieve-no-scores",), "hits"], [[[key for key in HIT if key != "score"]]]),
    (["put", ("retrieve-no-metadata",), "hits"], [[[key for key in HIT if key != "metadata"]]]),
]


@pytest.mark.parametrize(("steps", "observed"), SEEN)
def test_fault_shows_its_effect_and_only_its_own(
    service: DirectZhipu, steps: list[Any], observed: list[Any]
) -> None:
    assert service.observe(*steps) == observed
    assert service.app.violations == []


@pytest.mark.parametrize(
    ("shape", "body"),
    [
        ("flat", {"code": 500, "message": "内部错误"}),
        ("error-object", {"error": {"code": "500", "message": "内部错误"}}),
        ("error-int", {"error": {"code": 500, "message": "内部错误"}}),
        ("no-message", {"error": {"code": "500"}}),
        ("typed", {"type": "error", "error": {"type": "api_error", "message": "内部错误"}}),
        ("detail-list", {"detail": [{"loc": ["body"], "msg": "内部错误", "type": "value_error"}]}),
        ("string", "内部错误"),
    ],
)
def test_failure_in_each_shape(service: DirectZhipu, shape: str, body: Any) -> None:
    service.fault("error-shapes", shape=shape, status=503, effect=False)
    response = service.upload_response("a.txt", b"x")
    assert (response.status, json.loads(response.body)) == (503, body)
    assert service.app.snapshot()["documents"] == []


@pytest.mark.parametrize("after", [0, 30, 1e9, "Fri, 20 Nov 2026 10:00:00 GMT"])
def test_rate_limit_may_include_retry_after(service: DirectZhipu, after: Any) -> None:
    service.fault("rate-limited", retry_after=after)
    assert service.call("GET", "/knowledge").headers["retry-after"] == str(after)


GONE: dict[str, tuple[int, int]] = {"404": (404, 404), "code": (200, 400), "null": (200, 200)}
"""The forms of a "not found" response: the HTTP status, and the code in the body."""


@pytest.mark.parametrize("form", GONE)
@pytest.mark.parametrize(
    ("kind", "method", "path", "after"),
    [
        ("base-gone", "GET", f"/knowledge/{HOME_ID}", 200),
        ("detail-missing", "GET", "/document/{ident}", 200),
        ("delete-unknown", "DELETE", "/document/{ident}", 404),
    ],
)
def test_call_can_report_that_it_does_not_exist(
    service: DirectZhipu, kind: str, method: str, path: str, after: int, form: str
) -> None:
    where = path.replace("{ident}", service.put())
    service.fault(kind, form=None if form == "null" and kind != "delete-unknown" else form)
    response = service.call(method, where)
    assert (response.status, json.loads(response.body)["code"]) == GONE[form]
    assert service.call("GET", where).status == after  # deleted anyway


def test_id_returned_without_effect_is_never_reused(service: DirectZhipu) -> None:
    service.app.set_behaviour({"ids": "short"})
    service.fault("both-lists", effect=False)
    phantom = service.upload("a.txt")["data"]["successInfos"][0]["documentId"]
    assert service.call("GET", f"/document/{phantom}").status == 404
    assert service.put("b.txt") != phantom


def test_faults_target_the_sent_name(service: DirectZhipu) -> None:
    service.app.set_behaviour({"names": "question_marks"})
    ident = service.put("手册.txt")
    request = service.request("GET", f"/api/llm-application/open/document/{ident}")
    assert service.app.subject(request) == "手册.txt"
    body, headers = service.form("手册.txt", b"x" * 1000, {"knowledge_type": "1"})
    path = f"/api/llm-application/open/document/upload_document/{HOME_ID}"
    assert service.app.subject(service.request("POST", path, body[:300], headers)) == "手册.txt"
    assert service.app.subject(service.request("POST", path, b"", headers)) == ""


def test_duplicates_across_pages(service: DirectZhipu) -> None:
    service.app.set_behaviour({"order": "oldest"})
    for number in range(6):
        service.put(f"{number}.txt")
    service.fault("duplicates", n=2)
    assert service.names(page=2, size=3) == ["1.txt", "2.txt", "3.txt"]
    assert service.list(page=2, size=3)["total"] == 6


@pytest.mark.parametrize("op", ["reembed", "reslice", "delete", "create-base", "edit-base", "delete-base"])
def test_nothing_is_done_without_effect(service: DirectZhipu, op: str) -> None:
    ident = service.put()
    calls: dict[str, tuple[str, str, Any]] = {
        "reembed": ("POST", f"/document/embedding/{ident}", {}),
        "reslice": ("PUT", f"/document/{ident}", {"knowledge_type": 1}),
        "delete": ("DELETE", f"/document/{ident}", None),
        "create-base": ("POST", "/knowledge", {"embedding_id": 3, "name": "x"}),
        "edit-base": ("PUT", f"/knowledge/{HOME_ID}", {"name": "x"}),
        "delete-base": ("DELETE", f"/knowledge/{HOME_ID}", None),
    }
    before = service.app.snapshot()
    service.fault("code-in-200", effect=False)
    assert service.json(*calls[op])["code"] == 500
    assert (service.effects(), service.app.snapshot()) == (["stored"], before)
    assert service.json(*calls[op])["code"] == 200
    assert len(service.effects()) > 1
