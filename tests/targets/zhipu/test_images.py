"""Tests pictures in passages: few requests, and a search never fails because of them."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from kbsync.accounts.zhipu_answers import sources_of
from kbsync.contract.searching import Hit, Image, Passage
from kbsync.targets.zhipu import target as module
from tests.targets.zhipu.scripted import FIRST_ID, ScriptedService, by_id, failed, ok, target

FIRST, SECOND = "【示意图序号_1829473032620613632_103】", "【示意图序号_1829473032620613632_104】"
OTHER_ID = "2108605032223117313"
URL = "https://cdn.example/1.png?q-signature=abc"


def hit(*texts: str, remote_id: str = FIRST_ID) -> Hit:
    return Hit(remote_id, 0.5, tuple(Passage(text, score=0.5) for text in texts))


def pictures(**named: str) -> dict[str, Any]:
    result = {FIRST: named.get("first"), SECOND: named.get("second")}
    return ok({"images": [{"text": text, "cos_url": url} for text, url in result.items() if url]})


async def images_of(service: ScriptedService, *hits: Hit) -> list[list[tuple[Image, ...]]]:
    zhipu = target(service)
    illustrated = await zhipu.illustrated(hits)
    assert [shown_hit.remote_id for shown_hit in illustrated] == [plain_hit.remote_id for plain_hit in hits]
    assert [[p.text for p in shown_hit.passages] for shown_hit in illustrated] == [
        [p.text for p in plain_hit.passages] for plain_hit in hits
    ]
    return [[passage.images for passage in shown_hit.passages] for shown_hit in illustrated]


async def test_passage_has_its_referenced_images_in_order() -> None:
    service = ScriptedService(images=[pictures(first=URL, second=f"{URL}2")])
    illustrated_hits = await images_of(
        service, hit(f"see {SECOND} and {FIRST}, {FIRST}", "no picture here", FIRST)
    )
    assert illustrated_hits == [[(Image(SECOND, f"{URL}2"), Image(FIRST, URL)), (), (Image(FIRST, URL),)]]


@pytest.mark.parametrize(
    "reply",
    [
        404,
        503,
        (401, failed(1002)),
        ok(None),
        ok({"images": None}),
        ok({"images": [None, 7, {"text": FIRST}, {"text": FIRST, "cos_url": "javascript:alert(1)"}]}),
        httpx.ReadTimeout("slow"),
    ],
    ids=str,
)
async def test_image_failure_affects_only_its_document(reply: Any) -> None:
    replies = {FIRST_ID: pictures(first=URL), OTHER_ID: reply}
    illustrated_hits = await images_of(
        ScriptedService(images=[by_id(replies)]), hit(FIRST), hit(FIRST, remote_id=OTHER_ID)
    )
    assert illustrated_hits == [[(Image(FIRST, URL),)], [()]]


async def test_late_images_are_omitted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other images are shown; nothing waits longer than the common limit."""
    monkeypatch.setattr(module, "PICTURES_WITHIN", 0.0)
    never = asyncio.Event()

    class Silent(ScriptedService):
        async def __call__(self, request: httpx.Request) -> httpx.Response:
            if OTHER_ID in request.url.path:
                await never.wait()
            return await super().__call__(request)

    silent = hit(FIRST, remote_id=OTHER_ID)
    assert await images_of(Silent(images=[pictures(first=URL)]), silent, silent) == [[()], [()]]


async def test_image_requests_are_limited_in_number_and_concurrent() -> None:
    under_way, most, gate = 0, 0, asyncio.Event()

    class Counting(ScriptedService):
        async def __call__(self, request: httpx.Request) -> httpx.Response:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            if under_way == 2:
                gate.set()
            await gate.wait()
            under_way -= 1
            return await super().__call__(request)

    service = Counting(images=[pictures(first=URL)])
    many = [hit(FIRST, remote_id=str(int(FIRST_ID) + number)) for number in range(30)]
    illustrated_hits = await target(service, concurrency=2).illustrated(many)
    assert service.counts["images"] == module.MAX_DOCUMENTS
    assert most == 2
    assert sum(bool(shown_hit.passages[0].images) for shown_hit in illustrated_hits) == module.MAX_DOCUMENTS


@pytest.mark.parametrize("location", ["slice", "document", "top"])
def test_answer_slices_include_their_images_wherever_listed(location: str) -> None:
    listed = [{"text": FIRST, "cos_url": URL}]
    piece = {"text": f"as in {FIRST}", **({"images": listed} if location == "slice" else {})}
    document = {"document": {"id": FIRST_ID}, "slice_info": [piece]}
    document |= {"images": listed} if location == "document" else {}
    body = ok({"document_slices": [document], **({"images": listed} if location == "top" else {})})
    hits = sources_of(body)
    assert hits is not None
    assert hits[0].passages[0].images == (Image(FIRST, URL),)
