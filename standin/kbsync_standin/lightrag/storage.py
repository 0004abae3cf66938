"""The documents of one server: processed in the background, each text once, deleted by one job at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kbsync_standin.application import Application, Document, Json
from kbsync_standin.lightrag.behaviour import KINDS, LightragBehaviour

FAILED = "NanoVectorDBStorage[chunks] index flush failed: RetryError[raised InternalServerError]"
NOT_QUEUED, QUEUE_ERROR = "[File Extraction]Parser enqueue error", "connection to server was lost"
NO_TEXT = "File contains no content or only whitespace"
TWIN = "Identical content already exists under another filename. Original doc_id: "


def id_of(name: str) -> str:
    """Return the id of a document, which follows from its file name."""
    return f"doc-{hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()}"


def record_id_of(name: str) -> str:
    """Return the id of the record that a file could not be queued."""
    content = f"{name}-{NOT_QUEUED}".encode()
    return f"error-{hashlib.md5(content, usedforsecurity=False).hexdigest()}"


@dataclass(slots=True, kw_only=True, eq=False)
class LightragDocument(Document):
    """A document, or the record of a file that could not be queued (`is_record`).

    `original`: the id of the document that already has its text.
    """

    track_id: str
    original: str = ""

    @property
    def is_record(self) -> bool:
        """Whether this is the record of a file that could not be queued."""
        return self.id.startswith("error-")

    def status(self, now: float) -> str:
        """Return the status as the list shows it."""
        if not self.is_over(now):
            return "processing" if self.ready_at is None or now > self.created else "pending"
        return "failed" if self.error else "processed"

    def row(self, now: float) -> Json:
        """Return the document's row in the list."""
        status = self.status(now)
        metadata: Json = {"source_file": self.name, "process_options": "F"}
        if self.original:
            metadata |= {"is_duplicate": True, "duplicate_kind": "content_hash"}
            metadata |= {"original_doc_id": self.original, "original_track_id": ""}
        summary, chunks = self.text[:100], 1 if status == "processed" else 0 if self.original else None
        if self.is_record:
            metadata, summary, chunks = {"error_type": "file_extraction_error"}, NOT_QUEUED, 0
        updated = self.created if self.ready_at is None else max(self.created, min(now, self.ready_at))
        return {
            "id": self.id,
            "content_summary": summary,
            "content_length": len(self.text),
            "status": status,
            "created_at": _iso(self.created),
            "updated_at": _iso(updated),
            "track_id": self.track_id,
            "chunks_count": chunks,
            "error_msg": self.error if status == "failed" else None,
            "metadata": metadata,
            "file_path": self.name,
        }


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat()


@dataclass(frozen=True, slots=True)
class Deletion:
    """A deletion in the background. `fault`: the fault that it meets."""

    ids: tuple[str, ...]
    until: float
    fault: str


class Storage(Application[LightragBehaviour, LightragDocument]):
    """The contents of one server, whose only base has no id."""

    name, kinds, switches = "lightrag", KINDS, LightragBehaviour
    id_form = "(?:doc|error)-[0-9a-f]{32}"

    def begin(self) -> None:
        """Create the initial contents: no deletion runs."""
        self.deletion: Deletion | None = None
        self.last_word = ""

    def change_base(self, state: str) -> None:
        """Change the base's state; a deleted one returns with its documents."""
        if state == "emptied":
            self.documents.clear()

    def delete(self, document: LightragDocument, effect: str = "deleted") -> None:
        """Delete a document; responses no longer mention it."""
        super().delete(document, effect)
        del self.documents[document.id]

    def store(self, name: str, content: bytes, fault: str = "") -> LightragDocument:
        """Store a new document. `fault`: `fails`, `not-queued` or `stuck`."""
        ready, digest = self.ready_at(), hashlib.sha256(content).hexdigest()
        error = FAILED if fault == "fails" else "" if content.strip() else NO_TEXT
        documents = (document for document in self.documents.values() if not document.is_record)
        twin = next((document.id for document in documents if document.sha256 == digest), "")
        if fault == "not-queued":
            error, ready, twin = f"Failed to enqueue file for parser: {QUEUE_ERROR}", self.now, ""
        elif twin and not error:
            error, ready = TWIN + twin, self.now
        elif fault == "stuck":
            ready = None
        return self.add(
            LightragDocument(
                id=record_id_of(name) if fault == "not-queued" else id_of(name),
                name=name,
                content=content,
                created=self.now,
                track_id=f"upload_{self.count():08d}",
                ready_at=ready,
                error=error,
                original=twin,
            )
        )

    def store_foreign(self, name: str, content: bytes, args: Mapping[str, Any]) -> LightragDocument:
        """Store another user's document, processed at once."""
        document = self.store(name, content)
        document.ready_at = self.now
        return document

    def start_deletion(self, ids: Sequence[str], seconds: float, fault: str = "") -> None:
        """Start a deletion that takes `seconds`."""
        self.deletion = Deletion(tuple(ids), self.now + seconds, fault)
        self.last_word = "Starting document deletion process"

    def catch_up(self) -> None:
        """Carry out a due deletion."""
        job = self.deletion
        if job is None or self.now < job.until:
            return
        self.deletion = None
        documents = [self.documents[ident] for ident in job.ids if ident in self.documents]
        done = len(job.ids) if job.fault == "keeps-document" else len(documents)
        for document in documents if job.fault != "keeps-document" else ():
            self.delete(document)
        self.last_word = f"Deletion completed: {done} successful, {len(job.ids) - done} failed"

    @property
    def unfinished(self) -> int:
        """The number of documents in progress."""
        rows = self.documents.values()
        return sum(document.ready_at is not None and not document.is_over(self.now) for document in rows)

    def find(self, query: str) -> list[LightragDocument]:
        """Return processed documents that share words with the query, best first."""
        return [document for _, document in self.rank(query, self.documents.values())]
