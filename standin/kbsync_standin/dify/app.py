"""The service's application: each route checks its request, does its work on the workspace, and answers.

Paths are of https://github.com/langgenius/dify; docs/targets/dify.md names the commits that were read. The
routes are those of api/controllers/service_api/dataset/, below `/v1`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kbsync_standin import rules
from kbsync_standin.application import ServiceApplication, compiled, misshapen
from kbsync_standin.dify.behaviour import KINDS, DifyBehaviour
from kbsync_standin.dify.workspace import HOME_ID, Document, KnowledgeBase, Refused, Workspace
from kbsync_standin.faults import Fault, hits
from kbsync_standin.forms import filename_in, form_in
from kbsync_standin.listing import page_of
from kbsync_standin.messages import Request, Response
from kbsync_standin.rules import Breach, Rules, is_flag, is_string, is_text, is_whole, one_of, or_none

_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
ROUTES: Mapping[tuple[str, str], str] = {
    ("GET", "/datasets"): "bases",
    ("POST", "/datasets"): "create-base",
    ("GET", "/datasets/{id}"): "base",
    ("PATCH", "/datasets/{id}"): "edit-base",
    ("DELETE", "/datasets/{id}"): "delete-base",
    ("POST", "/datasets/{id}/document/create-by-file"): "upload",
    ("GET", "/datasets/{id}/documents"): "list",
    ("GET", "/datasets/{id}/documents/{document}"): "detail",
    ("DELETE", "/datasets/{id}/documents/{document}"): "delete",
    ("GET", "/datasets/{id}/documents/{document}/upload-file"): "file",
    ("POST", "/datasets/{id}/metadata"): "create-field",
    ("POST", "/datasets/{id}/documents/metadata"): "describe",
    ("POST", "/datasets/{id}/retrieve"): "retrieve",
}
"""The operation of each method and path."""

_ALWAYS = (
    "txt",
    "markdown",
    "md",
    "mdx",
    "pdf",
    "html",
    "htm",
    "xlsx",
    "xls",
    "docx",
    "csv",
    "vtt",
    "properties",
)
_UNSTRUCTURED = ("doc", "eml", "msg", "pptx", "xml", "epub")
_TECHNIQUE = one_of("high_quality", "economy")


@dataclass(frozen=True, slots=True)
class Call:
    """One request on its way through a route. `ids`: in its path."""

    workspace: Workspace
    request: Request
    fault: Fault
    ids: Mapping[str, str]

    @property
    def origin(self) -> str:
        """Where the client reaches the service."""
        return f"http://{self.request.headers.get('host', 'localhost')}"

    def base(self) -> KnowledgeBase:
        """Raises `Refused`."""
        return self.workspace.base(self.ids["id"])

    def found(self, words: str) -> Document:
        """The document of the path. Raises `Refused` with `words`."""
        return self.workspace.document(self.base().id, self.ids["document"], words)

    def body(self, tests: Mapping[str, Any], needed: tuple[str, ...] = ()) -> dict[str, Any]:
        """A JSON object of these fields. Raises `Breach`."""
        return Rules().body(self.request.body, tests, needed)


# -- knowledge bases (dataset.py)


def _card(workspace: Workspace, base: KnowledgeBase) -> dict[str, Any]:
    """As api/fields/dataset_fields.py, `DatasetDetailResponse`, has it: what is not set is null."""
    documents = workspace.alive(base.id)
    fields = [{"id": key, "name": name, "type": kind} for name, (key, kind) in base.fields.items()]
    model = "text-embedding-3-small" if base.technique == "high_quality" else None
    return {
        "id": base.id,
        "name": base.name,
        "description": base.description,
        "provider": "external" if workspace.behaviour.external else "vendor",
        "permission": base.permission,
        "data_source_type": "upload_file" if documents else None,
        "indexing_technique": base.technique,
        "document_count": len(documents),
        "embedding_model": model,
        "doc_form": workspace.behaviour.doc_form if documents else None,
        "runtime_mode": workspace.behaviour.runtime,
        "pipeline_id": None if workspace.behaviour.runtime == "general" else base.id,
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
        **({"doc_metadata": fields, "built_in_field_enabled": False} if workspace.behaviour.metadata else {}),
    }


def _bases(call: Call) -> Any:
    number, size = _asked_page(call.request.query, {"include_all": ("true", "false")})
    cards = [_card(call.workspace, one) for one in call.workspace.bases().values()]
    page = page_of(cards, number, size)
    has_more = number * size < len(cards)
    return {"data": page, "has_more": has_more, "limit": size, "total": len(cards), "page": number}


def _create_base(call: Call) -> Any:
    permission = or_none(one_of("only_me", "all_team_members", "partial_members"))
    tests = {
        "name": lambda value: is_text(value) and len(value) <= 40,
        "description": lambda value: is_string(value) and len(value) <= 400,
        "indexing_technique": or_none(_TECHNIQUE),
        "permission": permission,
    }
    return _card(call.workspace, call.workspace.make_base(call.body(tests, ("name",))))


def _base(call: Call) -> Any:
    return _card(call.workspace, call.base())


def _edit_base(call: Call) -> Any:
    base = call.base()
    told = call.body({"name": is_text, "description": is_string})
    base.name, base.description = told.get("name", base.name), told.get("description", base.description)
    return _card(call.workspace, base)


def _delete_base(call: Call) -> Any:
    base = call.base()
    call.workspace.drop(base.id)
    del call.workspace.all_bases[base.id]
    return None


# -- documents (document.py)

_DATA = {
    "duplicate": is_flag,
    "indexing_technique": _TECHNIQUE,
    "doc_form": one_of("text_model", "hierarchical_model", "qa_model"),
    "doc_language": is_text,
    "process_rule": lambda value: value == {"mode": "automatic"},
}
"""What is documented of `KnowledgeConfig` (api/services/entities/knowledge_entities)."""


def _upload(call: Call) -> Any:
    """`DocumentAddByFileApi`, with the checks in their order there."""
    workspace, base, behaviour = call.workspace, call.base(), call.workspace.behaviour
    if behaviour.external:
        raise _invalid("External datasets are not supported.")
    if behaviour.runtime != "general":
        raise _invalid("the dataset takes documents through its pipeline")
    parts = {part.name: part for part in form_in(call.request)}
    Rules().only(parts, ("data", "file"), "the form field")
    data = Rules().body(parts["data"].content, _DATA) if "data" in parts else {}
    technique = data.get("indexing_technique") or base.technique
    if not technique or (behaviour.technique_needed and "indexing_technique" not in data):
        raise _invalid("indexing_technique is required.")
    if "file" not in parts:
        raise Breach("the form has no file")
    name, content = parts["file"].filename or "", parts["file"].content
    if not name or re.search(r"[/\\]", name):
        raise Breach(f"{name!r} is no name of a file")
    formats = _ALWAYS + (_UNSTRUCTURED if behaviour.unstructured else ())
    # Neither refusal has a word: the errors of api/services/errors/file.py are raised without any.
    if name.rpartition(".")[2].lower() not in formats or len(content) > behaviour.max_bytes:
        raise _invalid("")
    if not base.has_rule and "process_rule" not in data:
        raise _invalid("process_rule is required.")
    if "process_rule" in data and data.get("doc_form") == "hierarchical_model":
        raise Breach("the automatic rule makes no passage of parents and children")
    if workspace.alive(base.id) and data.get("doc_form", "text_model") != behaviour.doc_form:
        raise _invalid("doc_form is different from the dataset doc_form.")
    base.technique, base.has_rule = base.technique or technique, True
    one = workspace.store(base.id, name, content, call.fault, duplicate=data.get("duplicate", True))
    row = one.row(workspace.clock.now())
    if call.fault.kind == "no-id":
        del row["id"]
    if call.fault.kind == "no-lock":
        raise Refused(500, "unknown", "Internal Server Error")
    return {"document": row, "batch": one.batch}


def _invalid(message: str) -> Refused:
    """A `ValueError`, as api/libs/external_api.py answers it."""
    return Refused(400, "invalid_param", message)


def _asked_page(query: Mapping[str, str], more: Mapping[str, tuple[str, ...]]) -> tuple[int, int]:
    """Number and size. Dify takes any size and cuts it to 100; to ask for more is a mistake all the same."""
    Rules().only(query, ("page", "limit", *more), "the query parameter")
    number, size = query.get("page", "1"), query.get("limit", "20")
    if not number.isdecimal() or int(number) < 1 or not size.isdecimal() or not 1 <= int(size) <= 100:
        raise Breach(f"page is {number!r}, limit is {size!r}")
    if wrong := [key for key, legal in more.items() if legal and query.get(key, legal[0]) not in legal]:
        raise Breach(f"{wrong[0]} is {query[wrong[0]]!r}")
    return int(number), int(size)


def _list(call: Call) -> Any:
    base, now = call.base(), call.workspace.clock.now()
    number, size = _asked_page(call.request.query, {"keyword": ()})
    like = re.escape(call.request.query.get("keyword", "")).replace("%", ".*").replace("_", ".")
    rows = [one for one in call.workspace.alive(base.id) if re.search(like, one.name)]
    rows = [one for one in rows if not hits(call.fault, "left-out", one.name)]
    page = [_shown(call, one.row(now)) for one in page_of(rows, number, size)]
    # `has_more` is wrong for a full last page, as it is there.
    told = {"limit": size, "total": len(rows), "page": number}
    return {"data": page, "has_more": len(page) == size, **told}


def _shown(call: Call, row: dict[str, Any]) -> dict[str, Any]:
    if call.fault.kind != "odd-status":
        return row
    name = str(call.fault.args.get("field", "indexing_status"))
    if call.fault.args.get("missing"):
        return {key: value for key, value in row.items() if key != name}
    return {**row, name: call.fault.args.get("value")}


def _detail(call: Call) -> Any:
    """`DocumentApi.get`; without metadata, the size of the file is in `data_source_info`."""
    one = call.found("Document not found.")
    Rules().only(call.request.query, ("metadata",), "the query parameter")
    if call.request.query.get("metadata", "all") not in ("all", "only", "without"):
        raise Breach("metadata is none of all, only, without")
    row = one.row(call.workspace.clock.now())
    row |= {"data_source_info": row.pop("data_source_detail_dict"), "segment_count": row.pop("word_count")}
    fields = call.base().fields
    row["doc_metadata"] = [
        {"id": fields[name][0], "name": name, "type": fields[name][1], "value": value}
        for name, value in one.metadata.items()
        if name in fields
    ]
    if call.request.query.get("metadata") == "without":
        del row["doc_metadata"]
    return _shown(call, row)


def _delete(call: Call) -> Any:
    """`DocumentApi.delete`: what is archived stays."""
    one, workspace = call.found("Document Not Exists."), call.workspace
    status = one.status(workspace.clock.now())
    if one.hidden == "archived" and status == "completed":
        raise Refused(403, "archived_document_immutable", "The archived document is not editable.")
    if workspace.behaviour.indexing_deletion == "refused" and status in ("waiting", "indexing"):
        raise Refused(400, "document_indexing", "Cannot delete document during indexing.")
    if call.fault.kind != "keeps-document":
        workspace.delete(one)
    return {"204": None, "number": 204, "object": {"result": "success"}}[workspace.behaviour.deleted]


# -- metadata (metadata.py)


def _create_field(call: Call) -> Any:
    """`DatasetMetadataCreateServiceApi`; the length is that of the service."""
    tests = {
        "type": one_of("string", "number", "time"),
        "name": lambda value: is_text(value) and len(value) <= 255,
    }
    told = call.body(tests, ("type", "name"))
    return call.workspace.make_field(call.base(), told["name"], told["type"])


def _describe(call: Call) -> Any:
    """`DocumentMetadataEditServiceApi`: of the one that is refused and of those after it nothing is kept."""
    base = call.base()
    several = call.body({"operation_data": _are_objects}, ("operation_data",))["operation_data"]
    tests = {"document_id": is_text, "metadata_list": _are_objects, "partial_update": is_flag}
    changes = {}
    for one in several:
        told = Rules().known(one, tests, ("document_id", "metadata_list"))
        if told["document_id"] in changes:
            raise Breach(f"{told['document_id']} is described twice")
        changes[told["document_id"]] = _values(base, told["metadata_list"]), told.get("partial_update", False)
    for document_id, (values, is_partial) in changes.items():
        document = call.workspace.documents.get(document_id)
        if document is None or document.base != base.id or document.deleted_at is not None:
            raise _invalid("Document not found.")
        document.metadata = {**(document.metadata if is_partial else {}), **values}
    return {"result": "success"}


def _values(base: KnowledgeBase, several: list[dict[str, Any]]) -> dict[str, str]:
    """By the names of their fields, of which Dify neither looks at id nor at type. Raises `Breach`."""
    values = {}
    for one in several:
        told = Rules().known(one, {"id": is_text, "name": is_text, "value": is_text}, ("id", "name", "value"))
        if base.fields.get(told["name"]) != (told["id"], "string"):
            raise Breach(f"the base has no field {told['name']!r} of texts with the id {told['id']}")
        values[told["name"]] = told["value"]
    return values


def _are_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


SIGNED = "/files/{file}/file-preview"
"""Where the bytes of a file are read, without a key (api/core/file/helpers.py, `get_signed_file_url`)."""


def _file(call: Call) -> Any:
    """`UploadFileApi` (upload_file.py)."""
    one = call.found("Document not found.")
    how = call.workspace.behaviour.files_url
    where = {"missing": "", "broken": "http://[x"}.get(how, call.origin)
    url = f"{where}/files/{one.id}/file-preview?timestamp=1&nonce=2&sign={one.sha256[:16]}"
    told = {"id": one.id, "name": one.name, "size": len(one.content), "extension": one.name.split(".")[-1]}
    if how == "untold":
        return told
    return {**told, "url": url, "download_url": f"{url}&as_attachment=true"}


_SEARCH = {
    "search_method": one_of("semantic_search", "full_text_search", "hybrid_search", "keyword_search"),
    "reranking_enable": is_flag,
    "reranking_model": lambda value: isinstance(value, dict),
    "reranking_mode": is_text,
    "weights": lambda value: isinstance(value, dict),
    "top_k": is_whole,
    "score_threshold_enabled": is_flag,
    "score_threshold": lambda value: isinstance(value, int | float),
}
"""`RetrievalModel`; four of its fields are needed."""


def _retrieve(call: Call) -> Any:
    """`HitTestingApi` (hit_testing.py, and api/controllers/console/datasets/hit_testing_base.py)."""
    base = call.base()
    asked = call.body(
        {"query": is_text, "retrieval_model": lambda value: isinstance(value, dict)}, ("query",)
    )
    if len(asked["query"]) > 250:
        raise Breach("Query cannot exceed 250 characters")
    wanted = asked.get("retrieval_model", {"top_k": 4})
    if "retrieval_model" in asked:
        needed = ("search_method", "reranking_enable", "top_k", "score_threshold_enabled")
        Rules().body(json.dumps(wanted).encode(), _SEARCH, needed)
    records = [] if call.fault.kind == "nothing-found" else call.workspace.found(base.id, asked["query"])
    return {"query": {"content": asked["query"]}, "records": records[: wanted["top_k"]]}


ANSWERS: Mapping[str, Callable[[Call], Any]] = {
    "bases": _bases,
    "create-base": _create_base,
    "base": _base,
    "edit-base": _edit_base,
    "delete-base": _delete_base,
    "upload": _upload,
    "list": _list,
    "detail": _detail,
    "delete": _delete,
    "file": _file,
    "create-field": _create_field,
    "describe": _describe,
    "retrieve": _retrieve,
}
"""What answers each operation; None is 204. Raises `Breach` and `Refused`."""

_PLAYED: Mapping[str, Refused] = {
    "rate-limited": Refused(
        403,
        "forbidden",
        "Sorry, you have reached the knowledge base request rate limit of your subscription.",
    ),
    "documents-full": Refused(
        403, "forbidden", "The number of documents has reached the limit of your subscription."
    ),
    "unauthorized": Refused(401, "unauthorized", "Access token is invalid"),
    "not-found": Refused(404, "not_found", "Dataset not found."),
}


class DifyApplication(ServiceApplication):
    """One workspace, at first with one empty knowledge base, `HOME_ID`."""

    name, kinds = "dify", KINDS
    routes = (
        *compiled(((*route, op) for route, op in ROUTES.items()), "/v1", _UUID),
        *compiled([("GET", SIGNED, "bytes")], piece=_UUID),
    )
    default_key = "dataset-secret-for-tests"
    api, home = "/v1", f"dataset_id: {HOME_ID}"

    def _open(self, seed: int, vectorize: tuple[float, float]) -> Workspace:
        self.workspace = Workspace(seed, DifyBehaviour(vectorize=vectorize), self.clock)
        return self.workspace

    def subject(self, request: Request) -> str:
        """The name of the document that it is about."""
        op, ids = self.routed(request)
        if op == "upload":
            return filename_in(request.body)
        document = self.workspace.documents.get(ids.get("document", ""))
        return document.name if document else ""

    def _answered(self, op: str, pieces: Mapping[str, str], request: Request, fault: Fault) -> Response:
        if op == "bytes":
            return self._bytes(request, pieces["file"])
        if not self._is_known(request):
            raise _PLAYED["unauthorized"]
        if not op or (op in ("create-field", "describe") and not self.behaviour.metadata):
            raise Refused(404, "not_found", "The requested URL was not found on the server.")
        if (refusal := _PLAYED.get(fault.kind)) is not None:
            raise refusal
        if fault.kind == "error":
            return _error(fault)
        body = ANSWERS[op](Call(self.workspace, request, fault, pieces))
        if fault.kind == "error-after":
            return _error(fault)
        if fault.kind == "shape":
            return Response.json(misshapen(fault, {key: [None] for key in body or {}}))
        if body is None:
            return Response(204)
        if self.behaviour.extra_fields and isinstance(body, dict):
            body = {**body, "surprise": {"a": [1]}}
        return Response.json(body, 201 if op == "create-field" else 200)

    def _refused(self, refused: rules.Refused, fault: Fault) -> Response:
        return _refusal(refused.status, str(refused.code or "invalid_param"), str(refused))

    def _bytes(self, request: Request, document_id: str) -> Response:
        """The file behind a signed address. Raises `Refused`."""
        if "authorization" in request.headers:
            self.violations.append("the key was sent to the address of a file")
        one = self.workspace.documents.get(document_id)
        if one is None or one.deleted_at is not None or request.query.get("sign") != one.sha256[:16]:
            raise Refused(404, "not_found", "File not found or signature is invalid")
        return Response(200, one.content, {"content-type": "application/octet-stream"})

    def snapshot(self) -> dict[str, Any]:
        """Every document, deleted ones too, and the bases."""
        now = self.clock.now()
        documents = [
            {
                "id": one.id,
                "base": one.base,
                "name": one.name,
                "sent_name": one.sent_name,
                "sha256": one.sha256,
                "searchable": one.is_searchable(now),
                "deleted": one.deleted_at is not None,
            }
            for one in self.workspace.documents.values()
        ]
        return {"documents": documents, "bases": [{"id": key} for key in self.workspace.bases()]}

    def _store_foreign(self, name: str, content: bytes, args: Mapping[str, Any]) -> str:
        one = self.workspace.store(HOME_ID, name, content, Fault(""), duplicate=False)
        one.is_foreign = True
        return one.id


def _refusal(status: int, code: str, message: str, http: int = 0) -> Response:
    return Response.json({"code": code, "message": message, "status": status}, http or status)


def _error(fault: Fault) -> Response:
    """The error body that a fault answers with."""
    status = int(fault.args.get("status", 400))
    code, message = str(fault.args.get("code", "invalid_param")), str(fault.args.get("message", ""))
    return _refusal(status, code, message, int(fault.args.get("http", status)))
