"""POST /document/upload_document/{knowledge_id}: the file is stored, vectorizing begins."""

from __future__ import annotations

from kbsync_standin.zhipu import answers
from kbsync_standin.zhipu.answers import Json, Refusal
from kbsync_standin.zhipu.calls import Call
from kbsync_standin.zhipu.documents import Base, Document
from kbsync_standin.zhipu.forms import UploadForm, upload_form
from kbsync_standin.zhipu.naming import extension
from kbsync_standin.zhipu.scripts import script_of
from kbsync_standin.zhipu.shapes import extra
from kbsync_standin.zhipu.strict import SUPPORTED

UNSUPPORTED = "不支持的文档类型"
NAME_TAKEN = "文件名已存在"
NAME_TOO_LONG = "文件名过长"
NO_SPACE = "知识库空间不足"


def upload(call: Call) -> Json:
    """Store the one file of the form. Raises `Refusal`, or `Breach` for a rule that is broken."""
    base = call.known_base(call.ident)
    form = upload_form(call.request, call.behaviour, call.now)
    if len(form.content) > call.behaviour.max_bytes:
        raise Refusal(answers.gateway(435, 435))
    document = _draft(form, base, call)
    if reason := _objection(document, call):
        return _lists([], [_failed(document.name, reason)], call)
    is_stored = bool(call.play.arg("stored", False)) if call.play.kind == "failed-info" else call.play.effect
    if is_stored:
        _store(document, call)
    return _told(document, call)


def _objection(document: Document, call: Call) -> str:
    behaviour = call.behaviour
    if extension(document.sent_name) not in SUPPORTED:
        return UNSUPPORTED
    if behaviour.name_bytes and len(document.sent_name.encode()) > behaviour.name_bytes:
        return NAME_TOO_LONG
    if behaviour.equal_names == "refuse" and call.account.namesakes(document.base, document.name):
        return NAME_TAKEN
    is_refused = behaviour.full == "refused" and call.account.is_full_for(document.size)
    return NO_SPACE if is_refused else ""


def _told(document: Document, call: Call) -> Json:
    success = _success(document, call)
    match call.play.kind:
        case "failed-info":
            return _lists([], [_failed(document.name, call.play.word("reason", UNSUPPORTED))], call)
        case "both-lists":
            return _lists([success], [_failed(document.name, UNSUPPORTED)], call)
        case "neither-list":
            return _lists([], [], call)
        case "success-null":
            return _lists(None, [], call)
        case _:
            return _lists([success], [], call)


def _draft(form: UploadForm, base: Base, call: Call) -> Document:
    name_form = ""
    if call.play.kind == "other-name" and "answer" not in call.play.args:
        name_form = call.play.word("form", "suffixed")
    document = call.account.draft(base, form.name, form.content, form.slicing, name_form)
    document.parse_image, document.callback = form.parse_image, form.callback
    document.word_limit = form.word_limit
    return document


def _store(document: Document, call: Call) -> None:
    namesakes = call.account.namesakes(document.base, document.name)
    if call.behaviour.equal_names == "replace":
        for older in list(namesakes):
            call.account.remove(older, "replaced")
    call.account.store(document, script_of(call.play))


def _success(document: Document, call: Call) -> Json:
    name = document.name
    if call.play.kind == "other-name":
        name = call.play.word("answer", name)
    url = call.signer.url(call.origin, document.id, call.now)
    return extra({"documentId": call.written(document.id), "fileName": name, "url": url}, call)


def _failed(name: str, reason: str) -> Json:
    return {"fileName": name, "failReason": reason}


def _lists(successes: list[Json] | None, failures: list[Json], call: Call) -> Json:
    return extra({"successInfos": successes, "failedInfos": failures}, call)
