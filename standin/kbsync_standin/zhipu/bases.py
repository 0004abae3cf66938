"""/knowledge: create, edit, list, look at and delete knowledge bases; the account's capacity."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

from kbsync_standin.zhipu import strict
from kbsync_standin.zhipu.account import Account
from kbsync_standin.zhipu.answers import NO_DATA, Json, NoData
from kbsync_standin.zhipu.calls import Call
from kbsync_standin.zhipu.documents import BYTES_PER_WORD, Base
from kbsync_standin.zhipu.forms import callback_of
from kbsync_standin.zhipu.shapes import base_item, extra
from kbsync_standin.zhipu.strict import Test

HOME_ID = "1734786402936664064"
HOME_NAME = "handbook"
MODELS: Mapping[int, str] = {3: "Embedding-2", 11: "Embedding-3", 12: "Embedding-3-pro"}

_BACKGROUNDS = ("blue", "red", "orange", "purple", "sky", "green", "yellow")
_ICONS = ("question", "book", "seal", "wrench", "tag", "horn", "house")

_TESTS: Mapping[str, Test] = {
    "embedding_id": strict.one_of(*MODELS),
    "name": strict.is_text,
    "description": strict.is_string,
    "background": strict.one_of(*_BACKGROUNDS),
    "icon": strict.one_of(*_ICONS),
    "embedding_model": strict.one_of(*MODELS.values()),
    "contextual": strict.one_of(0, 1),
}
_EDIT_TESTS: Mapping[str, Test] = {**_TESTS, **strict.CALLBACK_TESTS}


def models(call: Call) -> Json:
    """The models of `MODELS`."""
    listed = [{"id": ident, "name": name, "description": name} for ident, name in MODELS.items()]
    return extra({"list": [extra(one, call) for one in listed], "total": len(listed)}, call)


def add_home(account: Account, ident: str = HOME_ID) -> Base:
    """Put the base into the account that is there from the start."""
    return account.add_base(Base(ident, HOME_NAME, 11, MODELS[11]))


def turn_home(account: Account, state: str) -> None:
    """Do to that base what the switch `base` says."""
    home = account.bases.get(HOME_ID)
    if state == "recreated":
        if home is not None:
            account.drop_base(home)
        add_home(account, str(account.new_number()))
        return
    home = home or add_home(account)
    home.is_hidden = state == "deleted"
    if state == "emptied":
        account.empty(home, "deleted-by-others")


def create(call: Call) -> Json:
    """A new base; equal names are no objection."""
    body = strict.json_body(call.request, _TESTS.keys(), call.rules)
    strict.check_needed(body, ("embedding_id", "name"), call.rules)
    _check(body, _TESTS, call)
    model = MODELS[body["embedding_id"]]
    base = Base(str(call.account.new_number()), **{**body, "embedding_model": model})
    if call.play.effect:
        call.account.add_base(base)
    return extra({"id": call.written(base.id)}, call)


def _check(body: dict[str, Any], tests: Mapping[str, Test], call: Call) -> None:
    strict.check_values(body, tests, call.rules)
    if "embedding_model" in body:
        is_same = MODELS.get(body.get("embedding_id", 0)) == body["embedding_model"]
        call.rules.must(is_same, "embedding_model and embedding_id do not agree")


def edit(call: Call) -> NoData:
    """Change what is sent; another model vectorizes every document anew."""
    base = call.known_base(call.ident)
    body = strict.json_body(call.request, _EDIT_TESTS.keys(), call.rules)
    _check(body, _EDIT_TESTS, call)
    if call.play.effect:
        called = callback_of(body)
        for document in base.documents.values():
            document.callback = called or document.callback
        _edit(base, {name: value for name, value in body.items() if name in _TESTS}, call.account)
    return NO_DATA


def _edit(base: Base, changes: dict[str, Any], account: Account) -> None:
    before = base.embedding_id
    for name, value in changes.items():
        setattr(base, name, value)
    base.embedding_model = MODELS[base.embedding_id]
    account.note("base-edited", base.id, base.name)
    if base.embedding_id != before:
        account.rebuild(list(base.documents.values()))


def listing(call: Call) -> Json:
    """One page of bases, newest first."""
    page = strict.number_in_query(call.request, "page", 1, call.rules)
    size = strict.number_in_query(call.request, "size", 10, call.rules)
    seen = [base for base in reversed(call.account.bases.values()) if not base.is_hidden]
    shown = islice(seen, (page - 1) * size, page * size)
    return extra({"list": [base_item(base, call) for base in shown], "total": len(seen)}, call)


def detail(call: Call) -> Json:
    """One base."""
    return base_item(call.known_base(call.ident), call)


def delete(call: Call) -> NoData:
    """Remove a base with every document in it."""
    base = call.known_base(call.ident)
    if call.play.effect:
        call.account.drop_base(base)
    return NO_DATA


def capacity(call: Call) -> Json:
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
