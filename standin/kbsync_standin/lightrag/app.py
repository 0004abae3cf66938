"""The API calls of LightRAG: each checks its request, does its work, and responds.

Sources: LightRAG 1.5.7, `lightrag/api/routers/document_routes.py` and `query_routes.py`, and responses of a
    running server.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, ClassVar

from kbsync_standin.application import Call, Json, route
from kbsync_standin.completions import are_messages, event_stream
from kbsync_standin.faults import Fault
from kbsync_standin.forms import form_in
from kbsync_standin.lightrag.storage import Storage
from kbsync_standin.messages import Request, Response
from kbsync_standin.rules import Refused, are_distinct, are_texts, integer, is_flag, is_text, one_of, require

SUPPORTED = (
    ".bat .c .conf .cpp .css .csv .docx .epub .go .h .hpp .htm .html .ini .java .js .json .less .log .md "
    ".mdx .odt .pdf .php .pptx .properties .py .rb .rtf .scss .sh .sql .swift .tex .textpack .ts .txt "
    ".xlsx .xml .yaml .yml"
)
MAX_BYTES = 100 * 1024 * 1024
NO_CONTEXT = "Sorry, I'm not able to provide an answer to that question.[no-context]"
_WORKING = ("pending", "parsing", "analyzing", "processing", "preprocessed", "processed", "failed")
_CLEARING = "Pipeline is clearing or deleting documents. Wait for the running job to finish."
_MODES = ("local", "global", "hybrid", "naive", "mix", "bypass")


_STORES = (
    *("full_docs", "text_chunks", "full_entities", "full_relations", "entity_chunks", "relation_chunks"),
    *("entities", "relationships", "chunks", "chunk_entity_relation", "llm_response_cache", "doc_status"),
)
_PIPELINE: Mapping[str, Any] = {
    **dict.fromkeys(("docs", "batchs", "cur_batch", "pending_enqueues"), 0),
    **dict.fromkeys(("cancellation_requested", "recovery_required", "scanning", "scanning_exclusive"), False),
    **dict.fromkeys(("cancellation_detail", "cancellation_reason", "recovery_kind", "recovery_message")),
    "job_start": "2026-11-23T06:22:29.748697",
    "update_status": {key: [False] for key in _STORES},
}
"""The constant fields of the pipeline's status."""


_LIST_TESTS = {
    "page": integer(1, 10**9),
    "page_size": integer(10, 200),
    "sort_field": one_of("created_at", "updated_at", "id", "file_path"),
    "sort_direction": one_of("asc", "desc"),
    "status_filters": lambda value: isinstance(value, list) and all(status in _WORKING for status in value),
}
_DELETE_TESTS = {"doc_ids": are_texts, "delete_file": is_flag, "delete_llm_cache": is_flag}
_SEARCH_TESTS = {"query": is_text, "mode": one_of(*_MODES), "chunk_top_k": integer(1, 1000)}


_LAST = {"role": "user", "content": "the question"}
_ASK_TESTS = {
    "query": is_text,
    "mode": one_of(*_MODES),
    "conversation_history": lambda value: not value or are_messages([*value, _LAST]),
    "include_references": is_flag,
    "include_chunk_content": is_flag,
    "include_progress": is_flag,
}


def _is_short(query: str) -> bool:
    return sum(1 if character.isascii() else 2 for character in query.strip()) < 3


class LightragApplication(Storage):
    """One server with one base, empty at first."""

    default_key = "key-for-tests"
    refusals: ClassVar = {
        "unauthorized": Refused("Invalid API Key", 403),
        "rate-limited": Refused("Pipeline queue is full", 429),
    }

    # -- responses

    def admit(self, call: Call) -> None:
        """Check the key, which has its own header; a deleted base answers 404 to everything."""
        key = call.request.headers.get("x-api-key")
        if not key and "authorization" in call.request.headers:
            raise Refused("Invalid token", 401)
        if not key:
            raise Refused("API Key required", 403)
        if key != self._key or self.behaviour.key_revoked:
            raise self.refusals["unauthorized"]
        if self.behaviour.base == "deleted":
            raise self.no_route(call)

    def moment_of_failure(self, fault: Fault) -> str:
        """Return whether the fault replaces the response before or after the work."""
        return ("after" if fault.args.get("stored") else "before") if fault.kind == "internal" else ""

    def failure(self, fault: Fault) -> Response:
        """Return the response of the fault `internal`."""
        return Response.json({"detail": "Internal server error"}, 500)

    def refusal(self, refused: Refused, call: Call) -> Response:
        """Write a refusal; 422 lists what is wrong."""
        errors = [{"type": "value_error", "loc": ["body"], "msg": str(refused), "input": None}]
        detail = errors if refused.status == 422 else str(refused)
        response = Response.json({"detail": detail}, refused.status)
        return response.having(retry_after="30") if refused.status == 429 else response

    def nulls(self, value: Any) -> Any:
        """Return a list that contains null."""
        return [None]

    # -- documents

    def _counts(self) -> dict[str, int]:
        words = [document.status(self.now) for document in self.documents.values()]
        return {**{status: words.count(status) for status in _WORKING}, "all": len(words)}

    @route("GET", "/documents/status_counts", "base")
    def _base(self, call: Call) -> Json:
        return {"status_counts": self._counts()}

    @route("POST", "/documents/upload", "upload")
    def _upload(self, call: Call) -> Json:
        name, content = _sent_file(call.request)
        if self.deletion is not None or call.plays("clearing"):
            raise Refused(_CLEARING, 409)
        most = self.behaviour.most_at_once
        if most and self.unfinished >= most:
            raise self.refusals["rate-limited"]
        if call.plays("name-taken"):
            words = "Input directory already contains a file with the same canonical basename"
            raise Refused(f"{words} ('{name}').", 409)
        if call.plays("refused"):
            raise Refused("Unsupported file type.")
        # A row for a refused duplicate doesn't occupy the name.
        rows = (document for document in self.documents.values() if document.name == name)
        old = next((document for document in rows if not document.original), None)
        if old is not None:
            words = f"Document storage already contains '{name}' (Status: {old.status(self.now)})."
            raise Refused(f"{words} Delete the existing record before re-uploading.", 409)
        is_odd, args = call.plays("no-receipt"), call.fault.args
        is_stored = args.get("stored") if is_odd else not call.plays("not-stored")
        track = f"upload_{len(self._journal):08d}"
        if is_stored:
            track = self.store(name, content, call.fault.kind).track_id
        status = str(args.get("status", "partial_success")) if is_odd else "success"
        message = f"File '{name}' uploaded successfully. Processing will continue in background."
        return {"status": status, "message": message, "track_id": track}

    @route("POST", "/documents/paginated", "list")
    def _list(self, call: Call) -> Json:
        usual: Json = {"page": 1, "page_size": 50, "sort_field": "updated_at", "sort_direction": "desc"}
        body = usual | call.body(_LIST_TESTS, status=422)
        rows = [
            call.distort("odd-status", self.add_extra_fields(document.row(self.now)), "status")
            for document in self.list_of("", call)
        ]
        words, field = body.get("status_filters"), body["sort_field"]
        rows = [row for row in rows if not words or row["status"] in words]
        rows.sort(key=lambda row: (row[field], row["id"]), reverse=body["sort_direction"] == "desc")
        page, size = body["page"], body["page_size"]
        pages = -(-len(rows) // size)
        pagination = {"page": page, "page_size": size, "total_count": len(rows), "total_pages": pages}
        pagination |= {"has_next": page < pages, "has_prev": page > 1}
        cut = self.page(rows, page, size)
        return {"documents": cut, "pagination": pagination, "status_counts": self._counts()}

    @route("DELETE", "/documents/delete_document", "delete")
    def _delete(self, call: Call) -> Json:
        ids = call.body(_DELETE_TESTS, "doc_ids", status=422)["doc_ids"]
        require(are_distinct(ids), "Document IDs must be unique", 422)
        status, message = "busy", "Pipeline is busy with another operation."
        if self.deletion is None and not self.unfinished and not call.plays("busy"):
            slow = float(call.arg("seconds", 60))
            self.start_deletion(ids, slow if call.plays("slow") else self.behaviour.deleting, call.fault.kind)
            status = "deletion_started"
            message = f"Document deletion for {len(ids)} documents has been initiated."
        return {"status": status, "message": message, "doc_id": ", ".join(ids)}

    @route("GET", "/documents/pipeline_status", "deletion")
    def _pipeline(self, call: Call) -> Json:
        is_deleting, message = self.deletion is not None, self.last_word
        if call.plays("miscounts") and message.startswith("Deletion completed"):
            message = "Deletion completed: 0 successful, 1 failed"
        name = "Deleting 1 Documents" if is_deleting or message else "-"
        status = {"busy": is_deleting or self.unfinished > 0, "destructive_busy": is_deleting}
        job = {"job_name": name, "latest_message": message, "history_messages": [message]}
        return {**_PIPELINE, **status, **job}

    # -- searches

    @route("POST", "/query/data", "search")
    def _search(self, call: Call) -> Json | Response:
        body = call.body(_SEARCH_TESTS, "query", status=422)
        nothing: Json = {"status": "failure", "message": "Query failed", "data": {}, "metadata": {}}
        if call.plays("search-failed"):
            return nothing
        if _is_short(body["query"]):
            message = "Validation error: body: Value error, RAG query is too short."
            return Response.json({**nothing, "message": message}, 400)
        chunks, mode = [], body.get("mode", "mix")
        for number, document in enumerate(self.find(body["query"]), 1):
            about = {"reference_id": str(number), "content": document.text, "file_path": document.name}
            chunks.append({**about, "chunk_id": f"{document.id}-chunk-000"})
        chunks = chunks[: body.get("chunk_top_k", 20)]
        if not chunks:
            reason = {"failure_reason": "no_results", "mode": mode}
            return {**nothing, "message": "No relevant document chunks found.", "metadata": reason}
        references = [{key: chunk[key] for key in ("reference_id", "file_path")} for chunk in chunks]
        data = {"entities": [], "relationships": [], "chunks": chunks, "references": references}
        response = {"status": "success", "message": "Query processed successfully", "data": data}
        return {**response, "metadata": {"query_mode": mode}}

    @route("POST", "/query", "ask")
    @route("POST", "/query/stream", "ask")
    def _ask(self, call: Call) -> Json | Response:
        """Answer a question with the best documents; the simulated model repeats its context."""
        body = call.body(_ASK_TESTS, "query", status=422)
        require(not _is_short(body["query"]), "Value error, RAG query is too short.", 422)
        best = self.find(body["query"])[:3]
        references: list[Json] = [
            {"reference_id": str(number), "file_path": document.name}
            | ({"content": [document.text]} if body.get("include_chunk_content") else {})
            for number, document in enumerate(best, 1)
        ]
        text = "\n\n".join(document.text for document in best)
        whole_answer = {"response": text or NO_CONTEXT, "llm_generated": bool(text), "references": references}
        if not call.request.path.endswith("stream"):
            return whole_answer | {"response_time": 0.1}
        lines: list[Any] = [whole_answer]
        if text:
            pieces = [{"response": piece} for piece in re.findall(r"\S*\s*", text) if piece]
            lines = [{"references": references}, *pieces]
        if body.get("include_progress") and self.behaviour.tells_progress:
            lines = [{"progress": "retrieving_chunks"}, *lines, {"response_time": 0.1}]
        args = call.args_of("stream")
        if end := args.get("end"):
            error = args.get("error") or {"error": "the model is down"}
            lines = lines[: len(lines) // 2] + ([error] if end == "error" else [])
        parts = [f"{json.dumps(line)}\n".encode() for line in lines]
        if args.get("end") == "half-line":
            parts.append(b'{"respon')
        return event_stream(parts, args, "application/x-ndjson")


def _sent_file(request: Request) -> tuple[str, bytes]:
    """Return name and bytes of a form's only file. Raises `Violation`."""
    parts = form_in(request, 422)
    require([part.name for part in parts] == ["file"], "a form has one field, file", 422)
    name, content = parts[0].filename or "", parts[0].content
    require(bool(name.strip()) and not parts[0].only_extended, "Filename cannot be empty")
    require(name == name.strip() and re.search(r"[\x00-\x1f\x7f]", name) is None, "Invalid filename")
    is_safe = re.fullmatch(r"[^/\\:]+", name) is not None and name not in (".", "..")
    require(is_safe and len(name.encode()) <= 240, "Unsafe filename detected")
    is_supported = name.lower().endswith(tuple(SUPPORTED.split()))
    require(is_supported, f"Unsupported file type. Supported types: {SUPPORTED}")
    require(len(content) <= MAX_BYTES, "File too large.", 413)
    return name, content
