"""The API calls of Dify: each checks its request, changes the workspace, and responds.

Paths refer to https://github.com/langgenius/dify; docs/targets/dify.md names the commits. The routes are
those of api/controllers/service_api/dataset/, below `/v1`.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, ClassVar

from kbsync_standin import rules
from kbsync_standin.application import Call, Json, route
from kbsync_standin.dify.workspace import DifyBase, Workspace
from kbsync_standin.faults import Fault
from kbsync_standin.forms import form_in
from kbsync_standin.messages import Response
from kbsync_standin.rules import Refused

_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"

_ALWAYS = "txt markdown md mdx pdf html htm xlsx xls docx csv vtt properties"
_UNSTRUCTURED = f"{_ALWAYS} doc eml msg pptx xml epub"
_TECHNIQUE = rules.one_of("high_quality", "economy")

_BASE = {
    "name": lambda value: rules.is_text(value) and len(value) <= 40,
    "description": lambda value: rules.is_string(value) and len(value) <= 400,
    "indexing_technique": rules.or_none(_TECHNIQUE),
    "permission": rules.or_none(rules.one_of("only_me", "all_team_members", "partial_members")),
}
_DATA = {
    "duplicate": rules.is_flag,
    "indexing_technique": _TECHNIQUE,
    "doc_form": rules.one_of("text_model", "hierarchical_model", "qa_model"),
    "doc_language": rules.is_text,
    "process_rule": lambda value: value == {"mode": "automatic"},
}
"""The documented fields of `KnowledgeConfig` (api/services/entities/knowledge_entities)."""

_FIELD = {
    "type": rules.one_of("string", "number", "time"),
    "name": lambda value: rules.is_text(value) and len(value) <= 255,
}
_SEARCH = {
    "search_method": rules.one_of("semantic_search", "full_text_search", "hybrid_search", "keyword_search"),
    "reranking_enable": rules.is_flag,
    "reranking_model": rules.is_object,
    "reranking_mode": rules.is_text,
    "weights": rules.is_object,
    "top_k": rules.is_whole,
    "score_threshold_enabled": rules.is_flag,
    "score_threshold": lambda value: isinstance(value, int | float),
}
"""The fields of `RetrievalModel`; four of them are required."""

_RATE = "Sorry, you have reached the knowledge base request rate limit of your subscription."
_FULL = "The number of documents has reached the limit of your subscription."


class DifyApplication(Workspace):
    """One workspace with one empty knowledge base, `HOME_ID`, at first."""

    default_key, api = "dataset-secret-for-tests", "/v1"
    prefixes: ClassVar = {"/files/": "", "": "/v1"}
    piece = id_form = _UUID
    refusals: ClassVar = {
        "unauthorized": Refused("Access token is invalid", 401, "unauthorized"),
        "rate-limited": Refused(_RATE, 403, "forbidden"),
        "documents-full": Refused(_FULL, 403, "forbidden"),
        "not-found": Refused("Dataset not found.", 404, "not_found"),
    }

    # -- responses (api/libs/external_api.py)

    def admit(self, call: Call) -> None:
        """Check the key, except for the bytes of a file. Older versions have no metadata calls."""
        if call.op != "bytes":
            super().admit(call)
        if call.op in ("create-field", "describe") and not self.behaviour.metadata:
            raise self.no_route(call)

    def no_route(self, call: Call) -> Refused:
        """Return the refusal for an unknown route."""
        return Refused("The requested URL was not found on the server.", 404, "not_found")

    def refusal(self, refused: Refused, call: Call) -> Response:
        """Write a refusal; a `ValueError` in Dify becomes `invalid_param`."""
        return _error(refused.status, str(refused.code or "invalid_param"), str(refused))

    def failure(self, fault: Fault) -> Response:
        """Return the error of a fault; its argument `http` sets another HTTP status than the body's."""
        status, code = int(fault.args.get("status", 400)), str(fault.args.get("code", "invalid_param"))
        error = _error(status, code, str(fault.args.get("message", "")))
        return Response(int(fault.args.get("http", status)), error.body, error.headers)

    # -- knowledge bases (dataset.py)

    def _card(self, base: DifyBase) -> Json:
        """Describe a base like `DatasetDetailResponse` (api/fields/dataset_fields.py): unset fields are
        null.
        """
        documents, behaviour = self.documents_of(base.id), self.behaviour
        fields = [{"id": key, "name": name, "type": kind} for name, (key, kind) in base.fields.items()]
        return {
            "id": base.id,
            "name": base.name,
            "description": base.description,
            "provider": "external" if behaviour.external else "vendor",
            "permission": base.permission,
            "data_source_type": "upload_file" if documents else None,
            "indexing_technique": base.technique,
            "document_count": len(documents),
            "embedding_model": "text-embedding-3-small" if base.technique == "high_quality" else None,
            "doc_form": behaviour.doc_form if documents else None,
            "runtime_mode": behaviour.runtime,
            "pipeline_id": None if behaviour.runtime == "general" else base.id,
            "retrieval_model_dict": {
                "search_method": "semantic_search",
                "reranking_enable": False,
                "reranking_mode": None,
                "reranking_model": {"reranking_provider_name": None, "reranking_model_name": None},
                "weights": None,
                "top_k": 3,
                "score_threshold_enabled": False,
                "score_threshold": None,
            },
            **({"doc_metadata": fields, "built_in_field_enabled": False} if behaviour.metadata else {}),
        }

    @route("GET", "/datasets", "bases")
    def _list_bases(self, call: Call) -> Json:
        rules.require_known(call.query, ("page", "limit", "include_all"), "the query parameter")
        rules.require_fields(call.query, {"include_all": rules.one_of("true", "false")})
        number, size = call.page("limit", 20, most=100)
        cards = [self._card(dataset) for dataset in reversed(self.visible_bases().values())]
        page_info = {"limit": size, "total": len(cards), "page": number}
        return {"data": self.page(cards, number, size), "has_more": number * size < len(cards), **page_info}

    @route("POST", "/datasets", "create-base")
    def _create_base(self, call: Call) -> Json:
        body = {"permission": None, **call.body(_BASE, "name")}
        if body["name"] in [dataset.name for dataset in self.visible_bases().values()]:
            words = "The dataset name already exists. Please modify your dataset name."
            raise Refused(words, 409, "dataset_name_duplicate")
        return self._card(self.add_base(**body))

    @route("GET", "/datasets/{id}", "base")
    def _show_base(self, call: Call) -> Json:
        return self._card(self.base(call))

    @route("PATCH", "/datasets/{id}", "edit-base")
    def _edit_base(self, call: Call) -> Json:
        base, body = self.base(call), call.body({"name": rules.is_text, "description": rules.is_string})
        base.name, base.description = body.get("name", base.name), body.get("description", base.description)
        return self._card(base)

    @route("DELETE", "/datasets/{id}", "delete-base")
    def _delete_base(self, call: Call) -> None:
        base = self.base(call)
        self.drop_base(base.id)

    # -- documents (document.py)

    @route("POST", "/datasets/{id}/document/create-by-file", "upload")
    def _upload(self, call: Call) -> Json:
        """Upload a file like `DocumentAddByFileApi`, with the same order of checks."""
        base, behaviour = self.base(call), self.behaviour
        if behaviour.external:
            raise Refused("External datasets are not supported.")
        if behaviour.runtime != "general":
            raise Refused("the dataset takes documents through its pipeline")
        parts = {part.name: part for part in form_in(call.request)}
        rules.require_known(parts, ("data", "file"), "the form field")
        data = rules.parse_body(parts["data"].content, _DATA) if "data" in parts else {}
        technique = data.get("indexing_technique") or base.technique
        if not technique or (behaviour.technique_needed and "indexing_technique" not in data):
            raise Refused("indexing_technique is required.")
        rules.require("file" in parts, "the form has no file")
        name, content = parts["file"].filename or "", parts["file"].content
        rules.require(re.fullmatch(r"[^/\\]+", name) is not None, f"{name!r} is not a file name")
        formats = (_UNSTRUCTURED if behaviour.unstructured else _ALWAYS).split()
        # Both errors in api/services/errors/file.py are raised without a message.
        if name.rpartition(".")[2].lower() not in formats or len(content) > behaviour.max_bytes:
            raise Refused("")
        if not base.has_rule and "process_rule" not in data:
            raise Refused("process_rule is required.")
        is_flat = "process_rule" not in data or data.get("doc_form") != "hierarchical_model"
        rules.require(is_flat, "the automatic rule makes no parent and child passages")
        if self.documents_of(base.id) and data.get("doc_form", "text_model") != behaviour.doc_form:
            raise Refused("doc_form is different from the dataset doc_form.")
        base.technique, base.has_rule = base.technique or technique, True
        document = self.store(base.id, name, content, call, duplicate=data.get("duplicate", True))
        row = document.row(self.now)
        if call.plays("no-id"):
            del row["id"]
        if call.plays("no-lock"):
            raise Refused("Internal Server Error", 500, "unknown")
        return {"document": row, "batch": document.batch}

    @route("GET", "/datasets/{id}/documents", "list")
    def _list(self, call: Call) -> Json:
        base = self.base(call)
        rules.require_known(call.query, ("page", "limit", "keyword"), "the query parameter")
        # Dify silently cuts larger pages to 100; a request for more is still the client's mistake.
        number, size = call.page("limit", 20, most=100)
        field = call.word("field", "indexing_status")
        like = re.escape(call.query.get("keyword", "")).replace("%", ".*").replace("_", ".")
        listed = self.newest(self.list_of(base.id, call))
        rows = [document for document in listed if re.search(like, document.name)]
        page = [
            call.distort("odd-status", document.row(self.now), field)
            for document in self.page(rows, number, size)
        ]
        # Like Dify, this sets `has_more` wrongly after a full last page.
        page_info = {"limit": size, "total": len(rows), "page": number}
        return {"data": page, "has_more": len(page) == size, **page_info}

    @route("GET", "/datasets/{id}/documents/{document}", "detail")
    def _detail(self, call: Call) -> Json:
        """Show a document like `DocumentApi.get`; without metadata, `data_source_info` has the file's
        size.
        """
        document = self.document(call, "Document not found.")
        rules.require_known(call.query, ("metadata",), "the query parameter")
        rules.require_fields(call.query, {"metadata": rules.one_of("all", "only", "without")})
        row = document.row(self.now)
        row |= {
            "data_source_info": row.pop("data_source_detail_dict"),
            "segment_count": row.pop("word_count"),
        }
        fields = self.base(call).fields
        row["doc_metadata"] = [
            {"id": fields[name][0], "name": name, "type": fields[name][1], "value": value}
            for name, value in document.metadata.items()
            if name in fields
        ]
        if call.query.get("metadata") == "without":
            del row["doc_metadata"]
        return call.distort("odd-status", row, call.word("field", "indexing_status"))

    @route("DELETE", "/datasets/{id}/documents/{document}", "delete")
    def _delete(self, call: Call) -> Json | int | None:
        """Delete a document like `DocumentApi.delete`, which refuses archived ones."""
        document = self.document(call, "Document Not Exists.")
        status = document.status(self.now)
        if document.hidden == "archived" and status == "completed":
            raise Refused("The archived document is not editable.", 403, "archived_document_immutable")
        if self.behaviour.indexing_deletion == "refused" and status in ("waiting", "indexing"):
            raise Refused("Cannot delete document during indexing.", 400, "document_indexing")
        if not call.plays("keeps-document"):
            self.delete(document)
        responses: dict[str, Json | int] = {"number": 204, "object": {"result": "success"}}
        return responses.get(self.behaviour.deleted)

    @route("GET", "/datasets/{id}/documents/{document}/upload-file", "file")
    def _file(self, call: Call) -> Json:
        """Show the file of a document like `UploadFileApi` (upload_file.py)."""
        document, how = self.document(call, "Document not found."), self.behaviour.files_url
        where = {"missing": "", "broken": "http://[x"}.get(how, call.origin)
        url = f"{where}/files/{document.id}/file-preview?timestamp=1&nonce=2&sign={document.sha256[:16]}"
        fields = {
            "id": document.id,
            "name": document.name,
            "size": len(document.content),
            "extension": document.name.split(".")[-1],
        }
        urls = {} if how == "untold" else {"url": url, "download_url": f"{url}&as_attachment=true"}
        return {**fields, **urls}

    @route("GET", "/files/{file}/file-preview", "bytes")
    def _bytes(self, call: Call) -> Response:
        """Send the file behind a signed URL (api/core/file/helpers.py, `get_signed_file_url`)."""
        if "authorization" in call.request.headers:
            self.violations.append("the key was sent to the address of a file")
        document = self.documents.get(call.ids["file"])
        if document is None or document.is_deleted or call.query.get("sign") != document.sha256[:16]:
            raise Refused("File not found or signature is invalid", 404, "not_found")
        return Response(200, document.content, {"content-type": "application/octet-stream"})

    # -- metadata (metadata.py)

    @route("POST", "/datasets/{id}/metadata", "create-field")
    def _create_field(self, call: Call) -> Json:
        """Create a metadata field like `DatasetMetadataCreateServiceApi`, with the same maximum length."""
        body = call.body(_FIELD, "type", "name")
        return self.make_field(self.base(call), body["name"], body["type"])

    @route("POST", "/datasets/{id}/documents/metadata", "describe")
    def _describe(self, call: Call) -> Json:
        """Set metadata like `DocumentMetadataEditServiceApi`; at the first refused document it stops,
        changing no more.
        """
        base = self.base(call)
        several = call.body({"operation_data": rules.are_objects}, "operation_data")["operation_data"]
        tests = {
            "document_id": rules.is_text,
            "metadata_list": rules.are_objects,
            "partial_update": rules.is_flag,
        }
        changes = {}
        for value in several:
            item = rules.validate(value, tests, ("document_id", "metadata_list"))
            rules.require(item["document_id"] not in changes, f"{item['document_id']} is described twice")
            values = _values(base, item["metadata_list"])
            changes[item["document_id"]] = values, item.get("partial_update", False)
        for document_id, (values, is_partial) in changes.items():
            document = self.documents.get(document_id)
            if document is None or document.base != base.id or document.is_deleted:
                raise Refused("Document not found.")
            document.metadata = {**(document.metadata if is_partial else {}), **values}
        return {"result": "success"}

    # -- searches (hit_testing.py)

    @route("POST", "/datasets/{id}/retrieve", "retrieve")
    def _retrieve(self, call: Call) -> Json:
        """Search like `HitTestingApi` (api/controllers/console/datasets/hit_testing_base.py)."""
        base = self.base(call)
        body = call.body({"query": rules.is_text, "retrieval_model": rules.is_object}, "query")
        rules.require(len(body["query"]) <= 250, "Query cannot exceed 250 characters")
        settings = body.get("retrieval_model", {"top_k": 4})
        if "retrieval_model" in body:
            needed = ("search_method", "reranking_enable", "top_k", "score_threshold_enabled")
            rules.validate(settings, _SEARCH, needed)
        documents = [] if call.plays("nothing-found") else self.newest(self.documents_of(base.id))
        records = []
        for score, document in self.rank(body["query"], documents):
            card = {"id": document.id, "data_source_type": "upload_file", "name": document.name}
            segment = {"id": document.id, "document_id": document.id, "content": document.text[:2000]}
            records.append({"segment": {**segment, "answer": None, "document": card}, "score": score})
        return {"query": {"content": body["query"]}, "records": records[: settings["top_k"]]}

    def respond(self, value: Any, call: Call) -> Response:
        """Write a result as a response; None becomes 204."""
        is_empty = value is None and not call.plays("shape")
        response = Response(204) if is_empty else super().respond(value, call)
        return replace(response, status=201) if call.op == "create-field" else response


def _values(base: DifyBase, several: list[Json]) -> dict[str, str]:
    """Return metadata values by field name; like Dify it ignores field ids and types. Raises `Violation`."""
    values = {}
    for value in several:
        item = rules.validate(
            value,
            {"id": rules.is_text, "name": rules.is_text, "value": rules.is_text},
            ("id", "name", "value"),
        )
        is_known = base.fields.get(item["name"]) == (item["id"], "string")
        rules.require(is_known, f"the base has no field {item['name']!r} of texts with the id {item['id']}")
        values[item["name"]] = item["value"]
    return values


def _error(status: int, code: str, message: str) -> Response:
    return Response.json({"code": code, "message": message, "status": status}, status)
