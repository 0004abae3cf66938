"""How a document becomes searchable, or fails to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from kbsync.contract import DocState, DocStatus
from kbsync.targets.memory.agenda import Agenda
from kbsync.targets.memory.behaviour import Behaviour
from kbsync.targets.memory.documents import Document


class Owner(Protocol):
    """The base whose documents are indexed."""

    behaviour: Behaviour

    def record(self, op: str, document: Document) -> None:
        """Write an effect into the journal."""

    def remove(self, remote_id: str, op: str = "delete") -> None:
        """Drop a document."""


class Indexing:
    """Indexes the documents of `owner`, as slowly and badly as its behaviour says."""

    def __init__(self, owner: Owner, agenda: Agenda) -> None:
        self._owner = owner
        self._agenda = agenda

    def start(self, document: Document) -> None:
        """Index the newest version of `document`; a round that is under way is given up."""
        behaviour = self._owner.behaviour
        document.state, document.reason, document.code = DocState.INDEXING, "", ""
        document.round += 1
        document.polls_left = behaviour.indexing_polls
        document.due = self._agenda.now + behaviour.indexing_seconds
        self._finish_if_due(document)
        if document.state is DocState.INDEXING and behaviour.indexing_seconds > 0:
            self._agenda.later(behaviour.indexing_seconds, self._end_of_round(document))

    def look(self, document: Document) -> DocStatus:
        """What a status request is told; one told INDEXING brings the end nearer."""
        if document.state is DocState.INDEXING:
            if document.polls_left > 0:
                document.polls_left -= 1
            else:
                self._finish_if_due(document)
        if document.state is DocState.READY:
            return self._ready_or_flickering(document)
        return DocStatus(document.state, document.reason, document.code)

    def fail(self, document: Document, reason: str, code: str, *, keep_shown: bool) -> None:
        """End with a failure; without `keep_shown` nothing of the document is searchable any more."""
        document.state, document.reason, document.code = DocState.FAILED, reason, code
        if not keep_shown:
            document.shown = None
        self._owner.record("fail", document)

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
        behaviour = self._owner.behaviour
        failure = behaviour.failure_of(document.subject)
        if failure is not None:
            self.fail(document, failure.reason, failure.code, keep_shown=behaviour.keeps_old_on_failure)
            return
        document.state, document.shown = DocState.READY, document.content
        self._owner.record("ready", document)
        if document.supersedes is not None:
            self._owner.remove(document.supersedes, "replaced")

    def _ready_or_flickering(self, document: Document) -> DocStatus:
        document.ready_looks += 1
        if self._owner.behaviour.hides_readiness(document.subject, document.ready_looks - 1):
            return DocStatus(DocState.INDEXING)
        return DocStatus(DocState.READY)
