"""/knowledge, /embedding and /callback: knowledge bases, their models, the capacity, who is told."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

from kbsync_standin.zhipu.account import MODELS, Account
from kbsync_standin.zhipu.answers import NO_DATA, Call, Json, NoData, base_item, extra
from kbsync_standin.zhipu.documents import BYTES_PER_WORD, Base, Callback
from kbsync_standin.zhipu.rules import (
    CALLBACK_TESTS,
    Test,
    callback_of,
    check_needed,
    check_values,
    is_address,
    is_object,
    is_string,
    is_text,
    json_body,
    number_in_query,
    one_of,
)

_BACKGROUNDS = ("blue", "red", "orange", "purple", "sky", "green", "yellow")
_ICONS = ("question", "book", "seal", "wrench", "tag", "horn", "house")

_BASE_TESTS: Mapping[str, Test] = {
    "embedding_id": one_of(*MODELS),
    "name": is_text,
    "description": is_string,
    "background": one_of(*_BACKGROUNDS),
    "icon": one_of(*_ICONS),
    "embedding_model": one_of(*MODELS.values()),
    "contextual": one_of(0, 1),
}
_EDIT_TESTS: Mapping[str, Test] = {**_BASE_TESTS, **CALLBACK_TESTS}


def list_models(call: Call) -> Json:
    """The models of `MODELS`."""
    listed = [{"id": ident, "name": name, "description": name} for ident, name in MODELS.items()]
    return extra({"list": [extra(one, call) for one in listed], "total": len(listed)}, call)


def create_base(call: Call) -> Json:
    """A new base; equal names are no objection."""
    body = json_body(call.request, _BASE_TESTS.keys(), call.rules)
    check_needed(body, ("embedding_id", "name"), call.rules)
    _check(body, _BASE_TESTS, call)
    model = MODELS[body["embedding_id"]]
    base = Base(str(call.account.new_number()), **{**body, "embedding_model": model})
    if call.play.effect:
        call.account.add_base(base)
    return extra({"id": call.written(base.id)}, call)


def _check(body: dict[str, Any], tests: Mapping[str, Test], call: Call) -> None:
    check_values(body, tests, call.rules)
    if "embedding_model" in body:
        is_same = MODELS.get(body.get("embedding_id", 0)) == body["embedding_model"]
        call.rules.must(is_same, "embedding_model and embedding_id do not agree")


def edit_base(call: Call) -> NoData:
    """Change what is sent; another model vectorizes every document anew."""
    base = call.known_base(call.ident)
    body = json_body(call.request, _EDIT_TESTS.keys(), call.rules)
    _check(body, _EDIT_TESTS, call)
    if call.play.effect:
        called = callback_of(body)
        for document in base.documents.values():
            document.callback = called or document.callback
        _edit(base, {name: value for name, value in body.items() if name in _BASE_TESTS}, call.account)
    return NO_DATA


def _edit(base: Base, changes: dict[str, Any], account: Account) -> None:
    before = base.embedding_id
    for name, value in changes.items():
        setattr(base, name, value)
    base.embedding_model = MODELS[base.embedding_id]
    account.note("base-edited", base.id, base.name)
    if base.embedding_id != before:
        account.rebuild(list(base.documents.values()))


def list_bases(call: Call) -> Json:
    """One page of bases, newest first."""
    page = number_in_query(call.request, "page", 1, call.rules)
    size = number_in_query(call.request, "size", 10, call.rules)
    seen = [base for base in reversed(call.account.bases.values()) if not base.is_hidden]
    shown = islice(seen, (page - 1) * size, page * size)
    return extra({"list": [base_item(base, call) for base in shown], "total": len(seen)}, call)


def show_base(call: Call) -> Json:
    """One base."""
    return base_item(call.known_base(call.ident), call)


def delete_base(call: Call) -> NoData:
    """Remove a base with every document in it."""
    base = call.known_base(call.ident)
    if call.play.effect:
        call.account.drop_base(base)
    return NO_DATA


def show_capacity(call: Call) -> Json:
    """What the account uses and may use."""
    used, total = call.account.used_bytes, call.behaviour.capacity_bytes
    words = call.behaviour.capacity_words or total // BYTES_PER_WORD
    return extra(
        {
            "used": {"word_num": used // BYTES_PER_WORD, "length": used},
            "total": {"word_num": words, "length": total},
        },
        call,
    )


_CALLBACK_TESTS: Mapping[str, Test] = {"url": is_address, "callback_header": is_object}


def show_callback(call: Call) -> Json | None:
    """The address in use; no data where there is none."""
    known = call.account.callback
    if known is None:
        return None
    return extra({"url": known.url, "callback_header": dict(known.headers), "be_in_use": 1}, call)


def set_callback(call: Call) -> NoData:
    """Another address; headers that do not come are none."""
    body = json_body(call.request, _CALLBACK_TESTS.keys(), call.rules)
    check_needed(body, ("url",), call.rules)
    check_values(body, _CALLBACK_TESTS, call.rules)
    if call.play.effect:
        headers = {str(name): str(value) for name, value in body.get("callback_header", {}).items()}
        call.account.callback = Callback(body["url"], headers)
        call.account.note("callback-set", "", body["url"])
    return NO_DATA


def remove_callback(call: Call) -> NoData:
    """None from now on."""
    if call.play.effect and call.account.callback is not None:
        call.account.note("callback-removed", "", call.account.callback.url)
        call.account.callback = None
    return NO_DATA
