"""The documents of one server: made in the background, each text once, deleted by one job at a time."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kbsync_standin.faults import Fault
from kbsync_standin.lightrag.behaviour import LightragBehaviour
from kbsync_standin.older import Holdings

FAILED = "NanoVectorDBStorage[chunks] index flush failed: RetryError[raised InternalServerError]"
NO_TEXT = "File contains no content or only whitespace"


def id_of(name: str) -> str:
    """Documents are called after their file."""
    return f"doc-{hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()}"


@dataclass(slots=True)
class Document:
    """`ready_at` None: never. `error`: it fails then. `original`: the id of one with its text."""

    id: str
    name: str
    content: bytes
    track_id: str
    created: float
    ready_at: float | None
    error: str = ""
    original: str = ""
    is_foreign: bool = False

    @property
    def sha256(self) -> str:
        """Of the content, in hex."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def text(self) -> str:
        """What is searched."""
        return self.content.decode("utf-8", "replace")

    def status(self, now: float) -> str:
        """The word of the list."""
        if self.ready_at is None or now < self.ready_at:
            return "processing" if self.ready_at is None or now > self.created else "pending"
        return "failed" if self.error else "processed"

    def row(self, now: float) -> dict[str, Any]:
        """As the list has it."""
        status = self.status(now)
        metadata: dict[str, Any] = {"source_file": self.name, "process_options": "F"}
        if self.original:
            metadata |= {"is_duplicate": True, "duplicate_kind": "content_hash"}
            metadata |= {"original_doc_id": self.original, "original_track_id": ""}
        updated = self.created if self.ready_at is None else max(self.created, min(now, self.ready_at))
        return {
            "id": self.id,
            "content_summary": self.text[:100],
            "content_length": len(self.text),
            "status": status,
            "created_at": _iso(self.created),
            "updated_at": _iso(updated),
            "track_id": self.track_id,
            "chunks_count": 1 if status == "processed" else 0 if self.original else None,
            "error_msg": self.error if status == "failed" else None,
            "metadata": metadata,
            "file_path": self.name,
        }


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat()


@dataclass(frozen=True, slots=True)
class Deletion:
    """A job in the background. `fault`: what goes wrong with it."""

    ids: tuple[str, ...]
    until: float
    fault: str


class Storage(Holdings[LightragBehaviour]):
    """All of it. `work` does what is due by now; everything else is as of the last call of it."""

    def _begin(self) -> None:
        self._count = 0
        self.documents: dict[str, Document] = {}
        self.deletion: Deletion | None = None
        self.last_word = ""

    def _turned(self, before: LightragBehaviour) -> None:
        if self.behaviour.base == "emptied":
            self.documents.clear()

    def present(self) -> Iterable[Document]:
        """All."""
        return self.documents.values()

    def delete(self, one: Document, effect: str = "deleted") -> None:
        """At once, without a job."""
        self.note(effect, self.documents.pop(one.id))

    def store(self, name: str, content: bytes, behaviour: LightragBehaviour, fault: Fault) -> Document:
        """A new document."""
        now, digest = self.clock.now(), hashlib.sha256(content).hexdigest()
        ready: float | None = now + self._chance.uniform(*behaviour.vectorize)
        error = FAILED if fault.kind == "fails" else "" if content.strip() else NO_TEXT
        twin = next((one.id for one in self.documents.values() if one.sha256 == digest), "")
        if twin and not error:
            error, ready = (
                f"Identical content already exists under another filename. Original doc_id: {twin}",
                now,
            )
        elif fault.kind == "stuck":
            ready = None
        self._count += 1
        one = Document(id_of(name), name, content, f"upload_{self._count:08d}", now, ready, error, twin)
        self.documents[one.id] = one
        self.note("stored", one)
        return one

    def note(self, effect: str, one: Document) -> None:
        """For tests."""
        self.journal.append({"effect": effect, "id": one.id, "name": one.name, "sha256": one.sha256})

    def begin(self, ids: Sequence[str], seconds: float, fault: str) -> None:
        """A deletion, which is carried out when its time is over."""
        self.deletion = Deletion(tuple(ids), self.clock.now() + seconds, fault)
        self.last_word = "Starting document deletion process"

    def work(self) -> None:
        """What is done in the background by now."""
        job, now = self.deletion, self.clock.now()
        if job is None or now < job.until:
            return
        self.deletion = None
        there = [one for one in job.ids if one in self.documents]
        done = len(job.ids) if job.fault == "keeps-document" else len(there)
        if job.fault != "keeps-document":
            for one in there:
                self.delete(self.documents[one])
        self.last_word = f"Deletion completed: {done} successful, {len(job.ids) - done} failed"

    @property
    def unfinished(self) -> int:
        """Documents that are being worked on."""
        now = self.clock.now()
        return sum(one.ready_at is not None and now < one.ready_at for one in self.documents.values())

    def found(self, query: str) -> Iterator[Document]:
        """Processed documents with words of the query, the best first."""
        words, now = set(re.findall(r"\w+", query.lower())), self.clock.now()
        ranked = []
        for one in self.documents.values():
            text = one.text.lower()
            hits = sum(word in text for word in words)
            if hits and one.status(now) == "processed":
                ranked.append((hits / (1 + len(text)) ** 0.01, one))
        yield from (one for _, one in sorted(ranked, key=lambda item: -item[0]))
