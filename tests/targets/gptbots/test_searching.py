"""Tests searches: their requests, ranking, and a failing ranking model."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from kbsync.contract.searching import Query
from kbsync.targets.gptbots.config import GptbotsSearchConfig, GptbotsTargetConfig
from kbsync.targets.gptbots.target import GptbotsTarget
from tests.services.gptbots import GptbotsWorld
from tests.targets.blocks import block, target_context

PLAIN = {"prompt": "red kestrel", "top_k": 50, "group_ids": ["b"]}
RANKED, FOUND = Query("red kestrel", rerank=True), Query("red kestrel")


def unreachable_config(**settings: Any) -> GptbotsTargetConfig:
    access = {"base_url": "https://example.invalid", "api_key": "key", "knowledge_base_id": "b"}
    return block(GptbotsTargetConfig, **access, **settings)


async def request_bodies(search_settings: GptbotsSearchConfig, query: Query) -> list[dict[str, Any]]:
    """Return the bodies of a search's requests."""
    bodies: list[dict[str, Any]] = []

    def respond(request: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(request.content))
        return httpx.Response(200, json={"total": 0, "list": []})

    target = GptbotsTarget(
        unreachable_config(search=search_settings), target_context(), transport=httpx.MockTransport(respond)
    )
    assert await target.search(query) == []
    await target.aclose()
    return bodies


@pytest.mark.parametrize(
    ("search_settings", "query", "more"),
    [
        (GptbotsSearchConfig(), FOUND, {}),
        (GptbotsSearchConfig(), RANKED, {"rerank_version": "BGE-Rerank"}),
        (GptbotsSearchConfig(0.0, 0.5), FOUND, {"embedding_rate": 0.0, "doc_correlation": 0.5}),
        (GptbotsSearchConfig(rerank_version="BCE-Rerank"), FOUND, {"rerank_version": "BCE-Rerank"}),
        (GptbotsSearchConfig(rerank_version="BCE-Rerank"), RANKED, {"rerank_version": "BCE-Rerank"}),
    ],
)
async def test_search_request_contains_only_what_config_and_query_ask_for(
    search_settings: GptbotsSearchConfig, query: Query, more: dict[str, Any]
) -> None:
    assert await request_bodies(search_settings, query) == [PLAIN | more]


@pytest.fixture
async def world(world: GptbotsWorld) -> GptbotsWorld:
    world.write("long.md", "red kestrel and many a word that nobody asked for")
    world.write("short.md", "kestrel")
    await world.once()
    world.server.requests.clear()
    return world


async def search(world: GptbotsWorld, query: Query, **search_settings: Any) -> list[str]:
    """Return the names of the hits, best first."""
    world.target_settings["search"] = GptbotsSearchConfig(**search_settings)
    names = {document["id"]: document["name"] for document in world.documents()}
    async with world.client() as target:
        return [names[hit.remote_id] for hit in await target.search(query)]


async def test_ranking_model_is_used_on_request_or_always(world: GptbotsWorld) -> None:
    assert await search(world, FOUND) == ["long.md", "short.md"]
    assert await search(world, RANKED) == ["short.md", "long.md"]
    assert await search(world, FOUND, rerank_version="Jina-colbert-v2") == ["short.md", "long.md"]
    assert await search(world, FOUND, doc_correlation=0.6) == ["long.md"]


async def test_search_works_where_the_older_limit_of_ten_passages_applies(world: GptbotsWorld) -> None:
    """Two pages of the documentation give different limits of `top_k`."""
    world.turn(most_passages=10)
    assert await search(world, FOUND) == ["long.md", "short.md"]
    assert await search(world, RANKED) == ["short.md", "long.md"]
    async with world.client() as target:
        world.server.requests.clear()
        for _ in range(2):
            assert len(await target.search(FOUND)) == 2
    assert world.request_count("match") == 3, "the limit is learned once"


def code(number: int, message: str = "") -> Callable[[GptbotsWorld], None]:
    return lambda world: world.play(
        "code", op="match", match="*Rerank*", times=0, args={"code": number, "message": message}
    )


@pytest.mark.parametrize(
    "fault",
    [code(40000, "rerank_version"), code(40400, "insufficient credits"), code(50000), code(40332)],
    ids=["refused", "money", "error", "too-many"],
)
@pytest.mark.parametrize("always", [True, False])
async def test_search_without_the_ranking_model_finds_the_same_and_notes_it(
    world: GptbotsWorld, fault: Callable[[GptbotsWorld], None], always: bool, caplog: pytest.LogCaptureFixture
) -> None:
    fault(world)
    request = {"rerank_version": "BCE-Rerank"} if always else {}
    assert await search(world, FOUND if always else RANKED, **request) == ["long.md", "short.md"]
    [line] = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "without its ranking model" in line.message
