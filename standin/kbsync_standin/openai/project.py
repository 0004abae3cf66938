"""One project: its files, its vector stores, and what is attached where."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from kbsync_standin.application import UNPLAYED, Application, Base, Call, Document, Json, shared_words
from kbsync_standin.openai.behaviour import KINDS, OpenaiBehaviour

HOME_ID = "vs_67e2f0a1b2c4819188d0f3c5a7b9e1d2"
"""The vector store that is there from the start."""

_REWRITTEN = re.compile(r"[^A-Za-z0-9._-]")

_READ_BY_OGX = ("c", "cpp", "css", "csv", "html", "java", "js", "md", "pdf", "py", "sh", "tex", "ts", "txt")
"""Endings of names that its reader `inline::pypdf` was seen to take."""

UNSUPPORTED = "unsupported_file"
AUTO = {"type": "static", "static": {"max_chunk_size_tokens": 800, "chunk_overlap_tokens": 400}}


@dataclass(slots=True, kw_only=True, eq=False)
class UploadedFile(Document):
    """A file of the project, attached or not."""

    purpose: str

    @property
    def indexed(self) -> bytes:
        """What is indexed of it: of a PDF, nothing of the comments in it."""
        lines = self.content.splitlines(keepends=True)
        is_pdf = self.sent_name.endswith(".pdf")
        return b"".join(line for line in lines if not (is_pdf and line.startswith(b"%")))

    @property
    def text(self) -> str:
        """What a search looks into."""
        return self.indexed.decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class StoredPassage:
    """A piece of text as it is indexed; OGX makes the id from the text alone."""

    text: str
    id: str
    vector: list[float]


@dataclass(slots=True)
class Attached:
    """A file in a store. `ready_at` None: never. `error`: the code of its failure, "" for none."""

    file: UploadedFile
    store: str
    attributes: Json
    strategy: Json
    created: float
    ready_at: float | None
    error: str
    ordinal: int
    deleted_at: float | None = None

    @property
    def id(self) -> str:
        """The file's."""
        return self.file.id

    @property
    def passage(self) -> StoredPassage:
        """The only one."""
        digest = hashlib.sha256(self.file.indexed)
        vector = [byte / 256 for byte in digest.digest()[:4]]
        return StoredPassage(self.file.text, digest.hexdigest()[:32], vector)

    def status(self, now: float) -> str:
        """As the vendor calls it."""
        if self.ready_at is None or now < self.ready_at:
            return "in_progress"
        return "failed" if self.error else "completed"


@dataclass(slots=True, eq=False)
class VectorStore(Base):
    """`settings`: its metadata. `holders`: where passages are shared, the file under which each is found."""

    status: str = "completed"
    files: dict[str, Attached] = field(default_factory=dict)
    past: list[Attached] = field(default_factory=list)
    holders: dict[str, str] = field(default_factory=dict)


class Project(Application[OpenaiBehaviour, UploadedFile]):
    """One project. Its documents are the files."""

    name, kinds, switches = "openai", KINDS, OpenaiBehaviour
    home_id, home_name, home_key = HOME_ID, "Default", "vector_store_id"

    def begin(self) -> None:
        """No store is withdrawn."""
        self._withdrawn_store: VectorStore | None = None
        super().begin()

    @property
    def is_ogx(self) -> bool:
        """The dialect is that of OGX."""
        return self.behaviour.dialect == "ogx"

    def change_base(self, state: str) -> None:
        """Its files stay. One that is deleted comes back with those attached to it."""
        home = self.bases.pop(HOME_ID, self._withdrawn_store)
        self._withdrawn_store = home if state == "deleted" else None
        if state == "recreated":
            self.add_home(self.new_id())
        elif state != "deleted":
            self.add_home(HOME_ID)
            if home is not None and state != "emptied":
                home.status = "expired" if state == "expired" else "completed"
                self.bases[HOME_ID] = home

    def new_id(self) -> str:
        """Of a store."""
        return f"vs_{self._hex()}"

    def _hex(self) -> str:
        return f"{self.chance.getrandbits(96):024x}{self.count():08x}"

    def new_base(self, base_id: str, name: str, description: str, settings: Mapping[str, Any]) -> VectorStore:
        """Also of a name that is there."""
        return VectorStore(base_id, name, description, self.now, dict(settings))

    def upload(self, name: str, content: bytes, purpose: str) -> UploadedFile:
        """A new file."""
        kept = _REWRITTEN.sub("_", name) if self.is_ogx else name
        about: Json = {"id": f"file-{self._hex()}", "created": self.now, "purpose": purpose}
        return self.add(UploadedFile(**about, name=kept, sent_name=name, content=content), "uploaded")

    def attach(
        self,
        store: VectorStore,
        file: UploadedFile,
        attributes: Mapping[str, Any],
        strategy: Json = AUTO,
        call: Call = UNPLAYED,
    ) -> Attached:
        """A file in a store; one that is there already stays as it is."""
        if (there := store.files.get(file.id)) is not None:
            return there
        ready = self.now if self.is_ogx else self.ready_at()
        error = str(call.arg("code", "server_error")) if call.plays("fails") else ""
        if call.plays("stuck"):
            ready = None
        if not file.content.strip():
            error = "invalid_file"
        kind = file.name.rpartition(".")[2].lower()
        if self.is_ogx and self.behaviour.reader == "pypdf" and kind not in _READ_BY_OGX:
            error = UNSUPPORTED
        made = Attached(file, store.id, dict(attributes), strategy, self.now, ready, error, self.count())
        store.files[file.id] = made
        if not error:
            store.holders[made.passage.id] = file.id
        self.record("attached", file)
        return made

    def detach(self, store: VectorStore, file_id: str) -> None:
        """Out of the store; its passages go, whoever else has the same ones where they are shared."""
        gone = store.files.pop(file_id)
        gone.deleted_at = self.now
        store.past.append(gone)
        if not gone.error:
            store.holders.pop(gone.passage.id, None)
        self.record("detached", gone.file)

    def delete_file(self, file_id: str) -> None:
        """OpenAI removes it from its stores as well."""
        self.record("file-deleted", self.documents.pop(file_id))
        for store in self.bases.values() if not self.is_ogx else ():
            if file_id in store.files:
                self.detach(store, file_id)

    def delete(self, one: UploadedFile, effect: str = "deleted") -> None:
        """The file, and wherever it is attached."""
        for store in self.bases.values():
            store.files.pop(one.id, None)
        del self.documents[one.id]
        self.record(effect, one)

    def find(self, store: VectorStore, question: str) -> Iterator[tuple[Attached, float]]:
        """Files that share words with `question`, and which part of its words."""
        for one in store.files.values():
            share = shared_words(question, one.file.text)
            # OGX finds what several files have once for each of them, always under the same one.
            found = store.files.get(store.holders.get(one.passage.id, "")) if self.is_ogx else one
            if share and found is not None and one.status(self.now) == "completed":
                yield found, share

    def store_foreign(self, name: str, content: bytes, args: Mapping[str, Any]) -> UploadedFile:
        """It is attached as well, with `attributes`."""
        file = self.upload(name, content, "assistants")
        self.attach(self.bases[HOME_ID], file, args.get("attributes") or {})
        return file

    def snapshot(self) -> Json:
        """Every attached file, every file, the stores."""
        attached = [one for store in self.bases.values() for one in store.files.values()]
        documents = [
            {**self.describe(one.file), "name": one.file.sent_name, "base": one.store}
            | {"attributes": dict(one.attributes), "searchable": one.status(self.now) == "completed"}
            for one in attached
        ]
        files = [{"id": one.id, "name": one.sent_name} for one in self.documents.values()]
        return {**super().snapshot(), "documents": documents, "files": files}
