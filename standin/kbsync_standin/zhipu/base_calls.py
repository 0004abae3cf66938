"""/knowledge, /embedding and /callback: knowledge bases, their models, the capacity, who is told."""

from __future__ import annotations

from collections.abc import Mapping

from kbsync_standin.listing import page_of
from kbsync_standin.rules import Test, is_address, is_object, is_string, is_text, one_of
from kbsync_standin.zhipu.account import MODELS
from kbsync_standin.zhipu.answers import NO_DATA, Call, Json, NoData, base_item
from kbsync_standin.zhipu.documents import BYTES_PER_WORD, Base, Callback
from kbsync_standin.zhipu.rules import CALLBACK_TESTS, callback_of

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
    return call.dressed({"list": [call.dressed(one) for one in listed], "total": len(listed)})


def create_base(call: Call) -> Json:
    """A new base; equal names are no objection."""
    body = call.body(_BASE_TESTS, needed=("embedding_id", "name"))
    _check_model(body, call)
    model = MODELS[body["embedding_id"]]
    base = Base(str(call.account.new_number()), **{**body, "embedding_model": model})
    if call.play.effect:
        call.account.add_base(base)
    return call.dressed({"id": call.written(base.id)})


def _check_model(body: Json, call: Call) -> None:
    if "embedding_model" in body:
        is_same = MODELS.get(body.get("embedding_id", 0)) == body["embedding_model"]
        call.rules.must(is_same, "embedding_model and embedding_id do not agree")


def edit_base(call: Call) -> NoData:
    """Change what is sent; another model vectorizes every document again."""
    base = call.known_base(call.ident)
    body = call.body(_EDIT_TESTS)
    _check_model(body, call)
    if call.play.effect:
        called, before = callback_of(body), base.embedding_id
        for document in base.documents.values():
            document.callback = called or document.callback
        for name in body.keys() & _BASE_TESTS.keys():
            setattr(base, name, body[name])
        base.embedding_model = MODELS[base.embedding_id]
        call.account.note("base-edited", base.id, base.name)
        if base.embedding_id != before:
            for document in base.documents.values():
                call.account.again(document, "rebuilt")
    return NO_DATA


def list_bases(call: Call) -> Json:
    """One page of bases, newest first."""
    page, size = call.page()
    seen = [base for base in reversed(call.account.bases.values()) if not base.is_hidden]
    shown = [base_item(base, call) for base in page_of(seen, page, size)]
    return call.dressed({"list": shown, "total": len(seen)})


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
    return call.dressed(
        {
            "used": {"word_num": used // BYTES_PER_WORD, "length": used},
            "total": {"word_num": words, "length": total},
        }
    )


_CALLBACK_TESTS: Mapping[str, Test] = {"url": is_address, "callback_header": is_object}


def show_callback(call: Call) -> Json | None:
    """The address in use; no data where there is none."""
    known = call.account.callback
    if known is None:
        return None
    return call.dressed({"url": known.url, "callback_header": dict(known.headers), "be_in_use": 1})


def set_callback(call: Call) -> NoData:
    """Another address; headers that do not come are none."""
    body = call.body(_CALLBACK_TESTS, needed=("url",))
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
