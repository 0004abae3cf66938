"""The vendor's side: each route checks its request, does its work, and answers as documented."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kbsync.standin.faults import Fault
from kbsync.standin.gptbots.behaviour import Behaviour, changed
from kbsync.standin.gptbots.faults import KINDS
from kbsync.standin.gptbots.playing import (
    NoBase,
    Refused,
    arg_of,
    early_answer,
    hits,
    ids_in,
    refusal,
    renamed,
    shown,
)
from kbsync.standin.gptbots.shelf import HOME_ID, Document, Shelf, Version
from kbsync.standin.gptbots.strict import (
    MOST_ASKED,
    Breach,
    Delivery,
    Sent,
    body_of,
    delivery_of,
    page_of,
    question_of,
)
from kbsync.standin.messages import Request, Response, StandInClock

ROUTES: Mapping[tuple[str, str], str] = {
    ("GET", "/v1/bot/knowledge/base/page"): "base",
    ("GET", "/v1/bot/doc/query/page"): "list",
    ("POST", "/v1/bot/doc/text/add"): "add",
    ("POST", "/v1/bot/doc/spreadsheet/add"): "add",
    ("POST", "/v1/bot/doc/qa/add"): "add",
    ("PUT", "/v1/bot/doc/text/update"): "update",
    ("PUT", "/v1/bot/doc/spreadsheet/update"): "update",
    ("GET", "/v1/bot/data/detail/list"): "status",
    ("DELETE", "/v1/bot/doc/batch/delete"): "delete",
    ("POST", "/v1/vector/match"): "match",
}

_NAME = re.compile(rb'"file_name"\s*:\s*("(?:[^"\\]|\\.)*")')
_OK = {"code": 0, "message": "OK"}


class GptbotsApplication:
    """One bot with its knowledge bases."""

    name = "gptbots"
    kinds: Mapping[str, str] = KINDS

    def __init__(self, key: str, seed: int, vectorize: tuple[float, float], clock: StandInClock) -> None:
        self.behaviour = Behaviour(vectorize=vectorize)
        self.clock = clock
        self.violations: list[str] = []
        self._key, self._seed = key, seed
        self._shelf = Shelf(seed)
        self._journal: list[dict[str, Any]] = []

    # -- what the server asks

    def op(self, request: Request) -> str:
        """The operation; all kinds of documents are added by one."""
        return ROUTES.get((request.method, request.path), "")

    def subject(self, request: Request) -> str:
        """The names of the files or documents that it is about, joined with ` | `."""
        if self.op(request) in ("add", "update"):
            names = [json.loads(text) for text in _NAME.findall(request.body)]
        else:
            known = self._shelf.documents
            names = [known[one].name for one in ids_in(request) if one in known]
        return " | ".join(names)

    def answer(self, request: Request, fault: Fault | None) -> Response:
        """What the vendor would answer."""
        op = self.op(request)
        try:
            self._check_key(request, fault)
            if not op:
                return Response.json({"code": 404, "message": "no such route"}, 404)
            if fault is not None and (early := early_answer(fault)):
                return early
            response = self._ROUTES[op](self, request, fault)
        except Breach as breach:
            if breach.is_ours:
                self.violations.append(f"{op}: {breach}")
            return Response.json({"code": breach.code, "message": str(breach)})
        return refusal(fault) if fault is not None and fault.kind == "code-after" else response

    def set_behaviour(self, switches: Mapping[str, Any]) -> None:
        """Raises `ValueError` for an unknown switch or a wrong value."""
        before = self.behaviour.base
        self.behaviour = changed(self.behaviour, switches)
        if self.behaviour.base != before:
            self._set_base()

    def snapshot(self) -> dict[str, Any]:
        """Every document, deleted ones too, and the bases."""
        now = self.clock.now()
        documents = [one.snapshot(now) for one in self._shelf.documents.values()]
        return {"documents": documents, "bases": [{"id": key} for key in self._bases()]}

    def journal(self) -> list[dict[str, Any]]:
        """Effects in order: `stored`, `updated`, `deleted`."""
        return list(self._journal)

    def reset(self) -> None:
        """One empty base again."""
        self._shelf = Shelf(self._seed)
        self._journal.clear()

    def put_foreign(self, args: dict[str, Any]) -> dict[str, Any]:
        """`{"name", "text", "source_url"}` stores a document of somebody else's. Raises `ValueError`."""
        name, text = args.get("name"), args.get("text", "")
        if not isinstance(name, str) or not name or not isinstance(text, str):
            raise ValueError('somebody else stores {"name": "guide.md", "text": "…"}')
        sent = Sent(name, text.encode(), str(args.get("source_url", "")))
        return {"id": self._store(sent, HOME_ID, "text", {}, None).id}

    def config_hint(self, url: str) -> str:
        """A mirror into the base that is here."""
        return (
            "mirrors:\n  - name: handbook\n    folder: ./handbook\n    target:\n      type: gptbots\n"
            f"      base_url: {url}\n      api_key: {self._key}\n      knowledge_base_id: {HOME_ID}\n"
        )

    # -- the base

    def _set_base(self) -> None:
        match self.behaviour.base:
            case "deleted" | "emptied":
                self._shelf.drop(HOME_ID)
            case "recreated":
                self._shelf.drop(HOME_ID)
                self._shelf.bases = {self._shelf.new_id(self.clock.now()): "Default"}

    def _bases(self) -> Mapping[str, str]:
        return {} if self.behaviour.base == "deleted" else self._shelf.bases

    def _check_key(self, request: Request, fault: Fault | None) -> None:
        is_known = request.headers.get("authorization") == f"Bearer {self._key}"
        if "cookie" in request.headers:
            self.violations.append("a cookie was sent")
        is_played = fault is not None and fault.kind == "unauthorized"
        if not is_known or self.behaviour.key_revoked or is_played:
            raise Breach("authentication failed", 40127, is_ours=False)

    def _check_base(self, base: str) -> None:
        if base not in self._bases():
            raise NoBase("the knowledge base does not exist")

    # -- routes

    def _list_bases(self, request: Request, fault: Fault | None) -> Response:
        rows = []
        for key, name in self._bases().items():
            documents = len(list(self._shelf.alive(key)))
            rows.append({"id": key, "name": name, "desc": "", "doc": documents, "chunk": 0, "token": 0})
        forms = {"knowledge_base": {"knowledge_base": rows}, "data": {"data": rows}}
        return self._json(forms.get(self.behaviour.bases, {"data": {"list": rows}}), fault)

    def _list(self, request: Request, fault: Fault | None) -> Response:
        number, size = page_of(request.query)
        base = request.query.get("knowledge_base_id", "")
        self._check_base(base)
        rows = self._ordered(self._shelf.listed(base, self.clock.now(), self.behaviour.list_lag))
        rows = [one for one in rows if not hits(fault, "left-out", one.name)]
        size = min(size, self.behaviour.page_cap or size)
        if self.behaviour.page_beyond == "repeats":
            number = min(number, max(1, -(-len(rows) // size)))
        page = [self._row(one, fault) for one in rows[(number - 1) * size : number * size]]
        totals = {"zero": 0, "string": str(len(rows)), "missing": None}
        body: dict[str, Any] = {"list": page, "total": totals.get(self.behaviour.total, len(rows))}
        if self.behaviour.total == "missing":
            del body["total"]
        return self._json(body, fault)

    def _ordered(self, rows: list[Document]) -> list[Document]:
        if self.behaviour.order == "shuffled":
            return self._shelf.shuffled(rows)
        return rows if self.behaviour.order == "oldest" else rows[::-1]

    def _row(self, one: Document, fault: Fault | None) -> dict[str, Any]:
        stem, _, extension = one.name.rpartition(".")
        unit = 1000 if self.behaviour.times == "ms" else 1
        row = {
            "id": one.id,
            "name": stem if self.behaviour.names == "bare" and stem else one.name,
            "format": extension,
            "source_url": one.source_url,
            "status": "ACTIVE",
            "chunk": 1,
            "create_time": int(one.created) * unit,
            "update_time": int(one.updated) * unit,
        }
        if hits(fault, "unmarked", one.name):
            cut = fault is not None and fault.args.get("cut")
            row["source_url"] = one.source_url.partition("#")[0] if cut else ""
        return row | ({"surprise": {"a": [1]}} if self.behaviour.extra_fields else {})

    def _add(self, request: Request, fault: Fault | None) -> Response:
        kind, delivery = self._delivered(request, fault, is_update=False)
        made, failed = [], []
        for sent in delivery.files:
            if hits(fault, "failed-item", sent.name):
                failed.append((sent, ""))
                continue
            if hits(fault, "neither-list", sent.name) and not arg_of(fault, "stored"):
                continue
            stored = self._store(sent, delivery.base, kind, delivery.rules, fault)
            if not hits(fault, "neither-list", sent.name):
                made.append((sent, stored))
        return self._receipt(made, failed, fault)

    def _update(self, request: Request, fault: Fault | None) -> Response:
        kind, delivery = self._delivered(request, fault, is_update=True)
        made, failed = [], []
        for sent in delivery.files:
            old = self._shelf.documents.get(sent.doc_id)
            is_there = old is not None and old.deleted_at is None and old.kind == kind
            if old is None or not is_there or hits(fault, "failed-item", sent.name):
                failed.append((sent, sent.doc_id))
                continue
            if hits(fault, "neither-list", sent.name) and not arg_of(fault, "stored"):
                continue
            self._change(old, sent, delivery.rules, fault)
            if not hits(fault, "neither-list", sent.name):
                made.append((sent, old))
        return self._receipt(made, failed, fault)

    def _delivered(self, request: Request, fault: Fault | None, *, is_update: bool) -> tuple[str, Delivery]:
        kind = request.path.split("/")[-2]
        most, strict = self.behaviour.most_files, self.behaviour.strict
        delivery = delivery_of(body_of(request), kind, most, is_update=is_update, strict=strict)
        self._check_base(delivery.base)
        if any(hits(fault, "refused-item", sent.name) for sent in delivery.files):
            raise Refused("invalid parameter")
        return kind, delivery

    def _version(self, sent: Sent, fault: Fault | None) -> Version:
        ready: float | None = self.clock.now() + self._shelf.span(self.behaviour.vectorize)
        if hits(fault, "stuck", sent.name):
            ready = None
        url = "" if sent.source_url in (None, "NULL") else sent.source_url or ""
        return Version(sent.content, url, ready, hits(fault, "fails", sent.name))

    def _store(
        self, sent: Sent, base: str, kind: str, rules: Mapping[str, Any], fault: Fault | None
    ) -> Document:
        now = self.clock.now()
        version = self._version(sent, fault)
        name = renamed(sent.name) if fault is not None and fault.kind == "other-name" else sent.name
        one = Document(
            self._shelf.new_id(now),
            base,
            kind,
            name,
            now,
            now,
            version,
            version.source_url,
            rules=dict(rules),
        )
        self._shelf.documents[one.id] = one
        self._note("stored", one, version)
        return one

    def _change(self, old: Document, sent: Sent, rules: Mapping[str, Any], fault: Fault | None) -> None:
        now = self.clock.now()
        old.get_on(now)
        if old.coming is not None and now < (old.coming.ready_at or 0.0):  # one that is stuck may be given up
            self.violations.append(f"update: two updates of {old.id} in flight at once")
        old.coming, old.changed_at = self._version(sent, fault), now
        old.rules = dict(rules)
        if self.behaviour.marked_at == "accept":
            old.source_url = old.coming.source_url or old.source_url
        self._note("updated", old, old.coming)
        old.get_on(now)

    def _note(self, effect: str, one: Document, version: Version | None) -> None:
        sha256 = version.sha256 if version is not None else ""
        self._journal.append({"effect": effect, "id": one.id, "name": one.name, "sha256": sha256})

    def _receipt(
        self,
        made: Sequence[tuple[Sent, Document]],
        failed: Sequence[tuple[Sent, str]],
        fault: Fault | None,
    ) -> Response:
        docs = [{"doc_id": one.id, "doc_name": one.name} for _, one in made]
        failed = [
            *failed,
            *((sent, sent.doc_id) for sent, _ in made if hits(fault, "both-lists", sent.name)),
        ]
        if fault is not None and fault.kind == "no-doc-id":
            docs = [{"doc_name": one["doc_name"]} for one in docs]
        body: dict[str, Any] = {"doc": docs}
        told = [self._told(sent, doc_id) for sent, doc_id in failed]
        if told or self.behaviour.failed not in ("null", "absent"):
            body["failed"] = told
        elif self.behaviour.failed == "null":
            body["failed"] = None
        return self._json(body, fault)

    def _told(self, sent: Sent, doc_id: str) -> Any:
        if self.behaviour.failed == "objects":
            return {"doc_id": doc_id or None, "file_name": sent.name}
        return doc_id or sent.name

    def _status(self, request: Request, fault: Fault | None) -> Response:
        ids, now = ids_in(request), self.clock.now()
        if len(ids) > MOST_ASKED:
            raise Breach(f"{len(ids)} ids asked for at once", 40332)
        rows: list[dict[str, Any]] = []
        for key in ids:
            one = self._shelf.documents.get(key)
            if one is None or one.deleted_at is not None or hits(fault, "left-out", one.name):
                continue
            status = one.status(now, self.behaviour.working, self.behaviour.stale_status)
            rows.append({"data_id": key, **shown(status, fault)})
        return self._json(rows, fault)

    def _delete(self, request: Request, fault: Fault | None) -> Response:
        ids = ids_in(request)
        if not ids or len(ids) > MOST_ASKED or len(request.raw_target) > 4096:
            raise Breach(f"{len(ids)} ids to delete at once")
        alive = {one.id for one in self._shelf.alive()}
        if self.behaviour.unknown_ids == "refused" and not alive.issuperset(ids):
            raise Refused("no such document")
        if fault is None or fault.kind != "keeps-documents":
            for key in alive.intersection(ids):
                self._shelf.documents[key].deleted_at = self.clock.now()
                self._note("deleted", self._shelf.documents[key], None)
        return self._json(dict(_OK), fault)

    def _match(self, request: Request, fault: Fault | None) -> Response:
        prompt, top_k, bases, ids = question_of(body_of(request))
        rows = self._shelf.found(prompt, bases, ids, self.clock.now())[:top_k]
        if fault is not None and fault.kind == "nothing-found":
            rows = []
        return self._json({"total": len(rows), "list": rows}, fault)

    def _json(self, value: Any, fault: Fault | None) -> Response:
        if fault is not None and fault.kind == "shape":
            value = {
                "object": {},
                "nulls": {key: [None] for key in value} if isinstance(value, dict) else [None],
            }.get(str(fault.args.get("form", "object")))
        elif self.behaviour.extra_fields and isinstance(value, dict) and "code" not in value:
            value = value | {"surprise": None}
        return Response.json(value)

    _ROUTES: Mapping[str, Callable[[GptbotsApplication, Request, Fault | None], Response]] = {
        "base": _list_bases,
        "list": _list,
        "add": _add,
        "update": _update,
        "status": _status,
        "delete": _delete,
        "match": _match,
    }
