"""/model-api: an application's answer, whole or as a stream of events, and the slices it was made from."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

from kbsync_standin.messages import Response
from kbsync_standin.zhipu import strict
from kbsync_standin.zhipu.answers import Json, Refusal
from kbsync_standin.zhipu.applications import are_ids, known_application
from kbsync_standin.zhipu.calls import Call
from kbsync_standin.zhipu.documents import Document
from kbsync_standin.zhipu.naming import extension
from kbsync_standin.zhipu.pictures import images_of
from kbsync_standin.zhipu.plays import Play
from kbsync_standin.zhipu.searching import Match, search
from kbsync_standin.zhipu.strict import Test

DTYPES = {
    "txt": 1,
    "doc": 2,
    "pdf": 3,
    "docx": 5,
    "xlsx": 6,
    "csv": 11,
    "ppt": 12,
    "pptx": 13,
    "md": 14,
    "xls": 15,
}
NOTHING = "没有找到答案。"
MOST_PASSAGES = 3
MOST_TURNS = 15
PIECES = re.compile(r"\w{1,6} ?|\W")


def _are_turns(value: Any) -> bool:
    are_turns = isinstance(value, list) and len(value) % 2 == 1 and len(value) <= MOST_TURNS
    return are_turns and all(
        isinstance(turn, dict)
        and turn.get("role") in ("user", "assistant")
        and strict.is_text(turn.get("content"))
        for turn in value
    )


_TESTS: Mapping[str, Test] = {
    "prompt": _are_turns,
    "request_id": strict.is_text,
    "incremental": lambda value: isinstance(value, bool),
    "returnType": strict.one_of("json_string", "text"),
    "knowledge_ids": are_ids,
    "document_ids": are_ids,
}


def invoke(call: Call) -> Json:
    """The answer in one piece."""
    request_id, text = _answer(call)
    return {"requestId": request_id, "content": text, "usage": usage_of(text)}


def sse_invoke(call: Call) -> Response:
    """The answer as events, a few characters each."""
    request_id, text = _answer(call)
    return event_stream(list(_events(request_id, text, call)), call.play)


def event_stream(parts: list[bytes], play: Play) -> Response:
    """Events one after the other, as the fault `stream` has them sent."""
    if play.kind == "stream" and play.arg("comments", False):
        parts = [piece for part in parts for piece in (b": keep-alive\n\n", part)]
    if play.kind == "stream" and play.arg("crlf", False):
        parts = [part.replace(b"\n", b"\r\n") for part in parts]
    headers = {"content-type": "text/event-stream;charset=UTF-8"}
    return Response(200, b"".join(parts), headers, tuple(map(len, parts)), play.seconds("every", 0.0))


def slice_info(call: Call) -> Json:
    """The slices behind an answer, by document."""
    found = call.account.answers.get(call.ident)
    if found is None:
        raise Refusal(call.missing("code", "请求"))
    by_document = groupby(
        sorted(found, key=lambda match: match.document.ordinal), lambda match: match.document
    )
    slices = [_slices(document, list(matches), call) for document, matches in by_document]
    is_old = any(one["hide_positions"] for one in slices)
    return {"document_slices": slices, "has_old_document": is_old}


def _answer(call: Call) -> tuple[str, str]:
    """Request id and text; what it was made from is kept under the id."""
    application = known_application(call)
    body = strict.json_body(call.request, _TESTS.keys(), call.rules)
    strict.check_needed(body, ("prompt",), call.rules)
    strict.check_values(body, _TESTS, call.rules)
    wanted = [str(ident) for ident in body.get("knowledge_ids", application.bases)]
    bases = [call.known_base(ident) for ident in wanted if ident in application.bases]
    only = {str(ident) for ident in body.get("document_ids", [])}
    known = [one for base in bases for one in base.documents.values() if one.phase(call.now).stat == 1]
    documents = [one for one in known if not only or one.id in only]
    found = search(body["prompt"][-1]["content"], documents, MOST_PASSAGES, 0.0)
    request_id = body.get("request_id") or f"req-{call.account.new_number()}"
    call.account.answers[request_id] = found
    return request_id, "\n\n".join(match.passage.text for match in found) or NOTHING


def _events(request_id: str, text: str, call: Call) -> Iterator[bytes]:
    end = call.play.word("end", "") if call.play.kind == "stream" else ""
    form = _FORMS[call.behaviour.stream_form]
    *before, last = PIECES.findall(text)
    if end in ("error", "interrupted", "no-finish"):
        before = before[: len(before) // 2]
    for piece in before:
        yield form(request_id, "add", piece, None).encode()
    if end == "no-finish":
        return
    if end in ("error", "interrupted"):
        name = "errorhandle" if end == "error" else end
        yield form(request_id, name, "大模型内部错误", None).encode()
        return
    final = form(request_id, "finish", last, usage_of(text)).encode()
    yield final.rstrip(b"\n") if end == "no-blank" else final


def _quoted(request_id: str, name: str, piece: str, usage: Json | None) -> str:
    """As the manual prints it."""
    text = json.dumps(piece, ensure_ascii=False)
    first = "Id" if name == "finish" else "id"
    told = f"usage: {json.dumps(usage)}\n" if usage else ""
    return f'{first}: "{request_id}"\nevent: "{name}"\ndata: {text}\n{told}\n'


def _plain(request_id: str, name: str, piece: str, usage: Json | None) -> str:
    """As a server of events writes text: no blank after colons, a line of data for each line."""
    data = "".join(f"data:{line}\n" for line in piece.split("\n"))
    return f"event:{name}\nid:{request_id}\n{data}\n"


def _wrapped(request_id: str, name: str, piece: str, usage: Json | None) -> str:
    """As the newer routes do it, with progress in between."""
    progress = f'event:add\nid:{request_id}\ndata:{{"extra_input":{{"node":"answer"}}}}\n\n'
    data = json.dumps({"msg": piece} | ({"usage": usage} if usage else {}), ensure_ascii=False)
    return f"{progress}event:{name}\nid:{request_id}\ndata:{data}\n\n"


_FORMS = {"quoted": _quoted, "plain": _plain, "wrapped": _wrapped}


def usage_of(text: str) -> Json:
    """What an answer took, in tokens of one character."""
    return {"prompt_tokens": 5, "completion_tokens": len(text), "total_tokens": 5 + len(text)}


def _slices(document: Document, found: list[Match], call: Call) -> Json:
    kind = extension(document.sent_name)
    about = {
        "id": call.written(document.id),
        "name": document.name,
        "url": call.signer.url(call.origin, document.id, call.now),
        "dtype": DTYPES.get(kind, 1),
    }
    return {
        "document": about,
        "slice_info": [_slice(match, kind) for match in found],
        "images": images_of(document, call),
        "hide_positions": document.name in call.behaviour.without_positions.split(),
    }


def _slice(match: Match, kind: str) -> Json:
    """Only PDFs tell pages, only tables lines."""
    fields: Json = {"document_id": match.document.id, "text": match.passage.text}
    if kind == "pdf":
        fields["position"] = {
            "x0": 1,
            "x1": 2,
            "top": 3,
            "bottom": 4,
            "page": match.index + 1,
            "height": 5,
            "width": 6,
        }
    if kind in ("xls", "xlsx", "csv"):
        fields |= {"line": match.index + 1, "sheet_name": "Sheet1"}
    return fields
