"""The vendor's application: each route checks its request, does its work on the bot, and answers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kbsync_standin.faults import Fault, hits
from kbsync_standin.gptbots.behaviour import KINDS, GptbotsBehaviour
from kbsync_standin.gptbots.bot import HOME_ID, Bot, Document, ids_in
from kbsync_standin.gptbots.rules import (
    MOST_ASKED,
    Delivery,
    SentFile,
    asked_page,
    base_wish_of,
    body_of,
    delivery_of,
    question_of,
    ranked,
)
from kbsync_standin.listing import in_order, page_of
from kbsync_standin.messages import Request, Response
from kbsync_standin.older import ServiceApplication, compiled, misshapen
from kbsync_standin.rules import Breach, Refused

QA_UPDATE = "/v1/bot/doc/qa/update"

ROUTES: Mapping[tuple[str, str], str] = {
    ("GET", "/v1/bot/knowledge/base/page"): "base",
    ("POST", "/v1/bot/knowledge/base/create"): "create-base",
    ("GET", "/v1/bot/doc/query/page"): "list",
    ("POST", "/v1/bot/doc/text/add"): "add",
    ("POST", "/v1/bot/doc/spreadsheet/add"): "add",
    ("POST", "/v1/bot/doc/qa/add"): "add",
    ("PUT", "/v1/bot/doc/text/update"): "update",
    ("PUT", "/v1/bot/doc/spreadsheet/update"): "update",
    ("PUT", QA_UPDATE): "update",
    ("GET", "/v1/bot/data/detail/list"): "status",
    ("DELETE", "/v1/bot/doc/batch/delete"): "delete",
    ("POST", "/v1/bot/data/retry/batch"): "retry",
    ("POST", "/v1/vector/match"): "match",
}
"""The operation of each method and path."""

_OK = {"code": 0, "message": "OK"}


def _list_bases(bot: Bot, request: Request, fault: Fault) -> Response:
    rows = []
    for key, base in bot.bases().items():
        documents = len(list(bot.storage.alive(key)))
        told = {"name": base.name, "desc": base.description}
        rows.append({"id": key, **told, "doc": documents, "chunk": 0, "token": 0})
    forms = {"knowledge_base": {"knowledge_base": rows}, "data": {"data": rows}}
    return _json(bot, forms.get(bot.behaviour.bases, {"data": {"list": rows}}), fault)


def _create_base(bot: Bot, request: Request, fault: Fault) -> Response:
    wish = base_wish_of(body_of(request))
    return _json(bot, {"knowledge_base_id": bot.make_base(*wish)}, fault)


def _list(bot: Bot, request: Request, fault: Fault) -> Response:
    number, size = asked_page(request.query)
    base = request.query.get("knowledge_base_id", "")
    bot.check_base(base)
    rows = bot.storage.listed(base, bot.clock.now(), bot.behaviour.list_lag)
    rows = [one for one in rows if not hits(fault, "left-out", one.name)]
    size = min(size, bot.behaviour.page_cap or size)
    repeats = bot.behaviour.page_beyond == "repeats"
    cut = page_of(in_order(rows, bot.behaviour.order), number, size, repeats=repeats)
    page = [_row(bot, one, fault) for one in cut]
    totals = {"zero": 0, "string": str(len(rows)), "missing": None}
    body: dict[str, Any] = {"list": page, "total": totals.get(bot.behaviour.total, len(rows))}
    if bot.behaviour.total == "missing":
        del body["total"]
    return _json(bot, body, fault)


def _called(name: str, form: str) -> str:
    stem = name.rpartition(".")[0]
    return stem if form == "bare" and stem else name


def _row(bot: Bot, one: Document, fault: Fault) -> dict[str, Any]:
    extension = one.name.rpartition(".")[2]
    unit = 1000 if bot.behaviour.times == "ms" else 1
    row = {
        "id": one.id,
        "name": _called(one.name, bot.behaviour.names),
        "format": extension,
        "source_url": one.source_url,
        "status": "ACTIVE",
        "chunk": 1,
        "create_time": int(one.created) * unit,
        "update_time": int(one.updated) * unit,
    }
    if hits(fault, "unmarked", one.name):
        cut = fault.args.get("cut")
        row["source_url"] = one.source_url.partition("#")[0] if cut else ""
    return row | ({"surprise": {"a": [1]}} if bot.behaviour.extra_fields else {})


def _add(bot: Bot, request: Request, fault: Fault) -> Response:
    return _take(bot, request, fault, is_update=False)


def _update(bot: Bot, request: Request, fault: Fault) -> Response:
    return _take(bot, request, fault, is_update=True)


def _take(bot: Bot, request: Request, fault: Fault, *, is_update: bool) -> Response:
    kind, delivery = _delivered(bot, request, fault, is_update=is_update)
    made, failed = [], []
    for sent in delivery.files:
        old = bot.storage.documents.get(sent.doc_id)
        is_there = old is not None and old.deleted_at is None and old.kind == kind
        if hits(fault, "failed-item", sent.name) or (is_update and not is_there):
            failed.append((sent, sent.doc_id))
            continue
        is_told = not hits(fault, "neither-list", sent.name)
        if not is_told and not fault.args.get("stored"):
            continue
        if old is not None:
            bot.change(old, sent, delivery.rules, fault)
        one = old or bot.store(sent, delivery.base, kind, delivery.rules, fault)
        if is_told:
            made.append((sent, one))
    return _receipt(bot, made, failed, fault)


def _delivered(bot: Bot, request: Request, fault: Fault, *, is_update: bool) -> tuple[str, Delivery]:
    kind = request.path.split("/")[-2]
    most = bot.behaviour.most_changed if is_update and kind == "text" else bot.behaviour.most_files
    delivery = delivery_of(body_of(request), kind, most, is_update=is_update)
    bot.check_base(delivery.base)
    if any(hits(fault, "refused-item", sent.name) for sent in delivery.files):
        raise Refused("invalid parameter")
    return kind, delivery


def _receipt(
    bot: Bot,
    made: Sequence[tuple[SentFile, Document]],
    failed: Sequence[tuple[SentFile, str]],
    fault: Fault,
) -> Response:
    docs = [{"doc_id": one.id, "doc_name": one.name} for _, one in made]
    failed = [
        *failed,
        *((sent, sent.doc_id) for sent, _ in made if hits(fault, "both-lists", sent.name)),
    ]
    if fault.kind == "no-doc-id":
        docs = [{"doc_name": one["doc_name"]} for one in docs]
    body: dict[str, Any] = {"doc": docs}
    told = [_told(bot, sent, doc_id) for sent, doc_id in failed]
    if told or bot.behaviour.failed not in ("null", "absent"):
        body["failed"] = told
    elif bot.behaviour.failed == "null":
        body["failed"] = None
    return _json(bot, body, fault)


def _told(bot: Bot, sent: SentFile, doc_id: str) -> Any:
    if bot.behaviour.failed == "objects":
        return {"doc_id": doc_id or None, "file_name": sent.name}
    return doc_id or sent.name


def _status(bot: Bot, request: Request, fault: Fault) -> Response:
    ids, now = ids_in(request), bot.clock.now()
    # The code that the documents have for too many at once.
    if len(ids) > MOST_ASKED:
        raise Breach(f"{len(ids)} ids asked for at once", code=40332)
    rows: list[dict[str, Any]] = []
    for key in ids:
        one = bot.storage.documents.get(key)
        if one is None or one.deleted_at is not None or hits(fault, "left-out", one.name):
            continue
        status = one.status(now, bot.behaviour.working, bot.behaviour.stale_status)
        row: dict[str, Any] = {"data_id": key, "data_status": status}
        if fault.kind == "data-status":
            row["data_status"] = fault.args.get("value")
            if fault.args.get("missing"):
                del row["data_status"]
        rows.append(row)
    return _json(bot, rows, fault)


def _delete(bot: Bot, request: Request, fault: Fault) -> Response:
    ids = ids_in(request)
    if not ids or len(ids) > MOST_ASKED or len(request.raw_target) > 4096:
        raise Breach(f"{len(ids)} ids to delete at once")
    alive = {one.id for one in bot.storage.alive()}
    if bot.behaviour.unknown_ids == "refused" and not alive.issuperset(ids):
        raise Refused("no such document")
    if fault.kind != "keeps-documents":
        for key in ids:
            if key in alive:
                bot.delete(bot.storage.documents[key])
    return _json(bot, dict(_OK), fault)


def _retry(bot: Bot, request: Request, fault: Fault) -> Response:
    if body_of(request):
        raise Breach("a retry takes no fields")
    return _json(bot, {"affectCount": bot.retry(fault)}, fault)


def _match(bot: Bot, request: Request, fault: Fault) -> Response:
    asked = question_of(body_of(request))
    rows = bot.storage.found(asked.prompt, asked.bases, asked.ids, bot.clock.now())
    rows = ranked(rows, asked)[: asked.top_k]
    if fault.kind == "nothing-found":
        rows = []
    return _json(bot, {"total": len(rows), "list": rows}, fault)


def _json(bot: Bot, value: Any, fault: Fault) -> Response:
    if fault.kind == "shape":
        value = misshapen(fault, {key: [None] for key in value} if isinstance(value, dict) else [None])
    elif bot.behaviour.extra_fields and isinstance(value, dict) and "code" not in value:
        value = value | {"surprise": None}
    return Response.json(value)


ANSWERS: Mapping[str, Callable[[Bot, Request, Fault], Response]] = {
    "base": _list_bases,
    "create-base": _create_base,
    "list": _list,
    "add": _add,
    "update": _update,
    "status": _status,
    "delete": _delete,
    "retry": _retry,
    "match": _match,
}
"""What answers each operation. Raises `Breach` and `Refused` for what the vendor refuses."""


_NAME = re.compile(rb'"file_name"\s*:\s*("(?:[^"\\]|\\.)*")')

_RANKING = re.compile(rb'"rerank_version"\s*:\s*("[^"\\]*")')


class GptbotsApplication(ServiceApplication):
    """One bot, with one empty knowledge base, `HOME_ID`, at first."""

    name, kinds = "gptbots", KINDS
    routes = compiled((*route, op) for route, op in ROUTES.items())
    default_key = "app-secret-for-tests"
    home = f"knowledge_base_id: {HOME_ID}"

    def _open(self, seed: int, vectorize: tuple[float, float]) -> Bot:
        self.bot = Bot(seed, GptbotsBehaviour(vectorize=vectorize), self.clock)
        return self.bot

    def routed(self, request: Request) -> tuple[str, dict[str, str]]:
        """All kinds of documents are added by one operation."""
        if request.path == QA_UPDATE and not self.behaviour.qa_updates:
            return "", {}
        return super().routed(request)

    def subject(self, request: Request) -> str:
        """The names of the files or documents that it is about, joined with ` | `; of a search, its model."""
        if self.op(request) in ("add", "update"):
            names = [json.loads(text) for text in _NAME.findall(request.body)]
        elif self.op(request) == "match":
            names = [json.loads(text) for text in _RANKING.findall(request.body)]
        else:
            known = self.bot.storage.documents
            names = [known[one].name for one in ids_in(request) if one in known]
        return " | ".join(names)

    def _answered(self, op: str, pieces: Mapping[str, str], request: Request, fault: Fault) -> Response:
        if not self._is_known(request) or fault.kind == "unauthorized":
            raise Refused("authentication failed", code=40127)
        if not op:
            return Response.json({"code": 404, "message": "no such route"}, 404)
        match fault.kind:
            case "code":
                return _refusal(fault)
            case "bot-deleted":
                return Response.json({"code": 20059, "message": "the bot was deleted"})
            case "rate-limited":
                answer = Response.json({"code": 429, "message": "too many requests"}, 429)
                return answer.having(retry_after=str(fault.args.get("retry_after", "")))
        response = ANSWERS[op](self.bot, request, fault)
        return _refusal(fault) if fault.kind == "code-after" else response

    def _refused(self, refused: Refused, fault: Fault) -> Response:
        return Response.json({"code": refused.code or 40000, "message": str(refused)})

    def snapshot(self) -> dict[str, Any]:
        """Every document, deleted ones too, and the bases."""
        now = self.clock.now()
        documents = [one.snapshot(now) for one in self.bot.storage.documents.values()]
        bases = [{"id": key, "settings": dict(one.settings)} for key, one in self.bot.bases().items()]
        return {"documents": documents, "bases": bases}

    def _store_foreign(self, name: str, content: bytes, args: Mapping[str, Any]) -> str:
        """`source_url`: that of the document."""
        sent = SentFile(name, content, str(args.get("source_url", "")))
        return self.bot.store(sent, HOME_ID, "text", {}, Fault("")).id


def _refusal(fault: Fault) -> Response:
    """The code that a fault answers with."""
    code = fault.args.get("code", 50000)
    written = str(code) if fault.args.get("as_string") else code
    body = {"code": written, "message": fault.args.get("message", "")}
    return Response.json(body, int(fault.args.get("status", 200)))
