"""POST /paas/v4/chat/completions: a model of the platform, which answers from the passages it is given."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from kbsync_standin.messages import Response
from kbsync_standin.zhipu import answers, strict
from kbsync_standin.zhipu.answers import Json, Refusal
from kbsync_standin.zhipu.asking import MOST_PASSAGES, NOTHING, PIECES, event_stream, usage_of
from kbsync_standin.zhipu.calls import Call
from kbsync_standin.zhipu.searching import words_of
from kbsync_standin.zhipu.strict import Test

_MODEL = re.compile(r"(glm|charglm|codegeex|emohaa)(-[\w.]+)*", re.IGNORECASE)
_THOUGHT = "我先看看这些段落。"
_REASONS = {"interrupted": "network_error"}


def _is_message(value: Any) -> bool:
    is_object = isinstance(value, dict) and value.keys() == {"role", "content"}
    return is_object and value["role"] in ("system", "user", "assistant") and strict.is_text(value["content"])


def _are_messages(value: Any) -> bool:
    """They begin with a word of the system at most, then user and assistant by turns; the user is last."""
    if not isinstance(value, list) or not value or not all(map(_is_message, value)):
        return False
    roles = [one["role"] for one in value]
    spoken = roles[1:] if roles[0] == "system" else roles
    return (
        spoken == [("user", "assistant")[place % 2] for place in range(len(spoken))] and len(spoken) % 2 == 1
    )


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


_TESTS: Mapping[str, Test] = {
    "model": strict.is_text,
    "messages": _are_messages,
    "stream": lambda value: isinstance(value, bool),
    "request_id": lambda value: isinstance(value, str) and 6 <= len(value) <= 64,
    "user_id": lambda value: isinstance(value, str) and 6 <= len(value) <= 128,
    "temperature": _is_share,
    "top_p": _is_share,
    "max_tokens": strict.whole(1, 131_072),
    "do_sample": lambda value: isinstance(value, bool),
    "thinking": strict.is_object,
}


def chat(call: Call) -> Response:
    """A completion, whole or as events."""
    body = strict.json_body(call.request, _TESTS.keys(), call.rules)
    strict.check_needed(body, ("model", "messages"), call.rules)
    strict.check_values(body, _TESTS, call.rules)
    if _MODEL.fullmatch(body["model"]) is None:
        raise Refusal(
            answers.gateway(1211, 400, "模型不存在，请检查模型代码。"), f"the model is {body['model']}"
        )
    text = answer_to(body["messages"][-1]["content"])
    if body.get("stream", False):
        return event_stream(list(_events(text, _head(body, call), call)), call.play)
    finish = _reason(call)
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    return Response.json({**_head(body, call), "choices": [choice], "usage": usage_of(text)})


def answer_to(asked: str) -> str:
    """The passages that share most words with the last line; what is no JSON with a text is none of them."""
    *lines, question = [line for line in asked.splitlines() if line.strip()] or [""]
    wanted = words_of(question)
    texts = [text for line in lines if (text := _text_in(line))]
    good = [text for text in texts if wanted & words_of(text)]
    best = sorted(good, key=lambda text: -len(wanted & words_of(text)))
    return "\n\n".join(best[:MOST_PASSAGES]) or NOTHING


def _text_in(line: str) -> str:
    try:
        value = json.loads(line)
    except ValueError:
        return ""
    text = value.get("text") if isinstance(value, dict) else None
    return text if isinstance(text, str) else ""


def _head(body: Json, call: Call) -> Json:
    number = str(call.account.new_number())
    asked = body.get("request_id", number)
    return {"id": number, "created": int(call.now), "model": body["model"], "request_id": asked}


def _reason(call: Call) -> str:
    """Why it ends."""
    end = call.play.word("end", "")
    return call.play.word("reason", _REASONS.get(end, "stop"))


def _events(text: str, head: Json, call: Call) -> Iterator[bytes]:
    """As the fault `stream` has them, where it is played."""
    end, reason = call.play.word("end", ""), _reason(call)
    pieces = PIECES.findall(text)
    if end in ("error", "no-finish") or reason != "stop":
        pieces = pieces[: len(pieces) // 2]
    if call.play.arg("reasoning", False):
        yield _event(head, {"role": "assistant", "reasoning_content": _THOUGHT})
    for piece in pieces:
        yield _event(head, {"role": "assistant", "content": piece})
    if end == "error":
        yield _data({"error": {"code": "500", "message": "大模型内部错误"}})
    if end in ("error", "no-finish"):
        return
    yield _event(head, {"role": "assistant", "content": ""}, finish_reason=reason, usage=usage_of(text))
    done = b"data: [DONE]\n\n"
    yield done.rstrip(b"\n") if end == "no-blank" else done


def _event(head: Json, delta: Json, finish_reason: str = "", usage: Json | None = None) -> bytes:
    choice: Json = {"index": 0, "delta": delta} | ({"finish_reason": finish_reason} if finish_reason else {})
    return _data({**head, "choices": [choice]} | ({"usage": usage} if usage else {}))


def _data(value: Json) -> bytes:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n".encode()
