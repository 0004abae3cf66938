"""Tests that a gateway which lacks a service's calls proves nothing about documents (promise 1)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import pytest

from kbsync.contract.target import DocState
from kbsync.errors import Unavailable
from kbsync.targets.dify.target import DifyTarget
from kbsync.targets.gptbots.target import GptbotsTarget
from kbsync.targets.http.target import ServiceTarget
from kbsync.targets.lightrag.target import LightragTarget
from kbsync.targets.openai.target import OpenaiTarget
from kbsync.targets.openwebui.target import OpenWebuiTarget
from kbsync.targets.ragflow.target import RagflowTarget
from kbsync.targets.registry import TARGETS
from kbsync.targets.zhipu.target import ROOT, ZhipuTarget
from tests.targets.blocks import block, target_context

BASE = {"id": "b1", "name": "guides", "document_count": 8}
STORE = {"id": "b1", "file_counts": {"total": 8}}
BASES: Mapping[str, tuple[type[ServiceTarget[Any]], str, str, Any]] = {
    "dify": (DifyTarget, "dataset_id", "/datasets/b1", BASE),
    "gptbots": (
        GptbotsTarget,
        "knowledge_base_id",
        "/v1/bot/knowledge/base/page",
        {"knowledge_base": [{"id": "b1", "doc": 8}]},
    ),
    "lightrag": (LightragTarget, "", "/documents/status_counts", {"status_counts": {"all": 8}}),
    "openai": (
        OpenaiTarget,
        "vector_store_id",
        "/vector_stores/b1",
        {"id": "b1", "file_counts": {"total": 8}},
    ),
    "openwebui": (OpenWebuiTarget, "knowledge_id", "/api/v1/knowledge/b1", BASE),
    "ragflow": (RagflowTarget, "dataset_id", "/api/v1/datasets", {"code": 0, "data": [BASE]}),
    "zhipu": (ZhipuTarget, "knowledge_id", f"{ROOT}/knowledge/b1", {"code": 200, "data": BASE}),
}
"""For each service: its target, the setting with the base's id, and the call for the base."""


@pytest.fixture(params=BASES)
async def target(request: pytest.FixtureRequest) -> AsyncIterator[ServiceTarget[Any]]:
    """A target whose gateway has only the call for the base."""
    kind, setting, path, response = BASES[request.param]

    def respond(asked: httpx.Request) -> httpx.Response:
        is_base = asked.method == "GET" and asked.url.path == path
        return httpx.Response(200, json=response) if is_base else httpx.Response(405, text="no such call")

    settings = {"base_url": "https://kb.example", "api_key": "kid4711.secret", setting: "b1"}
    settings.pop("", None)
    config = block(TARGETS[request.param], **settings)
    target = kind(config, target_context(), transport=httpx.MockTransport(respond))
    await target.base()
    yield target
    await target.aclose()


async def test_states_are_unknown_or_unavailable(target: ServiceTarget[Any]) -> None:
    """The engine would repeat a refused poll without a pause, and a pass would not end."""
    try:
        states = await target.status([str(number) for number in range(8)])
    except Unavailable:
        return
    assert {state.state for state in states.values()} == {DocState.UNKNOWN}


async def test_list_is_unavailable(target: ServiceTarget[Any]) -> None:
    with pytest.raises(Unavailable):
        [row async for row in target.list()]
