"""Each fault kind shows its effect, and only its own."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from kbsync_standin.faults import Fault, Faults
from kbsync_standin.kinds import TRANSPORT
from kbsync_standin.zhipu import HOME_ID, KINDS
from tests.standin.zhipu.vendor import DirectZhipu


@pytest.fixture
def vendor() -> DirectZhipu:
    return DirectZhipu()


def stored(vendor: DirectZhipu) -> list[str]:
    return [document["name"] for document in vendor.app.snapshot()["documents"]]


def test_every_kind_is_explained_in_one_line_and_none_is_the_servers() -> None:
    assert all(line and "\n" not in line for line in KINDS.values())
    assert not KINDS.keys() & TRANSPORT.keys()


def test_the_code_as_a_string(vendor: DirectZhipu) -> None:
    vendor.fault("code-in-200", code=200, as_string=True)
    answer = vendor.upload("a.txt")
    assert (answer["code"], answer["data"]["successInfos"][0]["fileName"]) == ("200", "a.txt")
    vendor.fault("code-in-200", code=400, as_string=True, message="nein")
    answer = vendor.upload("b.txt")
    assert (answer["code"], answer["message"]) == ("400", "nein")


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
def test_a_failure_in_each_shape(vendor: DirectZhipu, shape: str, body: Any) -> None:
    vendor.fault("error-shapes", shape=shape, status=503, effect=False)
    response = vendor.upload_answer("a.txt", b"x")
    assert (response.status, json.loads(response.body)) == (503, body)
    assert stored(vendor) == []


def test_fields_of_the_envelope_set_and_missing(vendor: DirectZhipu) -> None:
    vendor.fault("envelope", set={"timestamp": "soon"}, missing=["message"])
    answer = vendor.json("GET", "/knowledge")
    assert answer.keys() == {"data", "code", "timestamp"}
    assert answer["timestamp"] == "soon"


@pytest.mark.parametrize("after", [0, 30, 1e9, "Fri, 20 Nov 2026 10:00:00 GMT"])
def test_a_rate_limit_may_say_when(vendor: DirectZhipu, after: Any) -> None:
    vendor.fault("rate-limited", retry_after=after)
    assert vendor.call("GET", "/knowledge").headers["retry-after"] == str(after)


ABSENT: dict[str, tuple[int, int]] = {"404": (404, 404), "code": (200, 400), "null": (200, 200)}
"""The forms in which something is said not to be there: HTTP's status, and the code of the body."""


@pytest.mark.parametrize("form", ABSENT)
@pytest.mark.parametrize(
    ("kind", "method", "path", "after"),
    [
        ("base-gone", "GET", f"/knowledge/{HOME_ID}", 200),
        ("detail-missing", "GET", "/document/{ident}", 200),
        ("delete-unknown", "DELETE", "/document/{ident}", 404),
    ],
)
def test_one_call_says_that_it_is_not_there(
    vendor: DirectZhipu, kind: str, method: str, path: str, after: int, form: str
) -> None:
    where = path.replace("{ident}", vendor.put())
    vendor.fault(kind, form=None if form == "null" and kind != "delete-unknown" else form)
    response = vendor.call(method, where)
    assert (response.status, json.loads(response.body)["code"]) == ABSENT[form]
    assert vendor.call("GET", where).status == after  # deleted all the same


@pytest.mark.parametrize(
    ("kind", "args", "seen"),
    [
        ("stuck", {}, [(0, 0), (1e7, 0)]),
        ("fails", {}, [(0, 0), (5, 2)]),
        ("relapse", {"after": 5, "back": 2}, [(5, 1), (5, 0), (2, 1)]),
        ("fails-later", {"after": 3600}, [(5, 1), (3600, 2)]),
    ],
)
def test_the_status_takes_its_course(kind: str, args: Any, seen: list[tuple[float, int]]) -> None:
    vendor = DirectZhipu(vectorize=(5, 5))
    vendor.fault(kind, **args)
    ident, told = vendor.put(), []
    for seconds, _ in seen:
        vendor.clock.advance(seconds)
        told.append(vendor.stat(ident))
    assert told == [stat for _, stat in seen]


def lists(vendor: DirectZhipu, kind: str, effect: bool = True, **args: Any) -> tuple[Any, Any, list[str]]:
    vendor.fault(kind, effect=effect, **args)
    answer = vendor.upload("a.txt")
    assert answer["code"] == 200
    successes, failures = answer["data"]["successInfos"], answer["data"]["failedInfos"]
    names = None if successes is None else [info["fileName"] for info in successes]
    return names, [info["failReason"] for info in failures], stored(vendor)


def test_an_id_that_was_answered_without_effect_is_never_given_again(vendor: DirectZhipu) -> None:
    vendor.app.set_behaviour({"ids": "short"})
    vendor.fault("both-lists", effect=False)
    phantom = vendor.upload("a.txt")["data"]["successInfos"][0]["documentId"]
    assert vendor.call("GET", f"/document/{phantom}").status == 404
    assert vendor.put("b.txt") != phantom


def test_another_name_is_kept_or_only_answered(vendor: DirectZhipu) -> None:
    assert lists(vendor, "other-name") == (["a(1).txt"], [], ["a(1).txt"])
    assert lists(vendor, "other-name", answer="b.txt") == (["b.txt"], [], ["a(1).txt", "a.txt"])
    vendor.fault("other-name", form="question_marks")
    vendor.put("手.txt")
    assert "?.txt" in vendor.names()


def test_faults_are_aimed_at_the_name_that_was_sent(vendor: DirectZhipu) -> None:
    vendor.app.set_behaviour({"names": "question_marks"})
    ident = vendor.put("手册.txt")
    request = vendor.request("GET", f"/api/llm-application/open/document/{ident}")
    assert vendor.app.subject(request) == "手册.txt"
    body, headers = vendor.form("手册.txt", b"x" * 1000, {"knowledge_type": "1"})
    path = f"/api/llm-application/open/document/upload_document/{HOME_ID}"
    assert vendor.app.subject(vendor.request("POST", path, body[:300], headers)) == "手册.txt"
    assert vendor.app.subject(vendor.request("POST", path, b"", headers)) == ""


def test_stuck_at_0_though_searchable(vendor: DirectZhipu) -> None:
    vendor.fault("stuck", searchable=True)
    ident = vendor.put()
    assert (vendor.stat(ident), len(vendor.search("hello", document_ids=[ident]))) == (0, 1)


def test_0_for_some_looks(vendor: DirectZhipu) -> None:
    vendor.fault("polls", n=2)
    ident = vendor.put()
    assert vendor.search("hello") == []
    assert [vendor.stat(ident), vendor.list()["list"][0]["embedding_stat"], vendor.stat(ident)] == [0, 0, 1]
    assert len(vendor.search("hello")) == 1


def test_a_failure_comes_again_and_again(vendor: DirectZhipu) -> None:
    vendor.fault("fails", runs=2)
    twice = vendor.put("a.txt")
    vendor.fault("fails", runs=0, silent=True)
    always = vendor.put("b.txt")
    stats = []
    for _ in range(3):
        stats.append((vendor.stat(twice), vendor.stat(always)))
        vendor.reembed(twice)
        vendor.reembed(always)
    assert stats == [(2, 2), (2, 2), (1, 2)]
    assert "failInfo" not in vendor.detail(always)


@pytest.mark.parametrize("value", ["1", 1.0, None, 3, 99, "2"])
def test_a_status_of_any_value_from_the_upload_on(vendor: DirectZhipu, value: Any) -> None:
    vendor.fault("stat", value=value)
    ident = vendor.put()
    vendor.put("other.txt")
    assert vendor.stat(ident) == value
    assert [item["embedding_stat"] for item in vendor.list()["list"]] == [1, value]
    assert len(vendor.search("hello")) == 2


def test_a_status_that_is_missing_for_one_look_or_some_seconds(vendor: DirectZhipu) -> None:
    ident = vendor.put("a.txt")
    vendor.fault("stat", missing=True)
    assert "embedding_stat" not in vendor.detail(ident)
    assert vendor.stat(ident) == 1
    vendor.fault("stat", missing=True, seconds=10)
    other = vendor.put("b.txt")
    assert "embedding_stat" not in vendor.detail(other)
    vendor.clock.advance(10)
    assert vendor.stat(other) == 1


def test_fail_info_beside_any_status(vendor: DirectZhipu) -> None:
    nothing = {"embedding_code": 0, "embedding_msg": ""}
    vendor.fault("fail-info", value=nothing)
    ident = vendor.put()
    assert (vendor.stat(ident), vendor.detail(ident)["failInfo"]) == (1, nothing)
    vendor.fault("fails")
    failed = vendor.put("b.txt")
    vendor.fault("fail-info", missing=True)
    item = vendor.detail(failed)
    assert (item["embedding_stat"], "failInfo" in item) == (2, False)
    vendor.fault("fail-info", value=None)
    assert vendor.detail(failed)["failInfo"] is None


def test_fields_of_a_document_set_and_missing(vendor: DirectZhipu) -> None:
    vendor.put("a.txt")
    vendor.fault("fields", set={"length": "11"}, missing=["name", "word_num"])
    item = vendor.list()["list"][0]
    assert (item["length"], "name" in item, "word_num" in item) == ("11", False, False)
    assert vendor.names() == ["a.txt"]


def test_two_lies_about_one_document(vendor: DirectZhipu) -> None:
    vendor.fault("stat", value=99)
    ident = vendor.put()
    vendor.fault("url")
    item = vendor.detail(ident)
    assert (item["embedding_stat"], "url" in item) == (99, False)


def test_a_new_document_without_a_detail_or_out_of_the_list(vendor: DirectZhipu) -> None:
    vendor.fault("detail-missing", seconds=15)
    ident = vendor.put("a.txt")
    assert (vendor.names(), vendor.call("GET", f"/document/{ident}").status) == (["a.txt"], 404)
    vendor.clock.advance(15)
    assert vendor.stat(ident) == 1
    vendor.fault("unlisted", seconds=20)
    other = vendor.put("b.txt")
    assert (vendor.names(), vendor.stat(other)) == (["a.txt"], 1)
    vendor.clock.advance(20)
    assert vendor.names() == ["b.txt", "a.txt"]


def test_a_deleted_document_still_listed(vendor: DirectZhipu) -> None:
    brief, forever = vendor.put("a.txt", "12345"), vendor.put("b.txt")
    vendor.fault("still-listed", seconds=10)
    vendor.call("DELETE", f"/document/{brief}")
    vendor.fault("still-listed")
    vendor.call("DELETE", f"/document/{forever}")
    assert vendor.names() == ["b.txt", "a.txt"]
    assert vendor.list()["list"][1]["length"] == 5
    assert vendor.call("GET", f"/document/{brief}").status == 404
    vendor.clock.advance(1e9)
    assert vendor.names() == ["b.txt"]


def test_a_delete_that_leaves_the_document(vendor: DirectZhipu) -> None:
    ident = vendor.put()
    vendor.fault("keeps-document")
    assert vendor.json("DELETE", f"/document/{ident}")["code"] == 200
    assert (vendor.stat(ident), vendor.effects()) == (1, ["stored"])


def test_duplicates_across_pages(vendor: DirectZhipu) -> None:
    vendor.app.set_behaviour({"order": "oldest"})
    for number in range(6):
        vendor.put(f"{number}.txt")
    vendor.fault("duplicates", n=2)
    assert vendor.names(page=2, size=3) == ["1.txt", "2.txt", "3.txt"]
    assert vendor.list(page=2, size=3)["total"] == 6


def test_a_list_without_some(vendor: DirectZhipu) -> None:
    vendor.put("a.txt")
    vendor.put("b.txt")
    vendor.fault("left-out", name="a.txt")
    assert vendor.names() == ["b.txt"]
    vendor.fault("left-out")
    assert vendor.names() == []


def test_a_list_that_is_null_or_missing_and_a_wrong_total(vendor: DirectZhipu) -> None:
    vendor.put("a.txt")
    vendor.fault("list-null")
    assert vendor.list() == {"total": 1, "list": None}
    vendor.fault("list-null", form="missing")
    assert vendor.list() == {"total": 1}
    vendor.fault("total", value="many")
    assert vendor.list()["total"] == "many"
    vendor.fault("total", missing=True)
    assert "total" not in vendor.list()


def test_searches_that_answer_strangely(vendor: DirectZhipu) -> None:
    vendor.put("a.txt")
    vendor.fault("retrieve-empty")
    assert vendor.search("hello") == []
    vendor.fault("retrieve-null")
    assert vendor.search("hello") is None
    vendor.fault("retrieve-no-scores")
    assert vendor.search("hello")[0].keys() == {"id", "text", "medias", "metadata"}
    vendor.fault("retrieve-no-metadata")
    assert vendor.search("hello")[0].keys() == {"id", "text", "medias", "score"}


@pytest.mark.parametrize("op", ["reembed", "reslice", "delete", "create-base", "edit-base", "delete-base"])
def test_without_effect_nothing_is_done(vendor: DirectZhipu, op: str) -> None:
    ident = vendor.put()
    calls: dict[str, tuple[str, str, Any]] = {
        "reembed": ("POST", f"/document/embedding/{ident}", {}),
        "reslice": ("PUT", f"/document/{ident}", {"knowledge_type": 1}),
        "delete": ("DELETE", f"/document/{ident}", None),
        "create-base": ("POST", "/knowledge", {"embedding_id": 3, "name": "x"}),
        "edit-base": ("PUT", f"/knowledge/{HOME_ID}", {"name": "x"}),
        "delete-base": ("DELETE", f"/knowledge/{HOME_ID}", None),
    }
    before = vendor.app.snapshot()
    vendor.fault("code-in-200", effect=False)
    assert vendor.json(*calls[op])["code"] == 500
    assert (vendor.effects(), vendor.app.snapshot()) == (["stored"], before)
    assert vendor.json(*calls[op])["code"] == 200
    assert len(vendor.effects()) > 1


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault("both-lists"), "was taken by bases, has a meaning for upload"),
        (Fault("rate-limited", args={"delay": 1}), "has no argument delay"),
        (Fault("no-right", args={"status": "434"}), "status cannot be '434'"),
        (Fault("no-right", args={"status": math.inf}), "status cannot be inf"),
        (Fault("no-right", args={"status": 9}), "status cannot be 9"),
        (Fault("base-gone", args={"form": "ok"}), "404, code, null"),
        (Fault("envelope", args={"missing": "message"}), "missing cannot be"),
    ],
)
def test_a_fault_that_cannot_mean_what_it_says_is_noted(
    vendor: DirectZhipu, fault: Fault, words: str
) -> None:
    vendor.app.answer(vendor.request("GET", "/api/llm-application/open/knowledge"), fault)
    assert words in vendor.app.violations[0]


def test_foreign_kinds_mean_nothing(vendor: DirectZhipu) -> None:
    vendor.fault("hang")
    assert vendor.upload("a.txt")["code"] == 200
    assert vendor.app.violations == []


def test_the_servers_list_of_faults_takes_every_kind() -> None:
    faults = Faults(KINDS)
    for kind in KINDS:
        faults.add(Fault(kind))
    assert len(faults.all) == len(KINDS)
