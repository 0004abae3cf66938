"""The server's application: each route checks its request, does its work on the store, and answers."""

from __future__ import annotations

import hashlib
import json
import mimetypes
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from kbsync_standin.completions import TESTS, completion
from kbsync_standin.faults import Fault
from kbsync_standin.forms import filename_in, form_in
from kbsync_standin.messages import Request, Response
from kbsync_standin.older import ServiceApplication, compiled, misshapen
from kbsync_standin.openwebui.behaviour import KINDS, OpenWebuiBehaviour
from kbsync_standin.openwebui.store import HOME_ID, USER_ID, File, KnowledgeBase, Store
from kbsync_standin.rules import Breach, Refused

_KB, _FILE = r"/api/v1/knowledge/(?P<base>[^/]+)", r"/api/v1/files/(?P<file>[^/]+)"

ROUTES: tuple[tuple[str, str, str], ...] = (
    ("POST", "/api/v1/knowledge/create", "create-base"),
    ("GET", "/api/v1/knowledge/", "list-bases"),
    ("GET", _KB, "base"),
    ("POST", _KB + "/update", "update-base"),
    ("DELETE", _KB + "/delete", "delete-base"),
    ("GET", _KB + "/files", "list"),
    ("POST", _KB + "/file/add", "link"),
    ("POST", _KB + "/file/move", "move"),
    ("POST", _KB + "/sync/diff", "folders"),
    ("POST", _KB + "/sync/cleanup", "cleanup"),
    ("POST", _KB + "/dirs/create", "make-folder"),
    ("POST", "/api/v1/files/", "upload"),
    ("GET", "/api/v1/files/user/search", "newest"),
    ("GET", _FILE, "status"),
    ("GET", _FILE + "/process/status", "state"),
    ("DELETE", _FILE, "delete"),
    ("POST", _FILE + "/data/content/update", "update"),
    ("POST", _FILE + "/rename", "rename"),
    ("POST", "/api/v1/retrieval/query/collection", "search"),
    ("POST", "/api/chat/completions", "chat"),
)
"""Method, path and operation; parts of the path have names."""

_USER = {"id": USER_ID, "name": "Admin", "role": "admin", "email": "admin@example.com"}
_PAGE = Response(
    200,
    b"<!doctype html><html><head><title>Open WebUI</title></head></html>",
    {"content-type": "text/html; charset=utf-8"},
)


class OpenWebuiApplication(ServiceApplication):
    """One user, an admin, with one empty knowledge base, `HOME_ID`."""

    name, kinds = "openwebui", KINDS
    routes = compiled(ROUTES)
    default_key = "sk-0123456789abcdef0123456789abcdef"
    home = f"knowledge_id: {HOME_ID}"

    def _open(self, seed: int, vectorize: tuple[float, float]) -> Store:
        self.store = Store(seed, OpenWebuiBehaviour(index=vectorize), self.clock)
        return self.store

    def subject(self, request: Request) -> str:
        """The name of the file that it is about."""
        op, parts = self.routed(request)
        if op == "upload":
            return filename_in(request.body)
        ids = re.findall(
            r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", request.body.decode("utf-8", "replace")
        )
        named = [parts.get("file", ""), *ids]
        return " | ".join(self.store.files[one].name for one in named if one in self.store.files)

    def _answered(self, op: str, pieces: Mapping[str, str], request: Request, fault: Fault) -> Response:
        self.store.get_on()
        if not op:
            return _PAGE if request.method == "GET" else _detail("Method Not Allowed", 405)
        if not self._is_known(request):
            return _detail("Your (login) has expired or the token is invalid. Please sign in again.", 401)
        match fault.kind:
            case "unauthorized":
                raise Refused("401 Unauthorized", 401)
            case "detail":
                raise Refused(str(fault.args.get("detail", "no")), int(fault.args.get("status", 400)))
            case "no-base":
                self.store.base("", 400 if op in _OLD else 404)
        value = ANSWERS[op](self.store, request, pieces, fault)
        self.store.get_on()
        if isinstance(value, Response):
            return value
        if fault.kind == "shape":
            value = misshapen(fault, [None])
        elif self.behaviour.extra_fields and isinstance(value, dict):
            value = value | {"surprise": {"a": [1]}}
        return Response.json(value)

    def _refused(self, refused: Refused, fault: Fault) -> Response:
        return _detail(str(refused), refused.status)

    def snapshot(self) -> dict[str, Any]:
        """Every file, deleted ones too, and the bases."""
        self.store.get_on()
        bases = [{"id": one.id, "name": one.name} for one in self.store.bases.values()]
        return {"documents": [self._shown(one) for one in self.store.files.values()], "bases": bases}

    def _shown(self, one: File) -> dict[str, Any]:
        base = next((self.store.bases[key] for key in one.folder), None)
        folder = base.path(one.folder[base.id]) if base else ""
        is_found = base is not None and any(chunk.file == one.id for chunk in base.chunks)
        return {
            "id": one.id,
            "name": one.name,
            "path": f"{folder}/{one.name}" if folder else one.name,
            "sha256": one.sha256,
            "status": one.status,
            "linked": base is not None,
            "serving": is_found,
            "deleted": one.is_deleted,
            "foreign": one.is_foreign,
        }

    def _store_foreign(self, name: str, content: bytes, args: Mapping[str, Any]) -> str:
        """In the `folder` of the base, as another mirror does."""
        base = next(iter(self.store.bases.values()))
        folder = None
        for part in filter(None, str(args.get("folder", "")).split("/")):
            folder = _folder(self.store, base, part, folder)
        sent = {"knowledge_id": base.id} | ({"directory_id": folder} if folder else {})
        one = self.store.store(name, content, "text/plain", sent)
        one.ready_at, one.is_foreign = one.created, True
        self.store.get_on()
        return one.id


_LARGEST_PAGE = 1000

_OLD = ("list", "link", "delete-base")
"""Routes on which a base that is not there is a 400."""


def _detail(words: str, status: int) -> Response:
    return Response.json({"detail": words}, status)


def _body(request: Request, needed: Collection[str], known: Collection[str] = ()) -> dict[str, Any]:
    try:
        body = json.loads(request.body)
    except ValueError:
        raise Breach("the body is no JSON", 422) from None
    if not isinstance(body, dict) or not set(needed) <= body.keys():
        raise Breach(f"{', '.join(needed)} are required", 422)
    if unknown := body.keys() - {*needed, *known}:
        raise Breach(f"there is no field {', '.join(sorted(unknown))}", 422)
    return body


# -- bases -------------------------------------------------------------------------------------------------


def _card(one: KnowledgeBase) -> dict[str, Any]:
    about = {"id": one.id, "user_id": USER_ID, "name": one.name, "description": one.description}
    times = {"created_at": int(one.created), "updated_at": int(one.created)}
    return about | {"meta": None, "access_grants": []} | times


def _base(store: Store, _request: Request, parts: Mapping[str, str], _fault: Fault) -> Any:
    return _card(store.base(parts["base"])) | {"files": None, "write_access": True}


def _list_bases(store: Store, request: Request, _parts: Mapping[str, str], _fault: Fault) -> Any:
    number = int(request.query.get("page", "1"))
    rows = [
        _card(one)
        | {"user": _USER, "file_count": sum(one.id in file.folder for file in store.present())}
        | {"write_access": True}
        for one in store.bases.values()
    ]
    return {"items": rows[30 * (number - 1) : 30 * number], "total": len(rows)}


def _create_base(store: Store, request: Request, _parts: Mapping[str, str], _fault: Fault) -> Any:
    body = _body(request, ("name", "description"), ("access_grants",))
    return _card(store.make_base(body["name"], body["description"])) | {"files": None}


def _update_base(store: Store, request: Request, parts: Mapping[str, str], _fault: Fault) -> Any:
    one, body = store.base(parts["base"], 400), _body(request, ("name", "description"), ("access_grants",))
    one.name, one.description = body["name"], body["description"]
    return _card(one) | {"files": [], "write_access": False}


def _delete_base(store: Store, _request: Request, parts: Mapping[str, str], _fault: Fault) -> Any:
    store.drop_base(store.base(parts["base"], 400).id)
    return True


# -- files -------------------------------------------------------------------------------------------------


def _row(one: File, *, data: bool) -> dict[str, Any]:
    """As the server shows a file; `data`: with its status and text."""
    told: dict[str, Any] = {"status": one.status} | ({} if one.text is None else {"content": one.text})
    told |= {} if one.status in ("pending", "processing") else {"error": one.error}
    collection = {"collection_name": one.collection} if one.collection else {}
    return {
        "id": one.id,
        "user_id": USER_ID,
        "hash": one.text_hash,
        "filename": one.name,
        "data": told if data else None,
        "meta": {**one.meta, "data": one.sent, **collection},
        "created_at": int(one.created),
        "updated_at": int(one.updated),
    }


def _list(store: Store, request: Request, parts: Mapping[str, str], fault: Fault) -> Any:
    base, query = store.base(parts["base"], 400), request.query
    if unknown := query.keys() - {"page", "limit", "query", "order_by", "direction", "directory_id"}:
        raise Breach(f"there is no parameter {', '.join(sorted(unknown))}")
    files = [one for one in store.present() if base.id in one.folder]
    if "query" in query:
        files = [one for one in files if query["query"].lower() in one.name.lower()]
    key = {"created_at": "created", "name": "name"}.get(query.get("order_by", ""), "updated")
    is_falling = query.get("direction") != "asc"
    files.sort(key=lambda one: one.id)
    files.sort(key=lambda one: int(v) if isinstance(v := getattr(one, key), float) else v, reverse=is_falling)
    total = len(files)
    if fault.kind == "left-out":
        files = files[:-1] if key == "created" else files[1:]
    size = store.behaviour.page_size or int(query.get("limit", "30"))
    start = (max(1, int(query.get("page", "1"))) - 1) * size
    rows = [
        _row(one, data=False)
        | {"directory_id": one.folder[base.id], "directory_path": base.path(one.folder[base.id])}
        | {"has_original": True, "user": _USER}
        for one in files[start : start + size]
    ]
    if fault.kind == "empty-list":
        rows, total = [], 0
    folders = [_folder_row(base, key) for key, (_, parent) in base.folders.items() if parent is None]
    return {"items": rows, "directories": folders, "breadcrumbs": [], "total": total}


def _upload(store: Store, request: Request, _parts: Mapping[str, str], fault: Fault) -> Any:
    form = form_in(request, 422)
    files = [part for part in form if part.name == "file" and part.filename]
    if len(files) != 1 or {part.name for part in form} - {"file", "metadata"}:
        raise Breach("a form has one file and metadata", 422)
    try:
        sent = json.loads(next((part.content for part in form if part.name == "metadata"), b"{}"))
    except ValueError:
        raise Breach("[ERROR: Invalid metadata format]") from None
    content, name = bytes(files[0].content), str(files[0].filename)
    if not isinstance(sent, dict):
        raise Breach("metadata is no object")
    if sent.get("file_hash") not in (None, hashlib.sha256(content).hexdigest()):
        raise Breach("file_hash is not that of the file")
    if "%22" in name or "%0A" in name or "/" in name:
        raise Breach(f"the name {name!r} is kept as it is escaped in the form")
    if not content:
        raise Breach("[ERROR: The content provided is empty.]")
    match fault.kind:
        case "refused":
            raise Refused(f"[ERROR: File type {name.rpartition('.')[2]} is not allowed]")
        case "busy-database":
            raise Refused("[ERROR: Error uploading file]")
    one = store.store(name, content, mimetypes.guess_type(name)[0] or "application/octet-stream", sent)
    if fault.kind == "fails":
        one.fails = int(fault.args.get("runs", 1)) or -1
    if fault.kind == "stuck":
        one.ready_at = None
    one.never_linked = fault.kind == "unlinked"
    row = _row(one, data=True) | {"status": True, "path": f"/app/backend/data/uploads/{one.id}_{one.name}"}
    if fault.kind == "no-id":
        del row["id"]
    return row


def _status(store: Store, _request: Request, parts: Mapping[str, str], fault: Fault) -> Any:
    row = _row(store.file(parts["file"]), data=True)
    if fault.kind == "odd-status":
        row["data"]["status"] = fault.args.get("value")
        if fault.args.get("missing"):
            del row["data"]["status"]
    return row | {"path": "/app/backend/data/uploads/x"}


def _state(store: Store, _request: Request, parts: Mapping[str, str], fault: Fault) -> Any:
    one = store.file(parts["file"])
    return {"status": fault.args.get("value") if fault.kind == "odd-status" else one.status}


def _newest(store: Store, request: Request, _parts: Mapping[str, str], _fault: Fault) -> Any:
    """The files of the user, in whatever base they are; texts only where they are asked for."""
    query = request.query
    skip, limit = int(query.get("skip", "0")), int(query.get("limit", "50"))
    if not 1 <= limit <= _LARGEST_PAGE or skip < 0:
        raise Breach("limit is 1 to 1000", 422)
    if query.get("filename", "*") != "*" or query.get("content", "false") != "false":
        raise Breach("names and texts are not played here")
    mine = sorted(
        (one for one in store.present() if not one.is_foreign), key=lambda one: one.id, reverse=True
    )
    mine.sort(key=lambda one: int(one.created), reverse=True)
    rows = [_row(one, data=True) for one in mine[skip : skip + limit]]
    for row in rows:
        row["data"].pop("content", None)
    return rows


def _delete(store: Store, _request: Request, parts: Mapping[str, str], fault: Fault) -> Any:
    one = store.file(parts["file"])
    if fault.kind != "keeps-files":
        store.delete(one)
    return {"message": "File deleted successfully"}


def _cleanup(store: Store, request: Request, parts: Mapping[str, str], fault: Fault) -> Any:
    base, body = store.base(parts["base"]), _body(request, ("file_ids",), ("dir_ids",))
    for key in body["file_ids"]:
        one = store.files.get(key)
        if fault.kind == "keeps-files" or one is None or one.is_deleted or base.id not in one.folder:
            continue
        store.remove(one, base)
        if not one.folder:
            store.delete(one)
    return {"status": True}


def _do(store: Store, work: Iterator[None], fault: Fault, refusal: Callable[[Refused], Refused]) -> None:
    """Before it is answered, or by and by. Raises `refusal` of what went wrong."""
    if fault.kind == "goes-on":
        store.go_on(work, float(fault.args.get("seconds", 20)))
        raise Refused("504 Gateway Time-out", 504)
    try:
        for _ in work:
            pass
    except Refused as error:
        raise refusal(error) from None


def _update(store: Store, request: Request, parts: Mapping[str, str], fault: Fault) -> Any:
    one, text = store.file(parts["file"]), _body(request, ("content",))["content"]
    words = "Failed to process indexed text. Your changes were not fully indexed."
    _do(store, store.update(one, text), fault, lambda _: Refused(words, 500))
    return {"content": text}


def _rename(store: Store, request: Request, parts: Mapping[str, str], _fault: Fault) -> Any:
    one = store.file(parts["file"])
    one.name = one.meta["name"] = _body(request, ("filename",))["filename"]
    one.updated = store.clock.now()
    store.note("renamed", one)
    return _row(one, data=True) | {"path": "/app/backend/data/uploads/x"}


def _link(store: Store, request: Request, parts: Mapping[str, str], fault: Fault) -> Any:
    base, body = store.base(parts["base"], 400), _body(request, ("file_id",), ("directory_id",))
    one, folder = store.file(body["file_id"], 400), body.get("directory_id")
    if folder is not None and folder not in base.folders:
        raise Refused("Target directory not found.", 404)
    if one.text is None:
        raise Refused(
            "Extracted content is not available for this file. "
            "Please ensure that the file is processed before proceeding."
        )
    _do(store, store.link(one, base, folder), fault, lambda error: Refused(f"400: {error}"))
    mine = (_row(file, data=False) for file in store.present() if base.id in file.folder)
    shown = ("id", "hash", "meta", "created_at", "updated_at")
    files = [{name: row[name] for name in shown} for row in mine]
    return _card(base) | {"files": files, "write_access": False}


def _move(store: Store, request: Request, parts: Mapping[str, str], _fault: Fault) -> Any:
    base, body = store.base(parts["base"]), _body(request, ("file_id", "directory_id"))
    one, folder = store.files.get(body["file_id"]), body["directory_id"]
    if one is None or base.id not in one.folder or (folder is not None and folder not in base.folders):
        raise Refused("We could not find what you're looking for :/", 404)
    one.folder[base.id] = folder
    store.note("moved", one)
    return {"status": True}


# -- folders and search ------------------------------------------------------------------------------------


def _folder(store: Store, base: KnowledgeBase, name: str, parent: str | None) -> str:
    made = store.new_id()
    base.folders[made] = (name, parent)
    return made


def _folder_row(base: KnowledgeBase, key: str) -> dict[str, Any]:
    name, parent = base.folders[key]
    times = {"created_at": int(base.created), "updated_at": int(base.created)}
    return {"id": key, "knowledge_id": base.id, "parent_id": parent, "name": name, "user_id": USER_ID} | times


def _folders(store: Store, request: Request, parts: Mapping[str, str], _fault: Fault) -> Any:
    """Compared with nothing: every file is one too many."""
    base = store.base(parts["base"])
    if _body(request, ("manifest",))["manifest"]:
        raise Breach("a comparison with something is not played here")
    gone = [{"file_id": one.id, "filename": one.name} for one in store.present() if base.id in one.folder]
    paths = {base.path(key): key for key in base.folders}
    empty: dict[str, Any] = {"added": [], "modified": [], "deleted": gone, "mkdir": []}
    return empty | {"rmdir": list(base.folders), "unmodified_count": 0, "directory_map": paths}


def _make_folder(store: Store, request: Request, parts: Mapping[str, str], fault: Fault) -> Any:
    base, body = store.base(parts["base"]), _body(request, ("name",), ("parent_id",))
    parent = body.get("parent_id")
    if parent is not None and parent not in base.folders:
        raise Refused("Parent directory not found.", 404)
    if fault.kind == "not-made":
        raise Refused(
            "Failed to create directory. A directory with this name may already exist at this level."
        )
    if not body["name"]:
        store.violations.append("make-folder: it has no name")
    if (body["name"], parent) in base.folders.values():
        store.violations.append(f"make-folder: there is {body['name']!r} already at that place")
    return _folder_row(base, _folder(store, base, body["name"], parent))


def _search(store: Store, request: Request, _parts: Mapping[str, str], _fault: Fault) -> Any:
    body = _body(request, ("collection_names", "query"), ("k", "k_reranker", "r", "hybrid"))
    found = store.found(body["collection_names"], body["query"], int(body.get("k") or 3))
    facts = []
    for _, chunk in found:
        one = store.files[chunk.file]
        told = {**one.sent, "name": one.meta["name"], "source": one.meta["name"], "file_id": one.id}
        told |= {name: one.meta[name] for name in ("content_type", "size", "file_hash")}
        told |= {"embedding_config": "{'engine': 'openai', 'model': 'fake-embed'}"}
        facts.append(told | {"hash": chunk.text_hash, "created_by": USER_ID, "start_index": 0})
    return {
        "distances": [[share for share, _ in found]],
        "documents": [[chunk.text for _, chunk in found]],
        "metadatas": [facts],
    }


MODEL = "some-model"


def _chat(_store: Store, request: Request, _parts: Mapping[str, str], fault: Fault) -> Response:
    """As for a caller that wants nothing kept: without the ids of a chat and a session."""
    body = _body(request, ("messages",), TESTS)
    if body.get("model") != MODEL:
        raise Refused("Model not found")
    for name, is_legal in TESTS.items():
        if name in body and not is_legal(body[name]):
            raise Breach(f"{name} is {body[name]!r:.80}", 422)
    head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": MODEL}
    return completion(body, head, fault.args if fault.kind == "stream" else {})


ANSWERS: Mapping[str, Callable[[Store, Request, Mapping[str, str], Fault], Any]] = {
    "base": _base,
    "list-bases": _list_bases,
    "create-base": _create_base,
    "update-base": _update_base,
    "delete-base": _delete_base,
    "list": _list,
    "link": _link,
    "move": _move,
    "folders": _folders,
    "cleanup": _cleanup,
    "make-folder": _make_folder,
    "upload": _upload,
    "status": _status,
    "state": _state,
    "newest": _newest,
    "delete": _delete,
    "update": _update,
    "rename": _rename,
    "search": _search,
    "chat": _chat,
}
"""What answers each operation. Raises `Breach` and `Refused` for what the server refuses."""
