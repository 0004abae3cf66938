"""Tests that a gateway which lacks a service's calls proves nothing about documents (promise 1)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from kbsync.contract.target import DocState
from kbsync.errors import Rejected, TargetError, Unavailable
from kbsync.targets.dify.target import DifyTarget
from kbsync.targets.gptbots.target import GptbotsTarget
from kbsync.targets.http.target import ServiceTarget
from kbsync.targets.lightrag.target import LightragTarget
from kbsync.targets.openai.target import OpenaiTarget
from kbsync.targets.openwebui.target import OpenWebuiTarget
from kbsync.targets.ragflow.target import RagflowTarget
from kbsync.targets.registry import TARGETS
from kbsync.targets.zhipu.target import ROOT, ZhipuTarget
from tests.clocks import Clock
from tests.targets.blocks import block, target_context
from tests.targets.bodies import outgoing

BASE = {"id": "b1", "name": "guides", "document_count": 8}
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


@pytest.fixture(params=[(service, status) for service in BASES for status in (404, 405)], ids=str)
async def target(request: pytest.FixtureRequest) -> AsyncIterator[ServiceTarget[Any]]:
    """A target whose gateway soon has only the call for the base; `has_base` says whether it still has it."""
    service, status = request.param
    async with target_behind(service, status) as target:
        yield target


@asynccontextmanager
async def target_behind(service: str, status: int) -> AsyncIterator[Any]:
    """Open a target behind a gateway that answers with `status` and a web page."""
    kind, setting, path, response = BASES[service]

    def respond(request_sent: httpx.Request) -> httpx.Response:
        is_base = request_sent.method == "GET" and request_sent.url.path == path
        if is_base and target.has_base:
            return httpx.Response(200, json=response)
        return httpx.Response(status, text="<html><title>no such page</title>")

    settings = {"base_url": "https://kb.example", "api_key": "kid4711.secret", setting: "b1"}
    settings.pop("", None)
    clock = Clock()
    target: Any = kind(
        block(TARGETS[service], **settings),
        target_context(),
        steady=clock,
        sleep=clock.sleep,
        transport=httpx.MockTransport(respond),
    )
    target.has_base = True
    await target.base()
    yield target
    await target.aclose()


@pytest.mark.parametrize("has_base", [True, False])
async def test_states_are_unavailable_or_not_known(target: Any, has_base: bool) -> None:
    """The engine would repeat a refused poll without a pause, and a pass would not end."""
    target.has_base = has_base
    try:
        states = await target.status([str(number) for number in range(8)])
    except Unavailable:
        return
    assert {state.state for state in states.values()} == {DocState.UNKNOWN}


async def test_deletion_is_not_confirmed(target: Any) -> None:
    """The document would stay on the service, searchable, without a row that says so."""
    outcomes = await target.delete(["1", "2"])
    assert all(isinstance(outcome, TargetError) for outcome in outcomes.values()), outcomes


@pytest.mark.parametrize("has_base", [True, False])
async def test_list_is_unavailable(target: Any, has_base: bool) -> None:
    target.has_base = has_base
    with pytest.raises(Unavailable):
        [row async for row in target.list()]


async def test_upload_blames_no_document_without_the_base(target: Any) -> None:
    """The document would count as failed until its file changes (promise 9)."""
    target.has_base = False
    [outcome] = await target.put([outgoing("a.md")])
    assert isinstance(outcome, Unavailable)


async def test_upload_may_pass_while_the_base_exists(target: Any) -> None:
    """A firewall may answer so for one document."""
    [outcome] = await target.put([outgoing("a.md")])
    assert isinstance(outcome, Unavailable) or (isinstance(outcome, Rejected) and outcome.may_pass)


@pytest.mark.parametrize("service", BASES)
@pytest.mark.parametrize("status", [400, 403, 406, 409, 412, 415, 417, 421, 422, 424, 426, 428, 431, 451])
async def test_refusal_by_a_gateway_does_not_mean_that_the_base_is_missing(service: str, status: int) -> None:
    """The mirror would wait for a person to correct the base's id (exit 3), not for the gateway (exit 4)."""
    async with target_behind(service, status) as target:
        target.has_base = False
        with pytest.raises(Unavailable):
            await target.base()
