"""The contents of one Dify workspace, knowledge bases and documents, and how faults change them.

Paths refer to https://github.com/langgenius/dify; docs/targets/dify.md names the commits.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kbsync_standin.application import NO_FAULT, Application, Base, Call, Document, Json
from kbsync_standin.dify.behaviour import KINDS, DifyBehaviour
from kbsync_standin.rules import Refused

HOME_ID = "c42e2a6e-40b3-4330-96f8-f1e4d768e8c9"
"""The id of the initial knowledge base."""

MAX_NAME_LENGTH = 200

BUILT_IN = ("document_name", "uploader", "upload_date", "last_update_date", "source")
"""The names of Dify's own metadata fields (`BuiltInField`)."""


@dataclass(slots=True, eq=False)
class DifyBase(Base):
    """A dataset (`Dataset` in api/models/dataset.py). `fields`: metadata fields with their ids and types."""

    technique: str | None = "high_quality"
    has_rule: bool = True
    permission: str = "only_me"
    fields: dict[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True, eq=False)
class DifyDocument(Document):
    """A row of the table `documents` (api/models/dataset.py).

    `hidden`: `disabled` or `archived` after indexing. `metadata`: values by field name.
    """

    position: int
    batch: str
    hidden: str = ""
    metadata: dict[str, str] = field(default_factory=dict)

    def status(self, now: float) -> str:
        """Return `indexing_status`: `waiting`, `indexing`, `completed` or `error`."""
        if not self.is_over(now):
            return "waiting" if now - self.created < 0.5 else "indexing"
        return "error" if self.error else "completed"

    def is_searchable(self, now: float) -> bool:
        """Return whether the document is completed, enabled, not archived, and has a passage."""
        is_findable = bool(self.content.split()) and not self.hidden
        return is_findable and super(DifyDocument, self).is_searchable(now)

    def row(self, now: float) -> Json:
        """Describe the document like `DocumentResponse` (api/fields/document_fields.py)."""
        status, is_hidden = self.status(now), bool(self.hidden) and self.status(now) == "completed"
        displayed = {"waiting": "queuing", "completed": self.hidden if is_hidden else "available"}
        detail = {"id": self.id, "name": self.name, "size": len(self.content), "created_by": "api"}
        return {
            "id": self.id,
            "position": self.position,
            "data_source_type": "upload_file",
            "data_source_info": {"upload_file_id": self.id},
            "data_source_detail_dict": {"upload_file": detail},
            "name": self.name,
            "created_from": "api",
            "created_at": int(self.created),
            "tokens": 0,
            "indexing_status": status,
            "error": self.error if status == "error" else None,
            "enabled": not (is_hidden and self.hidden == "disabled"),
            "archived": is_hidden and self.hidden == "archived",
            "display_status": displayed.get(status, status),
            "word_count": len(self.content.split()),
            "hit_count": 0,
            "doc_form": "text_model",
            "doc_metadata": [],
        }


class Workspace(Application[DifyBehaviour, DifyDocument]):
    """One workspace. Requests that a reader of Dify's source would not send are violations too."""

    name, kinds, switches = "dify", KINDS, DifyBehaviour
    home_id, home_name, home_key = HOME_ID, "Handbook", "dataset_id"

    def set_behaviour(self, switches: Mapping[str, Any]) -> None:
        """Change switches; `fresh` removes the base's indexing technique and process rule."""
        was_fresh = self.behaviour.fresh
        super().set_behaviour(switches)
        if self.behaviour.fresh and not was_fresh:
            self.bases[HOME_ID].technique, self.bases[HOME_ID].has_rule = None, False

    def new_id(self) -> str:
        """Return a random UUID."""
        return str(uuid.UUID(int=self.chance.getrandbits(128), version=4))

    def new_base(self, base_id: str, name: str, description: str, settings: Mapping[str, Any]) -> DifyBase:
        """Return a new base without a process rule; it has an indexing technique only if the request sets
        one.
        """
        base = DifyBase(base_id, name, description, self.now, dict(settings))
        if settings:
            base.technique, base.has_rule = settings.get("indexing_technique"), False
            base.permission = settings.get("permission") or "only_me"
        return base

    def base(self, call: Call) -> DifyBase:
        """Return the base of the path like `validate_dataset_token`
        (api/controllers/service_api/wraps.py). Raises `Refused`.
        """
        base: DifyBase | None = self.visible_bases().get(call.ids["id"])
        if base is None:
            raise self.refusals["not-found"]
        return base

    def document(self, call: Call, words: str) -> DifyDocument:
        """Return the document of the path. Raises `Refused` with `words`."""
        document, base = self.documents.get(call.ids["document"]), self.base(call)
        if document is None or document.base != base.id or document.is_deleted:
            raise Refused(words, 404, "not_found")
        return document

    def make_field(self, base: DifyBase, name: str, kind: str) -> Json:
        """Create a field like `create_metadata` (api/services/metadata_service.py). Raises `Refused`."""
        if name in BUILT_IN:
            raise Refused("Metadata name already exists in Built-in fields.")
        if name in base.fields:
            raise Refused("Metadata name already exists.")
        base.fields[name] = self.new_id(), kind
        return {"id": base.fields[name][0], "type": kind, "name": name}

    def newest(self, rows: list[DifyDocument]) -> list[DifyDocument]:
        """Return the documents in the order of the list."""
        return sorted(rows, key=lambda document: (int(document.created), document.position), reverse=True)

    def store(
        self, base_id: str, name: str, content: bytes, call: Call = NO_FAULT, *, duplicate: bool
    ) -> DifyDocument:
        """Store a document; with `duplicate` it replaces a document of that name, which leaves the index at
        once.

        It works like `save_document_with_dataset_id` (api/services/dataset_service.py) and
        `_duplicate_document_indexing_task` (api/tasks/duplicate_document_indexing_task.py).
        """
        ready = self.ready_at(call, name)
        error = str(call.arg("error", "Unsupported encoding")) if call.plays("fails", name) else ""
        stored_name = _stored_name(name)
        if call.plays("other-name"):
            stored_name = f"renamed {stored_name}"
        documents = self.newest(self.documents_of(base_id))
        namesakes = [
            document for document in documents if document.name == stored_name and not document.hidden
        ]
        batch = f"{int(self.now)}{self.chance.randrange(100000, 1000000)}"
        if duplicate and namesakes:
            document = namesakes[0]
            document.rewrite(content)
            document.ready_at, document.error, document.batch = ready, error, batch
            self.record("replaced", document)
            return document
        new_document = DifyDocument(
            id=self.new_id(),
            base=base_id,
            name=stored_name,
            sent_name=name,
            content=content,
            created=self.now,
            position=1 + max((document.position for document in documents), default=0),
            batch=batch,
            ready_at=ready,
            error=error,
        )
        if call.plays("hidden", name):
            new_document.hidden = "archived" if call.arg("archived") else "disabled"
        return self.add(new_document)

    def store_foreign(self, name: str, content: bytes, args: Mapping[str, Any]) -> DifyDocument:
        """Store another user's document, even if its name is in use."""
        return self.store(HOME_ID, name, content, duplicate=False)


def _stored_name(name: str) -> str:
    """Shorten a name like `FileService.upload_file` (api/services/file_service.py)."""
    if len(name) <= MAX_NAME_LENGTH:
        return name
    return f"{name.split('.')[0][:MAX_NAME_LENGTH]}.{name.rpartition('.')[2].lower()}"
