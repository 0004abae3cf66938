"""Tests that the stand-in's model responds as the platform's page on chat completions shows."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kbsync_standin.messages import Response
from tests.standin.zhipu.client import DirectZhipu

PATH = "/api/paas/v4/chat/completions"
ASKED = (
    'Passages:\n{"passage": 1, "text": "Tea is free."}\n{"passage": 2, "text": "The office opens at nine."}\n'
)
MESSAGES = [
    {"role": "system", "content": "Answer from the passages."},
    {"role": "user", "content": f"{ASKED}\nwhen does the office open"},
]


def call(service: DirectZhipu, **fields: Any) -> Response:
    body = {"model": "glm-4-flash", "messages": MESSAGES, **fields}
    kind = {"content-type": "application/json"}
    return service.send(service.request("POST", PATH, json.dumps(body).encode(), kind))


def events(response: Response) -> list[Any]:
    *lines, done, end = response.body.decode().split("\n\n")
    assert (done, end) == ("data: [DONE]", "")
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def test_whole_answer_is_a_completion(service: DirectZhipu) -> None:
    payload = json.loads(call(service, request_id="r-12345").body)
    assert payload.keys() == {"id", "created", "model", "request_id", "choices", "usage"}
    [choice] = payload["choices"]
    assert choice == {
        "index": 0,
        "message": {"role": "assistant", "content": "The office opens at nine."},
        "finish_reason": "stop",
    }
    assert payload["usage"].keys() == {"prompt_tokens", "completion_tokens", "total_tokens"}
    assert service.app.violations == []


def test_stream_has_deltas_then_reason_with_usage_then_done(service: DirectZhipu) -> None:
    response = call(service, stream=True)
    assert response.headers["content-type"].startswith("text/event-stream")
    *first, last = events(response)
    assert {event["model"] for event in (*first, last)} == {"glm-4-flash"}
    assert len({event["id"] for event in (*first, last)}) == 1
    assert isinstance(last["created"], int)
    deltas = [event["choices"][0] for event in first]
    assert all("finish_reason" not in delta and delta["delta"]["role"] == "assistant" for delta in deltas)
    assert "".join(delta["delta"]["content"] for delta in deltas) == "The office opens at nine."
    assert last["choices"][0]["finish_reason"] == "stop"
    assert last["usage"]["total_tokens"] > 0


USER, ASSISTANT = ({"role": role, "content": "x"} for role in ("user", "assistant"))


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": []},
        {"messages": [{"role": "user", "content": ""}]},
        {"messages": [{"role": "robot", "content": "x"}]},
        {"messages": [{"role": "user"}]},
        {"messages": [USER, ASSISTANT]},
        {"messages": [USER, USER, USER]},
        {"stream": "yes"},
        {"model": ""},
        {"request_id": "short"},
        {"prompt": "x"},
        {"temperature": 2},
    ],
    ids=str,
)
def test_documented_prohibitions_are_enforced_for_chat(service: DirectZhipu, fields: dict[str, Any]) -> None:
    response = call(service, **fields)
    assert (response.status, json.loads(response.body)["error"]["code"]) == (400, "1214")
    assert len(service.app.violations) == 1


def test_invalid_model_key_and_balance_are_refused_like_the_gateway(service: DirectZhipu) -> None:
    unknown = call(service, model="gpt-9")
    assert (unknown.status, json.loads(unknown.body)["error"]["code"]) == (400, "1211")
    service.app.set_behaviour({"money_gone": True})
    poor = call(service)
    assert (poor.status, json.loads(poor.body)["error"]["code"]) == (429, "1113")
    service.key = None
    refused = call(service)
    assert (refused.status, json.loads(refused.body)["error"]["code"]) == (401, "1001")


@pytest.mark.parametrize(
    ("args", "reason"), [({"reason": "length"}, "length"), ({"end": "interrupted"}, "network_error")]
)
def test_answer_may_end_for_another_reason(service: DirectZhipu, args: dict[str, Any], reason: str) -> None:
    service.fault("stream", **args)
    *_, last = events(call(service, stream=True))
    assert last["choices"][0]["finish_reason"] == reason
    service.fault("stream", **args)
    [choice] = json.loads(call(service).body)["choices"]
    assert choice["finish_reason"] == reason


def test_stream_may_include_reasoning_and_end_abruptly(service: DirectZhipu) -> None:
    service.fault("stream", end="no-finish", reasoning=True)
    text = call(service, stream=True).body.decode()
    first = json.loads(text.split("\n\n")[0].removeprefix("data: "))
    assert first["choices"][0]["delta"].keys() == {"role", "reasoning_content"}
    assert "finish_reason" not in text
    assert "[DONE]" not in text
