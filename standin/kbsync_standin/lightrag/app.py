"""The server's application: each route checks its request, does its work, and answers.

Source: LightRAG 1.5.7, `lightrag/api/routers/document_routes.py` and `query_routes.py`, and answers of the
running server.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from kbsync_standin.completions import are_messages
from kbsync_standin.faults import Fault, hits
from kbsync_standin.forms import filename_in, form_in
from kbsync_standin.lightrag.behaviour import KINDS, LightragBehaviour
from kbsync_standin.lightrag.storage import Storage, id_of
from kbsync_standin.messages import Request, Response
from kbsync_standin.older import ServiceApplication, compiled, misshapen
from kbsync_standin.rules import Breach, Refused, Rules, are_texts, is_flag, is_text, one_of, whole

ROUTES: Mapping[tuple[str, str], str] = {
    ("GET", "/documents/status_counts"): "base",
    ("POST", "/documents/upload"): "upload",
    ("POST", "/documents/paginated"): "list",
    ("DELETE", "/documents/delete_document"): "delete",
    ("GET", "/documents/pipeline_status"): "deletion",
    ("POST", "/query/data"): "search",
    ("POST", "/query"): "ask",
    ("POST", "/query/stream"): "ask",
}
"""The operation of each method and path."""

SUPPORTED = (
    ".bat .c .conf .cpp .css .csv .docx .epub .go .h .hpp .htm .html .ini .java .js .json .less .log .md "
    ".mdx .odt .pdf .php .pptx .properties .py .rb .rtf .scss .sh .sql .swift .tex .textpack .ts .txt "
    ".xlsx .xml .yaml .yml"
)
LARGEST = 100 * 1024 * 1024
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
"""What else is told of the pipeline; nothing of it changes here."""


def _refusal(status: int, detail: str) -> Response:
    return Response.json({"detail": detail}, status)


class LightragApplication(ServiceApplication):
    """One server with one base, empty at first."""

    name, kinds = "lightrag", KINDS
    routes = compiled((*route, op) for route, op in ROUTES.items())
    default_key = "key-for-tests"

    def _open(self, seed: int, vectorize: tuple[float, float]) -> Storage:
        self.storage = Storage(seed, LightragBehaviour(vectorize=vectorize), self.clock)
        return self.storage

    def subject(self, request: Request) -> str:
        """The name of the file that is uploaded, or of the documents to be deleted, joined with ` | `."""
        match self.op(request):
            case "upload":
                return filename_in(request.body)
            case "delete":
                try:
                    ids = json.loads(request.body)["doc_ids"]
                except (ValueError, TypeError, KeyError):
                    return ""
                known = self.storage.documents
                return " | ".join(known[one].name for one in ids if one in known)
        return ""

    def _answered(self, op: str, pieces: Mapping[str, str], request: Request, fault: Fault) -> Response:
        self.storage.work()
        given = request.headers.get("x-api-key")
        if not given and "authorization" in request.headers:
            return _refusal(401, "Invalid token")
        if not given:
            return _refusal(403, "API Key required")
        if given != self._key or self.behaviour.key_revoked or fault.kind == "unauthorized":
            return _refusal(403, "Invalid API Key")
        if not op or self.behaviour.base == "gone":
            return _refusal(404, "Not Found")
        match fault.kind:
            case "rate-limited":
                after = fault.args.get("retry_after", 30)
                return _refusal(429, "Pipeline queue is full").having(retry_after=str(after))
            case "internal" if not fault.args.get("stored"):
                return _refusal(500, "Internal server error")
        response = _ANSWERS[op](self, request, fault)
        if fault.kind == "internal":
            return _refusal(500, "Internal server error")
        if fault.kind == "shape" and response.status == 200:
            return Response.json(misshapen(fault, [None]))
        return response

    def _refused(self, refused: Refused, fault: Fault) -> Response:
        if refused.status != 422:
            return _refusal(refused.status, str(refused))
        told = {"type": "value_error", "loc": ["body"], "msg": str(refused), "input": None}
        return Response.json({"detail": [told]}, 422)

    # -- the calls ---------------------------------------------------------------------------------------

    def _counts(self) -> dict[str, int]:
        now = self.clock.now()
        words = [one.status(now) for one in self.storage.documents.values()]
        return {**{word: words.count(word) for word in _WORKING}, "all": len(words)}

    def _base(self, request: Request, fault: Fault) -> Response:
        return self._json({"status_counts": self._counts()})

    def _upload(self, request: Request, fault: Fault) -> Response:
        name, content = _sent_file(request)
        if self.storage.deletion is not None or fault.kind == "clearing":
            return _refusal(409, _CLEARING)
        most = self.behaviour.most_at_once
        if most and self.storage.unfinished >= most:
            return _refusal(429, "Pipeline queue is full").having(retry_after="30")
        if fault.kind == "name-taken":
            return _refusal(
                409, f"Input directory already contains a file with the same canonical basename ('{name}')."
            )
        if fault.kind == "refused":
            return _refusal(400, "Unsupported file type.")
        # A row of a refused duplicate does not hold its name.
        old = self.storage.documents.get(id_of(name))
        if old is not None and not old.original:
            status = old.status(self.clock.now())
            words = f"Document storage already contains '{name}' (Status: {status})."
            return _refusal(409, f"{words} Delete the existing record before re-uploading.")
        is_stored = (
            bool(fault.args.get("stored")) if fault.kind == "no-receipt" else fault.kind != "not-stored"
        )
        track = f"upload_{len(self.storage.journal):08d}"
        if is_stored:
            track = self.storage.store(name, content, self.behaviour, fault).track_id
        status = str(fault.args.get("status", "partial_success")) if fault.kind == "no-receipt" else "success"
        told = f"File '{name}' uploaded successfully. Processing will continue in background."
        return self._json({"status": status, "message": told, "track_id": track})

    def _list(self, request: Request, fault: Fault) -> Response:
        asked: dict[str, Any] = {
            "page": 1,
            "page_size": 50,
            "sort_field": "updated_at",
            "sort_direction": "desc",
        }
        asked |= _fields(request, _LIST_TESTS, ())
        now = self.clock.now()
        there = [
            one for one in self.storage.documents.values() if now >= one.created + self.behaviour.list_lag
        ]
        rows = [self._dressed(one.row(now)) for one in there if not hits(fault, "left-out", one.name)]
        if fault.kind == "status-word":
            rows = [{**row, "status": fault.args.get("value")} for row in rows]
        words = asked.get("status_filters")
        rows = [row for row in rows if not words or row["status"] in words]
        backwards = asked["sort_direction"] == "desc"
        rows.sort(key=lambda row: (row[asked["sort_field"]], row["id"]), reverse=backwards)
        page, size = asked["page"], asked["page_size"]
        pages = -(-len(rows) // size)
        told = {"page": page, "page_size": size, "total_count": len(rows), "total_pages": pages}
        told |= {"has_next": page < pages, "has_prev": page > 1}
        cut = rows[(page - 1) * size : page * size]
        return self._json({"documents": cut, "pagination": told, "status_counts": self._counts()})

    def _delete(self, request: Request, fault: Fault) -> Response:
        asked = _fields(request, _DELETE_TESTS, ("doc_ids",))
        ids = asked["doc_ids"]
        if len(set(ids)) < len(ids):
            raise Breach("Document IDs must be unique", 422)
        if self.storage.deletion is not None or self.storage.unfinished or fault.kind == "busy":
            told = {"status": "busy", "message": "Pipeline is busy with another operation."}
            return self._json({**told, "doc_id": ", ".join(ids)})
        seconds = float(fault.args.get("seconds", 60)) if fault.kind == "slow" else self.behaviour.deleting
        self.storage.begin(ids, seconds, fault.kind)
        message = f"Document deletion for {len(ids)} documents has been initiated."
        return self._json({"status": "deletion_started", "message": message, "doc_id": ", ".join(ids)})

    def _pipeline(self, request: Request, fault: Fault) -> Response:
        job, word = self.storage.deletion, self.storage.last_word
        if fault.kind == "miscounts" and word.startswith("Deletion completed"):
            word = "Deletion completed: 0 successful, 1 failed"
        is_busy = job is not None or self.storage.unfinished > 0
        name = "Deleting 1 Documents" if job is not None or word else "-"
        told = {"busy": is_busy, "job_name": name, "latest_message": word, "history_messages": [word]}
        return self._json({**_PIPELINE, **told, "destructive_busy": job is not None})

    def _search(self, request: Request, fault: Fault) -> Response:
        asked = _fields(request, _SEARCH_TESTS, ("query",))
        if fault.kind == "search-failed":
            told = {"status": "failure", "message": "Query failed", "data": {}, "metadata": {}}
            return self._json(told)
        if _is_short(asked["query"]):
            message = "Validation error: body: Value error, RAG query is too short."
            return Response.json({"status": "failure", "message": message, "data": {}, "metadata": {}}, 400)
        chunks = [
            {
                "reference_id": str(number),
                "content": one.text,
                "file_path": one.name,
                "chunk_id": f"{one.id}-chunk-000",
            }
            for number, one in enumerate(self.storage.found(asked["query"]), 1)
        ][: asked.get("chunk_top_k", 20)]
        if not chunks:
            reason = {"failure_reason": "no_results", "mode": asked.get("mode", "mix")}
            message = "No relevant document chunks found."
            return self._json({"status": "failure", "message": message, "data": {}, "metadata": reason})
        references = [{"reference_id": one["reference_id"], "file_path": one["file_path"]} for one in chunks]
        data = {"entities": [], "relationships": [], "chunks": chunks, "references": references}
        told = {"status": "success", "message": "Query processed successfully", "data": data}
        return self._json({**told, "metadata": {"query_mode": asked.get("mode", "mix")}})

    def _ask(self, request: Request, fault: Fault) -> Response:
        """Its model says again what it is given, the best documents."""
        asked = _fields(request, _ASK_TESTS, ("query",))
        if _is_short(asked["query"]):
            raise Breach("Value error, RAG query is too short.", 422)
        found = list(self.storage.found(asked["query"]))[:3]
        references: list[dict[str, Any]] = [
            {"reference_id": str(number), "file_path": one.name} for number, one in enumerate(found, 1)
        ]
        if asked.get("include_chunk_content"):
            references = [told | {"content": [one.text]} for told, one in zip(references, found, strict=True)]
        text, is_streamed = "\n\n".join(one.text for one in found), request.path.endswith("stream")
        whole_answer: dict[str, Any] = {"response": text or NO_CONTEXT, "llm_generated": bool(text)}
        whole_answer |= {"references": references}
        if not is_streamed:
            return self._json(whole_answer | {"response_time": 0.1})
        lines: list[Any] = [whole_answer]
        if text:
            pieces = [{"response": piece} for piece in re.findall(r"\S*\s*", text) if piece]
            lines = [{"references": references}, *pieces]
        if asked.get("include_progress") and self.behaviour.tells_progress:
            lines = [{"progress": "retrieving_chunks"}, *lines, {"response_time": 0.1}]
        args = fault.args if fault.kind == "stream" else {}
        if end := args.get("end"):
            lines = lines[: len(lines) // 2] + ([{"error": "the model is down"}] if end == "error" else [])
        parts = [f"{json.dumps(line)}\n".encode() for line in lines]
        if args.get("end") == "half-line":
            parts.append(b'{"respon')
        headers, every = {"content-type": "application/x-ndjson"}, float(args.get("every", 0.0))
        return Response(200, b"".join(parts), headers, tuple(map(len, parts)), every)

    def _dressed(self, value: dict[str, Any]) -> dict[str, Any]:
        return {**value, "surprise": {"a": [1]}} if self.behaviour.extra_fields else value

    def _json(self, value: dict[str, Any]) -> Response:
        return Response.json(self._dressed(value))

    # -- for tests ---------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """Every document there is; `stat` 1: it can be searched, 2: it failed."""
        self.storage.work()
        now = self.clock.now()
        stats = {"processed": 1, "failed": 2}
        documents = [
            {
                "id": one.id,
                "sent_name": one.name,
                "sha256": one.sha256,
                "stat": stats.get(one.status(now), 0),
                "deleted": False,
            }
            for one in self.storage.documents.values()
        ]
        return {"documents": documents}

    def journal(self) -> list[dict[str, Any]]:
        """Effects in order: `stored`, `deleted`; `foreign-deleted` by others."""
        self.storage.work()
        return super().journal()

    def _store_foreign(self, name: str, content: bytes, args: Mapping[str, Any]) -> str:
        one = self.storage.store(name, content, LightragBehaviour(), Fault(""))
        one.is_foreign = True
        return one.id


_ANSWERS: Mapping[str, Callable[[LightragApplication, Request, Fault], Response]] = {
    "base": LightragApplication._base,
    "upload": LightragApplication._upload,
    "list": LightragApplication._list,
    "delete": LightragApplication._delete,
    "deletion": LightragApplication._pipeline,
    "search": LightragApplication._search,
    "ask": LightragApplication._ask,
}

_LIST_TESTS = {
    "page": whole(1, 10**9),
    "page_size": whole(10, 200),
    "sort_field": one_of("created_at", "updated_at", "id", "file_path"),
    "sort_direction": one_of("asc", "desc"),
    "status_filters": lambda value: isinstance(value, list) and all(one in _WORKING for one in value),
}
_DELETE_TESTS = {"doc_ids": are_texts, "delete_file": is_flag, "delete_llm_cache": is_flag}
_SEARCH_TESTS = {"query": is_text, "mode": one_of(*_MODES), "chunk_top_k": whole(1, 1000)}


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


def _fields(
    request: Request, tests: Mapping[str, Callable[[Any], bool]], needed: tuple[str, ...]
) -> dict[str, Any]:
    """The JSON body, of known fields with legal values. Raises `Breach`, answered with 422."""
    return Rules().body(request.body, tests, needed, 422)


def _sent_file(request: Request) -> tuple[str, bytes]:
    """Name and bytes of the one file of a form. Raises `Breach`."""
    parts = form_in(request, 422)
    if [part.name for part in parts] != ["file"]:
        raise Breach("a form has one field, file", 422)
    name, content = parts[0].filename or "", parts[0].content
    if parts[0].only_extended or not name.strip():
        raise Breach("Filename cannot be empty")
    if name != name.strip() or any(ord(one) < 32 or one == "\x7f" for one in name):
        raise Breach("Invalid filename")
    if any(one in "/\\:" for one in name) or name in (".", "..") or len(name.encode()) > 240:
        raise Breach("Unsafe filename detected")
    if not name.lower().endswith(tuple(SUPPORTED.split())):
        raise Breach(f"Unsupported file type. Supported types: {SUPPORTED}")
    if len(content) > LARGEST:
        raise Breach("File too large.", 413)
    return name, content
