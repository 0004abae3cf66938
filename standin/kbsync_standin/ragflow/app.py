"""The API calls of RAGFlow: each checks its request, changes the user's datasets, and responds.

Sources: docs/references/http_api_reference.md and, for its gaps, api/apps/restful_apis/document_api.py,
    chunk_api.py and dataset_api.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from kbsync_standin import rules
from kbsync_standin.application import Base, Call, Json, T, route
from kbsync_standin.forms import form_in
from kbsync_standin.listing import page_of
from kbsync_standin.messages import Response
from kbsync_standin.ragflow.chats import ASSISTANTS, CHAT_TESTS, answer, card
from kbsync_standin.ragflow.datasets import DIGITS, RagflowDocument, User
from kbsync_standin.rules import Refused, Test, Violation

METHODS = ["naive", "book", "email", "laws", "manual", "one", "paper", "picture", "presentation", "qa"]
METHODS += ["table", "tag"]
MAX_IDS = MAX_ROWS = 100
MAX_NAME_LENGTH = 255
FORMATS = re.compile(
    r".*\.(pdf|msg|eml|doc|docx|ppt|pptx|yml|xml|htm|json|jsonl|ldjson|csv|txt|ini|xls|xlsx|wps|rtf|hlp|pages"
    r"|numbers|key|md|mdx|py|js|java|c|cpp|h|php|go|ts|sh|cs|kt|html|sql|epub)",
    re.IGNORECASE | re.DOTALL,
)
_MAPPED = {100: 500, 101: 400, 102: 400, 109: 403}


_BASE: Mapping[str, Test] = {
    "name": lambda value: rules.is_text(value) and len(value) <= 128 and bool(value.strip()),
    "description": rules.is_string,
    "embedding_model": lambda value: rules.is_text(value) and "@" in value,
    "permission": rules.one_of("me", "team"),
    "chunk_method": rules.one_of(*METHODS),
}


_QUESTION: Mapping[str, Test] = {
    "question": rules.is_string,
    "dataset_ids": rules.are_texts,
    "document_ids": rules.are_strings,
    "page_size": rules.integer(1, MAX_ROWS),
}


def _are_fields(value: Any) -> bool:
    """Return whether the values are texts, numbers, or lists of them."""
    values = value.values() if rules.is_object(value) else [None]
    lists = [item if isinstance(item, list) else [item] for item in values]
    return all(isinstance(item, str | int | float) for several in lists for item in several)


class RagflowApplication(User):
    """One user with one empty dataset, `HOME_ID`, at first."""

    default_key = "ragflow-key-for-tests"
    usual_failure: ClassVar = {"code": 102, "message": "refused"}
    refusals: ClassVar = {"unauthorized": Refused("<Unauthorized>", 401, 401)}

    # -- responses

    def admit(self, call: Call) -> None:
        """Check the key. Older versions have other paths for chats and another refusal of a wrong key."""
        if call.plays("unauthorized") and call.arg("code") == 109:
            raise Refused("Authentication error: API key is invalid!", 200, 109)
        super().admit(call)
        if call.request.path.startswith("/api/v1/openai/") and self.behaviour.chats == "old":
            raise self.no_route(call)

    def no_route(self, call: Call) -> Refused:
        """Return the refusal for an unknown route."""
        return Refused(f"Not Found: {call.request.path}", 404, 404)

    def refusal(self, refused: Refused, call: Call) -> Response:
        """Write a refusal with HTTP 200, or with the status that the newest version gives some of them."""
        code = refused.code or (101 if isinstance(refused, Violation) else 102)
        body = {"code": code, "message": str(refused)}
        if code in (401, 404, 109):
            extra = {"error": "Not Found"} if code == 404 else {}
            return Response.json({**body, "data": None, **extra}, refused.status)
        status = _MAPPED.get(int(code), 200) if self.behaviour.statuses == "mapped" else 200
        return Response.json(body, status)

    def respond(self, value: Any, call: Call) -> Response:
        """Write a result in the API's envelope."""
        if call.plays("shape"):
            shapes = {"object": {"docs": {}, "chunks": 3}, "list": [None, 3], "null": None}
            form = str(call.arg("form", "object"))
            body = {"code": 0, "data": shapes[form]} if form in shapes else {"message": "success"}
            return Response.json(body)
        return Response.json(self.add_extra_fields({"code": 0, **({} if value is None else {"data": value})}))

    def _parse_query(self, call: Call, *known_names: str) -> Mapping[str, list[str]]:
        """Parse the query. Raises `Violation` for an unknown parameter or an impossible page."""
        query = parse_qs(urlsplit(call.request.raw_target).query, keep_blank_values=True)
        rules.require_known(query, ("page", "page_size", *known_names), "the parameter")
        call.page("page_size", 30, most=MAX_ROWS)
        return query

    def _paged(self, rows: Sequence[T], call: Call) -> Sequence[T]:
        return self.page(rows, *call.page("page_size", 30, most=MAX_ROWS))

    # -- datasets

    def _card(self, base: Base) -> Json:
        documents = self.documents_of(base.id)
        return {
            "description": None,
            "embedding_model": "BAAI/bge-m3@Builtin",
            "chunk_method": "naive",
            **base.settings,
            "id": base.id,
            "name": base.name,
            "document_count": len(documents),
            "chunk_count": sum(document.chunks for document in documents),
            "create_time": int(base.created * 1000),
            "permission": "me",
            "status": "1",
        }

    @route("GET", "/api/v1/datasets", "base")
    def _bases(self, call: Call) -> list[Json]:
        ids = self._parse_query(call, "id").get("id", [])
        rows = [base for key, base in reversed(self.visible_bases().items()) if key in ids or not ids]
        if ids and not rows:
            raise Refused(f"User 'tenant' lacks permission for dataset '{ids[0]}'")
        return [self._card(dataset) for dataset in self._paged(rows, call)]

    @route("POST", "/api/v1/datasets", "create-base")
    def _create_base(self, call: Call) -> Json:
        body = call.body(_BASE, "name")
        base = self.add_base(body.pop("name").strip())
        base.settings = body
        return self._card(base)

    @route("PUT", "/api/v1/datasets/{id}", "edit-base")
    def _edit_base(self, call: Call) -> Json:
        body, base = call.body(_BASE), self.dataset(call.ids["id"])
        base.name = body.pop("name", base.name)
        base.settings |= body
        return self._card(base)

    @route("DELETE", "/api/v1/datasets", "delete-base")
    def _delete_base(self, call: Call) -> Json:
        ids = self._ids_to_delete(call)
        if missing := [ident for ident in ids if ident not in self.visible_bases()]:
            raise Refused(f"User 'tenant' lacks permission for datasets: '{', '.join(missing)}'")
        for dataset in ids:
            self.drop_base(dataset)
        return {"success_count": len(ids)}

    def _ids_to_delete(self, call: Call) -> list[str]:
        """Parse the ids to delete. Raises `Violation` also for a request to delete all, which no client of
        ours may send.
        """
        body = call.body(dict.fromkeys(("ids", "delete_all"), lambda _: True))
        dataset = call.ids.get("id", "")
        ids: Any = body.get("ids")
        if not rules.are_texts(ids) or body.get("delete_all"):
            if self.behaviour.no_ids == "all":
                self.remove({document.id for document in self.documents_of(dataset)}, dataset)
            raise Violation("should either provide doc ids or set delete_all(true)", code=102)
        are_ids = all(re.fullmatch(self.id_form, ident) for ident in ids)
        rules.require(are_ids, f"Field: <ids> - Message: <Invalid UUID1 format> - Value: <{ids}>")
        rules.require(rules.are_distinct(ids), f"Field: <ids> - Message: <Duplicate ids> - Value: <{ids}>")
        return list(ids)

    # -- documents

    @route("POST", "/api/v1/datasets/{id}/documents", "upload")
    def _upload(self, call: Call) -> list[Json]:
        dataset, parts = self.dataset(call.ids["id"]).id, form_in(call.request)
        rules.require_known(
            [part.name for part in parts], ("file", "parent_path", "parser_config"), "the form field"
        )
        files = [part for part in parts if part.name == "file"]
        rules.require(bool(files), "No file part!")
        contents = [(part.filename or "", part.content) for part in files]
        for name, _ in contents:
            rules.require(bool(name), "No file selected!")
            is_name = len(name.encode()) <= MAX_NAME_LENGTH and re.search(r"[/\\\0\r\n]", name) is None
            rules.require(is_name, f"File name must be {MAX_NAME_LENGTH} bytes or less.")
            if not FORMATS.fullmatch(name):
                raise Refused(f"{name}: This type of file has not been supported yet!", code=500)
        stored = [self.store(dataset, name, content, call) for name, content in contents]
        names = ["chunk_method", "dataset_id", "name", "run", "size", "suffix", "type"]
        names += [] if call.plays("no-id") else ["id"]
        rows = [
            {key: row[key] for key in names} for row in [self._row(call, document) for document in stored]
        ]
        return rows * 2 if call.plays("two-ids") else rows

    def _row(self, call: Call, document: RagflowDocument) -> Json:
        row = {
            "id": document.id,
            "name": document.name,
            "dataset_id": document.base,
            "chunk_method": "naive",
            "chunk_count": document.chunks,
            "create_time": int(document.created * 1000),
            "progress": 0.0,
            "progress_msg": document.progress,
            "meta_fields": dict(document.fields),
            "run": DIGITS[document.run] if self.behaviour.runs == "digits" else document.run,
            # The server repairs a damaged PDF before storing it (`read_potential_broken_pdf`).
            "size": len(document.content)
            + (document.name.endswith(".pdf") and not document.content.startswith(b"%PDF")),
            "source_type": "local",
            "status": "1" if document.is_enabled else "0",
            "suffix": document.name.rpartition(".")[2],
            "type": "pdf" if document.name.endswith(".pdf") else "doc",
        }
        return call.distort("odd-status", row, "run")

    @route("GET", "/api/v1/datasets/{id}/documents", "list")
    def _list(self, call: Call) -> Json:
        base, behaviour = self.dataset(call.ids["id"]), self.behaviour
        query = self._parse_query(call, "orderby", "desc", "keywords", "ids")
        ids = query.get("ids", [])
        rules.require(len(ids) <= MAX_IDS, f"ids must contain at most {MAX_IDS} IDs")
        rows = self.list_of(base.id, call)
        if ids and behaviour.ids_filter:
            rows = [document for document in rows if document.id in ids]
        keyword = query.get("keywords", [""])[0].lower()
        rows = [document for document in rows if keyword in document.name.lower()]
        if query.get("desc", ["true"])[0] != "false":
            rows.reverse()
        data: Json = {"docs": [self._row(call, document) for document in self._paged(rows, call)]}
        return data if behaviour.total == "missing" else data | {behaviour.total: len(rows)}

    @route("PUT", "/api/v1/datasets/{id}/documents/{document}", "describe")
    def _describe(self, call: Call) -> Json:
        """Set a document's metadata like `update_doc`."""
        base, document = self.dataset(call.ids["id"]), self.documents.get(call.ids["document"])
        fields = call.body({"meta_fields": _are_fields}, "meta_fields")["meta_fields"]
        if document is None or document.is_deleted or document.base != base.id:
            raise Refused("The dataset doesn't own the document.")
        document.fields = fields
        return self._row(call, document)

    @route("DELETE", "/api/v1/datasets/{id}/documents", "delete")
    def _delete(self, call: Call) -> Json:
        dataset, ids = self.dataset(call.ids["id"]).id, self._ids_to_delete(call)
        known_ids = {document.id for document in self.documents_of(dataset)}
        missing = [ident for ident in ids if ident not in known_ids]
        if missing and self.behaviour.unknown_ids == "refused":
            words = f"These documents do not belong to dataset {dataset} or Document not found: "
            raise Refused(words + ", ".join(missing))
        if not call.plays("keeps-document"):
            self.remove(ids, dataset)
        if missing:
            errors = [f"Document {ident} not found!" for ident in missing]
            return {"success_count": len(ids) - len(missing), "errors": errors}
        return {"deleted": len(ids)}

    @route("POST", "/api/v1/datasets/{id}/chunks", "parse")
    @route("POST", "/api/v1/documents/ingest", "parse")
    def _parse(self, call: Call) -> bool | None:
        """Start parsing documents; the first refused one ends the loop, and those before it have started."""
        is_ingest = "id" not in call.ids
        key = "doc_ids" if is_ingest else "document_ids"
        tests: Json = {"run": rules.one_of("1", "2"), "delete": rules.is_flag} if is_ingest else {}
        needed = (key, "run") if is_ingest else (key,)
        ids = call.body({key: rules.are_texts, **tests}, *needed)[key]
        rules.require(rules.are_distinct(ids), "Duplicate document ids", code=102)
        if not is_ingest:
            self.dataset(call.ids["id"])
            if self.behaviour.pipeline:
                words = "Datasets configured with an ingestion pipeline cannot be parsed with "
                words += "`/datasets/{dataset_id}/chunks`. Use `/documents/ingest` instead."
                raise Refused(words, code=101)
        documents = {document.id: document for document in self.present()}
        for ident in ids:
            if ident in documents:
                self.parse(documents[ident], call)
        if missing := [ident for ident in ids if ident not in documents]:
            raise Refused(f"Documents not found: {missing}")
        return True if is_ingest else None

    # -- searches and chat assistants

    @route("POST", "/api/v1/retrieval", "search")
    def _search(self, call: Call) -> Json:
        body = call.body(_QUESTION, "question", "dataset_ids")
        datasets = [self.dataset(ident).id for ident in body["dataset_ids"]]
        ids = body.get("document_ids", [])
        known_ids = {document.id for dataset in datasets for document in self.documents_of(dataset)}
        for ident in ids:
            if ident not in known_ids:
                raise Refused(f"The datasets don't own the document {ident}")
        rows = self.find(body["question"], datasets, ids)
        rows = [] if call.plays("nothing-found") else rows
        chunks = page_of(rows, 1, body.get("page_size", 30))
        return {"chunks": list(chunks), "doc_aggs": [], "total": len(rows)}

    @route("GET", "/api/v1/chats", "chats")
    def _chats(self, call: Call) -> Json | list[Json]:
        self._parse_query(call)
        assistants, is_old = ASSISTANTS[self.behaviour.assistants], self.behaviour.chats == "old"
        rows = [card(assistant, is_old) for assistant in self._paged(assistants, call)]
        return rows if is_old else {"chats": rows, "total": len(assistants)}

    @route("POST", "/api/v1/openai/{id}/chat/completions", "chat")
    @route("POST", "/api/v1/chats_openai/{id}/chat/completions", "chat")
    def _chat(self, call: Call) -> Response:
        body = call.body(CHAT_TESTS, "model", "messages")
        return answer(self, call.ids["id"], body, call.args_of("stream"))
