"""What the server holds: files, the passages of each base, links between them, and folders.

After `routers/files.py`, `routers/knowledge.py` and `routers/retrieval.py` of Open WebUI 0.12.4. A file is
indexed in the background: into a collection of its own, then into the base, then it is linked, then it is
`completed`. Passages know the SHA-256 of the whole text they are from, which is how equal texts are refused
and how a removal takes the passages of others along. A text that is indexed anew is stored first, whatever
becomes of the work, and the work goes on when nobody waits for its answer any more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from kbsync_standin.older import Holdings, shared_words
from kbsync_standin.openwebui.behaviour import OpenWebuiBehaviour
from kbsync_standin.rules import Refused

HOME_ID = "4e741f2c-6b1d-4f0c-9a53-0d3c8e7f2a11"
"""The knowledge base that is there from the start."""

USER_ID = "617911a5-2f4e-4c39-8a8e-6a1f50f0c0de"

DUPLICATE = "Duplicate content detected. Please provide unique content to proceed."
EMPTY = "The content provided is empty. Please ensure that there is text or data present before proceeding."
BROKEN = "500, message='Internal Server Error', url='http://127.0.0.1:18001/v1/embeddings'"


@dataclass(slots=True)
class File:
    """`ready_at` None: it is never through. `fails`: so often its indexing fails, -1: each time."""

    id: str
    name: str
    content: bytes
    meta: dict[str, Any]
    sent: dict[str, Any]
    created: float
    updated: float
    ready_at: float | None
    fails: int = 0
    never_linked: bool = False
    is_foreign: bool = False
    status: str = "pending"
    error: str | None = None
    text: str | None = None
    text_hash: str | None = None
    is_deleted: bool = False
    collection: str = ""  # where its text was indexed last: its own comes first, then that of a base
    folder: dict[str, str | None] = field(default_factory=dict)  # base → folder: the links

    @property
    def sha256(self) -> str:
        """Of the original, in hex."""
        return hashlib.sha256(self.content).hexdigest()


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage in the collection of a base."""

    file: str
    text_hash: str
    text: str
    added: float


@dataclass(slots=True)
class KnowledgeBase:
    """A base and its collection. `folders`: id → (name, parent)."""

    id: str
    name: str
    description: str
    created: float
    chunks: list[Chunk] = field(default_factory=list)
    folders: dict[str, tuple[str, str | None]] = field(default_factory=dict)

    def path(self, folder: str | None) -> str:
        """Names from the root, "" for the base itself."""
        names: list[str] = []
        while folder in self.folders:
            name, folder = self.folders[folder]
            names.insert(0, name)
        return "/".join(names)


class Store(Holdings[OpenWebuiBehaviour]):
    """All of it. A violation is also what a client must not do, though the server takes it."""

    def _begin(self) -> None:
        self.files: dict[str, File] = {}
        self.bases: dict[str, KnowledgeBase] = {}
        self._going_on: list[tuple[float, float, Iterator[None]]] = []
        self.make_base("Home", "", HOME_ID)

    def _turned(self, before: OpenWebuiBehaviour) -> None:
        base = self.behaviour.base
        if base == before.base:
            return
        if base != "present":
            self.drop_base(HOME_ID)
        if base in ("present", "emptied") and HOME_ID not in self.bases:
            self.make_base("Home", "", HOME_ID)
        elif base == "recreated":
            self.make_base("Home", "")

    def new_id(self) -> str:
        """A UUID."""
        digits = f"{self._chance.getrandbits(128):032x}"
        return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))

    def make_base(self, name: str, description: str, base_id: str = "") -> KnowledgeBase:
        """One more, also of a name that is there."""
        made = KnowledgeBase(base_id or self.new_id(), name, description, self.clock.now())
        self.bases[made.id] = made
        return made

    def drop_base(self, base_id: str) -> None:
        """With its links; the files stay."""
        self.bases.pop(base_id, None)
        for one in self.files.values():
            one.folder.pop(base_id, None)

    def present(self) -> Iterator[File]:
        """Files that were not deleted, the oldest first."""
        return (one for one in self.files.values() if not one.is_deleted)

    def file(self, file_id: object, status: int = 404) -> File:
        """Raises `Refused`."""
        found = self.files.get(str(file_id))
        if found is None or found.is_deleted:
            raise Refused("We could not find what you're looking for :/", status)
        return found

    def base(self, base_id: object, status: int = 404) -> KnowledgeBase:
        """Raises `Refused`."""
        if base_id not in self.bases:
            raise Refused("We could not find what you're looking for :/", status)
        return self.bases[str(base_id)]

    def note(self, effect: str, one: File) -> None:
        """It is done."""
        text = one.text or ""
        self.journal.append(
            {"effect": effect, "id": one.id, "name": one.name, "sha256": one.sha256, "text": text}
        )

    def store(self, name: str, content: bytes, media_type: str, sent: dict[str, Any]) -> File:
        """A new file, which waits for its turn."""
        now = self.clock.now()
        digest = sent.get("file_hash") or hashlib.sha256(content).hexdigest()
        meta = {"name": name, "content_type": media_type, "size": len(content), "file_hash": digest}
        ready = now + self._chance.uniform(*self.behaviour.index)
        one = File(self.new_id(), name, content, meta, sent, now, now, ready)
        self.files[one.id] = one
        self.note("stored", one)
        return one

    # -- indexing --------------------------------------------------------------------------------------------

    def get_on(self) -> None:
        """What is due by now is done, in its order; also for a file that was deleted meanwhile."""
        now = self.clock.now()
        due = [one for one in self.files.values() if one.status in ("pending", "processing")]
        for one in sorted(due, key=lambda one: one.ready_at or 0.0):
            one.status = "processing"
            if one.ready_at is not None and one.ready_at <= now:
                self._index_first(one)
        while steps := next((one for one in self._going_on if one[0] <= now), None):
            self._going_on.remove(steps)
            at, seconds, work = steps
            with suppress(Refused, StopIteration):  # nobody waits for the answer
                next(work)
                self._going_on.append((at + seconds, seconds, work))

    def go_on(self, work: Iterator[None], seconds: float) -> None:
        """Begin this work and do each further step so much later; 0: never, as after a restart."""
        next(work)
        if seconds:
            self._going_on.append((self.clock.now() + seconds, seconds, work))

    def _index_first(self, one: File) -> None:
        one.text = one.text if one.text is not None else one.content.decode("utf-8", "replace")
        base = self.bases.get(str(one.sent.get("knowledge_id")))
        if one.never_linked:
            base = None
        begun = one.created if self.behaviour.looks_late else self.clock.now()
        try:
            self.index(one, base, begun)
        except Refused as error:
            self.fail(one, str(error))
            return
        if base is not None and not one.is_deleted:
            folder = one.sent.get("directory_id")
            one.folder[base.id] = folder if folder in base.folders else None
        one.status, one.error = "completed", None

    def index(self, one: File, base: KnowledgeBase | None, begun: float) -> None:
        """Its text into the collection of a base. Raises `Refused`.

        `begun`: equal texts that came there later are not seen.
        """
        text = one.text or ""
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
            base.chunks.append(Chunk(one.id, text_hash, lines, self.clock.now()))
            one.collection = base.id
        one.text_hash = text_hash
        one.updated = self.clock.now()

    def link(self, one: File, base: KnowledgeBase, folder: str | None) -> Iterator[None]:
        """Put it into a base: its passages are added to what is there. Raises `Refused`."""
        one.updated = self.clock.now()
        yield
        with self._noted(one):
            self.index(one, base, self.clock.now())
        if not one.is_deleted:
            one.folder[base.id] = folder
        self._look_at_passages(one, (base,))

    def update(self, one: File, text: str) -> Iterator[None]:
        """Index it by another text, and then in each base that has it. Raises `Refused`."""
        one.text, one.updated = text, self.clock.now()
        yield
        with self._noted(one):
            self.index(one, None, self.clock.now())
        bases = [self.bases[key] for key in one.folder]
        for base in bases:
            old = {id(chunk) for chunk in base.chunks if chunk.file == one.id}
            yield
            with self._noted(one):
                self.index(one, base, self.clock.now())
            base.chunks = [chunk for chunk in base.chunks if id(chunk) not in old]
        self._look_at_passages(one, bases)

    @contextmanager
    def _noted(self, one: File) -> Iterator[None]:
        """How the work on a file ends is its status."""
        try:
            yield
        except Refused as error:
            self.fail(one, str(error))
            raise
        one.status, one.error = "completed", None

    def _look_at_passages(self, one: File, bases: Iterable[KnowledgeBase]) -> None:
        """Work that is done twice at a time leaves them twice; after a removal it leaves them for good."""
        for base in bases:
            count = sum(chunk.file == one.id for chunk in base.chunks)
            if count > (0 if one.is_deleted else 1):
                self.violations.append(f"the passages of {one.name} are there {count} times")

    def fail(self, one: File, error: str) -> None:
        """It could not be indexed; its hash is forgotten, its text is not."""
        one.status, one.error, one.text_hash = "failed", error, None

    # -- removal ---------------------------------------------------------------------------------------------

    def remove(self, one: File, base: KnowledgeBase) -> None:
        """Out of a base, with every passage of its id or its text."""
        one.folder.pop(base.id, None)
        base.chunks = [
            chunk
            for chunk in base.chunks
            if chunk.file != one.id and (one.text_hash is None or chunk.text_hash != one.text_hash)
        ]

    def delete(self, one: File, effect: str = "deleted") -> None:
        """Everywhere."""
        if one.status in ("pending", "processing") and one.ready_at is not None and effect == "deleted":
            self.violations.append(f"delete: {one.name} is being indexed, its passages will stay")
        for base_id in tuple(one.folder):
            self.remove(one, self.bases[base_id])
        one.is_deleted = True
        self.note(effect, one)

    # -- search ----------------------------------------------------------------------------------------------

    def found(self, base_ids: list[str], query: str, most: int) -> list[tuple[float, Chunk]]:
        """Passages that share words with `query`, best first; of equal ones the first alone."""
        rows = []
        for base in (self.bases[one] for one in base_ids if one in self.bases):
            for chunk in base.chunks:
                if share := shared_words(query, chunk.text):
                    rows.append((share, chunk))
        rows.sort(key=lambda row: -row[0])
        first = {chunk.text: (share, chunk) for share, chunk in reversed(rows)}
        return sorted(first.values(), key=lambda row: -row[0])[:most]
