"""The vendor's application: each route checks its request, does its work on the project, and answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from kbsync_standin import rules
from kbsync_standin.completions import TESTS, completion
from kbsync_standin.faults import Fault, hits
from kbsync_standin.forms import filename_in, form_in
from kbsync_standin.messages import Request, Response
from kbsync_standin.older import ServiceApplication, compiled, misshapen
from kbsync_standin.openai.behaviour import KINDS, OpenaiBehaviour
from kbsync_standin.openai.project import (
    HOME_ID,
    UNSUPPORTED,
    Attached,
    Project,
    Store,
    Stored,
    StoredPassage,
)
from kbsync_standin.rules import Rules, is_object, is_string, is_text, or_none, whole

ROUTES: Sequence[tuple[str, str, str]] = (
    ("POST", "/v1/files", "upload"),
    ("GET", "/v1/files", "files"),
    ("DELETE", "/v1/files/{file}", "delete-file"),
    ("GET", "/v1/vector_stores", "list-bases"),
    ("POST", "/v1/vector_stores", "create-base"),
    ("GET", "/v1/vector_stores/{store}", "base"),
    ("POST", "/v1/vector_stores/{store}", "update-base"),
    ("DELETE", "/v1/vector_stores/{store}", "delete-base"),
    ("GET", "/v1/vector_stores/{store}/files", "list"),
    ("POST", "/v1/vector_stores/{store}/files", "attach"),
    ("GET", "/v1/vector_stores/{store}/files/{file}", "status"),
    ("GET", "/v1/vector_stores/{store}/files/{file}/content", "text"),
    ("POST", "/v1/vector_stores/{store}/files/{file}", "rename"),
    ("DELETE", "/v1/vector_stores/{store}/files/{file}", "delete"),
    ("POST", "/v1/vector_stores/{store}/search", "search"),
    ("POST", "/v1/vector-io/insert", "put-back"),
    ("GET", "/v1/providers", "readers"),
    ("POST", "/v1/chat/completions", "chat"),
)
"""Method, path and operation."""

PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
AUTO = {"type": "static", "static": {"max_chunk_size_tokens": 800, "chunk_overlap_tokens": 400}}
LARGEST = 512_000_000
EMBEDDING: Mapping[str, Any] = {"embedding_model": "models/some-embedding", "embedding_dimension": "4"}
RULES = Rules()


class Refused(rules.Refused):
    """The vendor refuses, and the client made no mistake."""

    def __init__(
        self, status: int, message: str, kind: str = "invalid_request_error", code: str = ""
    ) -> None:
        super().__init__(message, status, code)
        self.kind = kind


class Call:
    """One request: its project, its ids, its body."""

    def __init__(self, project: Project, request: Request, ids: Mapping[str, str], fault: Fault) -> None:
        self.project, self.request, self.ids, self.fault = project, request, ids, fault

    def missing(self, message: str, *, always_404: bool = False) -> Refused:
        """OGX says 400 for all that it does not find in its stores."""
        return Refused(400 if self.project.is_ogx and not always_404 else 404, message)

    @property
    def store(self) -> Store:
        """Raises `Refused`."""
        store = self.project.stores.get(self.ids["store"])
        if store is None:
            raise self.missing(f"Vector store with id '{self.ids['store']}' not found.")
        return store

    @property
    def attached(self) -> Attached:
        """Raises `Refused`."""
        store, file_id = self.store, self.ids["file"]
        if file_id not in store.files:
            raise self.missing(f"File {file_id} not found in vector store {store.id}.")
        return store.files[file_id]

    @property
    def file(self) -> Stored:
        """Raises `Refused`."""
        file = self.project.files.get(self.ids["file"])
        if file is None:
            raise self.missing(f"No such File object: {self.ids['file']}", always_404=True)
        return file

    def body(self, tests: Mapping[str, Callable[[Any], bool]], *needed: str) -> dict[str, Any]:
        """The JSON object. Raises `Breach`."""
        return RULES.body(self.request.body, tests, needed)

    def hits(self, kind: str, one: Attached) -> bool:
        """A fault of this kind is played on this file."""
        return hits(self.fault, kind, one.file.sent_name)


class _Dated(Protocol):
    @property
    def id(self) -> str: ...


R = TypeVar("R", bound=_Dated)


def _page(call: Call, rows: Sequence[R], largest: int, default: int, show: Callable[[R], Any]) -> Any:
    """One page of rows that come oldest first."""
    query = call.request.query
    RULES.only(query, ("limit", "order", "after", "purpose", "filter", "before"))
    limit = query.get("limit", str(default))
    RULES.must(limit.isdigit() and 1 <= int(limit) <= largest, f"limit is {limit}")
    order = query.get("order", "desc")
    RULES.must(order in ("asc", "desc"), f"order is {order}")
    shown = list(rows) if order == "asc" else list(rows)[::-1]
    after = query.get("after")
    if after is not None:
        ids = [one.id for one in shown]
        if after in ids:
            shown = shown[ids.index(after) + 1 :]
        elif not call.project.is_ogx:
            raise Refused(400, f"No such cursor: {after}")
    page = shown[: int(limit)]
    ends = {"first_id": page[0].id, "last_id": page[-1].id} if page else {"first_id": None, "last_id": None}
    return {"object": "list", "data": [show(one) for one in page], **ends, "has_more": len(shown) > len(page)}


def _upload(call: Call) -> Any:
    parts = form_in(call.request)
    files = [one for one in parts if one.filename is not None]
    fields = {one.name: one.text for one in parts if one.filename is None}
    RULES.only(fields, ("purpose", "expires_after[anchor]", "expires_after[seconds]"), "the form field")
    RULES.must(len(files) == 1 and files[0].name == "file", "a form has one file, `file`")
    RULES.must(fields.get("purpose") in PURPOSES, f"purpose is {fields.get('purpose')}")
    file = files[0]
    RULES.must(bool(file.filename) and not file.only_extended, "the file has no name")
    if len(file.content) > LARGEST:
        raise Refused(413, "The file is larger than 512 MB.")
    made = call.project.upload(file.filename or "", file.content, fields["purpose"])
    told = _stored(made)
    return {key: value for key, value in told.items() if key != "id"} if call.fault.kind == "no-id" else told


def _stored(one: Stored) -> dict[str, Any]:
    return {
        "id": one.id,
        "object": "file",
        "bytes": len(one.content),
        "created_at": int(one.created),
        "expires_at": None,
        "filename": one.name,
        "purpose": one.purpose,
        "status": "processed",
        "status_details": None,
    }


def _files(call: Call) -> Any:
    purpose = call.request.query.get("purpose")
    rows = [one for one in call.project.files.values() if purpose in (None, one.purpose)]
    return _page(call, rows, 10_000, 10_000, _stored)


def _delete_file(call: Call) -> Any:
    file = call.file
    if call.fault.kind != "not-deleted":
        call.project.delete_file(file.id)
    return {"id": file.id, "object": "file", "deleted": call.fault.kind != "not-deleted"}


def _shown(call: Call, store: Store) -> dict[str, Any]:
    now = call.project.clock.now()
    states = [one.status(now) for one in store.files.values()]
    own = {"provider_id": "sqlite-vec", "provider_vector_store_id": store.id, **EMBEDDING}
    counts = {state: states.count(state) for state in ("in_progress", "completed", "failed", "cancelled")}
    return {
        "id": store.id,
        "object": "vector_store",
        "created_at": int(store.created),
        "name": store.name,
        "usage_bytes": sum(len(one.file.text) for one in store.files.values()),
        "file_counts": {**counts, "total": len(states)},
        "status": store.status,
        "expires_after": None,
        "expires_at": None,
        "last_active_at": int(now),
        "metadata": store.metadata | (own if call.project.is_ogx else {}),
    }


def _list_bases(call: Call) -> Any:
    return _page(call, list(call.project.stores.values()), 100, 20, lambda store: _shown(call, store))


_STORE_TESTS: Mapping[str, Callable[[Any], bool]] = {
    "name": or_none(is_string),
    "metadata": or_none(is_object),
    "expires_after": or_none(is_object),
}


def _create_base(call: Call) -> Any:
    body = call.body(_STORE_TESTS)
    return _shown(call, call.project.make_store(body.get("name") or "", body.get("metadata") or {}))


def _base(call: Call) -> Any:
    return _shown(call, call.store)


def _update_base(call: Call) -> Any:
    store, body = call.store, call.body(_STORE_TESTS)
    store.name = body.get("name") or store.name
    if body.get("metadata") is not None:
        store.metadata = dict(body["metadata"])
    return _shown(call, store)


def _delete_base(call: Call) -> Any:
    store = call.store
    del call.project.stores[store.id]
    return {"id": store.id, "object": "vector_store.deleted", "deleted": True}


def _list(call: Call) -> Any:
    rows = [one for one in call.project.listed(call.store) if not call.hits("left-out", one)]
    return _page(call, rows, 100, 20, lambda one: _row(call, one))


_UNSUPPORTED = {
    "code": "server_error",
    "message": "Failed to execute job: 422: File type 'unknown' is not supported by the pypdf file "
    "processor. Supported types: PDF and text files (txt, csv, md, etc.).",
}


def _row(call: Call, one: Attached) -> dict[str, Any]:
    status = one.status(call.project.clock.now())
    error = None
    if status == "failed":
        is_known = one.error != UNSUPPORTED
        error = {"code": one.error, "message": "The file could not be read."} if is_known else _UNSUPPORTED
    row = {
        "id": one.id,
        "object": "vector_store.file",
        "created_at": int(one.created),
        "vector_store_id": one.store,
        "status": status,
        "last_error": error,
        "usage_bytes": len(one.file.text) if status == "completed" else 0,
        "attributes": {} if call.hits("unmarked", one) else dict(one.attributes),
        "chunking_strategy": one.strategy,
    }
    if call.fault.kind == "file-status":
        row["status"] = call.fault.args.get("value")
        if call.fault.args.get("missing"):
            del row["status"]
    return row | ({"surprise": {"a": [1]}} if call.project.behaviour.extra_fields else {})


def _attributes(value: Any) -> bool:
    """The vendor's bounds."""
    return (
        isinstance(value, dict)
        and len(value) <= 16
        and all(len(key) <= 64 for key in value)
        and all(
            isinstance(one, bool | int | float) or (is_string(one) and len(one) <= 512)
            for one in value.values()
        )
    )


def _attach(call: Call) -> Any:
    store = call.store
    tests = {"file_id": is_text, "attributes": _attributes, "chunking_strategy": _is_strategy}
    body = call.body(tests, "file_id")
    file = call.project.files.get(body["file_id"])
    if file is None:
        raise call.missing(f"No such File object: {body['file_id']}")
    strategy = body.get("chunking_strategy", AUTO)
    attributes = body.get("attributes") or {}
    return _row(call, call.project.attach(store, file, attributes, strategy, call.fault))


def _is_strategy(value: Any) -> bool:
    if not isinstance(value, dict) or value.get("type") != "static":
        return bool(value == {"type": "auto"})
    static = value.get("static")
    if not isinstance(static, dict) or static.keys() != {"max_chunk_size_tokens", "chunk_overlap_tokens"}:
        return False
    size = static["max_chunk_size_tokens"]
    return whole(100, 4096)(size) and whole(0, size // 2)(static["chunk_overlap_tokens"])


def _status(call: Call) -> Any:
    return _row(call, call.attached)


_INCLUDED = ("include_embeddings", "include_metadata")


def _text(call: Call) -> Any:
    """OGX tells more of a passage where it is asked to; its file need not be in the store."""
    query = call.request.query
    RULES.only(query, _INCLUDED if call.project.is_ogx else ())
    RULES.must(all(value in ("true", "false") for value in query.values()), f"the query is {dict(query)}")
    if not call.project.is_ogx:
        parts = [{"type": "text", "text": call.attached.file.text.decode("utf-8", "replace")}]
    else:
        one = call.store.files.get(call.ids["file"])
        parts = [] if one is None or one.error else [_passage(call, one)]
    return {"object": "vector_store.file_content.page", "data": parts, "has_more": False, "next_page": None}


def _passage(call: Call, one: Attached) -> dict[str, Any]:
    """All of its text."""
    with_vector, with_metadata = (call.request.query.get(name) == "true" for name in _INCLUDED)
    passage = one.passage
    about = {"chunk_id": passage.id, "document_id": one.id, "source": None, "content_token_count": 1}
    own = {**one.attributes, "filename": one.file.name, "file_id": one.id}
    return {
        "type": "text",
        "text": passage.text,
        "embedding": passage.vector if with_vector else None,
        "chunk_metadata": about if with_metadata else None,
        "metadata": own if with_metadata else None,
    }


_CHUNK_TESTS: Mapping[str, Callable[[Any], bool]] = {
    "content": is_string,
    "chunk_id": is_text,
    "metadata": is_object,
    "chunk_metadata": is_object,
    "embedding": lambda value: isinstance(value, list) and all(isinstance(one, float) for one in value),
    "embedding_model": is_text,
    "embedding_dimension": whole(1, 10_000),
}


def _readers(call: Call) -> Any:
    """What OGX is made of, as far as it reads files."""
    if not call.project.is_ogx:
        raise Refused(404, f"Invalid URL ({call.request.method} {call.request.path})")
    reader = call.project.behaviour.reader
    row = {"api": "file_processors", "provider_id": reader, "provider_type": f"inline::{reader}"}
    return {"data": [row | {"config": {}, "health": {"status": "OK"}}]}


def _put_back(call: Call) -> Any:
    """A passage of the id replaces the one that is there."""
    if not call.project.is_ogx:
        raise Refused(404, f"Invalid URL ({call.request.method} {call.request.path})")
    body = call.body({"vector_store_id": is_text, "chunks": _are_chunks}, "vector_store_id", "chunks")
    store = call.project.stores.get(body["vector_store_id"])
    if store is None:
        raise call.missing(f"Vector_store '{body['vector_store_id']}' not found")
    for chunk in body["chunks"]:
        file_id = chunk["metadata"].get("file_id", "")
        one = store.files.get(file_id)
        sent = StoredPassage(chunk["content"], chunk["chunk_id"], chunk["embedding"])
        RULES.must(len(sent.vector) == chunk["embedding_dimension"], "the vector has another length")
        RULES.must(chunk["embedding_model"] == EMBEDDING["embedding_model"], "it has another model")
        RULES.should(one is not None and one.passage == sent, "this is no passage of a file of the store")
        store.holders[sent.id] = file_id
    return Response(204)


def _are_chunks(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(one, dict) and bool(RULES.known(one, _CHUNK_TESTS, _CHUNK_TESTS)) for one in value
    )


def _rename(call: Call) -> Any:
    one = call.attached
    one.attributes = dict(call.body({"attributes": _attributes}, "attributes")["attributes"])
    call.project.journal.append({"effect": "renamed", "id": one.id, "name": one.file.sent_name, "sha256": ""})
    return _row(call, one)


def _delete(call: Call) -> Any:
    one, kind = call.attached, call.fault.kind
    if kind not in ("keeps-file", "not-deleted"):
        call.project.detach(call.store, one.id)
    return {"id": one.id, "object": "vector_store.file.deleted", "deleted": kind != "not-deleted"}


_SEARCH_TESTS: Mapping[str, Callable[[Any], bool]] = {
    "query": is_text,
    "max_num_results": whole(1, 50),
    "filters": is_object,
    "ranking_options": is_object,
    "rewrite_query": lambda value: isinstance(value, bool),
}


def _search(call: Call) -> Any:
    store, body = call.store, call.body(_SEARCH_TESTS, "query")
    fits = _filter(body.get("filters"))
    found = [(one, share) for one, share in call.project.found(store, body["query"]) if fits(one.attributes)]
    found.sort(key=lambda one: -one[1])
    data = [] if call.fault.kind == "nothing-found" else [_hit(call, *one) for one in found]
    page = {"data": data[: body.get("max_num_results", 10)], "has_more": False, "next_page": None}
    return {"object": "vector_store.search_results.page", "search_query": [body["query"]], **page}


def _hit(call: Call, one: Attached, score: float) -> dict[str, Any]:
    """OGX has an id of its own, and the file's among the attributes."""
    own = {"file_id": one.id, "filename": one.file.name} if call.project.is_ogx else {}
    return {
        "file_id": f"own-{one.ordinal}" if call.project.is_ogx else one.id,
        "filename": one.file.name,
        "score": score,
        "attributes": one.attributes | own,
        "content": [{"type": "text", "text": one.file.text.decode("utf-8", "replace")[:2000]}],
    }


def _filter(given: Any) -> Callable[[Mapping[str, Any]], bool]:
    """A test of attributes. Raises `Breach`."""
    if given is None:
        return lambda _: True
    kind, key, value = (given.get(name) for name in ("type", "key", "value"))
    RULES.only(given, ("type", "key", "value"), "the field of filters")
    RULES.must(kind in ("eq", "in") and is_text(key), f"filters is {given!r:.80}")
    RULES.must(kind == "eq" or (isinstance(value, list) and bool(value)), "in wants a list")
    return lambda attributes: attributes.get(key) in (value if kind == "in" else [value])


MODEL = "some-model"


def _chat(call: Call) -> Response:
    body = call.body(TESTS, "model", "messages")
    if body["model"] != MODEL:
        raise Refused(404, f"The model `{body['model']}` does not exist", code="model_not_found")
    head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": MODEL}
    return completion(body, head, call.fault.args if call.fault.kind == "stream" else {})


ANSWERS: Mapping[str, Callable[[Call], Any]] = {
    "upload": _upload,
    "files": _files,
    "delete-file": _delete_file,
    "list-bases": _list_bases,
    "create-base": _create_base,
    "base": _base,
    "update-base": _update_base,
    "delete-base": _delete_base,
    "list": _list,
    "attach": _attach,
    "status": _status,
    "text": _text,
    "rename": _rename,
    "delete": _delete,
    "search": _search,
    "put-back": _put_back,
    "readers": _readers,
    "chat": _chat,
}
"""What answers each operation. Raises `Breach` and `Refused`."""

COSTS = frozenset({"upload", "attach", "search", "chat"})


class OpenaiApplication(ServiceApplication):
    """One project with one empty vector store, `HOME_ID`, at first."""

    name, kinds = "openai", KINDS
    routes = compiled(ROUTES)
    default_key = "sk-secret-for-tests"
    api, home = "/v1", f"vector_store_id: {HOME_ID}"

    def _open(self, seed: int, vectorize: tuple[float, float]) -> Project:
        self.project = Project(seed, OpenaiBehaviour(vectorize=vectorize), self.clock)
        return self.project

    def subject(self, request: Request) -> str:
        """The name of the file that it is about, as it was sent."""
        op, ids = self.routed(request)
        if op == "upload":
            return filename_in(request.body)
        file_id = ids.get("file", "")
        if op in ("attach", "put-back"):
            told = re.search(rb'"file_id"\s*:\s*"([^"]*)"', request.body)
            file_id = told[1].decode() if told else ""
        file = self.project.files.get(file_id)
        return file.sent_name if file else ids.get("store", "")

    def _answered(self, op: str, pieces: Mapping[str, str], request: Request, fault: Fault) -> Response:
        self._admit(op, request, fault)
        if fault.kind == "error":
            return _error(fault)
        value = ANSWERS[op](Call(self.project, request, pieces, fault))
        if isinstance(value, Response):
            return value
        if fault.kind == "shape":
            nulls = {key: [None] if isinstance(one, list) else None for key, one in value.items()}
            return Response.json(misshapen(fault, nulls))
        return _error(fault) if fault.kind == "error-after" else Response.json(value)

    def _refused(self, refused: rules.Refused, fault: Fault) -> Response:
        kind = refused.kind if isinstance(refused, Refused) else "invalid_request_error"
        answer = _refusal(refused.status, str(refused), kind, str(refused.code))
        return answer.having(retry_after=str(fault.args.get("retry_after", "")))

    def _admit(self, op: str, request: Request, fault: Fault) -> None:
        """Raises `Refused`."""
        if not self._is_known(request) or fault.kind == "unauthorized":
            raise Refused(401, "Incorrect API key provided.", code="invalid_api_key")
        if not op:
            raise Refused(404, f"Invalid URL ({request.method} {request.path})")
        if fault.kind == "no-rights":
            raise Refused(
                403, "You have insufficient permissions for this operation. Missing scopes: api.files.write."
            )
        if fault.kind == "rate-limited":
            raise Refused(429, "Rate limit reached.", "requests", "rate_limit_exceeded")
        if fault.kind == "no-quota" or (self.behaviour.no_quota and op in COSTS):
            raise Refused(429, "You exceeded your current quota.", "insufficient_quota", "insufficient_quota")

    def snapshot(self) -> dict[str, Any]:
        """Every attached file, every file, the stores."""
        now, project = self.clock.now(), self.project
        documents = [
            {
                "id": one.id,
                "base": one.store,
                "name": one.file.sent_name,
                "attributes": dict(one.attributes),
                "sha256": one.file.sha256,
                "status": one.status(now),
            }
            for store in project.stores.values()
            for one in store.files.values()
        ]
        files = [{"id": one.id, "name": one.sent_name} for one in project.files.values()]
        bases = [{"id": one.id, "name": one.name} for one in project.stores.values()]
        return {"documents": documents, "files": files, "bases": bases}

    def _store_foreign(self, name: str, content: bytes, args: Mapping[str, Any]) -> str:
        """It is attached as well, with `attributes`."""
        file = self.project.upload(name, content, "assistants")
        home = self.project.stores[HOME_ID]
        self.project.attach(home, file, args.get("attributes") or {}, AUTO, Fault(""))
        return file.id


def _refusal(status: int, message: str, kind: str = "invalid_request_error", code: str = "") -> Response:
    error = {"message": message, "type": kind, "param": None, "code": code or None}
    return Response.json({"error": error}, status)


def _error(fault: Fault) -> Response:
    """The error that a fault answers with."""
    told = fault.args
    status = 200 if told.get("bare") else int(told.get("status", 400))
    return _refusal(
        status, told.get("message", ""), told.get("type", "invalid_request_error"), told.get("code", "")
    )
