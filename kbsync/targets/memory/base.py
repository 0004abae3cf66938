"""The server side: it goes on existing when a client dies."""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, assert_never

from kbsync.contract.mirroring import Base, DocState, DocStatus, Outgoing
from kbsync.errors import Halted, NameTaken
from kbsync.targets.memory.agenda import Agenda
from kbsync.targets.memory.behaviour import Behaviour, Subject
from kbsync.targets.memory.documents import Content, Document
from kbsync.targets.memory.faults import Fault, Phase
from kbsync.targets.memory.indexing import Indexing
from kbsync.targets.memory.journal import Effect, Request
from kbsync.targets.memory.listing import Listing
from kbsync.targets.memory.naming import stored_name
from kbsync.targets.memory.strict import ProtocolViolation

_FIRST_ID = 2_108_600_000_000_000_001
"""Above 2**53, as real ones are: an id that went through a float comes back as another."""


Observer = Callable[["MemoryBase"], None]
RequestHook = Callable[[str, Phase, Sequence[Outgoing] | Sequence[str]], None]


class MemoryBase:
    """A knowledge base: documents, a journal of what was done to them, and a script of what goes wrong.

    behaviour: what it always does; may be changed or replaced at any time.
    faults: what goes wrong; append to it.
    effects: everything that changed, in order.
    requests: every call of every client, in order; `busiest` is the most that were open at once.
    observers: called with the base after each effect that a client caused or that indexing brought.
    at_request: called with (op, phase, documents or ids) at the start of each request, after the work on
        each single document, and before the answer; it may raise `Crash`. Not called for late effects.
    violations: what clients did wrong, also where the exception was swallowed on its way.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time, behaviour: Behaviour | None = None) -> None:
        self.clock = clock
        self.behaviour = behaviour or Behaviour()
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.observers: list[Observer] = []
        self.at_request: RequestHook | None = None
        self.violations: list[str] = []
        self.busiest = 0
        self.open_requests = 0
        self.updating: set[str] = set()
        self.exists = True
        self._ids = itertools.count(_FIRST_ID)
        self.id = self.new_id()
        self._documents: dict[str, Document] = {}
        self._sent: dict[int | None, list[str]] = {}
        self._effects: list[Effect] = []
        self._agenda = Agenda(clock)
        self._indexing = Indexing(self, self._agenda)
        self._listing = Listing(self._agenda)

    # ---- looks

    @property
    def documents(self) -> dict[str, Document]:
        """Every document there is now, by remote id."""
        self._agenda.advance()
        return self._documents

    @property
    def effects(self) -> list[Effect]:
        """Everything that changed up to now."""
        self._agenda.advance()
        return self._effects

    def effects_of(self, *ops: str, path: str | None = None) -> list[Effect]:
        """The effects of `ops`, of one path where given."""
        return [e for e in self.effects if e.op in ops and path in (None, e.path)]

    def served(self, path: str) -> list[Document]:
        """The documents that answer searches for `path` now."""
        return [d for d in self.documents.values() if d.shown is not None and d.shown.path == path]

    def shown(self) -> dict[str, list[str]]:
        """What is searchable now: texts by path. A mirror is whole when this equals its folder."""
        texts: dict[str, list[str]] = {}
        for document in self.documents.values():
            if document.shown is not None:
                texts.setdefault(document.shown.path, []).append(document.shown.text)
        return texts

    def subject(self, remote_id: str) -> Subject:
        """The document of an id, as matchers see it."""
        document = self.documents.get(remote_id)
        return document.subject if document is not None else Subject(remote_id)

    # ---- what happens to a base without a client

    def add(
        self, name: str, data: bytes, *, path: str = "", upload_id: int | None = None, foreign: bool = True
    ) -> Document:
        """Put a searchable document there as someone else would. A `foreign` one must stay untouched."""
        digest = hashlib.sha256(data).hexdigest()
        content = Content(name, path or name, digest, data, upload_id=upload_id)
        document = Document(self.new_id(), content, self._agenda.now, foreign=foreign)
        document.shown, document.state = content, DocState.READY
        self._documents[document.remote_id] = document
        self._note("added", document)
        return document

    def lose(self, remote_id: str) -> None:
        """Someone else deletes a document."""
        document = self.documents.pop(remote_id)
        document.removed = True
        self._note("lost", document)

    def spoil(self, remote_id: str, reason: str = "index damaged", code: str = "10001") -> None:
        """A document that was ready fails long afterwards, and is not searchable any more."""
        self._indexing.fail(self.documents[remote_id], reason, code, keep_shown=False)

    def empty(self) -> None:
        """All documents are lost; the base stays."""
        self._clear("emptied")

    def destroy(self) -> None:
        """The base is deleted: every call is answered with `Halted("knowledge-base-missing")`."""
        self._clear("destroyed")
        self.exists = False

    def recreate(self) -> None:
        """A new, empty base takes its place, with another id."""
        self.id = self.new_id()
        self._clear("recreated")
        self.exists = True

    # ---- what clients cause

    def look(self) -> Base:
        """The base as its clients see it."""
        return Base(self.id, len(self.documents))

    def require(self) -> None:
        """Raises `Halted` unless the base exists."""
        if not self.exists:
            raise Halted(
                "knowledge-base-missing",
                f"knowledge base {self.id} does not exist",
                cure="name an existing knowledge base in the config",
                code="404",
            )

    def made_by(self, content: Content) -> Document | None:
        """The document that the very upload of `content` made before.

        An upload id alone does not prove it: a client that lost its state counts from 1 again.
        """
        for remote_id in self._sent.get(content.upload_id, ()):
            document = self.documents.get(remote_id)
            if document is not None and document.content.is_same_upload(content):
                return document
        return None

    def accept(self, content: Content, remote_id: str, *, supersedes: str | None = None) -> Document:
        """Store a new document; `supersedes` is dropped when it is searchable.

        Raises `NameTaken` for a name in use, where the base refuses that: nothing is stored.
        """
        document = Document(remote_id, self._as_stored(content, remote_id), self._agenda.now)
        document.supersedes = supersedes
        self._listing.hide(document, self.behaviour.list_lag, self.behaviour.list_lag_reads)
        self._documents[remote_id] = document
        self._sent.setdefault(content.upload_id, []).append(remote_id)
        self.record("put", document)
        self._indexing.start(document)
        return document

    def update(self, remote_id: str, content: Content) -> Document:
        """Give a document new content; the old one is searchable until the new one is."""
        document = self._documents[remote_id]
        document.content = self._as_stored(content, remote_id)
        self._sent.setdefault(content.upload_id, []).append(remote_id)
        self.record("update", document)
        self._indexing.start(document)
        return document

    def reindex(self, remote_id: str) -> None:
        """Index a document once more."""
        document = self._documents[remote_id]
        self.record("reembed", document)
        self._indexing.start_again(document)

    def reslice(self, remote_id: str, recipe: str, settings: Mapping[str, Any]) -> None:
        """Index the bytes of a document once more, under other settings."""
        document = self._documents[remote_id]
        document.content = replace(document.content, recipe=recipe, settings=dict(settings))
        self.record("reslice", document)
        self._indexing.start_again(document)

    def rename(self, remote_id: str, path: str, name: str, mtime: float) -> None:
        """Know a document by another path and name; nothing changes where it has them already."""
        document = self._documents[remote_id]
        stored = self._stored_name(name, remote_id)
        if (document.path, document.name) == (path, stored):
            return
        document.rename(path, stored, mtime)
        self.record("rename", document)

    def remove(self, remote_id: str, op: str = "delete") -> None:
        """Drop a document; unknown ids are passed over."""
        document = self._documents.pop(remote_id, None)
        if document is None:
            return
        document.removed = True
        self._listing.keep(document, self.behaviour.list_lag, self.behaviour.list_lag_reads)
        self.record(op, document)

    def poll(self, remote_id: str) -> DocStatus:
        """The status of one document; an answer of INDEXING counts as a poll."""
        document = self.documents.get(remote_id)
        if document is None or self._agenda.now < document.created + self.behaviour.status_lag:
            return DocStatus(DocState.MISSING)
        return self._indexing.look(document)

    def told(self, document: Document) -> DocStatus:
        """What a status request would be told of `document` now; counts as nothing."""
        return self._indexing.told(document)

    def rows(self) -> Sequence[Document]:
        """What the list shows now, lag included; counts as one read."""
        return self._listing.read(self.documents.values())

    # ---- for the client side

    def new_id(self) -> str:
        """An id that was never given before and never will be again."""
        return str(next(self._ids))

    def later(self, seconds: float, work: Callable[[], object]) -> None:
        """Do `work` when the base's clock has gone on by `seconds`."""
        self._agenda.later(seconds, work)

    def at(self, op: str, phase: Phase, what: Sequence[Outgoing] | Sequence[str]) -> None:
        """Tell the hook where a request is."""
        if self.at_request is not None and not self._agenda.is_catching_up:
            self.at_request(op, phase, what)

    def violation(self, what: str) -> ProtocolViolation:
        """An exception to raise, remembered in `violations`."""
        self.violations.append(what)
        return ProtocolViolation(what)

    def record(self, op: str, document: Document) -> None:
        """Write an effect into the journal and tell the observers."""
        self._note(op, document)
        for observer in tuple(self.observers):
            observer(self)

    def searchable(self, besides: Document) -> int:
        """How many documents, `besides` one, take up room of the base's capacity."""
        return sum(d.shown is not None and d is not besides for d in self._documents.values())

    # ---- inside

    def _as_stored(self, content: Content, remote_id: str) -> Content:
        return replace(content, name=self._stored_name(content.name, remote_id))

    def _stored_name(self, name: str, remote_id: str) -> str:
        """`name` as the base keeps it, once nothing else of that name is in the way."""
        stored = stored_name(name, self.behaviour.names, lambda one: bool(self._others(one, remote_id)))
        if self.behaviour.equal_names != "allow":
            self._make_way(stored, remote_id)
        return stored

    def _others(self, name: str, remote_id: str) -> list[Document]:
        return [d for d in self._documents.values() if d.name == name and d.remote_id != remote_id]

    def _make_way(self, name: str, remote_id: str) -> None:
        for other in self._others(name, remote_id):
            match self.behaviour.equal_names:
                case "allow":
                    return
                case "refuse":
                    raise NameTaken(f"a document named {name!r} exists already", code="name-taken")
                case "replace":
                    self._replace(other)
                case unknown:
                    assert_never(unknown)

    def _replace(self, document: Document) -> None:
        """Drop a document because another took its name. Its sender must know whose name it takes."""
        if document.foreign:
            raise self.violation(f"a put took the name of a document that is not ours: {document.name!r}")
        self.remove(document.remote_id, "replaced")

    def _clear(self, op: str) -> None:
        self._agenda.advance()
        for document in self._documents.values():
            document.removed = True
        self._documents.clear()
        self._sent.clear()
        self._listing.clear()
        self._agenda.clear()
        self._effects.append(Effect(op, "", "", "", self._agenda.now))

    def _note(self, op: str, document: Document) -> None:
        self._effects.append(Effect.on(document, op, self._agenda.now))
