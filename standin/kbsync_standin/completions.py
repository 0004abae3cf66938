"""Chat completions in OpenAI's format, shared by the services that offer them.

Each line of the last message except its final one is a passage, a JSON object with a text. The answer repeats
the passages that share most words with the final line, the question. The fault `stream` changes how the
events are written or end.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from kbsync_standin.application import words_of
from kbsync_standin.messages import Response
from kbsync_standin.rules import Test, are_objects, integer, is_flag, is_object, is_text, share

Json = dict[str, Any]

MODEL = "some-model"
"""The only model of the services that run one model."""

HEAD: Mapping[str, Any] = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": MODEL}

NOTHING = "没有找到答案。"
MAX_PASSAGES = 3
PIECES = re.compile(r"\w{1,6} ?|\W")
ERROR = "大模型内部错误"


def are_turns(value: Any) -> bool:
    """Return whether user and assistant alternate, beginning with the user, and each says something."""
    return isinstance(value, list) and all(
        is_object(turn)
        and is_text(turn.get("content"))
        and turn.get("role") == ("user", "assistant")[index % 2]
        for index, turn in enumerate(value)
    )


def are_messages(value: Any) -> bool:
    """Return whether user and assistant alternate after at most one system message, and the user is last."""
    if not are_objects(value) or any(message.keys() != {"role", "content"} for message in value):
        return False
    turns = value[1:] if value[0]["role"] == "system" else value
    return is_text(value[0]["content"]) and are_turns(turns) and len(turns) % 2 == 1


TESTS: Mapping[str, Test] = {
    "model": is_text,
    "messages": are_messages,
    "stream": is_flag,
    "temperature": share(0, 1),
    "top_p": share(0, 1),
    "max_tokens": integer(1, 131_072),
}
"""The request fields that all services have."""

KIND = (
    "the events of an answer are written or end in another way (chat) [args: end: no-finish, error; "
    "reason: finish_reason (stop); error: the event of an error; every: seconds between events (0)]"
)
"""The explanation of the fault `stream`."""


def completion(body: Json, head: Mapping[str, Any], args: Mapping[str, Any]) -> Response:
    """Answer a valid request. `head`: the fields in addition to the choices; `args`: the fault's
    arguments.
    """
    text = answer_to(body["messages"][-1]["content"])
    if body.get("stream", False):
        return event_stream(list(_events(text, head, args)), args)
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": _reason(args)}
    return Response.json({**head, "choices": [choice], "usage": usage_of(text)})


def event_stream(
    parts: list[bytes], args: Mapping[str, Any], kind: str = "text/event-stream;charset=UTF-8"
) -> Response:
    """Write the parts as events; `args` can add comments, change line ends and slow them down. `kind`: the
    content type."""
    if args.get("comments"):
        parts = [piece for part in parts for piece in (b": keep-alive\n\n", part)]
    if args.get("crlf"):
        parts = [part.replace(b"\n", b"\r\n") for part in parts]
    every = float(args.get("every", 0.0))
    return Response(200, b"".join(parts), {"content-type": kind}, tuple(map(len, parts)), every)


def answer_to(message: str) -> str:
    """Return the passages that share most words with the last line; other lines are ignored."""
    *lines, question = [line for line in message.splitlines() if line.strip()] or [""]
    question_words = words_of(question)
    texts = [text for line in lines if (text := _text_in(line))]
    hits = [text for text in texts if question_words & words_of(text)]
    best = sorted(hits, key=lambda text: -len(question_words & words_of(text)))
    return "\n\n".join(best[:MAX_PASSAGES]) or NOTHING


def _text_in(line: str) -> str:
    try:
        value = json.loads(line)
    except ValueError:
        return ""
    text = value.get("text") if isinstance(value, dict) else None
    return text if isinstance(text, str) else ""


def usage_of(text: str) -> Json:
    """Return the token usage of an answer, counting one token for each character."""
    return {"prompt_tokens": 5, "completion_tokens": len(text), "total_tokens": 5 + len(text)}


def _reason(args: Mapping[str, Any]) -> str:
    """Return the finish reason."""
    return str(args.get("reason", "network_error" if args.get("end") == "interrupted" else "stop"))


def _events(text: str, head: Mapping[str, Any], args: Mapping[str, Any]) -> Iterator[bytes]:
    end, reason = args.get("end", ""), _reason(args)
    pieces = PIECES.findall(text)
    if end in ("error", "no-finish") or reason != "stop":
        pieces = pieces[: len(pieces) // 2]
    if args.get("reasoning"):
        yield _event(head, {"role": "assistant", "reasoning_content": "我先看看这些段落。"})
    for piece in pieces:
        yield _event(head, {"role": "assistant", "content": piece})
    if end == "error":
        yield _data(args.get("error") or {"error": {"code": "500", "message": ERROR}})
    if end in ("error", "no-finish"):
        return
    yield _event(head, {"role": "assistant", "content": ""}, finish_reason=reason, usage=usage_of(text))
    done = b"data: [DONE]\n\n"
    yield done.rstrip(b"\n") if end == "no-blank" else done


def _event(head: Mapping[str, Any], delta: Json, finish_reason: str = "", usage: Json | None = None) -> bytes:
    choice: Json = {"index": 0, "delta": delta} | ({"finish_reason": finish_reason} if finish_reason else {})
    return _data({**head, "choices": [choice]} | ({"usage": usage} if usage else {}))


def _data(value: Json) -> bytes:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n".encode()
