"""Tests everything that is read without requests: ids, states, words, sizes, clocks and responses."""

from __future__ import annotations

from typing import Any

import pytest

from kbsync.contract.searching import Passage
from kbsync.contract.target import Accepted, DocState
from kbsync.targets.http.reading import id_of, path_part
from kbsync.targets.zhipu.shapes import capacity_of, created_of, document_of, found_of, number_of, page_of
from tests.clocks import NOW
from tests.targets.zhipu.scripted import (
    BASE,
    FIRST_ID,
    ScriptedService,
    document,
    ok,
    row,
    snowflake,
    stored,
    target,
)


def test_id_reveals_its_creation_time() -> None:
    """This upload's response came at 1791565590351 ms by the service's own clock."""
    created_at = created_of("2108605032223117312")
    assert created_at is not None
    assert 0.0 <= 1_791_565_590.351 - created_at <= 0.107
    assert created_of(snowflake(NOW)) == NOW


@pytest.mark.parametrize(
    "other", ["", "12345", "x" * 19, "6578-aa", "9" * 25, "²108605032223117312", "-2108605032223117312"]
)
def test_ids_of_another_shape_reveal_no_time(other: str) -> None:
    assert created_of(other) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (2108605032223117312, "2108605032223117312"),
        (" 21 ", "21"),
        ("", None),
        (None, None),
        (True, None),
        (2.1e18, None),
        ([], None),
    ],
)
def test_ids_are_strings_whatever_their_json_type(value: object, expected: str | None) -> None:
    assert id_of(value) == expected


def test_id_is_sent_as_a_number_in_bodies_where_possible() -> None:
    assert [number_of(ident) for ident in ("17", "6578-aa", "9" * 5000)] == [17, "6578-aa", "9" * 5000]


def test_ids_cannot_escape_their_path_segment() -> None:
    assert path_part("../a b?c") == "..%2Fa%20b%3Fc"


@pytest.mark.parametrize(
    ("stat", "state"),
    [
        (0, DocState.INDEXING),
        (1, DocState.READY),
        (2, DocState.FAILED),
        ("1", DocState.UNKNOWN),
        (1.0, DocState.UNKNOWN),
        (True, DocState.UNKNOWN),
        (None, DocState.UNKNOWN),
        (3, DocState.UNKNOWN),
    ],
)
def test_only_a_documented_integer_status_counts(stat: Any, state: DocState) -> None:
    document = document_of(ok(row(stat=stat)), FIRST_ID)
    assert document is not None
    assert document.status.state is state


@pytest.mark.parametrize("stat", [0, 1, "2", None])
def test_earlier_failure_means_nothing_without_status_2(stat: Any) -> None:
    info = {"embedding_code": 10002, "embedding_msg": "知识库空间已满"}
    document = document_of(ok(row(stat=stat, failInfo=info)), FIRST_ID)
    assert document is not None
    status = document.status
    assert (status.reason, status.code, status.halt) == ("", "", "")


FAILURES: list[tuple[str, Any, str, str]] = [
    ("a.md", 10001, "知识不可用，文档损坏", ""),
    ("a.md", 10001, "知识不可用，知识库空间已满", "quota"),
    ("a.md", "10001", "知识库容量已达上限", "quota"),
    ("a.md", 10002, "知识不可用，知识库空间已满", "quota"),
    ("a.md", 10002, "字数超出限制", "quota"),
    ("a.md", 10001, "账户余额不足", "quota"),
    ("a.md", 10001, "文件大小超出限制", ""),
    ("a.md", 10001, "页数超出上限", ""),
    ("a.md", 10001, "the file name exceeds the length limit of the storage", ""),
    ("a.md", 10001, "剩余空间小于文件大小", "quota"),
    ("a.md", 10001, "balance exhausted", "quota"),
    ("a.md", 10001, "", ""),
    ("a.md", 10002, "", "quota"),
    ("a.md", None, "", ""),
    ("a.md", 0, "unknown", ""),
    ("余额表.xlsx", 10001, "文件余额表.xlsx损坏", ""),
    ("余额表.xlsx", 10001, "文件余额表损坏", ""),
    ("my balance.pdf", 10001, "my balance.pdf failed", ""),
    ("full report.pdf", 10001, "full report could not be embedded", ""),
    ("余额.xlsx", 10001, "账户余额不足", "quota"),
    ("格式说明.pdf", 10001, "格式说明.pdf: 容量已达上限", "quota"),
]


@pytest.mark.parametrize(("name", "code", "text", "halt"), FAILURES)
def test_message_text_decides_whether_account_or_document_is_blamed(
    name: str, code: Any, text: str, halt: str
) -> None:
    info = {"embedding_code": code, "embedding_msg": text}
    document = document_of(ok(row(name=name, stat=2, failInfo=info)), FIRST_ID)
    assert document is not None
    status = document.status
    assert (status.state, status.halt) == (DocState.FAILED, halt)
    assert status.reason
    assert text in status.reason
    assert status.code == ("" if code is None else str(code))


@pytest.mark.parametrize("info", [None, [], "文档损坏", {}, {"embedding_msg": None}])
def test_failure_without_a_reason_says_so(info: Any) -> None:
    document = document_of(ok(row(stat=2, failInfo=info)), FIRST_ID)
    assert document is not None
    assert document.status.reason == "the service gives no reason"


@pytest.mark.parametrize(
    ("data", "ids", "total", "is_null"),
    [
        ({"total": 1, "list": [row("5")]}, ["5"], 1, False),
        ({"total": "1", "list": [row("5")]}, ["5"], 1, False),
        ({"total": 0, "list": []}, [], 0, False),
        ({"total": 0, "list": None}, [], 0, True),
        ({"total": 0}, [], 0, True),
        ({"list": [None, 3, {"name": "x"}, row(77)]}, ["77"], None, False),
        ({"total": 1.5, "list": []}, [], None, False),
        (None, [], None, True),
        ([row("5")], ["5"], None, False),
    ],
)
def test_page_is_parsed_in_all_its_shapes(data: Any, ids: list[str], total: Any, is_null: bool) -> None:
    page = page_of(ok(data))
    assert ([listed.id for listed in page.rows], page.total, page.is_null) == (ids, total, is_null)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"used": {"length": 2000}, "total": {"length": 200_000_000}}, (2000, 200_000_000)),
        ({"used": {"length": "2000"}, "total": {"length": "5000"}}, (2000, 5000)),
        ({"used": {"length": 0}, "total": {"length": 0}}, None),
        ({"used": {}, "total": {"length": 5}}, None),
        ({"used": {"length": 5}, "total": {"length": -1}}, None),
        ({"used": {"length": -1}, "total": {"length": 5}}, None),
        ({"used": None, "total": None}, None),
        (None, None),
    ],
)
def test_capacity_is_unknown_unless_both_numbers_are_present(data: Any, expected: Any) -> None:
    capacity = capacity_of(ok(data))
    assert (None if capacity is None else (capacity.used, capacity.total)) == expected


async def test_negative_number_of_words_halts_no_mirror() -> None:
    sizes = {"used": {"length": 5, "word_num": 7}, "total": {"length": 10_000, "word_num": -1}}
    service = ScriptedService(capacity=[ok(sizes)], upload=[stored()])
    [outcome] = await target(service).put([document()])
    assert isinstance(outcome, Accepted)


@pytest.mark.parametrize(
    ("length", "size"), [(128, 128), ("128", 128), (-1, None), (2**63, None), (1.5, None)]
)
def test_size_of_a_document_is_a_number_that_the_state_can_hold(length: Any, size: int | None) -> None:
    assert page_of(ok([row("5", length=length)])).rows[0].size == size


@pytest.mark.parametrize(
    ("count", "documents"), [(7, 7), (0, 0), ("7", None), (7.0, None), (None, None), (True, None), (-1, None)]
)
async def test_document_count_of_a_base_must_be_an_integer(count: Any, documents: int | None) -> None:
    result = await target(ScriptedService(base=[ok({"id": BASE, "document_size": count})])).base()
    assert result.documents == documents


def test_passages_are_parsed_with_missing_fields() -> None:
    data = [
        {"text": "a", "score": 0.5, "metadata": {"doc_id": 5}},
        {"text": "b", "score": "high", "metadata": {}},
        {"text": "c", "score": 10**400},
        {"text": "", "score": 1},
        {"score": 1},
        None,
    ]
    assert found_of(ok(data)) == (("5", Passage("a", score=0.5)),)
