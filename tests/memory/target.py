"""The client side of an in-memory base: the contract, kept strictly, with scripted faults."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from kbsync.contract.searching import Hit, Passage, Query, selector
from kbsync.contract.target import (
    Accepted,
    Base,
    DeleteOutcome,
    DocState,
    DocStatus,
    Limits,
    Listed,
    Outgoing,
    PutOutcome,
    Target,
)
from kbsync.errors import NotOffered, Rejected, TargetError
from tests.memory.base import Content, Document, MemoryBase, Request
from tests.memory.behaviour import Crash, Fault, Phase, Subject, is_meant, pick
from tests.memory.rules import ProtocolViolation, extension, read_body, wrong_ids, wrongs


def find(documents: Iterable[Document], query: Query) -> Sequence[Hit]:
    """Return the `query.top_k` documents that contain `query.text` most often, ignoring case."""
    hits = []
    for document in documents:
        content = document.searchable
        if content is None or not _fits(content, query):
            continue
        text, sought = content.text.casefold(), query.text.casefold()
        score, line = float(text.count(sought)), text.partition(sought)[0].count("\n") + 1
        passage = Passage(content.text[:2000], line=line, score=score)
        hits.append(Hit(document.remote_id, score, (passage,), path=content.path, modified=content.mtime))
    hits.sort(key=lambda hit: (-hit.score, hit.path or "", hit.remote_id))
    return hits[: query.top_k]


def _fits(content: Content, query: Query) -> bool:
    return query.text.casefold() in content.text.casefold() and selector(query)(content.path, content.mtime)


T = TypeVar("T")

DEFAULT_LIMITS = Limits(
    extensions=frozenset({"csv", "docx", "html", "md", "pdf", "rst", "txt"}),
    names=frozenset({"LICENSE", "README"}),
    max_bytes=10 * 1024 * 1024,
)


@dataclass(frozen=True, slots=True)
class Sent:
    """A document whose body was read. `remote_id` is reserved for it in case it becomes a new document."""

    document: Outgoing
    content: Content
    remote_id: str


class MemoryTarget(Target):
    """A target that puts, reports, deletes, lists and searches; it ignores `replaces`.

    If `limits.marks` is set, the list returns our marks, and a put can be repeated by its upload id. It keeps
    no state: another client on the same base sees the same. `clock` dates the requests; by default it is the
    base's own.
    """

    def __init__(
        self, base: MemoryBase, *, limits: Limits = DEFAULT_LIMITS, clock: Callable[[], float] | None = None
    ) -> None:
        self._base = base
        self._limits = limits
        self._clock = clock or base.clock
        self._closed = False

    @property
    def limits(self) -> Limits:
        """The target's limits."""
        return self._limits

    def recipe(self, path: str, settings: Mapping[str, Any]) -> str:
        """Return a hash of the settings; `rows` only affects tables, every other setting all documents."""
        kind = extension(path)
        matter = {k: v for k, v in settings.items() if k != "rows" or kind == "csv"}
        text = json.dumps([kind, matter], sort_keys=True, default=str)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]

    async def base(self) -> Base:
        """Check the base."""
        async with self._request("base", ()):
            return await self._play(self._fault("base"), self._base.describe, self._base.describe)

    async def put(self, documents: Sequence[Outgoing]) -> Sequence[PutOutcome]:
        """Store each document; return outcomes in the same order."""
        if len(documents) > self._limits.batch:
            raise self._base.violation(f"{len(documents)} documents in a batch of {self._limits.batch}")
        if len({document.upload_id for document in documents}) < len(documents):
            raise self._base.violation("one upload id occurs twice in a batch")
        for document in documents:
            for wrong in wrongs(document, self._limits):
                raise self._base.violation(wrong)
        if not documents:
            return ()
        async with self._request("put", documents):
            fault = self._fault("put", lambda fault: fault.match is None)
            if fault is None:
                return [await self._put_one(document) for document in documents]
            uploads = [await self._read(document) for document in documents]
            return await self._play(
                fault,
                lambda: [self._outcome(upload) for upload in uploads],
                lambda: [Accepted(upload.remote_id) for upload in uploads],
            )

    async def status(self, ids: Sequence[str]) -> Mapping[str, DocStatus]:
        """Return the state of each remote id; MISSING for unknown ids."""
        self._check_ids(ids)
        if not ids:
            return {}
        async with self._request("status", ids):
            return await self._play(
                self._fault_about("status", ids),
                lambda: {remote_id: self._base.poll(remote_id) for remote_id in ids},
                lambda: dict.fromkeys(ids, DocStatus(DocState.UNKNOWN)),
            )

    async def delete(self, ids: Sequence[str]) -> Mapping[str, DeleteOutcome]:
        """Delete each remote id; repeatable, also for unknown ids."""
        self._check_ids(ids)
        if not ids:
            return {}
        async with self._request("delete", ids):
            fault = self._fault("delete", lambda fault: fault.match is None)
            if fault is None:
                return {remote_id: await self._delete_one(remote_id) for remote_id in ids}
            return await self._play(
                fault,
                lambda: {remote_id: self._remove(remote_id) for remote_id in ids},
                lambda: dict.fromkeys(ids),
            )

    async def search(self, query: Query) -> Sequence[Hit]:
        """Return documents whose searchable text contains `query.text`, ignoring case."""
        async with self._request("search", (query.text,)):
            searchable = [d for d in self._base.documents.values() if d.searchable is not None]
            return await self._play(self._fault("search"), lambda: find(searchable, query), lambda: ())

    async def aclose(self) -> None:
        """End this client; the base continues. Repeatable."""
        self._closed = True

    async def list(self) -> AsyncIterator[Listed]:
        """Yield every document of the base, as the list shows it."""
        async with self._request("list", ()):
            fault = self._fault("list")
            rows = self._base.rows()
            if fault is not None and fault.shortens:
                rows = rows[: fault.rows]
            for document in rows:
                yield self._row(document)
                await asyncio.sleep(0)
            if fault is not None:
                await fault.strike()

    # ---- requests and faults

    @asynccontextmanager
    async def _request(self, op: str, subjects: Sequence[Outgoing] | Sequence[str]) -> AsyncIterator[None]:
        base = self._base
        if self._closed:
            raise base.violation(f"{op} after aclose")
        about = tuple(item if isinstance(item, str) else item.name for item in subjects)
        base.requests.append(Request(op, about, self._clock()))
        base.open_requests += 1
        try:
            base.report_progress(op, Phase.START, subjects)
            await asyncio.sleep(0)
            yield
            base.report_progress(op, Phase.ANSWER, subjects)
        finally:
            base.open_requests -= 1

    async def _play(self, fault: Fault | None, work: Callable[[], T], false_result: Callable[[], T]) -> T:
        """Do `work` as `fault` requires: not at all, before, later, or only in the response."""
        if fault is None:
            return work()
        is_lost = fault.op == "put" and fault.effect and fault.error is not None
        late = (is_lost and self._base.behaviour.late_puts) or fault.late
        if fault.effect and late is None:
            result = work()
            await fault.strike()
            return result
        if late is not None:
            self._base.later(late, work)
        await fault.strike()
        return false_result() if fault.is_false or late is not None else work()

    def _fault(self, op: str, concerns: Callable[[Fault], bool] = lambda _: True) -> Fault | None:
        return pick(self._base.faults, op, concerns)

    def _fault_about(self, op: str, ids: Sequence[str]) -> Fault | None:
        subjects = [self._base.subject(remote_id) for remote_id in ids]
        return self._fault(op, lambda fault: fault.means_any(subjects))

    async def _ask(self, op: str, remote_id: str, work: Callable[[], T], false_result: Callable[[], T]) -> T:
        """Send a request about one document, which need not exist."""
        self._check_ids((remote_id,))
        async with self._request(op, (remote_id,)):
            return await self._play(self._fault_about(op, (remote_id,)), work, false_result)

    def _check_ids(self, ids: Sequence[str]) -> None:
        self._check(wrong_ids(ids))

    def _check(self, wrong: str | None) -> None:
        """Raise `ProtocolViolation` if there is a mistake."""
        if wrong is not None:
            raise self._base.violation(wrong)

    def _guard(self, remote_id: str, op: str) -> None:
        """Refuse to touch another user's document."""
        document = self._base.documents.get(remote_id)
        if document is not None and document.foreign:
            raise self._base.violation(f"{op} of a document that is not ours: {document.name!r}")

    # ---- single documents: an error is the document's outcome, not the request's

    async def _put_one(self, document: Outgoing) -> PutOutcome:
        fault = self._fault_of("put", Subject(None, document.name, document.path, document.digest))
        upload = await self._read(document)
        try:
            return await self._play(fault, lambda: self._outcome(upload), lambda: Accepted(upload.remote_id))
        except TargetError as error:
            return error

    async def _delete_one(self, remote_id: str) -> DeleteOutcome:
        fault = self._fault_of("delete", self._base.subject(remote_id))
        try:
            return await self._play(fault, lambda: self._remove(remote_id), lambda: None)
        except TargetError as error:
            return error

    def _fault_of(self, op: str, subject: Subject) -> Fault | None:
        return self._fault(op, lambda fault: fault.match is not None and is_meant(fault.match, subject))

    async def _read(self, document: Outgoing) -> Sent:
        try:
            content = Content(
                document.name,
                document.path,
                document.digest,
                await read_body(document),
                document.recipe,
                document.upload_id,
                document.mtime,
                dict(document.settings),
            )
        except ProtocolViolation as error:
            raise self._base.violation(str(error)) from None
        return Sent(document, content, self._base.new_id())

    def _outcome(self, upload: Sent) -> PutOutcome:
        """Return the outcome of one upload. If the client dies here and uploads may arrive late, it
        continues without the client.
        """
        late = self._base.behaviour.late_puts
        try:
            if late <= 0:
                accepted = self._store(upload)
                self._base.report_progress("put", Phase.EFFECT, (upload.document,))
                return accepted
            try:
                self._base.report_progress("put", Phase.EFFECT, (upload.document,))
            except Crash:
                self._base.later(late, lambda: self._store(upload))
                raise
            return self._store(upload)
        except TargetError as error:
            return error

    def _store(self, upload: Sent) -> Accepted:
        document = self._find_earlier(upload.content) or self._create(upload)
        says_ready = self._base.status_of(document).state is DocState.READY
        return Accepted(
            document.remote_id,
            ready=self._base.behaviour.answers_ready and says_ready,
            replaced=self._is_replaced(upload.document.replaces, document),
            name=document.name if document.name != upload.document.name else "",
            created=document.created if self._base.behaviour.tells_created else None,
        )

    def _create(self, upload: Sent) -> Document:
        return self._base.accept(upload.content, upload.remote_id)

    def _is_replaced(self, replaces: str | None, document: Document) -> bool:
        return False

    def _find_earlier(self, content: Content) -> Document | None:
        """Return the document that this same upload created before; a failed one is indexed again."""
        if not self._limits.marks:
            return None
        document = self._base.document_of(content)
        if document is not None and document.state is DocState.FAILED:
            self._base.reindex(document.remote_id)
        return document

    def _idle(self, remote_id: str, op: str) -> DocState:
        """Return the state of a document that `op` may index again: it is ours and not searchable.

        Raises `NotOffered` if the base has no such call.
        """
        if op in self._base.behaviour.not_offered:
            raise NotOffered(f"this knowledge base has no call {op!r}", code="404")
        document = self._base.documents.get(remote_id)
        if document is None:
            raise Rejected(f"no document {remote_id}", code="404")
        self._guard(remote_id, op)
        state = self._base.status_of(document).state
        if state is DocState.READY:
            raise self._base.violation(f"{op} of {document.name!r}, which serves")
        return state

    def _remove(self, remote_id: str) -> DeleteOutcome:
        self._guard(remote_id, "delete")
        self._base.remove(remote_id)
        self._base.report_progress("delete", Phase.EFFECT, (remote_id,))
        return None

    def _row(self, document: Document) -> Listed:
        return document.row(
            self._base.status_of(document).state,
            marks=self._limits.marks,
            tells_created=self._base.behaviour.tells_created,
        )
