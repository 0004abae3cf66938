"""GET /document, GET /document/{id} and the signed addresses of files."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kbsync_standin.messages import Response
from kbsync_standin.zhipu import answers, pictures, strict
from kbsync_standin.zhipu.answers import Json, Refusal
from kbsync_standin.zhipu.calls import Call
from kbsync_standin.zhipu.documents import Document
from kbsync_standin.zhipu.shapes import extra, item
from kbsync_standin.zhipu.shelf import Rows

_HIGH_BY = 7
_TOKENS = re.compile(r"\w+")


def listing(call: Call) -> Json:
    """One page of a base's documents."""
    strict.check_needed(call.request.query, ("knowledge_id",), call.rules)
    base = call.known_base(call.request.query["knowledge_id"])
    wanted = _Page.asked(call)
    base.shelf.settle(call.now)
    rows = _filtered(base.shelf.rows(call.behaviour.order), call)
    shown = [item(document, call) for document in wanted.cut(rows, call)]
    return extra(_total(len(rows), call) | _list_field(shown, call), call)


@dataclass(frozen=True, slots=True)
class _Page:
    """A page that is asked for, 1-based."""

    number: int
    size: int

    @staticmethod
    def asked(call: Call) -> _Page:
        number = strict.number_in_query(call.request, "page", 1, call.rules)
        size = strict.number_in_query(call.request, "size", 10, call.rules)
        return _Page(number, min(size, call.behaviour.page_cap or size))

    def cut(self, rows: Rows, call: Call) -> list[Document]:
        """What the page shows of `rows`."""
        number = self.number
        if call.behaviour.page_beyond == "repeats":
            number = min(number, max(1, -(-len(rows) // self.size)))
        start = (number - 1) * self.size
        if number > 1 and call.behaviour.unstable_pages:
            start += call.account.chance.choice((-1, 0, 1))
        if call.play.kind == "duplicates" and number > 1:
            start -= call.play.whole("n", 1)
        return rows.cut(start, self.size)


def _filtered(rows: Rows, call: Call) -> Rows:
    word = call.request.query.get("word", "")
    if word and call.behaviour.word != "ignored":
        rows = rows.where(_comparison(word, call.behaviour.word))
    if call.play.kind == "left-out":
        name = call.play.arg("name", None)
        rows = rows.where(lambda document: name not in (None, document.name, document.sent_name))
    return rows


def _comparison(word: str, form: str) -> Callable[[Document], bool]:
    match form:
        case "exact":
            return lambda document: document.name == word
        case "case_insensitive":
            lower = word.lower()
            return lambda document: lower in document.name.lower()
        case "tokenised":
            tokens = frozenset(_TOKENS.findall(word.lower()))
            return lambda document: not tokens.isdisjoint(_TOKENS.findall(document.name.lower()))
        case _:
            return lambda document: word in document.name


def _total(count: int, call: Call) -> Json:
    if call.play.kind == "total":
        return {} if call.play.arg("missing", False) else {"total": call.play.arg("value", 0)}
    totals: dict[str, Any] = {
        "right": count,
        "high": count + _HIGH_BY,
        "low": max(0, count - 1),
        "zero": 0,
        "string": str(count),
    }
    form = call.behaviour.total
    return {"total": totals[form]} if form in totals else {}


def _list_field(shown: list[Json], call: Call) -> Json:
    form: str = "list" if shown else call.behaviour.empty_list
    if call.play.kind == "list-null":
        form = call.play.word("form", "null")
    match form:
        case "null":
            return {"list": None}
        case "missing":
            return {}
        case _:
            return {"list": shown}


def detail(call: Call) -> Json:
    """One document."""
    document = call.account.documents.get(call.ident)
    if call.play.kind == "detail-missing":
        raise Refusal(call.missing(call.play.word("form", call.behaviour.deleted_detail), "知识"))
    if document is None or not _has_detail(document, call):
        raise Refusal(call.missing(call.behaviour.deleted_detail, "知识"))
    return item(document, call)


def _has_detail(document: Document, call: Call) -> bool:
    lag = call.behaviour.detail_lag
    is_gone = document.deleted is not None and document.deleted + lag <= call.now
    return document.seen_from + lag <= call.now and not is_gone and not document.base.is_hidden


def file(call: Call) -> Response:
    """The bytes of a document, for whoever has its signed address."""
    if "authorization" in call.request.headers:
        sentence = "the API key was sent to the host of the files"
        raise Refusal(answers.storage("InvalidArgument", 400), sentence)
    if not call.signer.allows(call.ident, call.request.query, call.now):
        raise Refusal(answers.storage("AccessDenied", 403))
    document = call.account.document(call.ident.partition(".")[0])
    if document is None:
        raise Refusal(answers.storage("NoSuchKey", 404))
    if pictures.is_picture(call.ident):
        return pictures.picture()
    return Response(200, document.content, {"content-type": "application/octet-stream"})
