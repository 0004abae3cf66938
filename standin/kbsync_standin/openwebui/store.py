"""The contents of the server: files, the passages of each base, links between them, and folders.

Based on `routers/files.py`, `routers/knowledge.py` and `routers/retrieval.py` of Open WebUI 0.12.4. A file is
indexed in the background: first into its own collection, then into the base; then it is linked, then
`completed`. Each passage stores the SHA-256 of its file's whole text. The server refuses equal texts by this
hash, and removing a file also removes passages of other files with the same hash. A reindexed file's new text
is stored first, even if the work fails later, and the work continues when the client has left.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from kbsync_standin.application import Application, Base, Document, Json, shared_words
from kbsync_standin.openwebui.behaviour import KINDS, OpenWebuiBehaviour
from kbsync_standin.rules import Refused

HOME_ID = "4e741f2c-6b1d-4f0c-9a53-0d3c8e7f2a11"
"""The id of the initial knowledge base."""

USER_ID = "617911a5-2f4e-4c39-8a8e-6a1f50f0c0de"

DUPLICATE = "Duplicate content detected. Please provide unique content to proceed."
EMPTY = "The content provided is empty. Please ensure that there is text or data present before proceeding."
BROKEN = "500, message='Internal Server Error', url='http://127.0.0.1:18001/v1/embeddings'"


@dataclass(slots=True, kw_only=True, eq=False)
class File(Document):
    """A file. `fails`: how many times indexing fails, -1: always. `extracted`: its text, once it was read.

    `error`: the last failure. `collection`: the last collection that it was indexed into, its own first, then
    a base's. `folder`: base → folder, for each link.
    """

    meta: Json
    sent: Json
    updated: float
    fails: int = 0
    never_linked: bool = False
    status: str = "pending"
    extracted: str | None = None
    text_hash: str | None = None
    collection: str = ""
    folder: dict[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage in the collection of a base."""

    file: str
    text_hash: str
    text: str
    added: float


@dataclass(slots=True, eq=False)
class Collection(Base):
    """A base and its passages. `folders`: id → (name, parent)."""

    chunks: list[Chunk] = field(default_factory=list)
    folders: dict[str, tuple[str, str | None]] = field(default_factory=dict)

    def path(self, folder: str | None) -> str:
        """Return the folder's path from the root, "" for the base itself."""
        names: list[str] = []
        while folder in self.folders:
            name, folder = self.folders[folder]
            names.insert(0, name)
        return "/".join(names)


class Files(Application[OpenWebuiBehaviour, File]):
    """The files of one user. Requests that the server accepts but a client must not send are violations
    too.
    """

    name, kinds, switches = "openwebui", KINDS, OpenWebuiBehaviour
    home_id, home_name, home_key = HOME_ID, "Home", "knowledge_id"
    id_form = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"

    def begin(self) -> None:
        """Create the initial contents: no work is in progress."""
        self._going_on: list[tuple[float, float, Iterator[None]]] = []
        self._withdrawn_base: tuple[Collection | None, dict[File, str | None]] | None = None
        super().begin()

    def change_base(self, state: str) -> None:
        """Change the base's state. Its files stay but lose their links; a deleted base returns with them."""
        links = {file: file.folder[HOME_ID] for file in self.documents.values() if HOME_ID in file.folder}
        base, links = self._withdrawn_base or (self.bases.get(HOME_ID), links)
        self._withdrawn_base = (base, links) if state == "deleted" else None
        self.drop_base(HOME_ID)
        if state == "recreated":
            self.add_home(self.new_id())
        elif state != "deleted":
            self.add_home(HOME_ID)
        if state == "present" and base is not None:
            self.bases[HOME_ID] = base
            for file, folder in links.items():
                file.folder[HOME_ID] = folder

    def new_id(self) -> str:
        """Return a UUID."""
        return str(uuid.UUID(int=self.chance.getrandbits(128)))

    def new_base(self, base_id: str, name: str, description: str, settings: Mapping[str, Any]) -> Collection:
        """Return a new base; its name may be in use."""
        return Collection(base_id, name, description, self.now)

    def drop_base(self, base_id: str) -> None:
        """Delete a base with its links; the files stay."""
        self.bases.pop(base_id, None)
        for file in self.documents.values():
            file.folder.pop(base_id, None)

    def file(self, file_id: object, status: int = 404) -> File:
        """Return the file. Raises `Refused`."""
        file = self.documents.get(str(file_id))
        if file is None or file.is_deleted:
            raise Refused("We could not find what you're looking for :/", status)
        return file

    def base(self, base_id: object, status: int = 404) -> Collection:
        """Return the base. Raises `Refused`."""
        base: Collection | None = self.bases.get(str(base_id))
        if base is None:
            raise Refused("We could not find what you're looking for :/", status)
        return base

    def record(self, effect: str, document: File, **more: Any) -> None:
        """Add an event to the journal, with the file's current name and text."""
        self._record(effect, document.id, document.name, document.sha256, text=document.extracted or "")

    def store(self, name: str, content: bytes, media_type: str, sent: Json) -> File:
        """Store a new file, which waits to be indexed."""
        digest = sent.get("file_hash") or hashlib.sha256(content).hexdigest()
        meta = {"name": name, "content_type": media_type, "size": len(content), "file_hash": digest}
        times: Json = {"created": self.now, "updated": self.now, "ready_at": self.ready_at()}
        return self.add(File(id=self.new_id(), name=name, content=content, meta=meta, sent=sent, **times))

    def store_foreign(self, name: str, content: bytes, args: Mapping[str, Any]) -> File:
        """Store a file in the `folder` of the base, as another mirror would."""
        base = next(iter(self.bases.values()))
        folder = None
        for part in filter(None, str(args.get("folder", "")).split("/")):
            folder = self.make_folder(base, part, folder)
        sent = {"knowledge_id": base.id} | ({"directory_id": folder} if folder else {})
        file = self.store(name, content, "text/plain", sent)
        file.ready_at, file.is_foreign = file.created, True
        self.catch_up()
        return file

    def make_folder(self, base: Collection, name: str, parent: str | None) -> str:
        """Create a folder and return its id."""
        folder_id = self.new_id()
        base.folders[folder_id] = (name, parent)
        return folder_id

    def describe(self, file: File) -> Json:
        """Describe a file: its path, its status, and whether a search finds it."""
        base = next((self.bases[key] for key in file.folder), None)
        folder = base.path(file.folder[base.id]) if base else ""
        is_searchable = base is not None and any(chunk.file == file.id for chunk in base.chunks)
        path = f"{folder}/{file.name}" if folder else file.name
        details = {
            "path": path,
            "status": file.status,
            "linked": base is not None,
            "searchable": is_searchable,
        }
        return {**super().describe(file), **details}

    # -- indexing

    def catch_up(self) -> None:
        """Do the due work in order, also for files that were deleted meanwhile."""
        due = [file for file in self.documents.values() if file.status in ("pending", "processing")]
        for file in sorted(due, key=lambda file: file.ready_at or 0.0):
            file.status = "processing"
            if file.is_over(self.now):
                self._index_first(file)
        while steps := next((scheduled for scheduled in self._going_on if scheduled[0] <= self.now), None):
            self._going_on.remove(steps)
            due_at, seconds, work = steps
            with suppress(Refused, StopIteration):  # no client waits for the response
                next(work)
                self._going_on.append((due_at + seconds, seconds, work))

    def continue_later(self, work: Iterator[None], seconds: float) -> None:
        """Begin this work and do each further step `seconds` after the last; 0: never, as after a restart."""
        next(work)
        if seconds:
            self._going_on.append((self.now + seconds, seconds, work))

    def _index_first(self, file: File) -> None:
        file.extracted = file.text if file.extracted is None else file.extracted
        base = self.bases.get(str(file.sent.get("knowledge_id")))
        if file.never_linked:
            base = None
        duplicates_until = file.created if self.behaviour.looks_late else self.now
        try:
            self.index(file, base, duplicates_until)
        except Refused as error:
            self.fail(file, str(error))
            return
        if base is not None and not file.is_deleted:
            folder = file.sent.get("directory_id")
            file.folder[base.id] = folder if folder in base.folders else None
        file.status, file.error = "completed", ""

    def index(self, file: File, base: Collection | None, duplicates_until: float) -> None:
        """Index the file's text into the collection of a base. Raises `Refused`.

        `begun`: equal texts that were added after this time are overlooked.
        """
        text = file.extracted or ""
        if not text.strip():
            raise Refused(EMPTY)
        if file.fails:
            file.fails -= file.fails > 0
            raise Refused(BROKEN)
        file.collection = f"file-{file.id}"
        text_hash = hashlib.sha256(text.encode()).hexdigest()
        if base is not None:
            same = [
                chunk
                for chunk in base.chunks
                if chunk.text_hash == text_hash and chunk.added <= duplicates_until
            ]
            if same and same[0].file != file.id:
                raise Refused(DUPLICATE)
            lines = "\n".join(line.strip() for line in text.splitlines() if line.strip())
            base.chunks.append(Chunk(file.id, text_hash, lines, self.now))
            file.collection = base.id
        file.text_hash = text_hash
        file.updated = self.now

    def link(self, file: File, base: Collection, folder: str | None) -> Iterator[None]:
        """Link a file to a base, which adds its passages to the existing ones. Raises `Refused`."""
        file.updated = self.now
        yield
        with self._recording_outcome(file):
            self.index(file, base, self.now)
        if not file.is_deleted:
            file.folder[base.id] = folder
        self._check_passages(file, (base,))

    def update(self, file: File, text: str) -> Iterator[None]:
        """Index the file with another text, then once more in each base that links it. Raises `Refused`."""
        file.extracted, file.updated = text, self.now
        yield
        with self._recording_outcome(file):
            self.index(file, None, self.now)
        bases = [self.bases[key] for key in file.folder]
        for base in bases:
            old = {id(chunk) for chunk in base.chunks if chunk.file == file.id}
            yield
            with self._recording_outcome(file):
                self.index(file, base, self.now)
            base.chunks = [chunk for chunk in base.chunks if id(chunk) not in old]
        self._check_passages(file, bases)

    @contextmanager
    def _recording_outcome(self, file: File) -> Iterator[None]:
        """Set the file's status to the outcome of the work inside."""
        try:
            yield
        except Refused as error:
            self.fail(file, str(error))
            raise
        file.status, file.error = "completed", ""

    def _check_passages(self, file: File, bases: Iterable[Collection]) -> None:
        """Record a violation if a file's passages are stored twice, or once for a deleted file.

        Two simultaneous requests for one file leave its passages twice; indexing a deleted file leaves them
        for good.
        """
        for base in bases:
            count = sum(chunk.file == file.id for chunk in base.chunks)
            if count > (0 if file.is_deleted else 1):
                self.violations.append(f"the passages of {file.name} are there {count} times")

    def fail(self, file: File, error: str) -> None:
        """Mark the file as failed: its hash is dropped, its text is not."""
        file.status, file.error, file.text_hash = "failed", error, None

    # -- removal

    def remove(self, file: File, base: Collection) -> None:
        """Remove a file from a base, with every passage that has its id or its text."""
        file.folder.pop(base.id, None)
        base.chunks = [
            chunk
            for chunk in base.chunks
            if chunk.file != file.id and (file.text_hash is None or chunk.text_hash != file.text_hash)
        ]

    def delete(self, file: File, effect: str = "deleted") -> None:
        """Delete a file and remove it from every base."""
        if file.status in ("pending", "processing") and file.ready_at is not None and effect == "deleted":
            self.violations.append(f"delete: {file.name} is being indexed, its passages will stay")
        for base_id in tuple(file.folder):
            self.remove(file, self.bases[base_id])
        super().delete(file, effect)

    # -- search

    def find(self, base_ids: list[str], query: str, most: int) -> list[tuple[float, Chunk]]:
        """Return passages that share words with `query`, best first; of equal ones only the first."""
        rows = []
        for base in (self.bases[ident] for ident in base_ids if ident in self.bases):
            for chunk in base.chunks:
                if share := shared_words(query, chunk.text):
                    rows.append((share, chunk))
        rows.sort(key=lambda row: -row[0])
        first = {chunk.text: (share, chunk) for share, chunk in reversed(rows)}
        return sorted(first.values(), key=lambda row: -row[0])[:most]
