"""One project: its files, its vector stores, and the files attached to each store."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from kbsync_standin.application import NO_FAULT, Application, Base, Call, Document, Json, shared_words
from kbsync_standin.openai.behaviour import KINDS, OpenaiBehaviour

HOME_ID = "vs_67e2f0a1b2c4819188d0f3c5a7b9e1d2"
"""The id of the initial vector store."""

_REWRITTEN = re.compile(r"[^A-Za-z0-9._-]")

_READ_BY_OGX = ("c", "cpp", "css", "csv", "html", "java", "js", "md", "pdf", "py", "sh", "tex", "ts", "txt")
"""The extensions that OGX's reader `inline::pypdf` was observed to accept."""

UNSUPPORTED = "unsupported_file"
AUTO = {"type": "static", "static": {"max_chunk_size_tokens": 800, "chunk_overlap_tokens": 400}}
"""How every file is split, because no request sets `chunking_strategy`."""


@dataclass(slots=True, kw_only=True, eq=False)
class UploadedFile(Document):
    """A file of the project, attached or not."""

    purpose: str

    @property
    def indexed(self) -> bytes:
        """The content to index; a PDF's comments are left out."""
        lines = self.content.splitlines(keepends=True)
        is_pdf = self.sent_name.endswith(".pdf")
        return b"".join(line for line in lines if not (is_pdf and line.startswith(b"%")))

    @property
    def text(self) -> str:
        """The text that searches read."""
        return self.indexed.decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class StoredPassage:
    """One piece of indexed text; OGX derives its id from the text alone."""

    text: str
    id: str
    vector: list[float]


@dataclass(slots=True)
class Attached:
    """A file in a store. `ready_at` None: never ready. `error`: the error code, "" for none."""

    file: UploadedFile
    store: str
    attributes: Json
    created: float
    ready_at: float | None
    error: str
    ordinal: int
    deleted_at: float | None = None

    @property
    def id(self) -> str:
        """The file's id."""
        return self.file.id

    @property
    def passage(self) -> StoredPassage:
        """The file's only passage."""
        digest = hashlib.sha256(self.file.indexed)
        vector = [byte / 256 for byte in digest.digest()[:4]]
        return StoredPassage(self.file.text, digest.hexdigest()[:32], vector)

    def status(self, now: float) -> str:
        """Return the status as the service names it."""
        if self.ready_at is None or now < self.ready_at:
            return "in_progress"
        return "failed" if self.error else "completed"


@dataclass(slots=True, eq=False)
class VectorStore(Base):
    """A store. `settings`: its metadata. `holders`: for shared passages, the file that searches name."""

    files: dict[str, Attached] = field(default_factory=dict)
    past: list[Attached] = field(default_factory=list)
    holders: dict[str, str] = field(default_factory=dict)


class Project(Application[OpenaiBehaviour, UploadedFile]):
    """One project. Its documents are the files."""

    name, kinds, switches = "openai", KINDS, OpenaiBehaviour
    home_id, home_name, home_key = HOME_ID, "Default", "vector_store_id"

    @property
    def is_ogx(self) -> bool:
        """Whether the dialect is OGX's."""
        return self.behaviour.dialect == "ogx"

    def change_base(self, state: str) -> None:
        """Change the initial store's state. The files stay; a deleted store returns with its attached
        files.
        """
        if state == "recreated":
            self.bases.pop(HOME_ID, None)
            self.add_home(self.new_id())
        elif state == "emptied" or HOME_ID not in self.bases:
            self.add_home(HOME_ID)

    def new_id(self) -> str:
        """Return a new store id."""
        return f"vs_{self._hex()}"

    def _hex(self) -> str:
        return f"{self.chance.getrandbits(96):024x}{self.count():08x}"

    def new_base(self, base_id: str, name: str, description: str, settings: Mapping[str, Any]) -> VectorStore:
        """Return a new store; its name may be in use."""
        return VectorStore(base_id, name, description, self.now, dict(settings))

    def upload(self, name: str, content: bytes, purpose: str) -> UploadedFile:
        """Store a new file."""
        stored_name = _REWRITTEN.sub("_", name) if self.is_ogx else name
        about: Json = {"id": f"file-{self._hex()}", "created": self.now, "purpose": purpose}
        return self.add(UploadedFile(**about, name=stored_name, sent_name=name, content=content), "uploaded")

    def attach(
        self,
        store: VectorStore,
        file: UploadedFile,
        attributes: Mapping[str, Any],
        call: Call = NO_FAULT,
    ) -> Attached:
        """Attach a file to a store; an attached file stays as it is."""
        if (existing := store.files.get(file.id)) is not None:
            return existing
        ready = self.now if self.is_ogx else self.ready_at()
        error = str(call.arg("code", "server_error")) if call.plays("fails") else ""
        if call.plays("stuck"):
            ready = None
        if not file.content.strip():
            error = "invalid_file"
        kind = file.name.rpartition(".")[2].lower()
        if self.is_ogx and self.behaviour.reader == "pypdf" and kind not in _READ_BY_OGX:
            error = UNSUPPORTED
        attached = Attached(file, store.id, dict(attributes), self.now, ready, error, self.count())
        store.files[file.id] = attached
        if not error:
            store.holders[attached.passage.id] = file.id
        self.record("attached", file)
        return attached

    def detach(self, store: VectorStore, file_id: str) -> None:
        """Detach a file; its passages go, even if other files share them."""
        detached = store.files.pop(file_id)
        detached.deleted_at = self.now
        store.past.append(detached)
        if not detached.error:
            store.holders.pop(detached.passage.id, None)
        self.record("detached", detached.file)

    def delete_file(self, file_id: str) -> None:
        """Delete a file; OpenAI removes it from its stores as well."""
        self.record("file-deleted", self.documents.pop(file_id))
        for store in self.visible_bases().values() if not self.is_ogx else ():
            if file_id in store.files:
                self.detach(store, file_id)

    def delete(self, file: UploadedFile, effect: str = "deleted") -> None:
        """Delete the file from the project and from all stores."""
        for store in self.bases.values():
            store.files.pop(file.id, None)
        del self.documents[file.id]
        self.record(effect, file)

    def find(self, store: VectorStore, question: str) -> Iterator[tuple[Attached, float]]:
        """Yield files that share words with `question`, each with its share of the words."""
        for attached in store.files.values():
            share = shared_words(question, attached.file.text)
            # OGX returns a shared passage once for each of its files, always under the same file.
            holder = store.files.get(store.holders.get(attached.passage.id, "")) if self.is_ogx else attached
            if share and holder is not None and attached.status(self.now) == "completed":
                yield holder, share

    def store_foreign(self, name: str, content: bytes, args: Mapping[str, Any]) -> UploadedFile:
        """Store another user's file and attach it, with the `attributes` in `args`."""
        file = self.upload(name, content, "assistants")
        self.attach(self.bases[HOME_ID], file, args.get("attributes") or {})
        return file

    def snapshot(self) -> Json:
        """Return every attached file, every file, and the stores."""
        attached = [row for store in self.visible_bases().values() for row in store.files.values()]
        documents = [
            {**self.describe(row.file), "name": row.file.sent_name, "base": row.store}
            | {"attributes": dict(row.attributes), "searchable": row.status(self.now) == "completed"}
            for row in attached
        ]
        files = [{"id": file.id, "name": file.sent_name} for file in self.documents.values()]
        return {**super().snapshot(), "documents": documents, "files": files}
