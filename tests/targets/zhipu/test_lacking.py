"""Tests calls that an installation lacks: only these are tried once an hour, and one 404 proves nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kbsync.contract.searching import Hit, Passage, Query
from kbsync.contract.target import Outgoing
from kbsync.errors import Halted, NotOffered, TargetError, Unfit
from kbsync.targets.http.limits import Account
from kbsync.targets.zhipu.target import ZhipuTarget
from tests.clocks import Clock
from tests.targets.zhipu.scripted import FIRST_ID, ScriptedService, document, failed, ok, row, target


def link_document() -> Outgoing:
    return document("0.url", b"[InternetShortcut]\nURL=https://x.example/0\n")


async def pace() -> None:
    await asyncio.sleep(0)


async def test_missing_search_call_confirms_nothing() -> None:
    service = ScriptedService(retrieve=[failed(1222)])
    subject = target(service)
    for _ in range(2):
        with pytest.raises(NotOffered, match="doesn't support searches"):
            await subject.is_searchable(FIRST_ID, "a.md")
    assert service.counts["retrieve"] == 1


async def test_html_page_is_tolerated_until_the_call_is_known_to_be_missing() -> None:
    clock, service = Clock(), ScriptedService(upload_url=[404])
    subject = target(service, clock)
    for may_pass in (True, False, False):
        [outcome] = await subject.put([link_document()])
        assert isinstance(outcome, Unfit)
        assert outcome.may_pass is may_pass
        clock.now += 60.0
    assert "accept URLs here" in str(outcome)
    assert service.counts["upload_url"] == 2


@pytest.mark.parametrize("reply", [failed(400, "知识不存在"), (404, failed(404, "知识不存在"))], ids=str)
async def test_message_about_a_document_does_not_disable_the_search(reply: Any) -> None:
    service = ScriptedService(retrieve=[reply, reply, ok([])])
    subject = target(service)
    assert not await subject.is_searchable(FIRST_ID, "a.md")
    with pytest.raises(NotOffered):
        await subject.search(Query("kestrel", among=(FIRST_ID,)))
    assert list(await subject.search(Query("kestrel"))) == []


async def test_missing_base_is_not_a_missing_call() -> None:
    service = ScriptedService(retrieve=[404, ok([])], base=[404, ok({"id": "1"})])
    subject = target(service)
    with pytest.raises(Halted):
        await subject.search(Query("kestrel"))
    assert list(await subject.search(Query("kestrel"))) == []


async def test_missing_ranking_model_does_not_disable_the_search() -> None:
    service = ScriptedService(
        retrieve=[lambda request: failed(1220) if b"rerank_status" in request.content else ok([])]
    )
    subject = target(service)
    for _ in range(2):
        assert list(await subject.search(Query("kestrel", rerank=True))) == []
    assert list(await subject.search(Query("kestrel"))) == []
    assert service.counts["retrieve"] == 5


def hit_with_image(number: int) -> Hit:
    return Hit(str(number), 0.5, (Passage(f"see 【示意图序号_{number}】"),))


@pytest.mark.parametrize(
    ("reply", "hit_count", "request_count"),
    [
        (405, 1, 2),
        (failed(1222), 1, 1),
        (404, 3, 4),
        (404, 1, 2),
        (failed(400, "知识不存在"), 3, 6),
        (failed(1113), 1, 2),
    ],
    ids=str,
)
async def test_pictures_are_not_requested_where_unsupported(
    reply: Any, hit_count: int, request_count: int
) -> None:
    clock, service = Clock(), ScriptedService(images=[reply])
    subject = target(service, clock)
    hits = [hit_with_image(number) for number in range(hit_count)]
    for _ in range(2):
        assert list(await subject.illustrated(hits)) == hits
        clock.now += 60.0
    assert service.counts["images"] == request_count
    if reply == 404:
        await subject.illustrated(hits)
        assert service.counts["images"] == request_count  # twice, a minute apart
    clock.now += 3600
    await subject.illustrated(hits)
    assert service.counts["images"] > request_count


@pytest.mark.parametrize("reply", [404, (404, failed(404, "Not Found"))], ids=str)
async def test_missing_reembed_call_is_not_a_missing_document(reply: Any) -> None:
    """The detail shows the document; a second 404 some time later proves that the call is missing."""
    clock, service = Clock(), ScriptedService(reembed=[reply], detail=[ok(row())])
    subject = target(service, clock)
    for _ in range(3):
        with pytest.raises(NotOffered, match="doesn't support this call"):
            await subject.reembed(FIRST_ID)
        clock.now += 180.0
    assert service.counts["reembed"] == 2


async def fail_reembed(subject: ZhipuTarget) -> None:
    try:
        await subject.reembed(FIRST_ID)
    except TargetError:
        return
    raise AssertionError


async def test_missing_calls_are_shared_by_all_mirrors_of_the_account() -> None:
    clock = Clock()
    account = Account(clock)
    service = ScriptedService(reembed=[405], upload=[503], detail=[ok(row())])
    first, second = (target(service, clock, account, mirror=name) for name in "ab")
    other = target(service, clock)
    for _ in range(2):
        await fail_reembed(first)
        await first.put([document()])
        clock.now += 180.0
    for subject in (first, second, first.unhurried(pace), second):
        await fail_reembed(subject)
        await subject.put([document()])
    assert (service.counts["reembed"], service.counts["capacity"]) == (2, 2)
    await fail_reembed(other)
    assert service.counts["reembed"] == 3
