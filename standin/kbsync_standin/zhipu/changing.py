"""DELETE and PUT /document/{id}, POST /document/embedding/{id}."""

from __future__ import annotations

import math

from kbsync_standin.zhipu import linking, strict
from kbsync_standin.zhipu.answers import NO_DATA, NoData, Refusal
from kbsync_standin.zhipu.calls import Call
from kbsync_standin.zhipu.forms import callback_of, reslice_form
from kbsync_standin.zhipu.scripts import script_of


def delete(call: Call) -> NoData:
    """Remove a document; it is gone for searches at once."""
    document = call.account.document(call.ident)
    if document is None:
        raise Refusal(call.missing(call.behaviour.unknown_delete, "知识"))
    if call.play.effect and call.play.kind != "keeps-document":
        listed = call.play.seconds("seconds", math.inf) if call.play.kind == "still-listed" else 0.0
        call.account.remove(document, listed=listed)
    if call.play.kind == "delete-unknown":
        raise Refusal(call.missing(call.play.word("form", "404"), "知识"))
    return NO_DATA


def reembed(call: Call) -> NoData:
    """Vectorize a document again, its slicing unchanged."""
    document = call.known_document(call.ident)
    body = strict.json_body(call.request, strict.CALLBACK_FIELDS, call.rules)
    strict.check_values(body, strict.CALLBACK_TESTS, call.rules)
    document.callback = callback_of(body) or document.callback
    if call.play.effect:
        if document.address:
            linking.visit(document)
        call.account.again(document, "reembedded", script_of(call.play))
    return NO_DATA


def reslice(call: Call) -> NoData:
    """Cut a document anew; neither content nor name change."""
    document = call.known_document(call.ident)
    slicing = reslice_form(call.request, document.sent_name, call.behaviour)
    if call.play.effect:
        document.slicing = slicing
        call.account.again(document, "resliced", script_of(call.play))
    return NO_DATA
