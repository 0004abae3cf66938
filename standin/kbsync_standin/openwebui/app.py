"""The API calls of Open WebUI: each checks its request, changes the files, and responds."""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Callable, Iterator
from collections.abc import Collection as Names
from typing import Any, ClassVar

from kbsync_standin.application import Call, Json, route
from kbsync_standin.completions import HEAD, MODEL, TESTS, completion
from kbsync_standin.forms import form_in
from kbsync_standin.messages import Response
from kbsync_standin.openwebui.store import USER_ID, Collection, File, Files
from kbsync_standin.rules import Refused, json_object, one_of, require, require_fields, require_known

_USER = {"id": USER_ID, "name": "Admin", "role": "admin", "email": "admin@example.com"}
_PAGE = Response(
    200,
    b"<!doctype html><html><head><title>Open WebUI</title></head></html>",
    {"content-type": "text/html; charset=utf-8"},
)
_MAX_PAGE_SIZE = 1000
_UNREAD = (
    "Extracted content is not available for this file. "
    "Please ensure that the file is processed before proceeding."
)
_NOT_MADE = "Failed to create directory. A directory with this name may already exist at this level."


def _body(call: Call, needed: Names[str], optional: Names[str] = ()) -> Json:
    """Parse a JSON object that has these fields. Raises `Violation`."""
    return call.body(dict.fromkeys((*needed, *optional), lambda _: True), *needed, status=422)


def _card(base: Collection) -> dict[str, Any]:
    about = {"id": base.id, "user_id": USER_ID, "name": base.name, "description": base.description}
    times = {"created_at": int(base.created), "updated_at": int(base.created)}
    return about | {"meta": None, "access_grants": []} | times


def _row(file: File, *, data: bool) -> dict[str, Any]:
    """Describe a file as the server does; `data`: with its status and text."""
    data_fields: dict[str, Any] = {"status": file.status} | (
        {} if file.extracted is None else {"content": file.extracted}
    )
    data_fields |= {} if file.status in ("pending", "processing") else {"error": file.error or None}
    collection = {"collection_name": file.collection} if file.collection else {}
    return {
        "id": file.id,
        "user_id": USER_ID,
        "hash": file.text_hash,
        "filename": file.name,
        "data": data_fields if data else None,
        "meta": {**file.meta, "data": file.sent, **collection},
        "created_at": int(file.created),
        "updated_at": int(file.updated),
    }


def _folder_row(base: Collection, key: str) -> dict[str, Any]:
    name, parent = base.folders[key]
    times = {"created_at": int(base.created), "updated_at": int(base.created)}
    return {"id": key, "knowledge_id": base.id, "parent_id": parent, "name": name, "user_id": USER_ID} | times


class OpenWebuiApplication(Files):
    """One user, an admin, with one empty knowledge base, `HOME_ID`, at first."""

    default_key = "sk-0123456789abcdef0123456789abcdef"
    refusals: ClassVar = {"unauthorized": Refused("401 Unauthorized", 401)}

    def admit(self, call: Call) -> None:
        """Check the key; unknown routes need none."""
        if not call.op:
            raise self.no_route(call)
        if not self.has_valid_key(call.request):
            words = "Your (login) has expired or the token is invalid. Please sign in again."
            raise Refused(words, 401)
        if call.plays("detail"):
            raise Refused(str(call.arg("detail", "no")), int(call.arg("status", 400)))
        if call.plays("no-base"):
            self.base("", 400 if call.op in ("list", "link", "delete-base") else 404)

    def no_route(self, call: Call) -> Refused:
        """Return the refusal for an unknown route."""
        return Refused("Method Not Allowed", 405)

    def refusal(self, refused: Refused, call: Call) -> Response:
        """Write a refusal; every address outside the API shows the site's page."""
        is_page = not call.op and call.request.method == "GET"
        return _PAGE if is_page else Response.json({"detail": str(refused)}, refused.status)

    def nulls(self, value: Any) -> Any:
        """Return a list that contains null."""
        return [None]

    # -- bases

    @route("GET", "/api/v1/knowledge/{base}", "base")
    def _base(self, call: Call) -> Any:
        return _card(self.base(call.ids["base"])) | {"files": None, "write_access": True}

    @route("GET", "/api/v1/knowledge/", "list-bases")
    def _list_bases(self, call: Call) -> Any:
        number = int(call.query.get("page", "1"))
        rows = [
            _card(base)
            | {"user": _USER, "file_count": sum(base.id in file.folder for file in self.present())}
            | {"write_access": True}
            for base in self.bases.values()
        ]
        return {"items": self.page(rows, number, 30), "total": len(rows)}

    @route("POST", "/api/v1/knowledge/create", "create-base")
    def _create_base(self, call: Call) -> Any:
        body = _body(call, ("name", "description"), ("access_grants",))
        return _card(self.add_base(body["name"], body["description"])) | {"files": None}

    @route("POST", "/api/v1/knowledge/{base}/update", "update-base")
    def _update_base(self, call: Call) -> Any:
        base = self.base(call.ids["base"], 400)
        body = _body(call, ("name", "description"), ("access_grants",))
        base.name, base.description = body["name"], body["description"]
        return _card(base) | {"files": [], "write_access": False}

    @route("DELETE", "/api/v1/knowledge/{base}/delete", "delete-base")
    def _delete_base(self, call: Call) -> Any:
        self.drop_base(self.base(call.ids["base"], 400).id)
        return True

    # -- files

    @route("GET", "/api/v1/knowledge/{base}/files", "list")
    def _list(self, call: Call) -> Any:
        base, query = self.base(call.ids["base"], 400), call.query
        require_known(query, ("page", "limit", "query", "order_by", "direction"), "the query parameter")
        files = [file for file in self.visible(self.documents.values()) if base.id in file.folder]
        if "query" in query:
            files = [file for file in files if query["query"].lower() in file.name.lower()]
        key = "created" if query.get("order_by") == "created_at" else "updated"
        files.sort(key=lambda file: file.id)
        files.sort(key=lambda file: int(getattr(file, key)), reverse=query.get("direction") != "asc")
        total = len(files)
        if call.plays("left-out"):
            files = files[:-1] if key == "created" else files[1:]
        size = self.behaviour.page_size or int(query.get("limit", "30"))
        page = self.page(files, max(1, int(query.get("page", "1"))), size)
        rows = [
            _row(file, data=False)
            | {"directory_id": file.folder[base.id], "directory_path": base.path(file.folder[base.id])}
            | {"has_original": True, "user": _USER}
            for file in page
        ]
        if call.plays("empty-list"):
            rows, total = [], 0
        folders = [_folder_row(base, key) for key, (_, parent) in base.folders.items() if parent is None]
        return {"items": rows, "directories": folders, "breadcrumbs": [], "total": total}

    @route("POST", "/api/v1/files/", "upload")
    def _upload(self, call: Call) -> Any:
        form = form_in(call.request, 422)
        files = [part for part in form if part.name == "file" and part.filename]
        is_known = {part.name for part in form} <= {"file", "metadata"}
        require(len(files) == 1 and is_known, "a form has one file and metadata", 422)
        metadata = next((part.content for part in form if part.name == "metadata"), b"{}")
        sent = json_object(metadata, "[ERROR: Invalid metadata format]")
        content, name = bytes(files[0].content), str(files[0].filename)
        digest = hashlib.sha256(content).hexdigest()
        require(sent.get("file_hash") in (None, digest), "file_hash is not that of the file")
        is_whole = not any(escape in name for escape in ("%22", "%0A", "/"))
        require(is_whole, f"the name {name!r} is kept as it is escaped in the form")
        require(bool(content), "[ERROR: The content provided is empty.]")
        if call.plays("refused"):
            raise Refused(f"[ERROR: File type {name.rpartition('.')[2]} is not allowed]")
        if call.plays("busy-database"):
            raise Refused("[ERROR: Error uploading file]")
        file = self.store(name, content, mimetypes.guess_type(name)[0] or "application/octet-stream", sent)
        if call.plays("fails"):
            file.fails = int(call.arg("runs", 1)) or -1
        if call.plays("stuck"):
            file.ready_at = None
        file.never_linked = call.plays("unlinked")
        row = _row(file, data=True) | {
            "status": True,
            "path": f"/app/backend/data/uploads/{file.id}_{file.name}",
        }
        if call.plays("no-id"):
            del row["id"]
        return row

    @route("GET", "/api/v1/files/{file}", "status")
    def _status(self, call: Call) -> Any:
        row = _row(self.file(call.ids["file"]), data=True)
        data = call.distort("odd-status", row["data"], "status")
        return row | {"data": data, "path": "/app/backend/data/uploads/x"}

    @route("GET", "/api/v1/files/{file}/process/status", "state")
    def _state(self, call: Call) -> Any:
        file = self.file(call.ids["file"])
        return call.distort("odd-status", {"status": file.status}, "status")

    @route("GET", "/api/v1/files/user/search", "newest")
    def _newest(self, call: Call) -> Any:
        """List the user's files in all bases. Names and texts can't be searched here."""
        query = call.query
        skip, limit = int(query.get("skip", "0")), int(query.get("limit", "50"))
        require(1 <= limit <= _MAX_PAGE_SIZE and skip >= 0, "limit is 1 to 1000", 422)
        require_fields(query, {"filename": one_of("*"), "content": one_of("false")})
        own_files = [file for file in self.present() if not file.is_foreign]
        own_files.sort(key=lambda file: (int(file.created), file.id), reverse=True)
        rows = [_row(file, data=True) for file in own_files[skip : skip + limit]]
        for row in rows:
            row["data"].pop("content", None)
        return rows

    @route("DELETE", "/api/v1/files/{file}", "delete")
    def _delete(self, call: Call) -> Any:
        file = self.file(call.ids["file"])
        if not call.plays("keeps-document"):
            self.delete(file)
        return {"message": "File deleted successfully"}

    @route("POST", "/api/v1/knowledge/{base}/sync/cleanup", "cleanup")
    def _cleanup(self, call: Call) -> Any:
        base, body = self.base(call.ids["base"]), _body(call, ("file_ids",), ("dir_ids",))
        for key in body["file_ids"]:
            file = self.documents.get(key)
            if call.plays("keeps-document") or file is None or file.is_deleted or base.id not in file.folder:
                continue
            self.remove(file, base)
            if not file.folder:
                self.delete(file)
        return {"status": True}

    def _do(self, work: Iterator[None], call: Call, refusal: Callable[[Refused], Refused]) -> None:
        """Do the work before responding, or step by step after the fault `goes-on`. Raises
        `refusal(error)`.
        """
        if call.plays("goes-on"):
            self.continue_later(work, float(call.arg("seconds", 20)))
            raise Refused("504 Gateway Time-out", 504)
        try:
            for _ in work:
                pass
        except Refused as error:
            raise refusal(error) from None

    @route("POST", "/api/v1/files/{file}/data/content/update", "update")
    def _update(self, call: Call) -> Any:
        file, text = self.file(call.ids["file"]), _body(call, ("content",))["content"]
        words = "Failed to process indexed text. Your changes were not fully indexed."
        self._do(self.update(file, text), call, lambda _: Refused(words, 500))
        return {"content": text}

    @route("POST", "/api/v1/files/{file}/rename", "rename")
    def _rename(self, call: Call) -> Any:
        file = self.file(call.ids["file"])
        file.name = file.meta["name"] = _body(call, ("filename",))["filename"]
        file.updated = self.now
        self.record("renamed", file)
        return _row(file, data=True) | {"path": "/app/backend/data/uploads/x"}

    @route("POST", "/api/v1/knowledge/{base}/file/add", "link")
    def _link(self, call: Call) -> Any:
        base, body = self.base(call.ids["base"], 400), _body(call, ("file_id",), ("directory_id",))
        file, folder = self.file(body["file_id"], 400), body.get("directory_id")
        if folder is not None and folder not in base.folders:
            raise Refused("Target directory not found.", 404)
        if file.extracted is None:
            raise Refused(_UNREAD)
        self._do(self.link(file, base, folder), call, lambda error: Refused(f"400: {error}"))
        rows = (_row(linked, data=False) for linked in self.present() if base.id in linked.folder)
        names = ("id", "hash", "meta", "created_at", "updated_at")
        files = [{name: row[name] for name in names} for row in rows]
        return _card(base) | {"files": files, "write_access": False}

    @route("POST", "/api/v1/knowledge/{base}/file/move", "move")
    def _move(self, call: Call) -> Any:
        base, body = self.base(call.ids["base"]), _body(call, ("file_id", "directory_id"))
        file, folder = self.documents.get(body["file_id"]), body["directory_id"]
        if file is None or base.id not in file.folder or (folder is not None and folder not in base.folders):
            raise Refused("We could not find what you're looking for :/", 404)
        file.folder[base.id] = folder
        self.record("moved", file)
        return {"status": True}

    # -- folders and search

    @route("POST", "/api/v1/knowledge/{base}/sync/diff", "folders")
    def _folders(self, call: Call) -> Any:
        """List the folders of a base. The client compares nothing, so the server reports every file as
        surplus.
        """
        base = self.base(call.ids["base"])
        require(_body(call, ("manifest",))["manifest"] == [], "comparisons aren't supported here")
        surplus = [
            {"file_id": file.id, "filename": file.name} for file in self.present() if base.id in file.folder
        ]
        paths = {base.path(key): key for key in base.folders}
        empty: dict[str, Any] = {"added": [], "modified": [], "deleted": surplus, "mkdir": []}
        return empty | {"rmdir": list(base.folders), "unmodified_count": 0, "directory_map": paths}

    @route("POST", "/api/v1/knowledge/{base}/dirs/create", "make-folder")
    def _make_folder(self, call: Call) -> Any:
        base, body = self.base(call.ids["base"]), _body(call, ("name",), ("parent_id",))
        parent = body.get("parent_id")
        if parent is not None and parent not in base.folders:
            raise Refused("Parent directory not found.", 404)
        if call.plays("not-made"):
            raise Refused(_NOT_MADE)
        if not body["name"]:
            self.violations.append("make-folder: it has no name")
        if (body["name"], parent) in base.folders.values():
            self.violations.append(f"make-folder: there is {body['name']!r} already at that place")
        return _folder_row(base, self.make_folder(base, body["name"], parent))

    @route("POST", "/api/v1/retrieval/query/collection", "search")
    def _search(self, call: Call) -> Any:
        body = _body(call, ("collection_names", "query"), ("k", "k_reranker", "r", "hybrid"))
        hits = self.find(body["collection_names"], body["query"], int(body.get("k") or 3))
        facts = []
        for _, chunk in hits:
            file = self.documents[chunk.file]
            metadata = file.sent | {"source": file.meta["name"], "file_id": file.id}
            metadata |= {name: file.meta[name] for name in ("name", "content_type", "size", "file_hash")}
            metadata |= {"embedding_config": "{'engine': 'openai', 'model': 'fake-embed'}"}
            facts.append(metadata | {"hash": chunk.text_hash, "created_by": USER_ID, "start_index": 0})
        return {
            "distances": [[share for share, _ in hits]],
            "documents": [[chunk.text for _, chunk in hits]],
            "metadatas": [facts],
        }

    @route("POST", "/api/chat/completions", "chat")
    def _chat(self, call: Call) -> Response:
        """Answer as for a caller that wants nothing stored: without the ids of a chat and a session."""
        body = call.body(TESTS, "messages", status=422)
        if body.get("model") != MODEL:
            raise Refused("Model not found")
        return completion(body, HEAD, call.args_of("stream"))
