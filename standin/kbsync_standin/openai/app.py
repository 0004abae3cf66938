"""The API calls of OpenAI: each checks its request, changes the project, and responds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from kbsync_standin import rules
from kbsync_standin.application import Call, Json, route
from kbsync_standin.completions import HEAD, MODEL, TESTS, completion
from kbsync_standin.faults import Fault
from kbsync_standin.forms import form_in
from kbsync_standin.listing import R
from kbsync_standin.messages import Response
from kbsync_standin.openai.project import (
    AUTO,
    HOME_ID,
    UNSUPPORTED,
    Attached,
    Project,
    StoredPassage,
    UploadedFile,
    VectorStore,
)
from kbsync_standin.rules import Refused, Test

PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
MAX_BYTES = 512_000_000
EMBEDDING: Mapping[str, Any] = {"embedding_model": "models/some-embedding", "embedding_dimension": "4"}
_STORE_TESTS: Mapping[str, Test] = {
    "name": rules.or_none(rules.is_string),
    "metadata": rules.or_none(rules.is_object),
}

_UNSUPPORTED = {
    "code": "server_error",
    "message": "Failed to execute job: 422: File type 'unknown' is not supported by the pypdf file "
    "processor. Supported types: PDF and text files (txt, csv, md, etc.).",
}

_INCLUDED = ("include_embeddings", "include_metadata")


def _are_attributes(value: Any) -> bool:
    """Return whether attributes keep the service's limits."""
    return (
        isinstance(value, dict)
        and len(value) <= 16
        and all(len(key) <= 64 and isinstance(value[key], str | int | float) for key in value)
        and all(len(text) <= 512 for text in value.values() if rules.is_string(text))
    )


_CHUNK_TESTS: Mapping[str, Test] = {
    "content": rules.is_string,
    "chunk_id": rules.is_text,
    "metadata": rules.is_object,
    "chunk_metadata": rules.is_object,
    "embedding": lambda value: isinstance(value, list) and all(isinstance(number, float) for number in value),
    "embedding_model": rules.is_text,
    "embedding_dimension": rules.integer(1, 10_000),
}


def _are_chunks(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(chunk, dict) and bool(rules.validate(chunk, _CHUNK_TESTS, _CHUNK_TESTS)) for chunk in value
    )


_SEARCH_TESTS: Mapping[str, Test] = {
    "query": rules.is_text,
    "max_num_results": rules.integer(1, 50),
    "filters": rules.is_object,
}


class OpenaiApplication(Project):
    """One project with one empty vector store, `HOME_ID`, at first."""

    default_key, api = "sk-secret-for-tests", "/v1"
    prefixes: ClassVar = {"": "/v1"}
    id_form = "file-[0-9a-f]{32}"
    refusals: ClassVar = {
        "unauthorized": Refused("Incorrect API key provided.", 401, "invalid_api_key"),
        "no-rights": Refused(
            "You have insufficient permissions for this operation. Missing scopes: api.files.write.", 403
        ),
        "rate-limited": Refused("Rate limit reached.", 429, "rate_limit_exceeded", "requests"),
        "no-quota": Refused(
            "You exceeded your current quota.", 429, "insufficient_quota", "insufficient_quota"
        ),
    }

    # -- responses

    def admit(self, call: Call) -> None:
        """Check the key, and that only OGX gets its own calls, and the text of files as OGX returns it."""
        super().admit(call)
        if call.op in ("put-back", "readers", "text") and not self.is_ogx:
            raise self.no_route(call)

    def no_route(self, call: Call) -> Refused:
        """Return the refusal for an unknown route."""
        return Refused(f"Invalid URL ({call.request.method} {call.request.path})", 404)

    def refusal(self, refused: Refused, call: Call) -> Response:
        """Write a refusal as an error object."""
        return _error(refused.status, str(refused), refused.kind, str(refused.code))

    def failure(self, fault: Fault) -> Response:
        """Return the error of a fault; with `bare` its HTTP status is 200."""
        args = fault.args
        status = 200 if args.get("bare") else int(args.get("status", 400))
        return _error(status, args.get("message", ""), args.get("type", ""), args.get("code", ""))

    def nulls(self, value: Any) -> Any:
        """Return the value with null in its lists, or null."""
        return {key: [None] if isinstance(field, list) else None for key, field in value.items()}

    def add_extra_fields(self, value: Any) -> Any:
        """Add unknown fields to rows only."""
        return super().add_extra_fields(value) if value.get("object") == "vector_store.file" else value

    def _missing(self, message: str) -> Refused:
        """Return the refusal for an unknown object; OGX answers 400 for objects inside its stores."""
        return Refused(message, 400 if self.is_ogx else 404)

    def _store(self, key: str) -> VectorStore:
        """Return the store. Raises `Refused`."""
        store: VectorStore | None = self.visible_bases().get(key)
        if store is None:
            raise self._missing(f"Vector store with id '{key}' not found.")
        return store

    def _attached(self, call: Call) -> Attached:
        """Return the attached file of the path. Raises `Refused`."""
        store, file_id = self._store(call.ids["store"]), call.ids["file"]
        if file_id not in store.files:
            raise self._missing(f"File {file_id} not found in vector store {store.id}.")
        return store.files[file_id]

    def _paged(
        self, call: Call, rows: Sequence[R], largest: int, default: int, show: Callable[[R], Any]
    ) -> Json:
        """Return one page of rows that come oldest first."""
        query = call.query
        rules.require_known(query, ("limit", "order", "after", "purpose", "filter", "before"))
        _, limit = call.page("limit", default, most=largest)
        order, after = query.get("order", "desc"), query.get("after")
        rules.require(order in ("asc", "desc"), f"order is {order}")
        ordered = list(rows) if order == "asc" else list(rows)[::-1]
        if after is not None:
            ids = [row.id for row in ordered]
            if after in ids:
                ordered = ordered[ids.index(after) + 1 :]
            elif not self.is_ogx:
                raise Refused(f"No such cursor: {after}")
        page = self.page(ordered, 1, limit)
        ends = {"first_id": page[0].id if page else None, "last_id": page[-1].id if page else None}
        has_more = len(ordered) > len(page)
        return {"object": "list", "data": [show(row) for row in page], **ends, "has_more": has_more}

    # -- files

    @route("POST", "/files", "upload")
    def _upload(self, call: Call) -> Json:
        parts = form_in(call.request)
        files = [part for part in parts if part.filename is not None]
        fields = {part.name: part.text for part in parts if part.filename is None}
        rules.require_known(
            fields, ("purpose", "expires_after[anchor]", "expires_after[seconds]"), "the form field"
        )
        rules.require(len(files) == 1 and files[0].name == "file", "a form has one file, `file`")
        rules.require(fields.get("purpose") in PURPOSES, f"purpose is {fields.get('purpose')}")
        file = files[0]
        rules.require(bool(file.filename) and not file.only_extended, "the file has no name")
        if len(file.content) > MAX_BYTES:
            raise Refused("The file is larger than 512 MB.", 413)
        row = _file_row(self.upload(file.filename or "", file.content, fields["purpose"]))
        return {key: value for key, value in row.items() if key != "id" or not call.plays("no-id")}

    @route("GET", "/files", "files")
    def _files(self, call: Call) -> Json:
        purpose = call.query.get("purpose")
        rows = [file for file in self.documents.values() if purpose in (None, file.purpose)]
        return self._paged(call, rows, 10_000, 10_000, _file_row)

    @route("DELETE", "/files/{file}", "delete-file")
    def _delete_file(self, call: Call) -> Json:
        file_id, is_deleted = call.ids["file"], not call.plays("not-deleted")
        if file_id not in self.documents:
            raise Refused(f"No such File object: {file_id}", 404)
        if is_deleted:
            self.delete_file(file_id)
        return {"id": file_id, "object": "file", "deleted": is_deleted}

    # -- vector stores

    def _card(self, store: VectorStore) -> Json:
        states = [attached.status(self.now) for attached in store.files.values()]
        ogx_fields = {"provider_id": "sqlite-vec", "provider_vector_store_id": store.id, **EMBEDDING}
        is_expired = self.behaviour.base == "expired" and store.id == HOME_ID
        counts = {state: states.count(state) for state in ("in_progress", "completed", "failed", "cancelled")}
        return {
            "id": store.id,
            "object": "vector_store",
            "created_at": int(store.created),
            "name": store.name,
            "usage_bytes": sum(len(attached.file.indexed) for attached in store.files.values()),
            "file_counts": {**counts, "total": len(states)},
            "status": "expired" if is_expired else "completed",
            "expires_after": None,
            "expires_at": None,
            "last_active_at": int(self.now),
            "metadata": store.settings | (ogx_fields if self.is_ogx else {}),
        }

    @route("GET", "/vector_stores", "list-bases")
    def _list_bases(self, call: Call) -> Json:
        return self._paged(call, list(self.visible_bases().values()), 100, 20, self._card)

    @route("POST", "/vector_stores", "create-base")
    def _create_base(self, call: Call) -> Json:
        body = call.body(_STORE_TESTS)
        store: VectorStore = self.add_base(body.get("name") or "", "", **(body.get("metadata") or {}))
        return self._card(store)

    @route("GET", "/vector_stores/{store}", "base")
    def _base(self, call: Call) -> Json:
        return self._card(self._store(call.ids["store"]))

    @route("POST", "/vector_stores/{store}", "update-base")
    def _update_base(self, call: Call) -> Json:
        store, body = self._store(call.ids["store"]), call.body(_STORE_TESTS)
        store.name = body.get("name") or store.name
        if body.get("metadata") is not None:
            store.settings = dict(body["metadata"])
        return self._card(store)

    @route("DELETE", "/vector_stores/{store}", "delete-base")
    def _delete_base(self, call: Call) -> Json:
        store = self._store(call.ids["store"])
        del self.bases[store.id]
        return {"id": store.id, "object": "vector_store.deleted", "deleted": True}

    # -- files of a store

    @route("GET", "/vector_stores/{store}/files", "list")
    def _list(self, call: Call) -> Json:
        store = self._store(call.ids["store"])
        attached_files = sorted(
            self.visible([*store.files.values(), *store.past]), key=lambda attached: attached.ordinal
        )
        rows = [
            attached for attached in attached_files if not call.plays("left-out", attached.file.sent_name)
        ]
        return self._paged(
            call, rows, 100, 20, lambda attached: self.add_extra_fields(self._row(call, attached))
        )

    def _row(self, call: Call, attached: Attached) -> Json:
        status, is_marked = attached.status(self.now), not call.plays("unmarked", attached.file.sent_name)
        error = {"code": attached.error, "message": "The file could not be read."}
        error = _UNSUPPORTED if attached.error == UNSUPPORTED else error
        row: Json = {
            "id": attached.id,
            "object": "vector_store.file",
            "created_at": int(attached.created),
            "vector_store_id": attached.store,
            "status": status,
            "last_error": error if status == "failed" else None,
            "usage_bytes": len(attached.file.indexed) if status == "completed" else 0,
            "attributes": dict(attached.attributes) if is_marked else {},
            "chunking_strategy": AUTO,
        }
        return call.distort("odd-status", row, "status")

    @route("POST", "/vector_stores/{store}/files", "attach")
    def _attach(self, call: Call) -> Json:
        store = self._store(call.ids["store"])
        body = call.body({"file_id": rules.is_text, "attributes": _are_attributes}, "file_id")
        file = self.documents.get(body["file_id"])
        if file is None:
            raise self._missing(f"No such File object: {body['file_id']}")
        return self._row(call, self.attach(store, file, body.get("attributes") or {}, call))

    @route("GET", "/vector_stores/{store}/files/{file}", "status")
    def _status(self, call: Call) -> Json:
        return self._row(call, self._attached(call))

    @route("GET", "/vector_stores/{store}/files/{file}/content", "text")
    def _text(self, call: Call) -> Json:
        """Return the text of a file, with details on request; the file needn't be in the store."""
        rules.validate(dict(call.query), dict.fromkeys(_INCLUDED, rules.one_of("true", "false")))
        attached = self._store(call.ids["store"]).files.get(call.ids["file"])
        parts = [] if attached is None or attached.error else [_passage(call, attached)]
        page = {"object": "vector_store.file_content.page", "data": parts}
        return {**page, "has_more": False, "next_page": None}

    @route("POST", "/vector_stores/{store}/files/{file}", "rename")
    def _rename(self, call: Call) -> Json:
        attached = self._attached(call)
        attached.attributes = dict(call.body({"attributes": _are_attributes}, "attributes")["attributes"])
        self.record("renamed", attached.file)
        return self._row(call, attached)

    @route("DELETE", "/vector_stores/{store}/files/{file}", "delete")
    def _delete(self, call: Call) -> Json:
        attached, is_deleted = self._attached(call), not call.plays("not-deleted")
        if is_deleted and not call.plays("keeps-document"):
            self.detach(self._store(attached.store), attached.id)
        return {"id": attached.id, "object": "vector_store.file.deleted", "deleted": is_deleted}

    @route("POST", "/vector_stores/{store}/search", "search")
    def _search(self, call: Call) -> Json:
        store, body = self._store(call.ids["store"]), call.body(_SEARCH_TESTS, "query")
        fits, rows = _filter(body.get("filters")), self.find(store, body["query"])
        best = sorted((row for row in rows if fits(row[0].attributes)), key=lambda row: -row[1])
        data = [] if call.plays("nothing-found") else [self._hit(*row) for row in best]
        page = {"data": data[: body.get("max_num_results", 10)], "has_more": False, "next_page": None}
        return {"object": "vector_store.search_results.page", "search_query": [body["query"]], **page}

    def _hit(self, attached: Attached, score: float) -> Json:
        """Return a search hit; OGX has its own id in it and the file's id among the attributes."""
        ogx_fields = {"file_id": attached.id, "filename": attached.file.name} if self.is_ogx else {}
        return {
            "file_id": f"own-{attached.ordinal}" if self.is_ogx else attached.id,
            "filename": attached.file.name,
            "score": score,
            "attributes": attached.attributes | ogx_fields,
            "content": [{"type": "text", "text": attached.file.text[:2000]}],
        }

    # -- OGX's own calls, and chats

    @route("GET", "/providers", "readers")
    def _readers(self, call: Call) -> Json:
        """Name the providers of OGX that read files."""
        reader = self.behaviour.reader
        row = {"api": "file_processors", "provider_id": reader, "provider_type": f"inline::{reader}"}
        return {"data": [row | {"config": {}, "health": {"status": "OK"}}]}

    @route("POST", "/vector-io/insert", "put-back")
    def _put_back(self, call: Call) -> Response:
        """Insert a passage, replacing the one with the same id."""
        body = call.body(
            {"vector_store_id": rules.is_text, "chunks": _are_chunks}, "vector_store_id", "chunks"
        )
        store = self._store(body["vector_store_id"])
        for chunk in body["chunks"]:
            file_id = chunk["metadata"].get("file_id", "")
            attached = store.files.get(file_id)
            sent = StoredPassage(chunk["content"], chunk["chunk_id"], chunk["embedding"])
            rules.require(len(sent.vector) == chunk["embedding_dimension"], "the vector has another length")
            rules.require(chunk["embedding_model"] == EMBEDDING["embedding_model"], "it has another model")
            rules.require(
                attached is not None and attached.passage == sent,
                "this passage is not in the store",
            )
            store.holders[sent.id] = file_id
        return Response(204)

    @route("POST", "/chat/completions", "chat")
    def _chat(self, call: Call) -> Response:
        body = call.body(TESTS, "model", "messages")
        if body["model"] != MODEL:
            raise Refused(f"The model `{body['model']}` does not exist", 404, "model_not_found")
        return completion(body, HEAD, call.args_of("stream"))


def _file_row(file: UploadedFile) -> Json:
    return {
        "id": file.id,
        "object": "file",
        "bytes": len(file.content),
        "created_at": int(file.created),
        "expires_at": None,
        "filename": file.name,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
    }


def _passage(call: Call, attached: Attached) -> Json:
    """Return a passage with its whole text."""
    with_vector, with_metadata = (call.query.get(name) == "true" for name in _INCLUDED)
    passage = attached.passage
    about = {"chunk_id": passage.id, "document_id": attached.id, "source": None, "content_token_count": 1}
    ogx_fields = {**attached.attributes, "filename": attached.file.name, "file_id": attached.id}
    return {
        "type": "text",
        "text": passage.text,
        "embedding": passage.vector if with_vector else None,
        "chunk_metadata": about if with_metadata else None,
        "metadata": ogx_fields if with_metadata else None,
    }


def _filter(filters: Any) -> Callable[[Mapping[str, Any]], bool]:
    """Return a test of attributes. Raises `Violation`."""
    if filters is None:
        return lambda _: True
    kind, key, value = (filters.get(name) for name in ("type", "key", "value"))
    rules.require_known(filters, ("type", "key", "value"), "the field of filters")
    rules.require(kind in ("eq", "in") and rules.is_text(key), f"filters is {filters!r:.80}")
    rules.require(kind == "eq" or (isinstance(value, list) and bool(value)), "in wants a list")
    return lambda attributes: attributes.get(key) in (value if kind == "in" else [value])


def _error(status: int, message: str, kind: str, code: str) -> Response:
    error = {"message": message, "type": kind or "invalid_request_error", "param": None, "code": code or None}
    return Response.json({"error": error}, status)
