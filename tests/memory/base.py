"""The server side of a knowledge base in memory, which survives the death of a client."""

from __future__ import annotations

import hashlib
import heapq
import itertools
import time
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from kbsync.contract.target import Base, DocState, DocStatus, Listed, Outgoing
from kbsync.errors import NameTaken, TargetError
from tests.memory.behaviour import Behaviour, Failure, Fault, Phase, Subject
from tests.memory.rules import ProtocolViolation


class Agenda:
    """Work with due times. `advance` does it in order, each at its due time."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._entries: list[tuple[float, int, Callable[[], object]]] = []
        self._turn = itertools.count()
        self._moment: float | None = None

    @property
    def now(self) -> float:
        """The time; while late work is done, the time at which it was due."""
        return self._clock() if self._moment is None else self._moment

    @property
    def is_catching_up(self) -> bool:
        """Whether overdue work is being done at the moment."""
        return self._moment is not None

    def later(self, seconds: float, work: Callable[[], object]) -> None:
        """Do `work` when the clock has advanced by `seconds`; a `TargetError` in it is dropped."""
        heapq.heappush(self._entries, (self.now + seconds, next(self._turn), work))

    def advance(self) -> None:
        """Do the due work."""
        if self.is_catching_up:
            return
        now = self._clock()
        try:
            while self._entries and self._entries[0][0] <= now:
                self._moment, _, work = heapq.heappop(self._entries)
                with suppress(TargetError):
                    work()
        finally:
            self._moment = None

    def clear(self) -> None:
        """Drop all remaining work."""
        self._entries.clear()


@dataclass(frozen=True, slots=True)
class Content:
    """One version of a document, as it was sent. `upload_id` is None if another user put it there."""

    name: str
    path: str
    digest: str
    data: bytes = field(repr=False)
    recipe: str = ""
    upload_id: int | None = None
    mtime: float = 0.0
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The bytes as text; invalid UTF-8 becomes U+FFFD."""
        return self.data.decode("utf-8", "replace")

    def is_same_upload(self, other: Content) -> bool:
        """Return whether `other` is the same upload, sent again."""
        key = (self.upload_id, self.path, self.digest)
        return key == (other.upload_id, other.path, other.digest)


@dataclass(slots=True, eq=False)
class Document:
    """A remote document: `content` is the newest version accepted, `searchable` what searches find.

    The two differ while an update is indexed, and after one failed. `foreign`: no client may touch it.
    `stale` is an old status that is reported until `stale_until`.
    """

    remote_id: str
    content: Content
    created: float
    foreign: bool = False
    searchable: Content | None = None
    state: DocState = DocState.INDEXING
    reason: str = ""
    code: str = ""
    halt: str = ""
    twin: str = ""
    stale: DocStatus | None = None
    stale_until: float = 0.0
    supersedes: str | None = None
    round: int = 0
    due: float = 0.0
    polls_left: int = 0
    hidden_until: float = 0.0
    removed: bool = False

    @property
    def name(self) -> str:
        """The remote name."""
        return self.content.name

    @property
    def path(self) -> str:
        """The path it was sent or renamed to."""
        return self.content.path

    @property
    def digest(self) -> str:
        """The SHA-256 of the newest version."""
        return self.content.digest

    @property
    def data(self) -> bytes:
        """The bytes of the newest version."""
        return self.content.data

    @property
    def recipe(self) -> str:
        """The recipe of the newest version."""
        return self.content.recipe

    @property
    def subject(self) -> Subject:
        """The document as matchers see it."""
        return Subject(self.remote_id, self.name, self.path, self.digest)

    @property
    def status(self) -> DocStatus:
        """Its real status, which a base need not report."""
        return DocStatus(self.state, self.reason, self.code, self.halt, twin=self.twin)

    def rename(self, path: str, name: str, mtime: float) -> None:
        """Give every version this path and name."""
        self.content = replace(self.content, path=path, name=name, mtime=mtime)
        if self.searchable is not None:
            self.searchable = replace(self.searchable, path=path, name=name, mtime=mtime)

    def row(self, state: DocState, *, marks: bool, tells_created: bool) -> Listed:
        """Return its row in the list with this state; without `marks` the row has no fields of ours."""
        row = Listed(
            self.remote_id,
            self.name,
            size=len(self.data),
            created=self.created if tells_created else None,
            state=state,
        )
        upload_id = self.content.upload_id
        if not marks or upload_id is None:
            return row
        return replace(row, path=self.path, digest=self.digest, upload_id=upload_id, recipe=self.recipe)


@dataclass(frozen=True, slots=True)
class Effect:
    """A change at the base, at `time` of its clock.

    op: `put`, `update`, `ready`, `fail`, `delete`, `rename`, `reembed`, `reslice`, `replaced` (dropped by the
        base in favour of another); and without a client's request: `added`, `lost`, `recreated`.
    """

    op: str
    remote_id: str
    name: str
    digest: str
    time: float
    path: str = ""
    upload_id: int | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """A client's call about these names or ids, at `time` of the client's clock."""

    op: str
    about: tuple[str, ...]
    time: float


_FIRST_ID = 2_108_600_000_000_000_001
"""Above 2**53, like real ids: a float would change them."""


Observer = Callable[["MemoryBase"], None]
RequestHook = Callable[[str, Phase, Sequence[Outgoing] | Sequence[str]], None]


class MemoryBase:
    """A knowledge base: documents, a journal of changes, and a script of faults.

    Every request first does the due work, except inside an observer, which must not cause changes.

    behaviour: its permanent properties; may be changed or replaced at any time.
    faults: scripted failures; append to it.
    effects: all changes, in order.
    requests: every call of every client, in order.
    observers: called with the base after each change by a client or by indexing.
    at_request: called with (op, phase, documents or ids) at the start of each request, after the work on each
        single document, and before the response; it may raise `Crash`. Not called for late effects.
    violations: mistakes of clients, even if the exception was swallowed.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time, behaviour: Behaviour | None = None) -> None:
        self.clock = clock
        self.behaviour = behaviour or Behaviour()
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.observers: list[Observer] = []
        self.at_request: RequestHook | None = None
        self.violations: list[str] = []
        self.open_requests = 0
        self.updating: set[str] = set()
        self._ids = itertools.count(_FIRST_ID)
        self.id = self.new_id()
        self._documents: dict[str, Document] = {}
        self._sent: dict[int | None, list[str]] = {}
        self._effects: list[Effect] = []
        self._ghosts: list[tuple[float, Document]] = []  # deleted, but listed until then
        self._agenda = Agenda(clock)
        self._is_telling = False

    # ---- queries

    @property
    def documents(self) -> dict[str, Document]:
        """All current documents, by remote id."""
        self._catch_up()
        return self._documents

    @property
    def effects(self) -> list[Effect]:
        """All changes so far."""
        self._catch_up()
        return self._effects

    def _catch_up(self) -> None:
        if not self._is_telling:
            self._agenda.advance()

    def effects_of(self, *ops: str, path: str | None = None) -> list[Effect]:
        """Return the effects with these `ops`, optionally of one path."""
        return [e for e in self.effects if e.op in ops and path in (None, e.path)]

    def searchable(self, path: str) -> list[Document]:
        """Return the documents that searches find for `path` now."""
        return [d for d in self.documents.values() if d.searchable is not None and d.searchable.path == path]

    def searchable_texts(self) -> dict[str, list[str]]:
        """Return the searchable texts by path. A mirror is complete when this equals its folder."""
        texts: dict[str, list[str]] = {}
        for document in self.documents.values():
            if document.searchable is not None:
                texts.setdefault(document.searchable.path, []).append(document.searchable.text)
        return texts

    def subject(self, remote_id: str) -> Subject:
        """Return the document with this id as matchers see it."""
        document = self.documents.get(remote_id)
        return document.subject if document is not None else Subject(remote_id)

    # ---- changes by others

    def add(
        self, name: str, data: bytes, *, path: str = "", upload_id: int | None = None, foreign: bool = True
    ) -> Document:
        """Put a searchable document there as another user. A `foreign` one must stay untouched."""
        digest = hashlib.sha256(data).hexdigest()
        content = Content(name, path or name, digest, data, upload_id=upload_id)
        document = Document(self.new_id(), content, self._agenda.now, foreign=foreign)
        document.searchable, document.state = content, DocState.READY
        self._documents[document.remote_id] = document
        self._note("added", document)
        return document

    def lose(self, remote_id: str) -> None:
        """Delete a document as another user."""
        document = self.documents.pop(remote_id)
        document.removed = True
        self._note("lost", document)

    def recreate(self) -> None:
        """Replace the base by a new, empty one with another id."""
        self._agenda.advance()
        self.id = self.new_id()
        for document in self._documents.values():
            document.removed = True
        self._documents.clear()
        self._sent.clear()
        self._ghosts.clear()
        self._agenda.clear()
        self._effects.append(Effect("recreated", "", "", "", self._agenda.now))

    # ---- changes by clients

    def describe(self) -> Base:
        """Return the base as its clients see it."""
        return Base(self.id, len(self.documents))

    def document_of(self, content: Content) -> Document | None:
        """Return the document that this same upload created before.

        An upload id alone isn't enough: a client that lost its state counts from 1 again.
        """
        for remote_id in self._sent.get(content.upload_id, ()):
            document = self.documents.get(remote_id)
            if document is not None and document.content.is_same_upload(content):
                return document
        return None

    def accept(self, content: Content, remote_id: str, *, supersedes: str | None = None) -> Document:
        """Store a new document; `supersedes` is dropped when it is searchable.

        Raises `NameTaken` and stores nothing if the name is in use and the base refuses that.
        """
        document = Document(remote_id, self._as_stored(content, remote_id), self._agenda.now)
        document.supersedes = supersedes
        document.hidden_until = self._agenda.now + self.behaviour.list_lag
        self._documents[remote_id] = document
        self._sent.setdefault(content.upload_id, []).append(remote_id)
        self.record("put", document)
        self._index(document)
        return document

    def update(self, remote_id: str, content: Content) -> Document:
        """Give a document new content; the old one is searchable until the new one is."""
        document = self._documents[remote_id]
        document.content = self._as_stored(content, remote_id)
        self._sent.setdefault(content.upload_id, []).append(remote_id)
        self.record("update", document)
        self._index(document)
        return document

    def reindex(self, remote_id: str) -> None:
        """Index a document again."""
        document = self._documents[remote_id]
        self.record("reembed", document)
        self._index_again(document)

    def reslice(self, remote_id: str, recipe: str, settings: Mapping[str, Any]) -> None:
        """Index a document's bytes again with other settings."""
        document = self._documents[remote_id]
        document.content = replace(document.content, recipe=recipe, settings=dict(settings))
        self.record("reslice", document)
        self._index_again(document)

    def rename(self, remote_id: str, path: str, name: str, mtime: float) -> None:
        """Change a document's path and name; do nothing if it has them already."""
        document = self._documents[remote_id]
        stored = self._stored_name(name, remote_id)
        if (document.path, document.name) == (path, stored):
            return
        document.rename(path, stored, mtime)
        self.record("rename", document)

    def remove(self, remote_id: str, op: str = "delete") -> None:
        """Delete a document; ignore unknown ids."""
        document = self._documents.pop(remote_id, None)
        if document is None:
            return
        document.removed = True
        self._ghosts.append((self._agenda.now + self.behaviour.list_lag, document))
        self.record(op, document)

    def poll(self, remote_id: str) -> DocStatus:
        """Return the status of one document; each INDEXING response brings its end nearer."""
        document = self.documents.get(remote_id)
        if document is None:
            return DocStatus(DocState.MISSING)
        if self.status_of(document).state is DocState.INDEXING:
            if document.polls_left > 0:
                document.polls_left -= 1
            else:
                self._finish_if_due(document)
        return self.status_of(document)

    def status_of(self, document: Document) -> DocStatus:
        """Return the status that a request would get now, without counting it as a poll."""
        if document.stale is not None and self._agenda.now < document.stale_until:
            return document.stale
        if document.state is DocState.READY and self.behaviour.is_silent_about(document.name):
            return DocStatus(DocState.INDEXING)
        return document.status

    def rows(self) -> Sequence[Document]:
        """Return the rows of the list, which gets new documents and loses deleted ones with a delay."""
        documents, now = self.documents.values(), self._agenda.now
        self._ghosts = [(until, document) for until, document in self._ghosts if now < until]
        return [d for d in documents if now >= d.hidden_until] + [document for _, document in self._ghosts]

    # ---- for the client side

    def new_id(self) -> str:
        """Return an id that is never used twice."""
        return str(next(self._ids))

    def later(self, seconds: float, work: Callable[[], object]) -> None:
        """Do `work` when the base's clock has advanced by `seconds`."""
        self._agenda.later(seconds, work)

    def report_progress(self, op: str, phase: Phase, subjects: Sequence[Outgoing] | Sequence[str]) -> None:
        """Report the progress of a request to the hook."""
        if self.at_request is not None and not self._agenda.is_catching_up:
            self.at_request(op, phase, subjects)

    def violation(self, rule: str) -> ProtocolViolation:
        """Return an exception to raise, and record it in `violations`."""
        self.violations.append(rule)
        return ProtocolViolation(rule)

    def record(self, op: str, document: Document) -> None:
        """Add an effect to the journal and call the observers."""
        self._note(op, document)
        was_telling, self._is_telling = self._is_telling, True
        try:
            for observer in tuple(self.observers):
                observer(self)
        finally:
            self._is_telling = was_telling

    # ---- indexing

    def _index(self, document: Document) -> None:
        """Index the newest version of `document`; a run in progress is abandoned."""
        seconds = self.behaviour.indexing_seconds
        document.state, document.stale = DocState.INDEXING, None
        document.reason = document.code = document.halt = ""
        document.round += 1
        document.polls_left = self.behaviour.indexing_polls
        begins = self._agenda.now
        if self.behaviour.one_at_a_time:
            begins = max([begins, *(document.due for document in self.documents.values())])
        document.due = begins + seconds
        seconds = document.due - self._agenda.now
        self._finish_if_due(document)
        if document.state is not DocState.INDEXING or seconds <= 0:
            return
        number = document.round

        def end_of_round() -> None:
            if number == document.round and not document.removed:
                self._finish_if_due(document)

        self.later(seconds, end_of_round)

    def _index_again(self, document: Document) -> None:
        """Index `document` again; an old failure may still be reported for a while."""
        before, seconds = self.status_of(document), self.behaviour.stale_after_reembed
        self._index(document)
        if before.state is DocState.FAILED and seconds > 0:
            document.stale, document.stale_until = before, self._agenda.now + seconds

    def _finish_if_due(self, document: Document) -> None:
        is_over = document.polls_left <= 0 and self._agenda.now >= document.due
        if document.state is not DocState.INDEXING or not is_over:
            return
        if failure := self._lack_of_room(document) or self.behaviour.failure_of(document.subject):
            document.state, document.stale = DocState.FAILED, None
            document.reason, document.code, document.halt = failure.reason, failure.code, failure.halt
            document.twin = failure.twin
            self.record("fail", document)
            return
        document.state, document.searchable = DocState.READY, document.content
        self.record("ready", document)
        if document.supersedes is not None:
            self.remove(document.supersedes, "replaced")

    def _lack_of_room(self, document: Document) -> Failure | None:
        """Return a failure if there is no room. Only searchable documents use room: of two that failed,
        the one that is retried gets it.
        """
        capacity = self.behaviour.capacity
        others = sum(d.searchable is not None and d is not document for d in self._documents.values())
        if capacity is None or others < capacity:
            return None
        reason = f"the knowledge base is full: it has room for {capacity} documents"
        return Failure(document.name, reason=reason, code="10001", halt="quota")

    # ---- names and the journal

    def _as_stored(self, content: Content, remote_id: str) -> Content:
        return replace(content, name=self._stored_name(content.name, remote_id))

    def _stored_name(self, name: str, remote_id: str) -> str:
        """Return `name` as the base stores it, after removing another document of that name if necessary."""
        stored = unicodedata.normalize("NFD", name) if self.behaviour.decomposes_names else name
        others = [d for d in self._documents.values() if d.name == stored and d.remote_id != remote_id]
        for other in others if self.behaviour.equal_names != "allow" else ():
            if self.behaviour.equal_names == "refuse":
                raise NameTaken(f"a document named {stored!r} exists already", code="name-taken")
            # A document is deleted because another took its name. The client must know whose name it takes.
            if other.foreign:
                raise self.violation(f"a put took the name of a document that is not ours: {other.name!r}")
            self.remove(other.remote_id, "replaced")
        return stored

    def _note(self, op: str, document: Document) -> None:
        now = self._agenda.now
        self._effects.append(
            Effect(
                op,
                document.remote_id,
                document.name,
                document.digest,
                now,
                document.path,
                document.content.upload_id,
            )
        )
