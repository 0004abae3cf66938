"""/knowledge, /embedding and /callback: knowledge bases, models, capacity, and the callback URL."""

from __future__ import annotations

from collections.abc import Mapping

from kbsync_standin.application import Call, Json, route
from kbsync_standin.rules import Test, is_address, is_object, is_string, is_text, one_of, require
from kbsync_standin.zhipu.account import MODELS
from kbsync_standin.zhipu.answers import NULL, Answers, Null
from kbsync_standin.zhipu.documents import BYTES_PER_WORD
from kbsync_standin.zhipu.rules import CALLBACK_TESTS, callback_of

COLORS = ("blue", "red", "orange", "purple", "sky", "green", "yellow")
_ICONS = ("question", "book", "seal", "wrench", "tag", "horn", "house")


_BASE_TESTS: Mapping[str, Test] = {
    "embedding_id": one_of(*MODELS),
    "name": is_text,
    "description": is_string,
    "background": one_of(*COLORS),
    "icon": one_of(*_ICONS),
    "embedding_model": one_of(*MODELS.values()),
    "contextual": one_of(0, 1),
}
_EDIT_TESTS: Mapping[str, Test] = {**_BASE_TESTS, **CALLBACK_TESTS}


_CALLBACK_TESTS: Mapping[str, Test] = {"url": is_address, "callback_header": is_object}


class BaseCalls(Answers):
    """The calls for knowledge bases and the account."""

    @route("GET", "/embedding", "models")
    def list_models(self, call: Call) -> Json:
        """List the models in `MODELS`."""
        listed = [{"id": ident, "name": name, "description": name} for ident, name in MODELS.items()]
        return self.add_extra_fields(
            {"list": [self.add_extra_fields(model) for model in listed], "total": len(listed)}
        )

    @route("POST", "/knowledge", "create-base")
    def create_base(self, call: Call) -> Json:
        """Create a base; its name may be in use."""
        body = call.body(_BASE_TESTS, "embedding_id", "name")
        self._check_model(body)
        base = self.add_base(**body)
        return self.add_extra_fields({"id": self.id_form_of(base.id)})

    def _check_model(self, body: Json) -> None:
        if "embedding_model" in body:
            is_same = MODELS.get(body.get("embedding_id", 0)) == body["embedding_model"]
            require(is_same, "embedding_model and embedding_id do not agree")

    @route("PUT", "/knowledge/{id}", "edit-base")
    def edit_base(self, call: Call) -> None:
        """Change the fields that were sent; a new model vectorizes every document again."""
        base = self.known_base(call.ids["id"])
        body = call.body(_EDIT_TESTS)
        self._check_model(body)
        called, before = callback_of(body), base.embedding_id
        for document in self.documents_of(base.id):
            document.callback = called or document.callback
        for name in body.keys() & _BASE_TESTS.keys():
            setattr(base, name, body[name])
        base.embedding_model = MODELS[base.embedding_id]
        self._record("base-edited", base.id, base.name)
        if base.embedding_id != before:
            for document in self.documents_of(base.id):
                self.vectorize_again(document, "rebuilt")

    @route("GET", "/knowledge", "bases")
    def list_bases(self, call: Call) -> Json:
        """List one page of bases, newest first."""
        page, size = call.page("size", 10)
        bases = list(self.visible_bases().values())[::-1]
        rows = [self.base_item(base) for base in self.page(bases, page, size)]
        return self.add_extra_fields({"list": rows, "total": len(bases)})

    @route("GET", "/knowledge/{id}", "base")
    def show_base(self, call: Call) -> Json:
        """Show one base."""
        return self.base_item(self.known_base(call.ids["id"]))

    @route("DELETE", "/knowledge/{id}", "delete-base")
    def delete_base(self, call: Call) -> None:
        """Remove a base with every document in it."""
        self.drop_base(self.known_base(call.ids["id"]).id)

    @route("GET", "/knowledge/capacity", "capacity")
    def show_capacity(self, call: Call) -> Json:
        """Show the account's usage and capacity."""
        used, total = self.used_bytes, self.behaviour.capacity_bytes
        words = self.behaviour.capacity_words or total // BYTES_PER_WORD
        used_up = {"word_num": used // BYTES_PER_WORD, "length": used}
        return self.add_extra_fields({"used": used_up, "total": {"word_num": words, "length": total}})

    @route("GET", "/callback", "callback")
    def show_callback(self, call: Call) -> Json | Null:
        """Show the callback URL; no data if none is set."""
        callback = self.callback
        if callback is None:
            return NULL
        return self.add_extra_fields(
            {"url": callback.url, "callback_header": dict(callback.headers), "be_in_use": 1}
        )

    @route("PUT", "/callback", "set-callback")
    def set_callback(self, call: Call) -> None:
        """Set the callback URL; without headers in the request it has none."""
        body = call.body(_CALLBACK_TESTS, "url")
        self.callback = callback_of({**body, "callback_url": body["url"]})
        self._record("callback-set", "", body["url"])

    @route("DELETE", "/callback", "delete-callback")
    def remove_callback(self, call: Call) -> None:
        """Remove the callback URL."""
        if self.callback is not None:
            self._record("callback-removed", "", self.callback.url)
            self.callback = None
