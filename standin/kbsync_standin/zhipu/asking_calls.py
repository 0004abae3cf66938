"""/application, /model-api and chat completions: agents and their answers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kbsync_standin import completions, rules
from kbsync_standin.application import Call, Json, route
from kbsync_standin.messages import Response
from kbsync_standin.rules import Refused, Test, Violation
from kbsync_standin.zhipu.account import Match, search
from kbsync_standin.zhipu.answers import gateway
from kbsync_standin.zhipu.base_calls import COLORS
from kbsync_standin.zhipu.document_calls import DocumentCalls
from kbsync_standin.zhipu.documents import ZhipuDocument, extension

_PLACES = (("{{knowledge}}", "{{知识}}"), ("{{user}}", "{{用户}}"))
_TYPES = ("assist", "navigate", "guardian", "service", "messenger", "chat", "engineer")
_NEEDED_OF_RECALL = ("recall_method", "rerank_status", "slice_count")


@dataclass(slots=True, eq=False)
class Agent:
    """The service's "application". `fields`: as shown; `bases`: the ids of the bases that it searches."""

    id: str
    fields: dict[str, Any]
    bases: tuple[str, ...]


def _are_ids(value: Any) -> bool:
    """Return whether the value is a list of ids as numbers or text; it may be empty."""
    return isinstance(value, list) and all(rules.is_whole(ident) or rules.is_text(ident) for ident in value)


def _is_prompt(value: Any) -> bool:
    return isinstance(value, str) and all(sum(map(value.count, forms)) == 1 for forms in _PLACES)


def _is_recall(value: Any) -> bool:
    is_complete = isinstance(value, dict) and all(name in value for name in _NEEDED_OF_RECALL)
    return is_complete and all(test(value[name]) for name, test in _TESTS_OF_RECALL.items() if name in value)


def _number(value: Any) -> float:
    """Return a number that is written as a text, 0 for anything else."""
    is_number = isinstance(value, str) and re.fullmatch(r"[0-9]+(\.[0-9]+)?", value) is not None
    return float(value) if is_number else 0.0


_TESTS_OF_RECALL: Mapping[str, Test] = {
    "slice_config_type": rules.is_text,
    "recall_slice_splicing_method": rules.is_text,
    "recall_method": rules.one_of("embedding", "keyword", "mixed"),
    "rerank_status": rules.one_of(0, 1),
    "rerank_model_name": rules.is_text,
    "slice_count": lambda value: rules.is_whole(value) and value > 0,
    "embedding_recall_ratio": rules.is_whole,
    "show_recall_result": rules.is_flag,
    "knowledge_ids": _are_ids,
}


_APPLICATION_TESTS: Mapping[str, Test] = {
    "name": lambda value: isinstance(value, str) and 1 <= len(value) <= 20,
    "desc": lambda value: isinstance(value, str) and len(value) <= 100,
    "prompt": _is_prompt,
    "top_p": lambda value: 0 < _number(value) < 1,
    "temperature": lambda value: 0 < _number(value) <= 1,
    "knowledge_ids": _are_ids,
    "model": rules.is_text,
    "icon_color": rules.one_of(*COLORS),
    "icon_type": rules.one_of(*(f"robot_{kind}" for kind in _TYPES)),
    "param_desc": rules.one_of("strict", "moderate", "flexible", "custom"),
    "max_token": rules.integer(1, 8192),
    "knowledge_info": _is_recall,
}
_DEFAULTS = {"prompt": "{{知识}}\n{{用户}}", "top_p": "0.7", "temperature": "0.95", "model": "ChatGLM_pro"}


def _bases(body: Mapping[str, Any]) -> tuple[str, ...]:
    inner = body.get("knowledge_info", {}).get("knowledge_ids", [])
    return tuple(dict.fromkeys(map(str, [*body.get("knowledge_ids", []), *inner])))


_FORMATS = ("txt", "doc", "pdf", "", "docx", "xlsx", "", "", "", "", "csv", "ppt", "pptx", "md", "xls")
DTYPES = {kind: number for number, kind in enumerate(_FORMATS, 1) if kind}
MAX_TURNS = 15


_INVOKE_TESTS: Mapping[str, Test] = {
    "prompt": lambda value: completions.are_turns(value) and len(value) % 2 == 1 and len(value) <= MAX_TURNS,
    "request_id": rules.is_text,
    "incremental": rules.is_flag,
    "returnType": rules.one_of("json_string", "text"),
    "knowledge_ids": _are_ids,
    "document_ids": _are_ids,
}


def _quoted(request_id: str, name: str, piece: str, usage: Json | None) -> str:
    """Write an event as the manual prints it."""
    text = json.dumps(piece, ensure_ascii=False)
    first = "Id" if name == "finish" else "id"
    usage_line = f"usage: {json.dumps(usage)}\n" if usage else ""
    return f'{first}: "{request_id}"\nevent: "{name}"\ndata: {text}\n{usage_line}\n'


def _plain(request_id: str, name: str, piece: str, usage: Json | None) -> str:
    """Write an event as servers write text: no space after colons, and one `data` line for each line."""
    data = "".join(f"data:{line}\n" for line in piece.split("\n"))
    return f"event:{name}\nid:{request_id}\n{data}\n"


def _wrapped(request_id: str, name: str, piece: str, usage: Json | None) -> str:
    """Write an event as the newer routes do, with progress in between."""
    progress = f'event:add\nid:{request_id}\ndata:{{"extra_input":{{"node":"answer"}}}}\n\n'
    data = json.dumps({"msg": piece} | ({"usage": usage} if usage else {}), ensure_ascii=False)
    return f"{progress}event:{name}\nid:{request_id}\ndata:{data}\n\n"


_EVENT_FORMS = {"quoted": _quoted, "plain": _plain, "wrapped": _wrapped}


def _slice(match: Match, kind: str) -> Json:
    """Describe a slice; only PDFs have pages, only tables have lines."""
    fields: Json = {"document_id": match.document.id, "text": match.passage.text}
    if kind == "pdf":
        position = {"x0": 1, "x1": 2, "top": 3, "bottom": 4, "height": 5, "width": 6}
        fields["position"] = {**position, "page": match.index + 1}
    if kind in ("xls", "xlsx", "csv"):
        fields |= {"line": match.index + 1, "sheet_name": "Sheet1"}
    return fields


_MODEL = re.compile(r"(glm|charglm|codegeex|emohaa)(-[\w.]+)*", re.IGNORECASE)


_CHAT_TESTS: Mapping[str, Test] = {
    **completions.TESTS,
    "request_id": lambda value: isinstance(value, str) and 6 <= len(value) <= 64,
}


class AskingCalls(DocumentCalls):
    """The calls for questions."""

    @route("POST", "/application", "create-application")
    def create_application(self, call: Call) -> str | int:
        """Create an application. The response is the bare id."""
        body = self._application_body(call)
        rules.require_fields(body, {}, needed=("name", "desc", "knowledge_ids"))
        agent = Agent(self.new_id(), {**_DEFAULTS, **body}, _bases(body))
        self.agents[agent.id] = agent
        self._record("application-created", agent.id, body["name"])
        return self.id_form_of(agent.id)

    def _application_body(self, call: Call) -> dict[str, Any]:
        body = call.body(_APPLICATION_TESTS)
        for ident in _bases(body):
            self.known_base(ident)
        return body

    @route("PUT", "/application/{id}", "edit-application")
    def edit_application(self, call: Call) -> None:
        """Change the fields that were sent."""
        agent, body = self.known_application(call), self._application_body(call)
        agent.fields |= body
        if "knowledge_ids" in body or "knowledge_info" in body:
            agent.bases = _bases(body)
        self._record("application-edited", agent.id, agent.fields["name"])

    @route("GET", "/application", "applications")
    def list_applications(self, call: Call) -> Json:
        """List one page of applications, newest first."""
        page, size = call.page("size", 20)
        agents = list(reversed(self.agents.values()))
        rows = [self._application_item(agent) for agent in self.page(agents, page, size)]
        return self.add_extra_fields({"list": rows, "total": len(agents)})

    @route("GET", "/application/{id}", "application")
    def show_application(self, call: Call) -> Json:
        """Show one application."""
        return self._application_item(self.known_application(call))

    @route("DELETE", "/application/{id}", "delete-application")
    def delete_application(self, call: Call) -> None:
        """Remove an application; its bases stay."""
        agent = self.known_application(call)
        del self.agents[agent.id]
        self._record("application-deleted", agent.id, agent.fields["name"])

    def known_application(self, call: Call) -> Agent:
        """Return the application of the path. Raises `Refused` if there is none."""
        agent = self.agents.get(call.ids["id"])
        if agent is None:
            raise Refused("", response=self.missing(self.behaviour.deleted_base, "应用"))
        return agent

    def _application_item(self, agent: Agent) -> Json:
        numbers = {"knowledge_ids": [int(ident) if ident.isdigit() else ident for ident in agent.bases]}
        return self.add_extra_fields({**agent.fields, **numbers, "id": self.id_form_of(agent.id)})

    @route("POST", "/model-api/{id}/invoke", "invoke")
    def invoke(self, call: Call) -> Json:
        """Answer in one piece."""
        request_id, text = self._answer(call)
        return {"requestId": request_id, "content": text, "usage": completions.usage_of(text)}

    @route("POST", "/model-api/{id}/sse-invoke", "sse-invoke")
    def sse_invoke(self, call: Call) -> Response:
        """Answer as events of a few characters each."""
        request_id, text = self._answer(call)
        return completions.event_stream(list(self._events(request_id, text, call)), call.args_of("stream"))

    @route("GET", "/v2/{id}/slice_info", "slice-info")
    def slice_info(self, call: Call) -> Json:
        """Return the slices behind an answer, grouped by document."""
        hits = self.answers.get(call.ids["id"])
        if hits is None:
            raise Refused("", response=self.missing("code", "请求"))
        documents = sorted({match.document for match in hits}, key=lambda document: document.ordinal)
        slices = [
            self._slices(document, [match for match in hits if match.document is document], call)
            for document in documents
        ]
        is_old = any(answer_slices["hide_positions"] for answer_slices in slices)
        return {"document_slices": slices, "has_old_document": is_old}

    def _answer(self, call: Call) -> tuple[str, str]:
        """Return request id and text; store the slices behind it under the id."""
        application = self.known_application(call)
        body = call.body(_INVOKE_TESTS, "prompt")
        base_ids = [str(ident) for ident in body.get("knowledge_ids", application.bases)]
        bases = [self.known_base(ident) for ident in base_ids if ident in application.bases]
        documents = self.searchable(bases, [str(ident) for ident in body.get("document_ids", [])])
        hits = search(body["prompt"][-1]["content"], documents, completions.MAX_PASSAGES, 0.0)
        request_id = body.get("request_id") or f"req-{self.new_number()}"
        self.answers[request_id] = hits
        return request_id, "\n\n".join(match.passage.text for match in hits) or completions.NOTHING

    def _events(self, request_id: str, text: str, call: Call) -> Iterator[bytes]:
        end = call.word("end", "") if call.plays("stream") else ""
        form = _EVENT_FORMS[self.behaviour.stream_form]
        *before, last = completions.PIECES.findall(text)
        if end in ("error", "interrupted", "no-finish"):
            before = before[: len(before) // 2]
        for piece in before:
            yield form(request_id, "add", piece, None).encode()
        if end == "no-finish":
            return
        if end == "repeated":  # as in the manual's example: `finish` with the text of the last `add`
            yield form(request_id, "add", last, None).encode()
        if end in ("error", "interrupted"):
            name = "errorhandle" if end == "error" else end
            yield form(request_id, name, completions.ERROR, None).encode()
            return
        final = form(request_id, "finish", last, completions.usage_of(text)).encode()
        yield final.rstrip(b"\n") if end == "no-blank" else final

    def _slices(self, document: ZhipuDocument, hits: list[Match], call: Call) -> Json:
        kind = extension(document.sent_name)
        about = {
            "id": self.id_form_of(document.id),
            "name": document.name,
            "url": self.signed(call, document.id),
            "dtype": DTYPES.get(kind, 1),
        }
        return {
            "document": about,
            "slice_info": [_slice(match, kind) for match in hits],
            "images": self.images_of(document, call),
            "hide_positions": document.name in self.behaviour.without_positions.split(),
        }

    @route("POST", "/paas/v4/chat/completions", "chat")
    def chat(self, call: Call) -> Response:
        """Answer with a completion, whole or as events."""
        body = call.body(_CHAT_TESTS, "model", "messages")
        if _MODEL.fullmatch(body["model"]) is None:
            refusal = gateway(1211, 400, "模型不存在，请检查模型代码。")
            raise Violation(f"the model is {body['model']}", response=refusal)
        number = str(self.new_number())
        request_id = body.get("request_id", number)
        head = {"id": number, "created": int(self.now), "model": body["model"], "request_id": request_id}
        return completions.completion(body, head, call.args_of("stream"))
