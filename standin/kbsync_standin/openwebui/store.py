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
        base, links = self._withdrawn_base or (self.bases.get(HOME_ID), self.links(HOME_ID))
        self._withdrawn_base = (base, links) if state == "deleted" else None
        self.drop_base(HOME_ID)
        if state == "recreated":
            self.add_home(self.new_id())
        elif state != "deleted":
            self.add_home(HOME_ID)
        if state == "present" and base is not None:
            self.bases[HOME_ID] = base
            for one, folder in links.items():
                one.folder[HOME_ID] = folder

    def links(self, base_id: str) -> dict[File, str | None]:
        """Return the files linked to a base, with their folders in it."""
        return {one: one.folder[base_id] for one in self.documents.values() if base_id in one.folder}

    def new_id(self) -> str:
        """Return a UUID."""
        return str(uuid.UUID(int=self.chance.getrandbits(128)))

    def new_base(self, base_id: str, name: str, description: str, settings: Mapping[str, Any]) -> Collection:
        """Return a new base; its name may be in use."""
        return Collection(base_id, name, description, self.now)

    def drop_base(self, base_id: str) -> None:
        """Delete a base with its links; the files stay."""
        self.bases.pop(base_id, None)
        for one in self.documents.values():
            one.folder.pop(base_id, None)

    def file(self, file_id: object, status: int = 404) -> File:
        """Return the file. Raises `Refused`."""
        found = self.documents.get(str(file_id))
        if found is None or found.is_deleted:
            raise Refused("We could not find what you're looking for :/", status)
        return found

    def base(self, base_id: object, status: int = 404) -> Collection:
        """Return the base. Raises `Refused`."""
        found: Collection | None = self.bases.get(str(base_id))
        if found is None:
            raise Refused("We could not find what you're looking for :/", status)
        return found

    def record(self, effect: str, one: File, **more: Any) -> None:
        """Add an event to the journal, with the file's current name and text."""
        self._record(effect, one.id, one.name, one.sha256, text=one.extracted or "")

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
        one = self.store(name, content, "text/plain", sent)
        one.ready_at, one.is_foreign = one.created, True
        self.catch_up()
        return one

    def make_folder(self, base: Collection, name: str, parent: str | None) -> str:
        """Create a folder and return its id."""
        made = self.new_id()
        base.folders[made] = (name, parent)
        return made

    def describe(self, one: File) -> Json:
        """Describe a file: its path, its status, and whether a search finds it."""
        base = next((self.bases[key] for key in one.folder), None)
        folder = base.path(one.folder[base.id]) if base else ""
        is_found = base is not None and any(chunk.file == one.id for chunk in base.chunks)
        path = f"{folder}/{one.name}" if folder else one.name
        told = {"path": path, "status": one.status, "linked": base is not None, "searchable": is_found}
        return {**super().describe(one), **told}

    # -- indexing

    def catch_up(self) -> None:
        """Do the due work in order, also for files that were deleted meanwhile."""
        due = [one for one in self.documents.values() if one.status in ("pending", "processing")]
        for one in sorted(due, key=lambda one: one.ready_at or 0.0):
            one.status = "processing"
            if one.is_over(self.now):
                self._index_first(one)
        while steps := next((one for one in self._going_on if one[0] <= self.now), None):
            self._going_on.remove(steps)
            at, seconds, work = steps
            with suppress(Refused, StopIteration):  # no client waits for the response
                next(work)
                self._going_on.append((at + seconds, seconds, work))

    def go_on(self, work: Iterator[None], seconds: float) -> None:
        """Begin this work and do each further step `seconds` after the last; 0: never, as after a restart."""
        next(work)
        if seconds:
            self._going_on.append((self.now + seconds, seconds, work))

    def _index_first(self, one: File) -> None:
        one.extracted = one.text if one.extracted is None else one.extracted
        base = self.bases.get(str(one.sent.get("knowledge_id")))
        if one.never_linked:
            base = None
        begun = one.created if self.behaviour.looks_late else self.now
        try:
            self.index(one, base, begun)
        except Refused as error:
            self.fail(one, str(error))
            return
        if base is not None and not one.is_deleted:
            folder = one.sent.get("directory_id")
            one.folder[base.id] = folder if folder in base.folders else None
        one.status, one.error = "completed", ""

    def index(self, one: File, base: Collection | None, begun: float) -> None:
        """Index the file's text into the collection of a base. Raises `Refused`.

        `begun`: equal texts that were added after this time are overlooked.
        """
        text = one.extracted or ""
        if not text.strip():
            raise Refused(EMPTY)
        if one.fails:
            one.fails -= one.fails > 0
            raise Refused(BROKEN)
        one.collection = f"file-{one.id}"
        text_hash = hashlib.sha256(text.encode()).hexdigest()
        if base is not None:
            same = [chunk for chunk in base.chunks if chunk.text_hash == text_hash and chunk.added <= begun]
            if same and same[0].file != one.id:
                raise Refused(DUPLICATE)
            lines = "\n".join(line.strip() for line in text.splitlines() if line.strip())
            base.chunks.append(Chunk(one.id, text_hash, lines, self.now))
            one.collection = base.id
        one.text_hash = text_hash
        one.updated = self.now

    def link(self, one: File, base: Collection, folder: str | None) -> Iterator[None]:
        """Link a file to a base, which adds its passages to the existing ones. Raises `Refused`."""
        one.updated = self.now
        yield
        with self._noted(one):
            self.index(one, base, self.now)
        if not one.is_deleted:
            one.folder[base.id] = folder
        self._look_at_passages(one, (base,))

    def update(self, one: File, text: str) -> Iterator[None]:
        """Index the file with another text, then once more in each base that links it. Raises `Refused`."""
        one.extracted, one.updated = text, self.now
        yield
        with self._noted(one):
            self.index(one, None, self.now)
        bases = [self.bases[key] for key in one.folder]
        for base in bases:
            old = {id(chunk) for chunk in base.chunks if chunk.file == one.id}
            yield
            with self._noted(one):
                self.index(one, base, self.now)
            base.chunks = [chunk for chunk in base.chunks if id(chunk) not in old]
        self._look_at_passages(one, bases)

    @contextmanager
    def _noted(self, one: File) -> Iterator[None]:
        """Set the file's status to the outcome of the work inside."""
        try:
            yield
        except Refused as error:
            self.fail(one, str(error))
            raise
        one.status, one.error = "completed", ""

    def _look_at_passages(self, one: File, bases: Iterable[Collection]) -> None:
        """Record a violation if a file's passages are stored twice, or once for a deleted file.

        Two simultaneous requests for one file leave its passages twice; indexing a deleted file leaves them
        for good.
        """
        for base in bases:
            count = sum(chunk.file == one.id for chunk in base.chunks)
            if count > (0 if one.is_deleted else 1):
                self.violations.append(f"the passages of {one.name} are there {count} times")

    def fail(self, one: File, error: str) -> None:
        """Mark the file as failed: its hash is dropped, its text is not."""
        one.status, one.error, one.text_hash = "failed", error, None

    # -- removal

    def remove(self, one: File, base: Collection) -> None:
        """Remove a file from a base, with every passage that has its id or its text."""
        one.folder.pop(base.id, None)
        base.chunks = [
            chunk
            for chunk in base.chunks
            if chunk.file != one.id and (one.text_hash is None or chunk.text_hash != one.text_hash)
        ]

    def delete(self, one: File, effect: str = "deleted") -> None:
        """Delete a file and remove it from every base."""
        if one.status in ("pending", "processing") and one.ready_at is not None and effect == "deleted":
            self.violations.append(f"delete: {one.name} is being indexed, its passages will stay")
        for base_id in tuple(one.folder):
            self.remove(one, self.bases[base_id])
        super().delete(one, effect)

    # -- search

    def find(self, base_ids: list[str], query: str, most: int) -> list[tuple[float, Chunk]]:
        """Return passages that share words with `query`, best first; of equal ones only the first."""
        rows = []
        for base in (self.bases[one] for one in base_ids if one in self.bases):
            for chunk in base.chunks:
                if share := shared_words(query, chunk.text):
                    rows.append((share, chunk))
        rows.sort(key=lambda row: -row[0])
        first = {chunk.text: (share, chunk) for share, chunk in reversed(rows)}
        return sorted(first.values(), key=lambda row: -row[0])[:most]
