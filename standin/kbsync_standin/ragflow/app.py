"""The server's application: each route checks its request, does its work on the user's datasets, and answers.

Sources: docs/references/http_api_reference.md and, where it is silent, api/apps/restful_apis/document_api.py,
chunk_api.py and dataset_api.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from kbsync_standin import rules
from kbsync_standin.faults import Fault, hits
from kbsync_standin.forms import filename_in, form_in
from kbsync_standin.listing import page_of
from kbsync_standin.messages import Request, Response
from kbsync_standin.older import ServiceApplication, compiled
from kbsync_standin.ragflow.behaviour import KINDS, RagflowBehaviour
from kbsync_standin.ragflow.chats import ASSISTANTS, answer, card
from kbsync_standin.ragflow.datasets import DIGITS, HOME_ID, Dataset, Document, Refused, User
from kbsync_standin.rules import (
    Breach,
    Rules,
    Test,
    are_strings,
    are_texts,
    is_flag,
    is_object,
    is_string,
    is_text,
    json_object,
    one_of,
    share,
    whole,
)

ROUTES: Mapping[tuple[str, str], str] = {
    ("GET", "/api/v1/datasets"): "base",
    ("POST", "/api/v1/datasets"): "create-base",
    ("DELETE", "/api/v1/datasets"): "delete-base",
    ("PUT", "/api/v1/datasets/{id}"): "edit-base",
    ("POST", "/api/v1/datasets/{id}/documents"): "upload",
    ("GET", "/api/v1/datasets/{id}/documents"): "list",
    ("DELETE", "/api/v1/datasets/{id}/documents"): "delete",
    ("PUT", "/api/v1/datasets/{id}/documents/{document}"): "describe",
    ("POST", "/api/v1/datasets/{id}/chunks"): "parse",
    ("POST", "/api/v1/documents/ingest"): "parse",
    ("POST", "/api/v1/retrieval"): "search",
    ("GET", "/api/v1/chats"): "chats",
    ("POST", "/api/v1/openai/{id}/chat/completions"): "chat",
    ("POST", "/api/v1/chats_openai/{id}/chat/completions"): "chat",
}
"""The operation of each method and path."""

METHODS = ["naive", "book", "email", "laws", "manual", "one", "paper", "picture", "presentation", "qa"]
METHODS += ["table", "tag"]
MOST_IDS = MOST_ROWS = 100
LONGEST_NAME = 255
FORMATS = re.compile(
    r".*\.(pdf|msg|eml|doc|docx|ppt|pptx|yml|xml|htm|json|jsonl|ldjson|csv|txt|ini|xls|xlsx|wps|rtf|hlp|pages"
    r"|numbers|key|md|mdx|py|js|java|c|cpp|h|php|go|ts|sh|cs|kt|html|sql|epub)",
    re.IGNORECASE | re.DOTALL,
)
_MAPPED = {100: 500, 101: 400, 102: 400, 109: 403}


@dataclass(frozen=True, slots=True)
class Call:
    """One request, its route understood. `dataset`: the id in its path, of a dataset or a chat assistant."""

    user: User
    request: Request
    dataset: str
    fault: Fault
    document: str = ""

    @property
    def body(self) -> dict[str, Any]:
        """The JSON object. Raises `Breach`."""
        if not self.request.headers.get("content-type", "").startswith("application/json"):
            raise Breach("Unsupported content type: Expected application/json")
        sentence = "Malformed JSON syntax: Missing commas/brackets or invalid encoding"
        return json_object(self.request.body, sentence)

    def asked(self, known: Sequence[str]) -> Mapping[str, list[str]]:
        """The query. Raises `Breach` for a word that is not known, and for pages that there cannot be."""
        query = parse_qs(urlsplit(self.request.raw_target).query, keep_blank_values=True)
        Rules().only(query, known, "the parameter")
        for key, most in (("page", 10**9), ("page_size", MOST_ROWS)):
            text = query.get(key, ["1"])[0]
            if not text.isdecimal() or not 1 <= int(text) <= most:
                raise Breach(f"{key} must be from 1 to {most}, not {text!r}")
        return query

    def page(self, rows: Sequence[Any], query: Mapping[str, list[str]]) -> Sequence[Any]:
        """What the query asks for of them."""
        behaviour = self.user.behaviour
        size = int(query.get("page_size", ["30"])[0])
        size = min(size, behaviour.page_cap or size)
        return page_of(
            rows, int(query.get("page", ["1"])[0]), size, repeats=behaviour.page_beyond == "repeats"
        )


# -- datasets

_WISHES: Mapping[str, Test] = {
    "name": lambda value: is_text(value) and len(value) <= 128 and bool(value.strip()),
    "description": is_string,
    "embedding_model": lambda value: is_text(value) and "@" in value,
    "permission": one_of("me", "team"),
    "chunk_method": one_of(*METHODS),
}


def _card(call: Call, one: Dataset) -> dict[str, Any]:
    documents = list(call.user.alive(one.id))
    given = {
        "description": None,
        "embedding_model": "BAAI/bge-m3@Builtin",
        "chunk_method": "naive",
        **one.fields,
    }
    return {
        **given,
        "id": one.id,
        "name": one.name,
        "document_count": len(documents),
        "chunk_count": sum(each.chunks for each in documents),
        "create_time": int(one.created * 1000),
        "permission": "me",
        "status": "1",
    }


def _bases(call: Call) -> Any:
    query = call.asked(("page", "page_size", "orderby", "desc", "name", "id"))
    rows = call.user.alive_datasets()
    for key in ("id", "name"):
        if key in query:
            rows = [one for one in rows if getattr(one, key) == query[key][0]]
            if not rows:
                raise Refused(f"User 'tenant' lacks permission for dataset '{query[key][0]}'")
    return [_card(call, one) for one in call.page(rows, query)]


def _create_base(call: Call) -> Any:
    body = Rules().known(call.body, _WISHES, ("name",))
    return _card(call, call.user.make(body.pop("name").strip(), body))


def _edit_base(call: Call) -> Any:
    body, one = Rules().known(call.body, _WISHES), call.user.own(call.dataset)
    one.name = body.pop("name", one.name)
    one.fields |= body
    return _card(call, one)


def _delete_base(call: Call) -> Any:
    ids = _ids_to_delete(call)
    known = {one.id for one in call.user.alive_datasets()}
    if missing := [one for one in ids if one not in known]:
        raise Refused(f"User 'tenant' lacks permission for datasets: '{', '.join(missing)}'")
    for one in ids:
        call.user.drop(one)
    return {"success_count": len(ids)}


def _ids_to_delete(call: Call) -> list[str]:
    """Raises `Breach`, also where all is deleted: no client of ours may ever ask for that."""
    body = call.body
    Rules().only(body, ("ids", "delete_all"))
    ids: Any = body.get("ids")
    if not are_texts(ids) or body.get("delete_all"):
        if call.user.behaviour.no_ids == "all":
            everything = [one.id for one in call.user.alive(call.dataset)]
            call.user.remove(everything, call.dataset)
        raise Breach("should either provide doc ids or set delete_all(true)", code=102)
    if any(re.fullmatch("[0-9a-f]{32}", one) is None for one in ids):
        raise Breach(f"Field: <ids> - Message: <Invalid UUID1 format> - Value: <{ids}>")
    if len(set(ids)) < len(ids):
        raise Breach(f"Field: <ids> - Message: <Duplicate ids> - Value: <{ids}>")
    return list(ids)


# -- documents


def _upload(call: Call) -> Any:
    call.user.own(call.dataset)
    parts = form_in(call.request)
    Rules().only([part.name for part in parts], ("file", "parent_path", "parser_config"), "the form field")
    files = [part for part in parts if part.name == "file"]
    if not files:
        raise Breach("No file part!")
    for part in files:
        if not part.filename:
            raise Breach("No file selected!")
        if len(part.filename.encode()) > LONGEST_NAME or re.search(r"[/\\\0\r\n]", part.filename):
            raise Breach(f"File name must be {LONGEST_NAME} bytes or less.")
    refused = [part.filename for part in files if not FORMATS.fullmatch(part.filename or "")]
    if refused:
        raise Refused(f"{refused[0]}: This type of file has not been supported yet!", 500)
    stored = [call.user.store(call.dataset, part.filename or "", part.content, call.fault) for part in files]
    names = ("chunk_method", "dataset_id", "id", "name", "run", "size", "suffix", "type")
    rows = [{key: row[key] for key in names} for one in stored for row in [_row(call, one)]]
    if call.fault.kind == "no-id":
        return [{key: value for key, value in row.items() if key != "id"} for row in rows]
    return rows * 2 if call.fault.kind == "two-ids" else rows


def _row(call: Call, one: Document) -> dict[str, Any]:
    row = {
        "id": one.id,
        "name": one.name,
        "dataset_id": one.dataset,
        "chunk_method": "naive",
        "chunk_count": one.chunks,
        "create_time": int(one.created * 1000),
        "progress": 0.0,
        "progress_msg": one.said,
        "meta_fields": dict(one.fields),
        "run": DIGITS[one.run] if call.user.behaviour.runs == "digits" else one.run,
        # A damaged PDF is repaired before it is stored (`read_potential_broken_pdf`).
        "size": len(one.content) + (one.name.endswith(".pdf") and not one.content.startswith(b"%PDF")),
        "source_type": "local",
        "status": "1" if one.is_enabled else "0",
        "suffix": one.name.rpartition(".")[2],
        "type": "pdf" if one.name.endswith(".pdf") else "doc",
    }
    if call.fault.kind == "run":
        row["run"] = call.fault.args.get("value")
        if call.fault.args.get("missing"):
            del row["run"]
    return row


_ASKED = ("page", "page_size", "orderby", "desc", "keywords", "id", "name", "suffix", "run")


def _list(call: Call) -> Any:
    call.user.own(call.dataset)
    query, behaviour = call.asked((*_ASKED, "ids")), call.user.behaviour
    ids = query.get("ids", [])
    if len(ids) > MOST_IDS:
        raise Breach(f"ids must contain at most {MOST_IDS} IDs")
    rows = [one for one in call.user.alive(call.dataset) if not hits(call.fault, "left-out", one.name)]
    if ids and behaviour.ids_filter:
        rows = [one for one in rows if one.id in ids]
    word = query.get("keywords", [""])[0].lower()
    rows = [one for one in rows if word in one.name.lower()]
    for key in ("id", "name"):
        if key in query:
            rows = [one for one in rows if getattr(one, key) == query[key][0]]
            if not rows:
                raise Refused(f"you don't own the document {query[key][0]}")
    if query.get("desc", ["true"])[0] != "false":
        rows.reverse()
    data: dict[str, Any] = {"docs": [_row(call, one) for one in call.page(rows, query)]}
    return data if behaviour.total == "missing" else data | {behaviour.total: len(rows)}


def _describe(call: Call) -> Any:
    """`update_doc`, as far as it is about metadata."""
    call.user.own(call.dataset)
    fields = Rules().known(call.body, {"meta_fields": _are_fields}, ("meta_fields",))["meta_fields"]
    one = next((one for one in call.user.alive(call.dataset) if one.id == call.document), None)
    if one is None:
        raise Refused("The dataset doesn't own the document.")
    one.fields = fields
    return _row(call, one)


def _are_fields(value: Any) -> bool:
    """Texts, numbers, and lists of them."""
    lists = (
        [one if isinstance(one, list) else [one] for one in value.values()] if is_object(value) else [[None]]
    )
    return all(isinstance(one, str | int | float) for several in lists for one in several)


def _delete(call: Call) -> Any:
    call.user.own(call.dataset)
    ids = _ids_to_delete(call)
    known = {one.id for one in call.user.alive(call.dataset)}
    missing = [one for one in ids if one not in known]
    if missing and call.user.behaviour.unknown_ids == "refused":
        words = f"These documents do not belong to dataset {call.dataset} or Document not found: "
        raise Refused(words + ", ".join(missing))
    if call.fault.kind != "keeps-documents":
        call.user.remove(ids, call.dataset)
    if missing:
        errors = [f"Document {one} not found!" for one in missing]
        return {"success_count": len(ids) - len(missing), "errors": errors}
    return {"deleted": len(ids)}


def _parse(call: Call) -> Any:
    """Those before one that is refused are begun."""
    is_ingest = not call.dataset
    key = "doc_ids" if is_ingest else "document_ids"
    tests: Mapping[str, Test] = {"run": one_of("1", "2"), "delete": is_flag} if is_ingest else {}
    needed = (key, "run") if is_ingest else (key,)
    body = Rules().known(call.body, {key: are_texts, **tests}, needed)
    if len(set(body[key])) < len(body[key]):
        raise Breach("Duplicate document ids", code=102)
    if not is_ingest:
        call.user.own(call.dataset)
        if call.user.behaviour.pipeline:
            raise Refused(
                "Datasets configured with an ingestion pipeline cannot be parsed with "
                "`/datasets/{dataset_id}/chunks`. Use `/documents/ingest` instead.",
                101,
            )
    known = {key: one for key, one in call.user.documents.items() if not one.is_deleted}
    missing = [one for one in body[key] if one not in known]
    for one in body[key]:
        if one in known:
            call.user.parse(known[one], call.fault)
    if missing:
        raise Refused(f"Documents not found: {missing}")
    return True if is_ingest else None


_QUESTION: Mapping[str, Test] = {
    "question": is_string,
    "dataset_ids": are_texts,
    "document_ids": are_strings,
    "page": whole(1, 10**9),
    "page_size": whole(1, MOST_ROWS),
    "similarity_threshold": share(0, 1),
    "vector_similarity_weight": share(0, 1),
    "top_k": whole(1, 10**6),
    "highlight": is_flag,
}


def _search(call: Call) -> Any:
    body = Rules().known(call.body, _QUESTION, ("question", "dataset_ids"))
    for one in body["dataset_ids"]:
        call.user.own(one)
    ids = body.get("document_ids", [])
    known = {one.id for dataset in body["dataset_ids"] for one in call.user.alive(dataset)}
    for one in ids:
        if one not in known:
            raise Refused(f"The datasets don't own the document {one}")
    rows = call.user.found(body["question"], body["dataset_ids"], ids)
    rows = [] if call.fault.kind == "nothing-found" else rows
    chunks = page_of(rows, body.get("page", 1), body.get("page_size", 30))
    return {"chunks": list(chunks), "doc_aggs": [], "total": len(rows)}


# -- chat assistants


def _chats(call: Call) -> Any:
    query = call.asked(("page", "page_size", "orderby", "desc", "name", "id", "keywords"))
    known, is_old = ASSISTANTS[call.user.behaviour.assistants], call.user.behaviour.chats == "old"
    rows = [card(one, is_old) for one in call.page(known, query)]
    return rows if is_old else {"chats": rows, "total": len(known)}


ANSWERS: Mapping[str, Callable[[Call], Any]] = {
    "base": _bases,
    "create-base": _create_base,
    "edit-base": _edit_base,
    "delete-base": _delete_base,
    "upload": _upload,
    "list": _list,
    "delete": _delete,
    "describe": _describe,
    "parse": _parse,
    "search": _search,
    "chats": _chats,
}
"""What each operation's `data` is. Raises `Breach` and `Refused` for what the server refuses."""


class RagflowApplication(ServiceApplication):
    """One user, with one empty dataset, `HOME_ID`, at first."""

    name, kinds = "ragflow", KINDS
    routes = compiled((*route, op) for route, op in ROUTES.items())
    default_key = "ragflow-key-for-tests"
    home = f"dataset_id: {HOME_ID}"

    def _open(self, seed: int, vectorize: tuple[float, float]) -> User:
        self.user = User(seed, RagflowBehaviour(vectorize=vectorize), self.clock)
        return self.user

    def subject(self, request: Request) -> str:
        """The names of the documents that it is about, joined with ` | `."""
        if self.op(request) == "upload":
            return filename_in(request.body)
        ids = re.findall(r"[0-9a-f]{32}", f"{request.raw_target} {request.body.decode('utf-8', 'replace')}")
        known = self.user.documents
        return " | ".join(known[one].name for one in ids if one in known)

    def _answered(self, op: str, pieces: Mapping[str, str], request: Request, fault: Fault) -> Response:
        if not self._is_known(request) or fault.kind == "unauthorized":
            code = fault.args.get("code", 401)
            words = "Authentication error: API key is invalid!" if code == 109 else "<Unauthorized>"
            return Response.json({"code": code, "data": None, "message": words}, 200 if code == 109 else 401)
        is_new = request.path.startswith("/api/v1/openai/")
        if not op or (is_new and self.behaviour.chats == "old"):
            body = {"code": 404, "data": None, "error": "Not Found", "message": f"Not Found: {request.path}"}
            return Response.json(body, 404)
        if fault.kind == "code":
            return _refusal(fault)
        call = Call(self.user, request, pieces.get("id", ""), fault, pieces.get("document", ""))
        if op == "chat":
            return answer(self.user, call.dataset, call.body, fault.args if fault.kind == "stream" else {})
        data = ANSWERS[op](call)
        return _refusal(fault) if fault.kind == "code-after" else Response.json(self._enveloped(data, fault))

    def _refused(self, refused: rules.Refused, fault: Fault) -> Response:
        code = int(refused.code or 101)
        status = _MAPPED.get(code, 200) if self.behaviour.statuses == "mapped" else 200
        return Response.json({"code": code, "message": str(refused)}, status)

    def _enveloped(self, data: Any, fault: Fault) -> dict[str, Any]:
        if fault.kind == "shape":
            shapes = {"object": {"docs": {}, "chunks": 3}, "list": [None, 3], "null": None}
            form = str(fault.args.get("form", "object"))
            return {"code": 0, "data": shapes[form]} if form in shapes else {"message": "success"}
        extra = {"surprise": {"a": [1]}} if self.behaviour.extra_fields else {}
        return {"code": 0, **({} if data is None else {"data": data}), **extra}

    def snapshot(self) -> dict[str, Any]:
        """Every document, deleted ones too, and the datasets."""
        return self.user.snapshot()

    def put_foreign(self, args: dict[str, Any]) -> dict[str, Any]:
        """Also `{"disable": id}`, which switches a document off."""
        if "disable" not in args:
            return super().put_foreign(args)
        self.user.documents[args["disable"]].is_enabled = False
        return {"id": args["disable"]}

    def _store_foreign(self, name: str, content: bytes, args: Mapping[str, Any]) -> str:
        """It is parsed as well."""
        one = self.user.store(HOME_ID, name, content, Fault(""))
        self.user.parse(one, Fault(""))
        return one.id


def _refusal(fault: Fault) -> Response:
    """The code that a fault answers with."""
    code = fault.args.get("code", 102)
    written = str(code) if fault.args.get("as_string") else code
    body = {"code": written, "message": fault.args.get("message", "refused")}
    return Response.json(body, int(fault.args.get("status", 200)))
