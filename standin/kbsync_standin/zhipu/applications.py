"""/application: create, edit, list, look at and delete what answers questions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from kbsync_standin.zhipu import answers, strict
from kbsync_standin.zhipu.answers import NO_DATA, Json, NoData, Refusal
from kbsync_standin.zhipu.calls import Call
from kbsync_standin.zhipu.shapes import extra
from kbsync_standin.zhipu.strict import Test

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


def is_id(value: Any) -> bool:
    """An id as a number or as text."""
    return strict.is_whole(value) or strict.is_text(value)


def are_ids(value: Any) -> bool:
    """A list of them, which may be empty."""
    return isinstance(value, list) and all(map(is_id, value))


def _is_prompt(value: Any) -> bool:
    return isinstance(value, str) and all(sum(map(value.count, forms)) == 1 for forms in _PLACES)


def _is_recall(value: Any) -> bool:
    is_whole = isinstance(value, dict) and all(name in value for name in _NEEDED_OF_RECALL)
    return is_whole and all(test(value[name]) for name, test in _TESTS_OF_RECALL.items() if name in value)


def _is_number(most: float, *, is_open: bool) -> Test:
    def is_legal(value: Any) -> bool:
        try:
            number = float(value) if isinstance(value, str) else 0.0
        except ValueError:
            return False
        return 0 < number < most or (number == most and not is_open)

    return is_legal


_TESTS_OF_RECALL: Mapping[str, Test] = {
    "slice_config_type": strict.is_text,
    "recall_slice_splicing_method": strict.is_text,
    "recall_method": strict.one_of("embedding", "keyword", "mixed"),
    "rerank_status": strict.one_of(0, 1),
    "rerank_model_name": strict.is_text,
    "slice_count": lambda value: strict.is_whole(value) and value > 0,
    "embedding_recall_ratio": strict.is_whole,
    "show_recall_result": lambda value: isinstance(value, bool),
    "knowledge_ids": are_ids,
}


_TESTS: Mapping[str, Test] = {
    "name": lambda value: isinstance(value, str) and 1 <= len(value) <= 20,
    "desc": lambda value: isinstance(value, str) and len(value) <= 100,
    "prompt": _is_prompt,
    "top_p": _is_number(1.0, is_open=True),
    "temperature": _is_number(1.0, is_open=False),
    "knowledge_ids": are_ids,
    "model": strict.is_text,
    "icon_color": strict.one_of(*_COLORS),
    "icon_type": strict.one_of(*(f"robot_{kind}" for kind in _TYPES)),
    "param_desc": strict.one_of("strict", "moderate", "flexible", "custom"),
    "max_token": strict.whole(1, 8192),
    "knowledge_info": _is_recall,
}
_DEFAULTS = {"prompt": "{{知识}}\n{{用户}}", "top_p": "0.7", "temperature": "0.95", "model": "ChatGLM_pro"}


def create(call: Call) -> str | int:
    """A new one. The answer is the bare id."""
    body = _body(call)
    strict.check_needed(body, ("name", "desc", "knowledge_ids"), call.rules)
    made = Application(str(call.account.new_number()), {**_DEFAULTS, **body}, _bases(body))
    if call.play.effect:
        call.account.applications[made.id] = made
        call.account.note("application-created", made.id, body["name"])
    return call.written(made.id)


def _body(call: Call) -> dict[str, Any]:
    body = strict.json_body(call.request, _TESTS.keys(), call.rules)
    strict.check_values(body, _TESTS, call.rules)
    for ident in _bases(body):
        call.known_base(ident)
    return body


def _bases(body: Mapping[str, Any]) -> tuple[str, ...]:
    inner = body.get("knowledge_info", {}).get("knowledge_ids", [])
    return tuple(dict.fromkeys(map(str, [*body.get("knowledge_ids", []), *inner])))


def edit(call: Call) -> NoData:
    """Change what is sent."""
    known, body = known_application(call), _body(call)
    if call.play.effect:
        known.fields |= body
        if "knowledge_ids" in body or "knowledge_info" in body:
            known.bases = _bases(body)
        call.account.note("application-edited", known.id, known.fields["name"])
    return NO_DATA


def listing(call: Call) -> Json:
    """One page, newest first."""
    page = strict.number_in_query(call.request, "page", 1, call.rules)
    size = strict.number_in_query(call.request, "size", 20, call.rules)
    size = min(size, call.behaviour.page_cap or size)
    seen = list(reversed(call.account.applications.values()))
    shown = islice(seen, (page - 1) * size, page * size)
    return extra({"list": [_item(one, call) for one in shown], "total": len(seen)}, call)


def detail(call: Call) -> Json:
    """One of them."""
    return _item(known_application(call), call)


def delete(call: Call) -> NoData:
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
        raise Refusal(answers.missing(call.behaviour.deleted_base, "应用", call.behaviour, call.now))
    return found


def _item(one: Application, call: Call) -> Json:
    numbers = {"knowledge_ids": [int(ident) if ident.isdigit() else ident for ident in one.bases]}
    return extra({**one.fields, **numbers, "id": call.written(one.id)}, call)
