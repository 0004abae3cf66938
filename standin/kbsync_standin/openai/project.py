"""One project: its files, its vector stores, and what is attached where."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from kbsync_standin.faults import Fault
from kbsync_standin.older import Holdings, shared_words
from kbsync_standin.openai.behaviour import OpenaiBehaviour

HOME_ID = "vs_67e2f0a1b2c4819188d0f3c5a7b9e1d2"
"""The vector store that is there from the start."""

_REWRITTEN = re.compile(r"[^A-Za-z0-9._-]")

_READ_BY_OGX = ("c", "cpp", "css", "csv", "html", "java", "js", "md", "pdf", "py", "sh", "tex", "ts", "txt")
"""Endings of names that its reader `inline::pypdf` was seen to take."""

UNSUPPORTED = "unsupported_file"


@dataclass(slots=True)
class Stored:
    """An uploaded file."""

    id: str
    name: str
    purpose: str
    content: bytes
    created: float
    sent_name: str
    ordinal: int = 0

    @property
    def sha256(self) -> str:
        """Of the content, in hex."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def text(self) -> bytes:
        """What is indexed: of a PDF, without the comments in it."""
        lines = self.content.splitlines(keepends=True)
        is_pdf = self.sent_name.endswith(".pdf")
        return b"".join(line for line in lines if not (is_pdf and line.startswith(b"%")))


@dataclass(frozen=True, slots=True)
class StoredPassage:
    """A piece of text as it is indexed; OGX makes the id from the text alone."""

    text: str
    id: str
    vector: list[float]


@dataclass(slots=True)
class Attached:
    """A file in a store. `ready_at` None: never. `error`: the code of its failure, "" for none."""

    file: Stored
    store: str
    attributes: dict[str, Any]
    strategy: dict[str, Any]
    created: float
    ready_at: float | None
    error: str
    ordinal: int
    detached_at: float | None = None

    @property
    def id(self) -> str:
        """The file's."""
        return self.file.id

    @property
    def passage(self) -> StoredPassage:
        """The only one."""
        digest = hashlib.sha256(self.file.text)
        vector = [byte / 256 for byte in digest.digest()[:4]]
        return StoredPassage(self.file.text.decode("utf-8", "replace"), digest.hexdigest()[:32], vector)

    def status(self, now: float) -> str:
        """As the vendor calls it."""
        if self.ready_at is None or now < self.ready_at:
            return "in_progress"
        return "failed" if self.error else "completed"


@dataclass(slots=True)
class Store:
    """A vector store. `holders`: where passages are shared, the file under which each id is found."""

    id: str
    name: str
    metadata: dict[str, Any]
    created: float
    status: str = "completed"
    files: dict[str, Attached] = field(default_factory=dict)
    past: list[Attached] = field(default_factory=list)
    holders: dict[str, str] = field(default_factory=dict)


def _is_read(name: str) -> bool:
    return name.rpartition(".")[2].lower() in _READ_BY_OGX


class Project(Holdings[OpenaiBehaviour]):
    """One project."""

    def _begin(self) -> None:
        self._count = 0
        self.files: dict[str, Stored] = {}
        self.stores = {HOME_ID: self._new_store(HOME_ID, "Default", {})}

    @property
    def is_ogx(self) -> bool:
        """The dialect is that of OGX."""
        return self.behaviour.dialect == "ogx"

    def _turned(self, before: OpenaiBehaviour) -> None:
        base = self.behaviour.base
        if base == before.base:
            return
        home = self.stores.get(HOME_ID)
        if base in ("deleted", "recreated"):
            self.stores.pop(HOME_ID, None)
        elif base == "emptied" and home is not None:
            self.stores[HOME_ID] = self._new_store(HOME_ID, home.name, home.metadata)
        elif home is not None:
            home.status = "expired" if base == "expired" else "completed"
        elif base == "present":
            self.stores[HOME_ID] = self._new_store(HOME_ID, "Default", {})
        if base == "recreated":
            self.make_store("Default", {})

    def _new_store(self, store_id: str, name: str, metadata: Mapping[str, Any]) -> Store:
        return Store(store_id, name, dict(metadata), self.clock.now())

    def make_store(self, name: str, metadata: Mapping[str, Any]) -> Store:
        """One more, also of a name that is there."""
        made = self._new_store(f"vs_{self._hex()}", name, metadata)
        self.stores[made.id] = made
        self._note("store-made", made.id, name)
        return made

    def upload(self, name: str, content: bytes, purpose: str) -> Stored:
        """A new file."""
        kept = _REWRITTEN.sub("_", name) if self.is_ogx else name
        made = Stored(f"file-{self._hex()}", kept, purpose, content, self.clock.now(), name, self._count)
        self.files[made.id] = made
        self._note("uploaded", made.id, name, made.sha256)
        return made

    def attach(
        self,
        store: Store,
        file: Stored,
        attributes: Mapping[str, Any],
        strategy: dict[str, Any],
        fault: Fault,
    ) -> Attached:
        """A file in a store; one that is there already stays as it is."""
        if (there := store.files.get(file.id)) is not None:
            return there
        now = self.clock.now()
        self._count += 1
        ready: float | None = now + (0.0 if self.is_ogx else self._chance.uniform(*self.behaviour.vectorize))
        error = str(fault.args.get("code", "server_error")) if fault.kind == "fails" else ""
        if fault.kind == "stuck":
            ready = None
        if not file.content.strip():
            error = "invalid_file"
        if self.is_ogx and self.behaviour.reader == "pypdf" and not _is_read(file.name):
            error = UNSUPPORTED
        made = Attached(file, store.id, dict(attributes), strategy, now, ready, error, self._count)
        store.files[file.id] = made
        if not error:
            store.holders[made.passage.id] = file.id
        self._note("attached", file.id, file.sent_name, file.sha256)
        return made

    def detach(self, store: Store, file_id: str) -> None:
        """Out of the store; its passages go, whoever else has the same ones where they are shared."""
        gone = store.files.pop(file_id)
        gone.detached_at = self.clock.now()
        store.past.append(gone)
        if not gone.error:
            store.holders.pop(gone.passage.id, None)
        self._note("detached", file_id, gone.file.sent_name)

    def delete_file(self, file_id: str) -> None:
        """OpenAI removes it from its stores as well."""
        gone = self.files.pop(file_id)
        self._note("file-deleted", file_id, gone.sent_name)
        for store in self.stores.values() if not self.is_ogx else ():
            if file_id in store.files:
                self.detach(store, file_id)

    def present(self) -> Iterable[Stored]:
        """Also those that are attached nowhere."""
        return self.files.values()

    def delete(self, one: Stored, effect: str = "deleted") -> None:
        """The file, and wherever it is attached."""
        for store in self.stores.values():
            store.files.pop(one.id, None)
        del self.files[one.id]
        self._note(effect, one.id, one.sent_name)

    def listed(self, store: Store) -> list[Attached]:
        """As the list has them, the oldest first: changes of the last `list_lag` seconds are not in it."""
        lag, now = self.behaviour.list_lag, self.clock.now()
        rows = [one for one in store.files.values() if now >= one.created + lag]
        rows += [one for one in store.past if lag and now < (one.detached_at or 0.0) + lag <= now + lag]
        return sorted(rows, key=lambda one: one.ordinal)

    def found(self, store: Store, question: str) -> Iterator[tuple[Attached, float]]:
        """Files that share words with `question`, and which part of its words."""
        for one in store.files.values():
            text = one.file.text.decode("utf-8", "replace")
            share = shared_words(question, text)
            # OGX finds what several files have once for each of them, always under the same one.
            shown = store.files.get(store.holders.get(one.passage.id, "")) if self.is_ogx else one
            if share and shown is not None and one.status(self.clock.now()) == "completed":
                yield shown, share

    def _hex(self) -> str:
        self._count += 1
        return f"{self._chance.getrandbits(96):024x}{self._count:08x}"

    def _note(self, effect: str, key: str, name: str, sha256: str = "") -> None:
        self.journal.append({"effect": effect, "id": key, "name": name, "sha256": sha256})
