"""Tests that an error in the middle of an answer is shown without our key, which some gateways repeat."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from kbsync.accounts.account import Answerer, Question, account_of
from kbsync.accounts.lightrag import SERVER_ID
from kbsync.contract.target import Target
from kbsync.errors import TargetError
from kbsync.targets.lightrag.config import LightragTargetConfig
from kbsync.targets.lightrag.target import LightragTarget
from kbsync.targets.openai.config import OpenaiTargetConfig
from kbsync.targets.openai.target import OpenaiTarget
from kbsync.targets.ragflow.config import RagflowTargetConfig
from kbsync.targets.ragflow.target import RagflowTarget
from kbsync.targets.zhipu.config import ZhipuTargetConfig
from kbsync.targets.zhipu.target import ZhipuTarget
from tests.targets.blocks import block, target_context

KEY = "kid4711.secret-of-the-account"
WORDS = f"the model refuses Bearer {KEY}"
PLACE = {"base_url": "https://kb.example", "api_key": KEY}
PASSAGE = {"file_id": "f1", "score": 0.5, "content": [{"type": "text", "text": "At nine."}]}

Make = Callable[[httpx.MockTransport], Target]


def lightrag(transport: httpx.MockTransport) -> Target:
    return LightragTarget(block(LightragTargetConfig, **PLACE), target_context(), transport=transport)


def ragflow(transport: httpx.MockTransport) -> Target:
    return RagflowTarget(
        block(RagflowTargetConfig, **PLACE, dataset_id="d"), target_context(), transport=transport
    )


def openai(transport: httpx.MockTransport) -> Target:
    config = block(OpenaiTargetConfig, **PLACE, vector_store_id="vs_1", chat_model="m")
    return OpenaiTarget(config, target_context(), transport=transport)


def zhipu(transport: httpx.MockTransport) -> Target:
    return ZhipuTarget(
        block(ZhipuTargetConfig, **PLACE, knowledge_id="1"), target_context(), transport=transport
    )


def completion(text: str) -> dict[str, Any]:
    return {"choices": [{"delta": {"content": text}, "message": {"content": text}, "finish_reason": "stop"}]}


def event(value: Any, name: str = "") -> bytes:
    return f"{f'event: {name}' if name else ''}\ndata: {json.dumps(value)}\n\n".lstrip().encode()


@pytest.mark.parametrize(
    ("make", "by", "streamed", "content"),
    [
        (lightrag, SERVER_ID, True, f'{{"error": "{WORDS}"}}\n'.encode()),
        (lightrag, SERVER_ID, False, json.dumps({"error": WORDS}).encode()),
        (ragflow, "7", True, event(completion(f"**ERROR**: {WORDS}"))),
        (ragflow, "7", False, json.dumps(completion(f"**ERROR**: {WORDS}")).encode()),
        (openai, "", True, event({"error": WORDS})),
        (zhipu, "7", True, event({"msg": WORDS}, "errorhandle")),
    ],
)
async def test_no_error_of_a_response_shows_the_key(
    make: Make, by: str, streamed: bool, content: bytes
) -> None:
    def respond(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/search"):
            return httpx.Response(200, json={"data": [PASSAGE]})
        return httpx.Response(200, content=content, headers={"Content-Type": "text/event-stream"})

    target: Any = make(httpx.MockTransport(respond))
    question = Question("when", Answerer(application=by), streamed=streamed)
    with pytest.raises(TargetError) as caught:
        async for _ in account_of(target).answers.answer(question):
            pass
    await target.aclose()
    assert "the model refuses" in caught.value.reason and "***" in caught.value.reason
    assert "kid4711" not in f"{caught.value} {caught.value.reason}"
