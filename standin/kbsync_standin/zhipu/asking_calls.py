"""/application, /model-api and chat completions: what answers questions, and its answers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kbsync_standin.completions import (
    ERROR,
    MOST_PASSAGES,
    NOTHING,
    PIECES,
    TESTS,
    completion,
    event_stream,
    usage_of,
)
from kbsync_standin.listing import page_of
from kbsync_standin.messages import Response
from kbsync_standin.rules import Test, is_flag, is_object, is_text, is_whole, one_of, whole
from kbsync_standin.zhipu.account import Match, search
from kbsync_standin.zhipu.answers import NO_DATA, Call, Json, NoData, Refusal, gateway
from kbsync_standin.zhipu.document_calls import images_of
from kbsync_standin.zhipu.documents import ZhipuDocument, extension

_PLACES = (("{{knowledge}}", "{{知识}}"), ("{{user}}", "{{用户}}"))
_COLORS = ("blue", "red", "orange", "purple", "sky", "green", "yellow")
_TYPES = ("assist", "navigate", "guardian", "service", "messenger", "chat", "engineer")
_NEEDED_OF_RECALL = ("recall_method", "rerank_status", "slice_count")


@dataclass(slots=True, eq=False)
class Application:
    """One of them. `fields`: as it is shown; `bases`: ids of the knowledge bases it answers from."""

    id: str
    fields: dict[str, Any]
    bases: tuple[str, ...]


def _are_ids(value: Any) -> bool:
    """A list, which may be empty, of ids as numbers or as text."""
    return isinstance(value, list) and all(is_whole(ident) or is_text(ident) for ident in value)


def _is_prompt(value: Any) -> bool:
    return isinstance(value, str) and all(sum(map(value.count, forms)) == 1 for forms in _PLACES)


def _is_recall(value: Any) -> bool:
    is_complete = isinstance(value, dict) and all(name in value for name in _NEEDED_OF_RECALL)
    return is_complete and all(test(value[name]) for name, test in _TESTS_OF_RECALL.items() if name in value)


def _is_number(most: float, *, is_open: bool) -> Test:
    def is_legal(value: Any) -> bool:
        try:
            number = float(value) if isinstance(value, str) else 0.0
        except ValueError:
            return False
        return 0 < number < most or (number == most and not is_open)

    return is_legal


_TESTS_OF_RECALL: Mapping[str, Test] = {
    "slice_config_type": is_text,
    "recall_slice_splicing_method": is_text,
    "recall_method": one_of("embedding", "keyword", "mixed"),
    "rerank_status": one_of(0, 1),
    "rerank_model_name": is_text,
    "slice_count": lambda value: is_whole(value) and value > 0,
    "embedding_recall_ratio": is_whole,
    "show_recall_result": is_flag,
    "knowledge_ids": _are_ids,
}


_APPLICATION_TESTS: Mapping[str, Test] = {
    "name": lambda value: isinstance(value, str) and 1 <= len(value) <= 20,
    "desc": lambda value: isinstance(value, str) and len(value) <= 100,
    "prompt": _is_prompt,
    "top_p": _is_number(1.0, is_open=True),
    "temperature": _is_number(1.0, is_open=False),
    "knowledge_ids": _are_ids,
    "model": is_text,
    "icon_color": one_of(*_COLORS),
    "icon_type": one_of(*(f"robot_{kind}" for kind in _TYPES)),
    "param_desc": one_of("strict", "moderate", "flexible", "custom"),
    "max_token": whole(1, 8192),
    "knowledge_info": _is_recall,
}
_DEFAULTS = {"prompt": "{{知识}}\n{{用户}}", "top_p": "0.7", "temperature": "0.95", "model": "ChatGLM_pro"}


def create_application(call: Call) -> str | int:
    """A new one. The answer is the bare id."""
    body = _application_body(call)
    call.rules.fields(body, {}, needed=("name", "desc", "knowledge_ids"))
    made = Application(str(call.account.new_number()), {**_DEFAULTS, **body}, _bases(body))
    if call.play.effect:
        call.account.applications[made.id] = made
        call.account.note("application-created", made.id, body["name"])
    return call.written(made.id)


def _application_body(call: Call) -> dict[str, Any]:
    body = call.body(_APPLICATION_TESTS)
    for ident in _bases(body):
        call.known_base(ident)
    return body


def _bases(body: Mapping[str, Any]) -> tuple[str, ...]:
    inner = body.get("knowledge_info", {}).get("knowledge_ids", [])
    return tuple(dict.fromkeys(map(str, [*body.get("knowledge_ids", []), *inner])))


def edit_application(call: Call) -> NoData:
    """Change what is sent."""
    known, body = known_application(call), _application_body(call)
    if call.play.effect:
        known.fields |= body
        if "knowledge_ids" in body or "knowledge_info" in body:
            known.bases = _bases(body)
        call.account.note("application-edited", known.id, known.fields["name"])
    return NO_DATA


def list_applications(call: Call) -> Json:
    """One page, newest first."""
    page, size = call.page(20)
    seen = list(reversed(call.account.applications.values()))
    shown = [_application_item(one, call) for one in page_of(seen, page, size)]
    return call.dressed({"list": shown, "total": len(seen)})


def show_application(call: Call) -> Json:
    """One of them."""
    return _application_item(known_application(call), call)


def delete_application(call: Call) -> NoData:
    """Remove it; its bases stay."""
    known = known_application(call)
    if call.play.effect:
        del call.account.applications[known.id]
        call.account.note("application-deleted", known.id, known.fields["name"])
    return NO_DATA


def known_application(call: Call) -> Application:
    """The one in the path. Raises `Refusal` where there is none."""
    found = call.account.applications.get(call.ident)
    if found is None:
        raise Refusal(call.missing(call.behaviour.deleted_base, "应用"))
    return found


def _application_item(one: Application, call: Call) -> Json:
    numbers = {"knowledge_ids": [int(ident) if ident.isdigit() else ident for ident in one.bases]}
    return call.dressed({**one.fields, **numbers, "id": call.written(one.id)})


_FORMATS = ("txt", "doc", "pdf", "", "docx", "xlsx", "", "", "", "", "csv", "ppt", "pptx", "md", "xls")
DTYPES = {kind: number for number, kind in enumerate(_FORMATS, 1) if kind}
MOST_TURNS = 15


def _are_turns(value: Any) -> bool:
    are_turns = isinstance(value, list) and len(value) % 2 == 1 and len(value) <= MOST_TURNS
    return are_turns and all(
        isinstance(turn, dict) and turn.get("role") in ("user", "assistant") and is_text(turn.get("content"))
        for turn in value
    )


_INVOKE_TESTS: Mapping[str, Test] = {
    "prompt": _are_turns,
    "request_id": is_text,
    "incremental": is_flag,
    "returnType": one_of("json_string", "text"),
    "knowledge_ids": _are_ids,
    "document_ids": _are_ids,
}


def invoke(call: Call) -> Json:
    """The answer in one piece."""
    request_id, text = _answer(call)
    return {"requestId": request_id, "content": text, "usage": usage_of(text)}


def sse_invoke(call: Call) -> Response:
    """The answer as events, a few characters each."""
    request_id, text = _answer(call)
    return event_stream(list(_events(request_id, text, call)), _told(call))


def _told(call: Call) -> Mapping[str, Any]:
    """The arguments of the fault `stream`, where it is played."""
    return call.play.args if call.play.kind == "stream" else {}


def slice_info(call: Call) -> Json:
    """The slices behind an answer, by document."""
    found = call.account.answers.get(call.ident)
    if found is None:
        raise Refusal(call.missing("code", "请求"))
    documents = sorted({match.document for match in found}, key=lambda document: document.ordinal)
    slices = [_slices(one, [match for match in found if match.document is one], call) for one in documents]
    is_old = any(one["hide_positions"] for one in slices)
    return {"document_slices": slices, "has_old_document": is_old}


def _answer(call: Call) -> tuple[str, str]:
    """Request id and text; what it was made from is kept under the id."""
    application = known_application(call)
    body = call.body(_INVOKE_TESTS, needed=("prompt",))
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
    form = _EVENT_FORMS[call.behaviour.stream_form]
    *before, last = PIECES.findall(text)
    if end in ("error", "interrupted", "no-finish"):
        before = before[: len(before) // 2]
    for piece in before:
        yield form(request_id, "add", piece, None).encode()
    if end == "no-finish":
        return
    if end == "repeated":  # as the manual's example has it: `finish` with the text of the last `add`
        yield form(request_id, "add", last, None).encode()
    if end in ("error", "interrupted"):
        name = "errorhandle" if end == "error" else end
        yield form(request_id, name, ERROR, None).encode()
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


_EVENT_FORMS = {"quoted": _quoted, "plain": _plain, "wrapped": _wrapped}


def _slices(document: ZhipuDocument, found: list[Match], call: Call) -> Json:
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
        place = {"x0": 1, "x1": 2, "top": 3, "bottom": 4, "height": 5, "width": 6}
        fields["position"] = {**place, "page": match.index + 1}
    if kind in ("xls", "xlsx", "csv"):
        fields |= {"line": match.index + 1, "sheet_name": "Sheet1"}
    return fields


_MODEL = re.compile(r"(glm|charglm|codegeex|emohaa)(-[\w.]+)*", re.IGNORECASE)

_CHAT_TESTS: Mapping[str, Test] = {
    **TESTS,
    "request_id": lambda value: isinstance(value, str) and 6 <= len(value) <= 64,
    "user_id": lambda value: isinstance(value, str) and 6 <= len(value) <= 128,
    "do_sample": is_flag,
    "thinking": is_object,
}


def chat(call: Call) -> Response:
    """A completion, whole or as events."""
    body = call.body(_CHAT_TESTS, needed=("model", "messages"))
    if _MODEL.fullmatch(body["model"]) is None:
        raise Refusal(gateway(1211, 400, "模型不存在，请检查模型代码。"), f"the model is {body['model']}")
    number = str(call.account.new_number())
    asked = body.get("request_id", number)
    head = {"id": number, "created": int(call.now), "model": body["model"], "request_id": asked}
    return completion(body, head, _told(call))
