"""The API calls of GPTBots: each checks its request, changes the bot, and responds."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlsplit

from kbsync_standin.application import Call, Json, route
from kbsync_standin.gptbots.bot import Bot, BotDocument
from kbsync_standin.gptbots.rules import (
    BASE_TESTS,
    MAX_CHANGED_TEXTS,
    MAX_STATUS_IDS,
    QUESTION_TESTS,
    SentFile,
    delivery_of,
    ranked,
)
from kbsync_standin.listing import in_order
from kbsync_standin.messages import Request, Response
from kbsync_standin.rules import Refused, json_object, require, require_fields

_NAME = re.compile(rb'"(?:file_name|rerank_version)"\s*:\s*("(?:[^"\\]|\\.)*")')


def _ids_in(call: Call) -> list[str]:
    """Return the ids in the query, repeated or joined with commas; encoded commas make it a single odd id."""
    pairs = parse_qsl(urlsplit(call.request.raw_target).query)
    repeated = [value for name, value in pairs if name == "data_ids"]
    return repeated + [ident for name, value in pairs if name == "doc" for ident in value.split(",") if ident]


class GptbotsApplication(Bot):
    """One bot with one empty knowledge base, `HOME_ID`, at first."""

    default_key = "app-secret-for-tests"
    usual_failure: ClassVar = {"code": 50000, "message": ""}
    refusals: ClassVar = {
        "unauthorized": Refused("authentication failed", code=40127),
        "bot-deleted": Refused("the bot was deleted", code=20059),
        "rate-limited": Refused("too many requests", 429, 429),
    }

    def subject(self, request: Request) -> str:
        """Return the names of the files or documents that the request is about; for a search, its model."""
        if self.op(request) in ("add", "update", "match"):
            return " | ".join(json.loads(text) for text in _NAME.findall(request.body))
        return super().subject(request)

    # -- responses

    def refusal(self, refused: Refused, call: Call) -> Response:
        """Write a refusal: HTTP 200, unless it comes from before the API."""
        body = {"code": refused.code or 40000, "message": str(refused)}
        return Response.json(body, refused.status if refused.status in (404, 429) else 200)

    # -- knowledge bases

    @route("GET", "/v1/bot/knowledge/base/page", "base")
    def _list_bases(self, call: Call) -> Json:
        rows = [
            {"id": key, "name": dataset.name, "desc": dataset.description, "doc": len(self.documents_of(key))}
            | {"chunk": 0, "token": 0}
            for key, dataset in self.visible_bases().items()
        ]
        forms = {"knowledge_base": {"knowledge_base": rows}, "data": {"data": rows}}
        return forms.get(self.behaviour.bases, {"data": {"list": rows}})

    @route("POST", "/v1/bot/knowledge/base/create", "create-base")
    def _create_base(self, call: Call) -> Json:
        settings = call.body(BASE_TESTS, "name", "desc")
        is_possible = "kg_ner_extraction_user_prompt" not in settings or settings.get("graph_enable") is True
        require(is_possible, "kg_ner_extraction_user_prompt without graph_enable")
        return {"knowledge_base_id": self.add_base(settings.pop("name"), settings.pop("desc"), **settings).id}

    # -- documents

    @route("GET", "/v1/bot/doc/query/page", "list")
    def _list(self, call: Call) -> Json:
        require_fields(call.query, {}, needed=("page", "page_size"))
        number, size = call.page("page_size", 10, 10, 100)
        base, form = call.query.get("knowledge_base_id", ""), self.behaviour.total
        self.check_base(base)
        rows = self.list_of(base, call)
        cut = self.page(in_order(rows, self.behaviour.order), number, size)
        totals: Json = {"right": len(rows), "zero": 0, "string": str(len(rows))}
        total = {} if form == "missing" else {"total": totals[form]}
        return {"list": [self._row(document, call) for document in cut], **total}

    def _row(self, document: BotDocument, call: Call) -> Json:
        stem, _, extension = document.name.rpartition(".")
        unit = 1000 if self.behaviour.times == "ms" else 1
        url = document.source_url
        if call.plays("unmarked", document.name):
            url = url.partition("#")[0] if call.arg("cut") else ""
        row = {
            "id": document.id,
            "name": stem if self.behaviour.names == "bare" and stem else document.name,
            "format": extension,
            "source_url": url,
            "status": "ACTIVE",
            "chunk": 1,
            "create_time": int(document.created) * unit,
            "update_time": int(document.updated) * unit,
        }
        return {**row, **self.add_extra_fields({})}

    @route("POST", "/v1/bot/doc/text/add", "add")
    @route("POST", "/v1/bot/doc/spreadsheet/add", "add")
    @route("POST", "/v1/bot/doc/qa/add", "add")
    @route("PUT", "/v1/bot/doc/text/update", "update")
    @route("PUT", "/v1/bot/doc/spreadsheet/update", "update")
    def _store_files(self, call: Call) -> Json:
        """Store files one by one; updating an unknown document fails."""
        kind, is_update, behaviour = call.request.path.split("/")[-2], call.op == "update", self.behaviour
        most = MAX_CHANGED_TEXTS if is_update and kind == "text" else behaviour.most_files
        delivery = delivery_of(json_object(call.request.body), kind, most, is_update=is_update)
        self.check_base(delivery.base)
        if any(call.plays("refused-item", sent.name) for sent in delivery.files):
            raise Refused("invalid parameter")
        stored: list[tuple[SentFile, BotDocument]] = []
        failed: list[tuple[SentFile, str]] = []
        for sent in delivery.files:
            old = self.documents.get(sent.doc_id)
            exists = old is not None and not old.is_deleted and old.kind == kind
            if call.plays("failed-item", sent.name) or (is_update and not exists):
                failed.append((sent, sent.doc_id))
                continue
            is_listed = not call.plays("neither-list", sent.name)
            if not is_listed and not call.arg("stored"):
                continue
            if old is not None:
                self.change(old, sent, delivery.rules, call)
            document = old or self.store(sent, delivery.base, kind, delivery.rules, call)
            if is_listed:
                stored.append((sent, document))
        return self._receipt(stored, failed, call)

    def _receipt(
        self, stored: Sequence[tuple[SentFile, BotDocument]], failed: list[tuple[SentFile, str]], call: Call
    ) -> Json:
        form = self.behaviour.failed
        has_ids = not call.plays("no-doc-id")
        docs = [
            ({"doc_id": document.id} if has_ids else {}) | {"doc_name": document.name}
            for _, document in stored
        ]
        failed += [(sent, sent.doc_id) for sent, _ in stored if call.plays("both-lists", sent.name)]
        ids_row = [
            {"doc_id": doc_id or None, "file_name": sent.name} if form == "objects" else doc_id or sent.name
            for sent, doc_id in failed
        ]
        if not ids_row and form in ("null", "absent"):
            return {"doc": docs, **({"failed": None} if form == "null" else {})}
        return {"doc": docs, "failed": ids_row}

    @route("GET", "/v1/bot/data/detail/list", "status")
    def _status(self, call: Call) -> list[Json]:
        ids, behaviour = _ids_in(call), self.behaviour
        # GPTBots documents this code for too many ids at once.
        require(len(ids) <= MAX_STATUS_IDS, f"{len(ids)} ids requested at once", code=40332)
        rows: list[Json] = []
        for document in [self.documents[key] for key in ids if key in self.documents]:
            if document.is_deleted or call.plays("left-out", document.name):
                continue
            status = document.status(self.now, behaviour.working, behaviour.stale_status)
            row = {"data_id": document.id, "data_status": status}
            rows.append(call.distort("odd-status", row, "data_status"))
        return rows

    @route("DELETE", "/v1/bot/doc/batch/delete", "delete")
    def _delete(self, call: Call) -> Json:
        ids, known_ids = _ids_in(call), {document.id for document in self.present()}
        is_short = len(call.request.raw_target) <= 4096
        require(0 < len(ids) <= MAX_STATUS_IDS and is_short, f"{len(ids)} ids to delete at once")
        if self.behaviour.unknown_ids == "refused" and not known_ids.issuperset(ids):
            raise Refused("no such document")
        for key in () if call.plays("keeps-document") else ids:
            if key in known_ids:
                self.delete(self.documents[key])
        return {"code": 0, "message": "OK"}

    @route("POST", "/v1/bot/data/retry/batch", "retry")
    def _retry(self, call: Call) -> Json:
        call.body({})
        return {"affectCount": self.retry(call)}

    # -- searches

    @route("POST", "/v1/vector/match", "match")
    def _match(self, call: Call) -> Json:
        question = call.body(QUESTION_TESTS, "prompt", "top_k")
        if question["top_k"] > self.behaviour.most_passages:
            raise Refused("top_k is too large")
        rows = self.find(question["prompt"], question.get("group_ids"), question.get("data_ids"))
        rows = [] if call.plays("nothing-found") else ranked(rows, question)[: question["top_k"]]
        return {"total": len(rows), "list": rows}

    def add_extra_fields(self, value: Any) -> Any:
        """Add unknown fields, but never together with a business code."""
        return value if isinstance(value, dict) and "code" in value else super().add_extra_fields(value)
