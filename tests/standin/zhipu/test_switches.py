"""Tests that each switch has its effect."""

from __future__ import annotations

import dataclasses
import itertools
import json
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from kbsync_standin.zhipu import HOME_ID, ZhipuBehaviour
from tests.standin.zhipu.client import ABSENT, START, DirectZhipu

EPOCH_MS = 1288834974657


def created_ms(ident: str) -> int:
    return (int(ident) >> 22) + EPOCH_MS


def numbered(service: DirectZhipu, count: int) -> list[str]:
    return [service.put(f"{number:03}.txt") for number in range(count)]


def all_names(service: DirectZhipu, size: int, pages: int) -> list[list[str]]:
    return [service.names(page=page, size=size) for page in range(1, pages + 1)]


def names_on_pages(service: DirectZhipu, size: int, pages: int) -> list[str]:
    return list(itertools.chain.from_iterable(all_names(service, size, pages)))


def test_seed_determines_the_indexing_time() -> None:
    def times(seed: int) -> list[float]:
        service = DirectZhipu(vectorize=(0, 100), seed=seed)
        numbered(service, 5)
        return [document.phases[-1].starts_at for document in service.app.documents.values()]

    assert times(1) == times(1) != times(2)


@pytest.mark.parametrize("content", ["", " \n\t", "\ufeff", "a\0b"])
def test_file_without_text_fails_to_index(service: DirectZhipu, content: str) -> None:
    item = service.detail(service.put("a.txt", content))
    assert (item["embedding_stat"], item["failInfo"]["embedding_code"]) == (2, 10001)


CORRUPT = {"embedding_code": 10001, "embedding_msg": "知识不可用，文档损坏"}
FORMS = {"404": (404, 404), "code": (200, 400), "null": (200, 200)}
"""The forms of a "not found" response: the HTTP status, and the code in the body."""

SLOW = {"vectorize": [5, 5]}

SEEN: list[tuple[list[Any], list[Any]]] = [
    # An old status is shown for a while after a re-embed, or an old reason together with status 0.
    (
        [
            {"stale_stat": 10.0},
            ("fails",),
            "put",
            "stat",
            "reembed",
            9.9,
            "stat+info",
            "found",
            0.2,
            "stat+info",
        ],
        [2, [2, CORRUPT], 0, [1, ABSENT]],
    ),
    (
        [{"keeps_fail_info": True}, ("fails",), "put", SLOW, "reembed", "stat+info", 5, "stat+info"],
        [[0, CORRUPT], [1, ABSENT]],
    ),
    # The list or the detail lags; a document deleted before it was listed is never listed.
    ([{"list_lag": 15.0}, "put", "names", "stat", 15, "names"], [[], 1, ["a.txt"]]),
    (["put", {"list_lag": 15.0}, "delete", "names", "detail", 15, "names"], [["a.txt"], 404, []]),
    ([{"list_lag": 15.0}, "put", {"list_lag": 0}, "delete", "names", 20, "names"], [[], []]),
    (
        [{"detail_lag": 4.0}, "put", "names", "detail", 4, "stat", "delete", "names", "stat", 4, "detail"],
        [["a.txt"], 404, 1, [], 1, 404],
    ),
    *(
        ([{"total": form}, "put", "put b.txt", "put c.txt", "total"], [value])
        for form, value in (("right", 3), ("high", 10), ("low", 2), ("zero", 0), ("string", "3"))
    ),
    ([{"total": "missing"}, "put", "total"], [ABSENT]),
    ([{"empty_list": "list"}, "list"], [{"total": 0, "list": []}]),
    ([{"empty_list": "null"}, "list"], [{"total": 0, "list": None}]),
    ([{"empty_list": "missing"}, "list"], [{"total": 0}]),
    *(
        ([{"names": form}, f"put {sent}", "kept", "names"], [kept_name, [kept_name]])
        for form, sent, kept_name in (
            ("as_sent", "d/é.txt", "d/é.txt"),
            ("nfc", "e\u0301.txt", "é.txt"),
            ("nfd", "é.txt", "e\u0301.txt"),
            ("mojibake", "é.txt", "Ã©.txt"),
            ("basename", "d/é.txt", "é.txt"),
            ("suffixed", "a.b.txt", "a.b(1).txt"),
            ("question_marks", "手a.txt", "?a.txt"),
        )
    ),
    *(
        ([{"deleted_detail": form}, what, "code"], [code])
        for form, code in FORMS.items()
        for what in ("look", "reembed")
    ),
    *(
        ([{"unknown_delete": form}, "delete", "code", "effects"], [code, []])
        for form, code in (FORMS | {"ok": (200, 200)}).items()
    ),
]


@pytest.mark.parametrize(("steps", "observed"), SEEN)
def test_switch_shows_its_effect(service: DirectZhipu, steps: list[Any], observed: list[Any]) -> None:
    assert service.observe(*steps) == observed
    assert service.app.violations == []


@pytest.mark.parametrize("cap", [10, 50, 100])
def test_larger_page_size_is_silently_reduced(cap: int) -> None:
    service = DirectZhipu(page_cap=cap, order="oldest")
    numbered(service, cap + 3)
    pages = all_names(service, 1000, 2)
    assert [len(page) for page in pages] == [cap, 3]
    assert pages[1][0] == f"{cap:03}.txt"


def test_list_order_is_a_switch(service: DirectZhipu) -> None:
    numbered(service, 30)
    newest = names_on_pages(service, 7, 5)
    service.app.set_behaviour({"order": "oldest"})
    oldest = names_on_pages(service, 7, 5)
    service.app.set_behaviour({"order": "shuffled"})
    shuffled = names_on_pages(service, 7, 5)
    assert oldest == sorted(oldest) == newest[::-1]
    assert sorted(shuffled) == oldest
    assert shuffled not in (oldest, newest)
    assert service.list(size=7)["total"] == 30


def test_page_beyond_the_end_is_empty_or_repeats_the_last(service: DirectZhipu) -> None:
    numbered(service, 5)
    assert service.names(page=9, size=2) == []
    service.app.set_behaviour({"page_beyond": "repeats"})
    assert service.names(page=9, size=2) == service.names(page=3, size=2) == ["000.txt"]


def test_unstable_pages_skip_and_repeat_but_eventually_settle() -> None:
    service = DirectZhipu(unstable_pages=True)
    names = {service.detail(ident)["name"] for ident in numbered(service, 20)}
    walks = [names_on_pages(service, 5, 4) for _ in range(20)]
    assert any(len(set(walk)) < len(walk) for walk in walks)
    assert any(set(walk) != names for walk in walks)
    assert set().union(*walks) == names


@pytest.mark.parametrize(
    ("form", "query", "expected"),
    [
        ("exact", "Plan.txt", ["Plan.txt"]),
        ("exact", "Plan", []),
        ("substring", "lan", ["Plan.txt", "Planet b.txt"]),
        ("substring", "plan", []),
        ("case_insensitive", "PLAN", ["Plan.txt", "Planet b.txt"]),
        ("tokenised", "b.zzz", ["Planet b.txt"]),
        ("tokenised", "Plan.txt", ["Plan.txt", "Planet b.txt", "other.txt"]),
        ("ignored", "Plan.txt", ["Plan.txt", "Planet b.txt", "other.txt"]),
    ],
)
def test_filter_compares_in_each_form(form: str, query: str, expected: list[str]) -> None:
    service = DirectZhipu(word=form)
    for name in ("Plan.txt", "Planet b.txt", "other.txt"):
        service.put(name)
    payload = service.list(word=query)
    assert sorted(item["name"] for item in payload["list"]) == expected
    assert payload["total"] == len(expected)


def test_equal_names_are_allowed_refused_or_replace(service: DirectZhipu) -> None:
    first, second = service.put("a.txt", "one"), service.put("a.txt", "two")
    assert service.names() == ["a.txt", "a.txt"]
    service.app.set_behaviour({"equal_names": "refuse"})
    assert service.upload("a.txt")["data"]["failedInfos"][0]["failReason"] == "文件名已存在"
    service.app.set_behaviour({"equal_names": "replace"})
    third = service.put("a.txt", "three")
    assert [item["id"] for item in service.list()["list"]] == [third]
    assert service.call("GET", f"/document/{first}").status == 404
    assert service.effects() == ["stored", "stored", "replaced", "replaced", "stored"]
    assert [entry["id"] for entry in service.app.journal()][2:4] == [first, second]


@pytest.mark.parametrize(
    ("form", "kind", "length"), [("number", int, 19), ("short", str, 7), ("uuid", str, 36)]
)
def test_ids_have_each_form(form: str, kind: type, length: int) -> None:
    service = DirectZhipu(ids=form)
    ident = service.upload()["data"]["successInfos"][0]["documentId"]
    assert type(ident) is kind
    assert len(str(ident)) == length
    assert service.detail(str(ident))["id"] == service.list()["list"][0]["id"] == ident
    assert service.search("hello")[0]["metadata"]["doc_id"] == ident


@pytest.mark.parametrize(("skewed_ids", "shift"), [(True, 7200), (False, 0)])
def test_service_clock_may_be_hours_off(skewed_ids: bool, shift: int) -> None:
    service = DirectZhipu(clock_skew=7200, skewed_ids=skewed_ids)
    response = service.upload_response("a.txt", b"x")
    payload = json.loads(response.body)
    assert payload["timestamp"] == int((START + 7200) * 1000)
    assert parsedate_to_datetime(response.headers["date"]).timestamp() == int(START + 7200)
    assert created_ms(payload["data"]["successInfos"][0]["documentId"]) == int((START + shift) * 1000)


def test_unknown_fields_appear_at_all_levels() -> None:
    service = DirectZhipu(extra_fields=True)
    payload = service.upload()
    levels = [
        payload,
        payload["data"],
        payload["data"]["successInfos"][0],
        service.list(),
        service.list()["list"][0],
    ]
    hit = service.search("hello")[0]
    assert all("extension" in level for level in [*levels, hit, hit["metadata"]])


@pytest.mark.parametrize("form", ["missing", "null"])
def test_optional_fields_are_missing_or_null(form: str) -> None:
    service = DirectZhipu(sparse=form)
    service.put()
    payload = service.json("GET", "/document", knowledge_id=HOME_ID)
    item = payload["data"]["list"][0]
    optional = [payload.get("timestamp"), payload.get("message"), item.get("word_num"), item.get("url")]
    assert optional == [None] * 4
    assert ("timestamp" in payload, "word_num" in item) == (form == "null", form == "null")
    assert (item["name"], item["embedding_stat"], payload["code"]) == ("probe.txt", 1, 200)


@pytest.mark.parametrize(("form", "value"), [("absent", None), ("int", 500), ("string", "500")])
def test_sentence_size_accepts_each_type(form: str, value: Any) -> None:
    service = DirectZhipu(sentence_size=form)
    item = service.detail(service.put(knowledge_type="5", sentence_size="500"))
    assert item.get("sentence_size") == value


def base_answers(service: DirectZhipu, ident: str) -> list[Any]:
    search = {"query": "x", "knowledge_ids": [HOME_ID]}
    return [
        service.call("GET", f"/knowledge/{HOME_ID}"),
        service.call("GET", "/document", knowledge_id=HOME_ID),
        service.call("GET", f"/document/{ident}"),
        service.call("POST", "/knowledge/retrieve", search),
        service.upload_response("a.txt", b"x"),
    ]


@pytest.mark.parametrize("form", FORMS)
def test_deleted_base_fails_every_call_and_may_be_restored(form: str) -> None:
    service = DirectZhipu(deleted_base=form, deleted_detail=form)
    ident = service.put()
    service.app.set_behaviour({"base": "deleted"})
    for response in base_answers(service, ident):
        assert (response.status, json.loads(response.body)["code"]) == FORMS[form]
    assert service.json("GET", "/knowledge")["data"] == {"list": [], "total": 0}
    service.app.set_behaviour({"base": "present"})
    assert all(json.loads(response.body)["code"] == 200 for response in base_answers(service, ident))


@pytest.mark.parametrize("route", ["reembed", "reslice", "capacity", "retrieve", "url", "models"])
def test_optional_routes_may_be_missing(service: DirectZhipu, route: str) -> None:
    ident = service.put()
    calls = {
        "reembed": lambda: service.call("POST", f"/document/embedding/{ident}", {}),
        "reslice": lambda: service.call("PUT", f"/document/{ident}", {"knowledge_type": 1}),
        "capacity": lambda: service.call("GET", "/knowledge/capacity"),
        "retrieve": lambda: service.call(
            "POST", "/knowledge/retrieve", {"query": "x", "knowledge_ids": [HOME_ID]}
        ),
        "url": lambda: service.read(service.detail(ident)["url"]),
        "models": lambda: service.call("GET", "/embedding"),
    }
    assert [calls[name]().status for name in calls] == [200] * len(calls)
    service.app.set_behaviour({"not_offered": [route]})
    assert [calls[name]().status for name in calls] == [404 if name == route else 200 for name in calls]
    assert service.app.violations == []


def test_file_over_the_limit_is_refused_with_435() -> None:
    service = DirectZhipu(max_bytes=10)
    assert service.upload_response("a.txt", b"x" * 11).status == 435
    assert service.upload_response("a.txt", b"x" * 10).status == 200
    assert service.app.violations == []


@pytest.mark.parametrize(
    ("switches", "words"),
    [
        ({"speed": 1}, "no switch speed"),
        ({"offered": ["reembed"]}, "not_offered"),
        ({"money_gone": 1}, "true or false"),
        ({"money_gone": "yes"}, "true or false"),
        ({"list_lag": "15"}, "number of seconds"),
        ({"list_lag": -1}, "from 0 on"),
        ({"list_lag": float("nan")}, "list_lag"),
        ({"page_cap": 10.5}, "whole number"),
        ({"page_cap": True}, "whole number"),
        ({"order": "random"}, "newest, oldest, shuffled"),
        ({"deleted_detail": True}, "404, code, null"),
        ({"vectorize": [5]}, "pair of seconds"),
        ({"vectorize": [5, 1]}, "pair of seconds"),
        ({"vectorize": 5}, "pair of seconds"),
        ({"not_offered": ["delete"]}, "reembed, reslice"),
        ({"not_offered": "reembed"}, "reembed, reslice"),
    ],
)
def test_invalid_switches_are_refused_and_change_nothing(
    service: DirectZhipu, switches: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        service.app.set_behaviour({"page_cap": 50, **switches} if "page_cap" not in switches else switches)
    assert service.app.behaviour == ZhipuBehaviour()


def test_switches_round_trip_through_json() -> None:
    service = DirectZhipu(not_offered=["url", "reembed"], vectorize=(1, 2.5), clock_skew=-3600)
    written = json.loads(json.dumps(dataclasses.asdict(service.app.behaviour)))
    other = DirectZhipu()
    other.app.set_behaviour(written)
    assert other.app.behaviour == service.app.behaviour
    service.app.set_behaviour({"deleted_detail": 404, "deleted_base": None})
    assert (service.app.behaviour.deleted_detail, service.app.behaviour.deleted_base) == ("404", "null")
