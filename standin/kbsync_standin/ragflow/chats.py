"""Chat assistants: each repeats the hits in its datasets, or says that it found nothing.

Sources: api/apps/restful_apis/chat_api.py, openai_api.py and api/db/services/dialog_service.py; for 0.24
    api/apps/sdk/chat.py and session.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kbsync_standin import rules
from kbsync_standin.completions import MAX_PASSAGES, PIECES, are_turns, event_stream, usage_of
from kbsync_standin.messages import Response
from kbsync_standin.ragflow.datasets import HOME_ID, User
from kbsync_standin.rules import Refused, Test

HOME_CHAT, OTHER_CHAT, STRANGE_CHAT = (f"{number}c2ed1e0c1bb11f08bd20242ac120006" for number in (1, 2, 3))
NOTHING = "Sorry! No relevant content was found in the knowledge base!"
ERROR = "**ERROR**: SERVER_ERROR - the model is down"
MODEL = "model"
"""A placeholder for the assistant's model."""

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Assistant:
    """A chat assistant. `datasets`: the ids of those that it searches."""

    id: str
    name: str
    datasets: tuple[str, ...]


HELPDESK = Assistant(HOME_CHAT, "helpdesk", (HOME_ID,))
ASSISTANTS: Mapping[str, tuple[Assistant, ...]] = {
    "one": (HELPDESK,),
    "none": (),
    "two": (HELPDESK, Assistant(OTHER_CHAT, "second desk", ("f" * 32, HOME_ID))),
    "elsewhere": (Assistant(STRANGE_CHAT, "kitchen", ("f" * 32,)),),
}
"""The existing assistants for each value of the switch `assistants`."""


def card(assistant: Assistant, is_old: bool) -> Json:
    """Describe an assistant as the list does; `is_old`: as up to 0.24."""
    fields: Json = {"id": assistant.id, "name": assistant.name, "description": "answers questions"}
    if is_old:
        datasets = [{"id": ident, "name": "home"} for ident in assistant.datasets]
        return {**fields, "datasets": datasets, "llm": {"model_name": "qwen"}}
    extra = {"llm_id": "qwen", "prompt_config": {"system": "{knowledge}"}, "kb_names": ["home"]}
    return {**fields, "dataset_ids": list(assistant.datasets), **extra}


CHAT_TESTS: Mapping[str, Test] = {
    "model": rules.is_text,
    "messages": are_turns,  # the server drops system messages, so sending one is a mistake
    "stream": rules.is_flag,
    "extra_body": rules.is_object,
}


def answer(user: User, chat: str, body: Json, args: Mapping[str, Any]) -> Response:
    """Answer a chat request whose fields are legal. `args`: the arguments of the fault `stream`. Raises
    `Refused`."""
    *_, last = body["messages"]
    rules.require_known(last, ("role", "content", "doc_ids"))
    is_question = last["role"] == "user"
    rules.require(is_question, "The last content of this conversation is not from user.", code=102)
    ids = last.get("doc_ids", [])
    rules.require(not ids or rules.are_texts(ids), "doc_ids is not a list of ids")
    assistants = {assistant.id: assistant for assistant in ASSISTANTS[user.behaviour.assistants]}
    if chat not in assistants:
        raise Refused(f"You don't own the chat {chat}")
    if body["model"] != MODEL:
        raise Refused(f"`llm_id` {body['model']} doesn't exist", code=101)
    datasets = [ident for ident in assistants[chat].datasets if ident in user.visible_bases()]
    try:
        hits = user.find(last["content"], datasets, ids)[:MAX_PASSAGES]
    except Refused:
        hits = []
    text = "\n\n".join(f"{row['content']} [ID:{number}]" for number, row in enumerate(hits)) or NOTHING
    if args.get("end") == "error":
        text = text[: len(text) // 2] + ERROR
    head = {"id": f"chatcmpl-{chat}", "created": 1, "model": MODEL}
    extra = {"reference": list(map(_reference, hits))} if body.get("extra_body", {}).get("reference") else {}
    if body.get("stream", user.behaviour.chats == "old"):
        return event_stream(list(_events(text, head, extra, args)), args)
    thought = "<think>I look at the passages.</think>" if args.get("reasoning") else ""
    message = {"role": "assistant", "content": thought + text, **extra}
    choice = {"index": 0, "logprobs": None, "message": message, "finish_reason": "stop"}
    usage = {**usage_of(text), "completion_tokens_details": {"reasoning_tokens": 5}}
    return Response.json({**head, "object": "chat.completion", "choices": [choice], "usage": usage})


def _reference(row: Mapping[str, Any]) -> Json:
    same = ("id", "content", "document_id", "dataset_id", "positions", "similarity")
    return {**{key: row[key] for key in same}, "document_name": row["document_keyword"], "url": None}


def _events(text: str, head: Json, extra: Json, args: Mapping[str, Any]) -> Iterator[bytes]:
    """Yield the events; an error of the model comes as one event, whatever text preceded it."""
    thought, is_error, _ = text.partition(ERROR)
    pieces = PIECES.findall(thought)
    if args.get("end") == "no-finish":
        pieces = pieces[: len(pieces) // 2]
    if args.get("reasoning"):
        yield _event(head, {"content": None, "reasoning_content": "I look at the passages."})
    for piece in [*pieces, ERROR] if is_error else pieces:
        yield _event(head, {"content": piece, "reasoning_content": None})
    if args.get("end") == "no-finish":
        return
    last = {"content": None, "reasoning_content": None, **extra, **({"final_content": text} if extra else {})}
    yield _event(head, last, finish_reason="stop", usage=usage_of(text))
    yield b"data:[DONE]\n\n"


def _event(head: Json, delta: Json, finish_reason: str | None = None, usage: Json | None = None) -> bytes:
    choice = {"delta": {"role": "assistant", **delta}, "finish_reason": finish_reason, "index": 0}
    event = {**head, "object": "chat.completion.chunk", "choices": [choice], "usage": usage}
    return f"data:{json.dumps(event, ensure_ascii=False)}\n\n".encode()
