"""Tests status, deletion, the base, re-indexing, reading and searching with a scripted service."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from kbsync.contract.searching import Query
from kbsync.contract.target import Base, DocState
from kbsync.errors import Halted, NotOffered, Rejected, TargetError, Unavailable
from kbsync.targets.zhipu.config import ZhipuSearchConfig
from kbsync.targets.zhipu.errors import NotFound
from kbsync.targets.zhipu.shapes import USUAL
from kbsync.targets.zhipu.target import ZhipuTarget
from tests.clocks import NOW
from tests.targets.zhipu.scripted import (
    BASE,
    FIRST_ID,
    ScriptedService,
    by_id,
    failed,
    ok,
    operation,
    row,
    snowflake,
    target,
)

GONE = [
    404,
    (404, failed(404, "Not Found")),
    failed(400, "文档不存在"),
    failed(400, "document not found"),
    ok(None),
]
"""The forms of a response about a missing document."""


# ---- the base


async def test_base_is_identified_by_id_and_address() -> None:
    assert await target(ScriptedService()).base() == Base(BASE, 5, "https://open.bigmodel.cn/api")


async def test_id_in_the_envelope_of_a_base_is_ignored() -> None:
    """Gateways may add fields, such as the id of the request."""
    reply = ok({"id": BASE, "document_size": 5}, id="9f0c2d")
    assert (await target(ScriptedService(base=[reply])).base()).id == BASE


@pytest.mark.parametrize("reply", [*GONE, ok({}), 405, failed(400, "参数错误")])
async def test_missing_base_halts(reply: Any) -> None:
    with pytest.raises(Halted) as caught:
        await target(ScriptedService(base=[reply])).base()
    assert caught.value.halt == "knowledge-base-missing"
    assert BASE in caught.value.reason
    assert "knowledge_id" in caught.value.reason


# ---- status


async def test_single_document_is_polled_by_detail_and_several_by_a_page() -> None:
    rows = {"total": 2, "list": [row("1", 1), row("2", 0)]}
    service = ScriptedService(detail=[ok(row("1", 1))], list=[ok(rows)])
    subject = target(service)
    assert (await subject.status(["1", "1"]))["1"].state is DocState.READY
    assert service.counts == {"detail": 1}
    states = await subject.status(["1", "2"])
    assert {key: state.state for key, state in states.items()} == {
        "1": DocState.READY,
        "2": DocState.INDEXING,
    }
    assert service.counts == {"detail": 1, "list": 1}


async def test_documents_absent_from_the_pages_are_polled_by_detail_and_not_missing() -> None:
    ids = [snowflake(NOW - n) for n in range(10)]
    page = ok({"total": 7, "list": [row(document_id, 1) for document_id in ids[3:]]})
    details = {document_id: ok(row(document_id, 0)) for document_id in ids}
    service = ScriptedService(list=[page], detail=[by_id(details)])
    states = await target(service).status(ids)
    assert [states[document_id].state for document_id in ids[:3]] == [DocState.INDEXING] * 3
    assert service.counts == {"list": 1, "detail": 3}


@pytest.mark.parametrize("reply", GONE)
async def test_document_is_missing_only_when_the_base_answers(reply: Any) -> None:
    states = await target(ScriptedService(detail=[reply])).status(["5"])
    assert states["5"].state is DocState.MISSING
    with pytest.raises(Halted) as caught:
        await target(ScriptedService(detail=[reply], base=[404])).status(["5"])
    assert caught.value.halt == "knowledge-base-missing"
    with pytest.raises(Unavailable):
        await target(ScriptedService(detail=[reply], base=[503])).status(["5"])


async def test_base_is_checked_once_for_all_missing_documents() -> None:
    ids = [str(n) for n in range(20)]
    service = ScriptedService(list=[ok({"total": 0, "list": []})], detail=[404])
    await target(service).status(ids)
    assert service.counts["base"] == 1


async def test_unreadable_document_does_not_hide_the_others() -> None:
    empty = ok({"total": 0, "list": []})
    service = ScriptedService(list=[empty], detail=[by_id({"1": ok(row("1", 1)), "2": (503, "")})])
    states = await target(service).status(["1", "2", "3"])
    assert states["1"].state is DocState.READY
    assert states["2"].state is DocState.UNKNOWN
    assert states["2"].reason


@pytest.mark.parametrize(
    ("answered_id", "state"), [("2", DocState.UNKNOWN), (1, DocState.READY), (None, DocState.READY)]
)
async def test_detail_of_another_document_proves_nothing(answered_id: Any, state: DocState) -> None:
    """A cache may repeat a response; a missing id is that of the request."""
    service = ScriptedService(detail=[ok(row(answered_id, 1))], file=[(200, b"text")])
    assert (await target(service).status(["1"]))["1"].state is state
    assert (await target(service).digest("1") is None) == (state is DocState.UNKNOWN)


async def test_refused_list_falls_back_to_details() -> None:
    ids = ["1", "2", "3"]
    details = by_id({document_id: ok(row(document_id, 1)) for document_id in ids})
    service = ScriptedService(list=[failed(400, "参数错误")], detail=[details])
    states = await target(service).status(ids)
    assert [state.state.value for state in states.values()].count("ready") == 2
    with pytest.raises(Halted):
        await target(ScriptedService(list=[404], base=[404])).status(["1", "2", "3"])


# ---- deleting


async def test_delete_reports_each_document() -> None:
    service = ScriptedService(
        delete=[by_id({"1": ok(), "2": failed(1301, "x"), "3": 404, "4": failed(400, "文档不存在")})],
        detail=[404],
        list=[ok({"list": [], "total": 0})],
    )
    outcomes = dict(await target(service).delete(["1", "2", "3", "4", "1"]))
    assert type(outcomes.pop("2")) is Rejected
    assert outcomes == {"1": None, "3": None, "4": None}
    assert service.counts["delete"] == 4
    assert service.counts["base"] == 1


@pytest.mark.parametrize(("base", "kind"), [(404, Halted), ((503, ""), Unavailable)])
async def test_not_found_is_not_deleted_while_the_base_does_not_answer(base: Any, kind: type) -> None:
    outcomes = await target(ScriptedService(delete=[404], detail=[404], base=[base])).delete(["1", "2"])
    assert {type(outcome) for outcome in outcomes.values()} == {kind}


# ---- indexing again


@pytest.mark.parametrize("reply", [404, failed(404, "x")])
async def test_missing_document_is_not_mistaken_for_a_missing_call(reply: Any) -> None:
    service = ScriptedService(reembed=[reply], detail=[404])
    subject = target(service)
    for number in (1, 2):
        with pytest.raises(NotFound):
            await subject.reembed("5")
        assert service.counts["reembed"] == number
    with pytest.raises(Halted):
        await target(ScriptedService(reembed=[reply], detail=[404], base=[404])).reembed("5")


@pytest.mark.parametrize(("had", "requested"), [(0, True), (1, False), (None, True)])
async def test_reslicing_cannot_change_image_reading(had: Any, requested: bool) -> None:
    service = ScriptedService(reslice=[ok()], detail=[ok(row("5", parse_image=had))])
    subject = target(service)
    with pytest.raises(NotOffered, match="images"):
        await subject.reslice("5", "a.md", {"parse_image": requested})
    await subject.reslice("5", "a.md", {"parse_image": not requested})
    assert service.counts["reslice"] == 1


async def test_reslicing_a_missing_document_is_rejected() -> None:
    with pytest.raises(NotFound):
        await target(ScriptedService(detail=[404])).reslice("5", "a.md", {})
    with pytest.raises(Halted):
        await target(ScriptedService(detail=[404], base=[404])).reslice("5", "a.md", {})


# ---- reading


@pytest.mark.parametrize("file", [403, 404, (200, b"x" * 11)])
async def test_no_digest_without_the_bytes(file: Any) -> None:
    assert await target(ScriptedService(detail=[ok(row("5"))], file=[file]), max_bytes=10).digest("5") is None


async def test_unreachable_file_host_is_retried_later_and_its_address_stays_private() -> None:
    with pytest.raises(Unavailable) as caught:
        await target(ScriptedService(detail=[ok(row("5"))], file=[503])).digest("5")
    assert "q-signature" not in f"{caught.value!r}{caught.value.reason}"


# ---- searching


def passage(text: str, doc_id: Any = "1", score: Any = 0.5) -> dict[str, Any]:
    return {"id": "d", "text": text, "score": score, "medias": [], "metadata": {"doc_id": doc_id}}


async def test_passages_are_grouped_by_document_best_first() -> None:
    matching = [passage("a", "1", 0.5), passage("b", 2, 0.9), passage("c", "1", 0.7)]
    hits = await target(ScriptedService(retrieve=[ok(matching)])).search(Query("kestrel"))
    assert [(hit.remote_id, hit.score, [p.text for p in hit.passages]) for hit in hits] == [
        ("2", 0.9, ["b"]),
        ("1", 0.7, ["c", "a"]),
    ]
    assert all(hit.path is None for hit in hits)


@pytest.mark.parametrize("scores", [(None, None, None), (0.1, None, 0.9)])
async def test_order_counts_when_scores_are_incomplete(scores: tuple[Any, ...]) -> None:
    matching = [passage(text, text, score) for text, score in zip("xyz", scores, strict=True)]
    hits = await target(ScriptedService(retrieve=[ok(matching)])).search(Query("kestrel"))
    assert [hit.remote_id for hit in hits] == ["x", "y", "z"]
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


PLAIN = {"query": "kestrel", "knowledge_ids": [BASE], "top_k": 20, "top_n": 100, "recall_method": "mixed"}
REQUESTED = ZhipuSearchConfig(
    recall_method="keyword", recall_ratio=30, top_n=50, rerank_model="rerank-pro", fractional_threshold=0.25
)
REQUESTED_BODY = {"top_n": 50, "recall_method": "keyword", "recall_ratio": 30, "fractional_threshold": 0.25}
RANKED = {"document_ids": [FIRST_ID], "rerank_status": 1, "rerank_model": "rerank-pro"}


@pytest.mark.parametrize(
    ("search", "query", "more"),
    [
        (USUAL, Query("kestrel", top_k=3), {}),
        (REQUESTED, Query("kestrel", rerank=True, among=(FIRST_ID,)), REQUESTED_BODY | RANKED),
    ],
)
async def test_search_requests_all_available_hits_in_the_configured_mode(
    search: ZhipuSearchConfig, query: Query, more: dict[str, Any]
) -> None:
    service = ScriptedService(retrieve=[ok([])])
    await target(service, search=search).search(query)
    assert service.body("retrieve") == PLAIN | more


async def test_confirmation_search_uses_the_default_mode() -> None:
    bodies = []
    other = ZhipuSearchConfig(recall_method="keyword", top_n=1, fractional_threshold=0.99)
    for search in (USUAL, other):
        service = ScriptedService(retrieve=[ok([])])
        await target(service, search=search).is_searchable(FIRST_ID, "guides__bees~lci3lnjc.md")
        bodies.append(service.body("retrieve"))
    assert bodies[0] == bodies[1]
    assert (bodies[0]["recall_method"], bodies[0]["top_n"]) == ("mixed", 100)


@pytest.mark.parametrize(
    "reply",
    [
        (400, failed(1211, "模型不存在")),
        (429, {"error": {"code": "1113", "message": "余额不足"}}),
        (429, {"error": {"code": "1312", "message": "overloaded"}}),
        failed(400, "rerank_model"),
    ],
)
async def test_search_without_the_ranking_model_finds_the_same_and_notes_it(
    reply: Any, caplog: pytest.LogCaptureFixture
) -> None:
    service = ScriptedService(retrieve=[refusing_to_rank(reply)])
    (hit,) = await target(service).search(Query("kestrel", rerank=True))
    assert hit.remote_id == FIRST_ID
    assert "rerank_status" not in service.body("retrieve")
    (record,) = caplog.records
    assert "without its ranking model: " in record.message


@pytest.mark.parametrize("rerank", [True, False])
async def test_search_failing_without_ranking_too_has_failed(
    rerank: bool, caplog: pytest.LogCaptureFixture
) -> None:
    service = ScriptedService(retrieve=[(429, {"error": {"code": "1113", "message": "余额不足"}})])
    with pytest.raises(Halted):
        await target(service).search(Query("kestrel", rerank=rerank))
    assert (service.counts["retrieve"], caplog.records) == (2 if rerank else 1, [])


@pytest.mark.parametrize("reply", [(401, failed(1002, "token invalid")), 503])
async def test_other_failures_are_not_retried_without_ranking(reply: Any) -> None:
    service = ScriptedService(retrieve=[reply])
    with pytest.raises(TargetError):
        await target(service).search(Query("kestrel", rerank=True))
    assert all(
        b"rerank_status" in request.content
        for request in service.requests
        if operation(request) == "retrieve"
    )


def refusing_to_rank(reply: Any) -> Callable[[httpx.Request], Any]:
    """Return `reply` to a search with the ranking model, and a passage to one without."""
    return lambda request: reply if b"rerank_status" in request.content else ok([passage("a", FIRST_ID)])


@pytest.mark.parametrize(
    ("query", "count"), [(Query("x", top_k=2), 2), (Query("x", top_k=2, paths=("docs/",)), 5)]
)
async def test_results_filtered_later_are_not_limited_before(query: Query, count: int) -> None:
    service = ScriptedService(retrieve=[ok([passage("a", str(n)) for n in range(5)])])
    assert len(await target(service).search(query)) == count


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  kestrel ", "kestrel"),
        ("x" * 1000 + " y", "x" * 1000),
        ("词" * 1001, "词" * 1000),
    ],
)
async def test_rest_of_a_long_query_is_dropped(text: str, expected: str) -> None:
    service = ScriptedService(retrieve=[ok([])])
    await target(service).search(Query(text))
    assert service.body("retrieve")["query"] == expected


async def test_empty_query_is_not_sent() -> None:
    service = ScriptedService()
    assert list(await target(service).search(Query("  \n"))) == []
    assert not service.requests


@pytest.mark.parametrize(
    ("passages", "expected"),
    [([passage("a")], True), ([passage("a", "2")], False), ([], False), (None, False)],
)
async def test_document_is_searchable_when_a_search_in_it_finds_it(passages: Any, expected: bool) -> None:
    service = ScriptedService(retrieve=[ok(passages)])
    assert await target(service).is_searchable("1", "guides__first steps~abcdefgh.md") is expected
    body = service.body("retrieve")
    assert (body["query"], body["document_ids"], body["top_k"]) == ("guides first steps", ["1"], 1)


@pytest.mark.parametrize(
    ("name", "query"),
    [
        ("a.md", "a"),
        ("手册__退款~abcdefgh-2.md", "手册 退款"),
        ("why~3F__when~abcdefgh.md", "why when"),
        ("!~abcdefgh.md", "document"),
    ],
)
async def test_name_words_are_used_for_the_confirmation_search(name: str, query: str) -> None:
    service = ScriptedService(retrieve=[ok([])])
    await target(service).is_searchable("1", name)
    assert service.body("retrieve")["query"] == query


# ---- errors of all calls


CALLS: dict[str, Callable[[ZhipuTarget], Awaitable[object]]] = {
    "base": lambda subject: subject.base(),
    "detail": lambda subject: subject.status([FIRST_ID]),
    "list": lambda subject: anext(subject.list()),
    "retrieve": lambda subject: subject.search(Query("x")),
    "reslice": lambda subject: subject.reslice(FIRST_ID, "a.md", {}),
}


@pytest.mark.parametrize("op", CALLS)
async def test_repeatable_calls_are_never_unsure(op: str) -> None:
    service = ScriptedService(detail=[ok(row())])
    service.replies[op] = [(200, "<html>")]
    with pytest.raises(Unavailable):
        await CALLS[op](target(service))
