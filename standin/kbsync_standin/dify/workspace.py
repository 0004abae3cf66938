"""What one workspace holds: knowledge bases and their documents, and what a fault does to these.

Paths are of https://github.com/langgenius/dify; docs/targets/dify.md names the commits that were read.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kbsync_standin import rules
from kbsync_standin.application import Holdings, shared_words
from kbsync_standin.dify.behaviour import DifyBehaviour
from kbsync_standin.faults import Fault, hits

HOME_ID = "c42e2a6e-40b3-4330-96f8-f1e4d768e8c9"
"""The knowledge base that is there from the start."""

LONGEST_NAME = 200

BUILT_IN = ("document_name", "uploader", "upload_date", "last_update_date", "source")
"""Names of fields of metadata that are Dify's own (`BuiltInField`)."""


class Refused(rules.Refused):
    """An error as `handle_http_exception` in api/libs/external_api.py writes it."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message, status, code)


@dataclass(slots=True)
class KnowledgeBase:
    """A dataset (api/models/dataset.py, `Dataset`). `fields`: of metadata, each with its id and its type."""

    id: str
    name: str
    description: str = ""
    technique: str | None = "high_quality"
    has_rule: bool = True
    permission: str = "only_me"
    fields: dict[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(slots=True)
class Document:
    """A document of the table `documents` (api/models/dataset.py). `ready_at` None: it is never done.

    `metadata`: the values by the names of their fields.
    """

    id: str
    base: str
    name: str
    sent_name: str
    content: bytes
    created: float
    position: int
    batch: str
    ready_at: float | None
    error: str = ""
    hidden: str = ""
    is_foreign: bool = False
    deleted_at: float | None = None
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """Of the content, in hex."""
        return hashlib.sha256(self.content).hexdigest()

    def status(self, now: float) -> str:
        """`indexing_status`: `waiting`, `indexing`, `completed` or `error`."""
        if self.ready_at is None or now < self.ready_at:
            return "waiting" if now - self.created < 0.5 else "indexing"
        return "error" if self.error else "completed"

    def is_searchable(self, now: float) -> bool:
        """Completed, enabled, not archived, and not without any passage."""
        is_shown = bool(self.content.split()) and not self.hidden
        return self.deleted_at is None and self.status(now) == "completed" and is_shown

    def row(self, now: float) -> dict[str, Any]:
        """As api/fields/document_fields.py, `DocumentResponse`, has it."""
        status, is_hidden = self.status(now), bool(self.hidden) and self.status(now) == "completed"
        shown = {"waiting": "queuing", "completed": self.hidden if is_hidden else "available"}
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
            "display_status": shown.get(status, status),
            "word_count": len(self.content.split()),
            "hit_count": 0,
            "doc_form": "text_model",
            "doc_metadata": [],
        }


class Workspace(Holdings[DifyBehaviour]):
    """One workspace. A violation is also what a client with the source at hand would not send."""

    def _begin(self) -> None:
        self.all_bases = {HOME_ID: KnowledgeBase(HOME_ID, "Handbook")}
        self.documents: dict[str, Document] = {}

    def _turned(self, before: DifyBehaviour) -> None:
        if self.behaviour.fresh and not before.fresh:
            self.all_bases[HOME_ID].technique, self.all_bases[HOME_ID].has_rule = None, False
        if self.behaviour.base not in (before.base, "present"):
            self.drop(HOME_ID)
        if self.behaviour.base == "recreated" != before.base:
            del self.all_bases[HOME_ID]
            self.make_base({"name": "Handbook", "indexing_technique": "high_quality"}).has_rule = True

    def bases(self) -> dict[str, KnowledgeBase]:
        """Those that are there, the newest first."""
        is_gone = self.behaviour.base == "deleted"
        there = reversed(self.all_bases.items())
        return {key: one for key, one in there if not (is_gone and key == HOME_ID)}

    def base(self, base_id: str) -> KnowledgeBase:
        """As `validate_dataset_token` in api/controllers/service_api/wraps.py finds it. Raises `Refused`."""
        base = self.bases().get(base_id)
        if base is None:
            raise Refused(404, "not_found", "Dataset not found.")
        if not self.behaviour.api_access:
            raise Refused(403, "forbidden", "Dataset api access is not enabled.")
        return base

    def make_base(self, wish: Mapping[str, Any]) -> KnowledgeBase:
        """One more. Raises `Refused` for a name in use."""
        if wish["name"] in [one.name for one in self.bases().values()]:
            words = "The dataset name already exists. Please modify your dataset name."
            raise Refused(409, "dataset_name_duplicate", words)
        technique, permission = wish.get("indexing_technique"), wish.get("permission") or "only_me"
        made = KnowledgeBase(
            self.new_id(), wish["name"], wish.get("description", ""), technique, False, permission
        )
        self.all_bases[made.id] = made
        self.journal.append({"effect": "base-made", "id": made.id, "name": made.name, "sha256": ""})
        return made

    def drop(self, base_id: str) -> None:
        """As if none of its documents had ever been there."""
        self.documents = {key: one for key, one in self.documents.items() if one.base != base_id}

    def make_field(self, base: KnowledgeBase, name: str, kind: str) -> dict[str, str]:
        """`create_metadata` in api/services/metadata_service.py. Raises `Refused`."""
        if name in BUILT_IN:
            raise Refused(400, "invalid_param", "Metadata name already exists in Built-in fields.")
        if name in base.fields:
            raise Refused(400, "invalid_param", "Metadata name already exists.")
        base.fields[name] = self.new_id(), kind
        return {"id": base.fields[name][0], "type": kind, "name": name}

    def new_id(self) -> str:
        """A random UUID."""
        return str(uuid.UUID(int=self._chance.getrandbits(128), version=4))

    def alive(self, base_id: str) -> list[Document]:
        """The newest first, as the list has them."""
        rows = [one for one in self.documents.values() if one.base == base_id and one.deleted_at is None]
        return sorted(rows, key=lambda one: (int(one.created), one.position), reverse=True)

    def present(self) -> list[Document]:
        """Of the base that is there from the start."""
        return self.alive(HOME_ID)

    def document(self, base_id: str, document_id: str, words: str) -> Document:
        """Raises `Refused` with `words`."""
        one = self.documents.get(document_id)
        if one is None or one.base != base_id or one.deleted_at is not None:
            raise Refused(404, "not_found", words)
        return one

    def store(self, base_id: str, name: str, content: bytes, fault: Fault, *, duplicate: bool) -> Document:
        """A document; with `duplicate` in place of one of that name, whose text is out of the index at once.

        As `save_document_with_dataset_id` in api/services/dataset_service.py, and
        `_duplicate_document_indexing_task` in api/tasks/duplicate_document_indexing_task.py.
        """
        now = self.clock.now()
        ready: float | None = now + self._chance.uniform(*self.behaviour.vectorize)
        if hits(fault, "stuck", name):
            ready = None
        error = str(fault.args.get("error", "Unsupported encoding")) if hits(fault, "fails", name) else ""
        hidden = "archived" if fault.args.get("archived") else "disabled"
        kept = _kept_name(name)
        if fault.kind == "other-name":
            kept = f"renamed {kept}"
        namesakes = [one for one in self.alive(base_id) if one.name == kept and not one.hidden]
        batch = f"{int(now)}{self._chance.randrange(100000, 1000000)}"
        if duplicate and namesakes:
            one = namesakes[0]
            one.content, one.ready_at, one.error, one.batch = content, ready, error, batch
            self.note("replaced", one)
            return one
        position = 1 + max((one.position for one in self.alive(base_id)), default=0)
        one = Document(self.new_id(), base_id, kept, name, content, now, position, batch, ready, error)
        one.hidden = hidden if hits(fault, "hidden", name) else ""
        self.documents[one.id] = one
        self.note("stored", one)
        return one

    def delete(self, one: Document, effect: str = "deleted") -> None:
        """A document that is there."""
        one.deleted_at = self.clock.now()
        self.note(effect, one)

    def note(self, effect: str, one: Document) -> None:
        """Into the journal."""
        told = {"effect": effect, "id": one.id, "name": one.sent_name, "sha256": one.sha256}
        self.journal.append(told)

    def found(self, base_id: str, query: str) -> list[dict[str, Any]]:
        """Records that share words with `query`, best first (api/services/hit_testing_service.py)."""
        records, now = [], self.clock.now()
        for one in self.alive(base_id):
            text = one.content.decode("utf-8", "replace")
            share = shared_words(query, text)
            if share and one.is_searchable(now):
                document = {"id": one.id, "data_source_type": "upload_file", "name": one.name}
                segment = {"id": one.id, "document_id": one.id, "content": text[:2000], "answer": None}
                records.append({"segment": {**segment, "document": document}, "score": share})
        return sorted(records, key=lambda record: -record["score"])


def _kept_name(name: str) -> str:
    """As `FileService.upload_file` in api/services/file_service.py cuts it."""
    if len(name) <= LONGEST_NAME:
        return name
    return f"{name.split('.')[0][:LONGEST_NAME]}.{name.rpartition('.')[2].lower()}"
