"""Tests that the body of an upload's response decides about success and failure."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import httpx
import pytest

from kbsync.contract.target import Accepted, Capacity, PutOutcome
from kbsync.errors import Halted, NameTaken, Rejected, TargetError, Unavailable, Unsure
from kbsync.targets.zhipu.space import AccountSpace
from kbsync.targets.zhipu.target import ZhipuTarget
from tests.targets.zhipu.scripted import FIRST_ID, ScriptedService, document, failed, ok, row, stored, target

CAPACITY = {"used": {"length": 987_700_000}, "total": {"length": 1_000_000_000}}


async def put(service: ScriptedService, **changes: Any) -> PutOutcome:
    [outcome] = await target(service, **changes).put([document()])
    return outcome


def infos(succeeded: Any, refused: Any) -> dict[str, Any]:
    return ok({"successInfos": succeeded, "failedInfos": refused})


def good(name: Any = "guide.md", remote_id: Any = FIRST_ID) -> dict[str, Any]:
    return {"documentId": remote_id, "fileName": name, "url": "https://cdn.example/x?q-signature=abc"}


def bad(reason: Any, name: str = "guide.md") -> dict[str, Any]:
    return {"fileName": name, "failReason": reason}


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (infos([good()], None), Accepted(FIRST_ID)),
        (ok({"successInfos": [good()]}), Accepted(FIRST_ID)),
        (infos([good("guide(1).md")], []), Accepted(FIRST_ID, name="guide(1).md")),
        (infos([good(None)], []), Accepted(FIRST_ID)),
        (infos([good("other.md", "5"), good()], []), Accepted(FIRST_ID)),
        (infos([good()], [bad("不支持", "other.md")]), Accepted(FIRST_ID)),
    ],
)
async def test_single_success_counts_under_any_name(reply: Any, outcome: Accepted) -> None:
    assert await put(ScriptedService(upload=[reply])) == outcome


@pytest.mark.parametrize(
    "reply",
    [
        infos([], []),
        ok(None),
        ok({}),
        infos([good()], [bad("不支持")]),
        infos([good("mangled.md")], [bad("不支持", "x.md")]),
        infos([{"fileName": "guide.md"}], []),
        infos([good("a.md", "5"), good("b.md", "6")], []),
        failed(500, "内部错误"),
        {"data": {"successInfos": [good()]}},
        (200, "<html>busy</html>"),
        httpx.ReadTimeout("slow"),
    ],
)
async def test_possibly_stored_upload_is_unsure(reply: Any) -> None:
    service = ScriptedService(upload=[reply])
    assert type(await put(service)) is Unsure
    assert service.counts["upload"] == 1


@pytest.mark.parametrize(
    ("reason", "kind", "words"),
    [
        ("不支持的文档类型", Rejected, "format"),
        ("文档内容为空", Rejected, "文档内容为空"),
        (None, Rejected, "no reason"),
        ("空间不足", Halted, "limit"),
        ("知识库容量已达上限", Halted, "limit"),
        ("文件大小超出限制", Rejected, "文件大小超出限制"),
        ("文档名称已存在", NameTaken, "name"),
        ("文件重复", NameTaken, "name"),
        ("系统繁忙，请稍后再试", Unavailable, "busy"),
        ("知识库不存在", Rejected, "知识库不存在"),
    ],
)
@pytest.mark.parametrize("name", ["guide.md", "mangled.md"])
async def test_failed_file_is_classified_by_the_reason(
    reason: Any, kind: type[TargetError], words: str, name: str
) -> None:
    outcome = await put(ScriptedService(upload=[infos([], [bad(reason, name)])]))
    assert type(outcome) is kind
    assert outcome.code == "failedInfos"
    assert words in outcome.reason
    assert reason is None or reason in outcome.reason
    if isinstance(outcome, Halted):
        assert outcome.halt == "quota"


@pytest.mark.parametrize(("name", "reported_name"), [("quota 2026.md", "x.md"), ("x.md", "quota 2026.md")])
async def test_reason_containing_the_name_is_classified_by_its_other_words(
    name: str, reported_name: str
) -> None:
    service = ScriptedService(
        upload=[infos([], [bad("quota 2026 cannot be read: quota 2026.md", reported_name)])]
    )
    [outcome] = await target(service).put([document(name)])
    assert type(outcome) is Rejected


@pytest.mark.parametrize("reply", [404, failed(400, "知识库不存在"), (404, failed(404, "not found"))])
async def test_not_found_on_upload_checks_the_base_first(reply: Any) -> None:
    outcome = await put(ScriptedService(upload=[reply], base=[404]))
    assert isinstance(outcome, Halted)
    assert outcome.halt == "knowledge-base-missing"
    outcome = await put(ScriptedService(upload=[reply]))
    assert type(outcome) is Rejected
    assert "although the knowledge base exists" in outcome.reason
    assert isinstance(await put(ScriptedService(upload=[reply], base=[503])), Unavailable)


# ---- the account's capacity


async def test_document_exceeding_the_capacity_is_not_sent() -> None:
    service = ScriptedService(capacity=[ok(CAPACITY)])
    [outcome] = await target(service).put([document(text=b"x" * 15_000_000)])
    assert isinstance(outcome, Halted)
    assert outcome.halt == "quota"
    assert outcome.reason.startswith("the account has 12 MB left of 1.0 GB, but guide.md needs 15 MB; ")
    assert service.counts == {"capacity": 1}


async def test_account_without_words_halts_although_it_has_bytes_left() -> None:
    words = {"used": {"length": 5, "word_num": 1000}, "total": {"length": 10_000, "word_num": 1000}}
    service = ScriptedService(capacity=[ok(words)])
    [outcome] = await target(service).put([document()])
    assert isinstance(outcome, Halted) and outcome.halt == "quota"
    assert "used all of its 1,000 words" in outcome.reason
    assert service.counts == {"capacity": 1}
    refused = failed(99999, "知识库空间不足")
    with pytest.raises(Halted):
        await target(ScriptedService(capacity=[ok(words)], reembed=[refused])).reembed(FIRST_ID)


@pytest.mark.parametrize(("bytes_left", "error"), [(1, Rejected), (0, Halted)])
@pytest.mark.parametrize("op", ["reembed", "reslice"])
async def test_accepted_document_need_not_fit_again(op: str, bytes_left: int, error: type) -> None:
    """The account already counts this document of 128 bytes."""
    refused = failed(99999, "知识库空间不足")
    service = ScriptedService(capacity=room(1000 - bytes_left), detail=[ok(row())], **{op: [refused]})
    subject = target(service)
    with pytest.raises(error):
        await (subject.reembed(FIRST_ID) if op == "reembed" else subject.reslice(FIRST_ID, "a.md", {}))


@pytest.mark.parametrize(
    "reply",
    [
        *(404, 405, (503, ""), (200, "<html>")),
        *(failed(500), failed(1220, "无权访问"), failed(1302), failed(1113)),
        *(ok(None), ok({"used": {}, "total": {}}), ok({"total": {"length": 0}})),
    ],
)
async def test_uploads_continue_when_capacity_is_unknown(reply: Any) -> None:
    service = ScriptedService(capacity=[reply], upload=[stored()])
    subject = target(service)
    assert await subject.put([document()]) == [Accepted(FIRST_ID)]
    requests_before = service.counts["capacity"]
    assert await subject.put([document()]) == [Accepted(FIRST_ID)]
    assert service.counts["capacity"] == requests_before


def room(*used: int) -> list[Any]:
    """Return the service's successive responses about an account of 1,000 bytes."""
    return [ok({"used": {"length": length}, "total": {"length": 1000}}) for length in used]


async def outcome_type(subject: ZhipuTarget, size: int) -> type:
    [outcome] = await subject.put([document(text=b"x" * size)])
    return type(outcome)


NO = infos([], [bad("不支持")])


@pytest.mark.parametrize(
    ("used", "responses", "sizes", "outcomes"),
    [
        ([0], [stored()], [100] * 10, [Accepted] * 10),
        ([950, 990, 0], [stored()], [40] * 3, [Accepted, Halted, Accepted]),  # before any upload
        ([900, 900, 960], [NO, (502, ""), stored()], [60] * 3, [Rejected, Unsure, Halted]),
    ],
)
async def test_capacity_is_requested_again_only_for_a_document_that_may_not_fit(
    used: list[int], responses: list[Any], sizes: list[int], outcomes: list[type]
) -> None:
    service = ScriptedService(capacity=room(*used), upload=responses)
    subject = target(service)
    for size, outcome in zip(sizes, outcomes, strict=True):
        assert await outcome_type(subject, size) is outcome
    assert service.counts["capacity"] == len(used)


async def test_deleting_frees_capacity_immediately() -> None:
    subject = target(ScriptedService(capacity=room(990, 900), upload=[stored()], delete=[ok()]))
    assert await outcome_type(subject, 50) is Halted
    await subject.delete(["5"])
    assert await outcome_type(subject, 50) is Accepted


# ---- the service's capacity: a document counts there only when its upload has ended


class Account:
    """An account with 1000 bytes. As on the service, a document counts only when its upload has ended."""

    def __init__(self, used: int = 0) -> None:
        self.used, self.request_count = used, 0
        self.allowance = AccountSpace(self._capacity, lambda: 0.0)

    async def _capacity(self) -> Capacity:
        self.request_count += 1
        await asyncio.sleep(0)
        return Capacity(self.used, 1000)

    async def error_for(self, size: int) -> TargetError | None:
        try:
            await self.allowance.take("a.md", size)
        except TargetError as error:
            return error
        return None

    def store(self, size: int) -> None:
        self.used += size
        self.allowance.ended(size)


async def test_uploads_exceeding_the_capacity_together_do_not_all_start() -> None:
    account = Account(used=900)
    capacity = await asyncio.gather(*[account.error_for(40) for _ in range(5)])
    assert sum(error is None for error in capacity) == 2
    assert account.request_count == 1


async def test_upload_that_may_fit_later_waits_without_halting() -> None:
    account = Account(used=900)
    assert await account.error_for(60) is None
    waiting = await account.error_for(80)
    assert isinstance(waiting, Unavailable)
    assert waiting.untried
    assert waiting.reason.endswith("this document is waiting for the uploads in progress")
    assert isinstance(await account.error_for(101), Halted)
    account.allowance.ended(60)
    assert await account.error_for(80) is None


@pytest.mark.parametrize("seed", range(20))
async def test_uploads_never_exceed_the_capacity(seed: int) -> None:
    chance, account = random.Random(seed), Account(used=500)
    under_way: list[int] = []
    for _ in range(300):
        size = chance.randrange(1, 90)
        if await account.error_for(size) is None:
            under_way.append(size)
        assert account.used + sum(under_way) <= 1000
        if under_way and chance.random() < 0.4:
            ended = under_way.pop(chance.randrange(len(under_way)))
            if chance.random() < 0.5:
                account.store(ended)
            else:
                account.allowance.ended(ended)
