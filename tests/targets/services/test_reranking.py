"""Tests rankings from a service, in all documented shapes."""

from __future__ import annotations

import pytest

from kbsync.errors import Halted, Unavailable
from kbsync.targets.services import clients
from kbsync.targets.services.config import Service
from kbsync_standin.server import Server
from tests.targets.services.service import DIALECTS, play, reranking

QUESTION = "bees make honey"
TEXTS = ["tax return form", "bees", "bees make honey", "honey bees", "nothing"]
SAME = [2, 3, 1, 0, 4]
"""The order of most responses, best first."""


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_every_dialect_ranks_the_best_first(server: Server, dialect: Service) -> None:
    async with reranking(server, dialect) as service:
        order = await service.order(QUESTION, TEXTS)
    assert [index for index, _ in order] == SAME
    assert order[0][1] > order[1][1] > order[2][1] > order[3][1] == order[4][1]
    assert server.app.violations == []


SHAPES = {
    **dict.fromkeys(("bare", "data", "results", "score", "unsorted"), SAME),
    **dict.fromkeys(("index-text", "index-twice", "index-beyond", "echo-null", "logits"), SAME),
    "fewer": [2, 0, 1, 3, 4],  # missing texts keep their order at the end
    "ties": [0, 1, 2, 3, 4],
}


@pytest.mark.parametrize("kind", SHAPES)
async def test_every_response_shape_is_an_order_of_all_texts(server: Server, kind: str) -> None:
    play(server, kind)
    async with reranking(server) as service:
        order = await service.order(QUESTION, TEXTS)
    assert [index for index, _ in order] == SHAPES[kind]


async def test_silent_service_is_not_waited_for(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "SEARCH_TIMEOUT", 0.1)
    play(server, "hang", times=0)
    async with reranking(server) as service:
        with pytest.raises(Unavailable, match=r"did not answer within 0\.1 s"):
            await service.order(QUESTION, TEXTS)


async def test_texts_beyond_one_request_keep_their_order_at_the_end(server: Server) -> None:
    texts = [f"nothing {n}" for n in range(40)]
    texts[31], texts[35] = "bees make honey", "bees make honey"
    async with reranking(server, "tei") as service:
        order = await service.order(QUESTION, texts)
    assert [index for index, _ in order][:2] == [31, 0]
    assert sorted(index for index, _ in order) == list(range(40))
    assert [index for index, _ in order][-8:] == list(range(32, 40))
    assert server.app.violations == []


async def test_text_longer_than_the_service_accepts_is_truncated(server: Server) -> None:
    async with reranking(server, "zhipu") as service:
        order = await service.order("bees " * 2000, ["bees " * 5000, "tax"])
    assert [index for index, _ in order] == [0, 1]
    assert server.app.violations == []


async def test_no_request_is_made_for_no_texts(server: Server) -> None:
    async with reranking(server) as service:
        assert await service.order(QUESTION, []) == []
    assert server.requests.by_op == {}


async def test_service_without_the_route_says_where_to_look(server: Server) -> None:
    play(server, "not-found", times=0)
    async with reranking(server) as service:
        with pytest.raises(Halted) as halted:
            await service.order(QUESTION, TEXTS)
    assert (halted.value.halt, "rerank.base_url" in halted.value.fix) == ("rerank-missing", True)


async def test_response_without_any_of_the_texts_is_rejected(server: Server) -> None:
    play(server, "one-too-few")
    async with reranking(server) as service:
        with pytest.raises(Unavailable, match="none of the texts"):
            await service.order(QUESTION, ["bees"])
