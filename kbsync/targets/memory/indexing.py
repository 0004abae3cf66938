"""How a document becomes searchable, or fails to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from kbsync.contract.mirroring import DocState, DocStatus
from kbsync.targets.memory.agenda import Agenda
from kbsync.targets.memory.behaviour import Behaviour, Failure
from kbsync.targets.memory.documents import Document


class Owner(Protocol):
    """The base whose documents are indexed."""

    behaviour: Behaviour

    def record(self, op: str, document: Document) -> None:
        """Write an effect into the journal."""

    def remove(self, remote_id: str, op: str = "delete") -> None:
        """Drop a document."""

    def searchable(self, besides: Document) -> int:
        """How many documents, `besides` one, take up room."""


class Indexing:
    """Indexes the documents of `owner`, as slowly and badly as its behaviour says."""

    def __init__(self, owner: Owner, agenda: Agenda) -> None:
        self._owner = owner
        self._agenda = agenda

    def start(self, document: Document) -> None:
        """Index the newest version of `document`; a round that is under way is given up."""
        behaviour = self._owner.behaviour
        document.state, document.stale = DocState.INDEXING, None
        document.reason = document.code = document.halt = ""
        document.round += 1
        document.polls_left = behaviour.indexing_polls
        document.due = self._agenda.now + behaviour.indexing_seconds
        self._finish_if_due(document)
        if document.state is DocState.INDEXING and behaviour.indexing_seconds > 0:
            self._agenda.later(behaviour.indexing_seconds, self._end_of_round(document))

    def start_again(self, document: Document) -> None:
        """Index `document` once more; a failure may be told for a while although it is over."""
        before, seconds = self.told(document), self._owner.behaviour.stale_after_reembed
        self.start(document)
        if before.state is DocState.FAILED and seconds > 0:
            document.stale, document.stale_until = before, self._agenda.now + seconds

    def told(self, document: Document) -> DocStatus:
        """What is said of `document` now, flickering aside."""
        if document.stale is not None and self._agenda.now < document.stale_until:
            return document.stale
        if document.state is DocState.READY and self._owner.behaviour.is_silent_about(document.name):
            return DocStatus(DocState.INDEXING)
        return document.status

    def look(self, document: Document) -> DocStatus:
        """What a status request is told; one told INDEXING brings the end nearer."""
        if self.told(document).state is DocState.INDEXING:
            self._come_nearer(document)
        told = self.told(document)
        return self._ready_or_flickering(document) if told.state is DocState.READY else told

    def fail(self, document: Document, reason: str, code: str, *, halt: str = "", keep_shown: bool) -> None:
        """End with a failure; without `keep_shown` nothing of the document is searchable any more."""
        document.state, document.stale = DocState.FAILED, None
        document.reason, document.code, document.halt = reason, code, halt
        if not keep_shown:
            document.shown = None
        self._owner.record("fail", document)

    def _come_nearer(self, document: Document) -> None:
        if document.polls_left > 0:
            document.polls_left -= 1
        else:
            self._finish_if_due(document)

    def _end_of_round(self, document: Document) -> Callable[[], None]:
        number = document.round

        def finish() -> None:
            if number == document.round and not document.removed:
                self._finish_if_due(document)

        return finish

    def _finish_if_due(self, document: Document) -> None:
        over = document.polls_left <= 0 and self._agenda.now >= document.due
        waiting = document.state is DocState.INDEXING
        if waiting and over and not self._owner.behaviour.is_stuck(document.subject):
            self._finish(document)

    def _finish(self, document: Document) -> None:
        failure = self._lack_of_room(document) or self._owner.behaviour.failure_of(document.subject)
        if failure is not None:
            self._fail_by(failure, document)
            return
        document.state, document.shown = DocState.READY, document.content
        self._owner.record("ready", document)
        if document.supersedes is not None:
            self._owner.remove(document.supersedes, "replaced")

    def _fail_by(self, failure: Failure, document: Document) -> None:
        keep = self._owner.behaviour.keeps_old_on_failure
        self.fail(document, failure.reason, failure.code, halt=failure.halt, keep_shown=keep)

    def _lack_of_room(self, document: Document) -> Failure | None:
        """Only what is searchable takes up room: of two that failed, the one asked for again gets it."""
        capacity = self._owner.behaviour.capacity
        if capacity is None or self._owner.searchable(besides=document) < capacity:
            return None
        reason = f"the knowledge base is full: it has room for {capacity} documents"
        return Failure(document.name, reason=reason, code="10001", halt="quota")

    def _ready_or_flickering(self, document: Document) -> DocStatus:
        document.ready_looks += 1
        if self._owner.behaviour.hides_readiness(document.subject, document.ready_looks - 1):
            return DocStatus(DocState.INDEXING)
        return DocStatus(DocState.READY)
