"""Search by substring: enough to ask whether a document is searchable.

How a client of a base in memory makes its requests: what is checked, and where faults strike.

The client side of a base in memory: the contract, kept strictly, with scripted faults.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from kbsync.contract.searching import Hit, Passage, Query
from kbsync.contract.target import (
    Accepted,
    Base,
    DeleteOutcome,
    DocState,
    DocStatus,
    Listed,
    Outgoing,
    PutOutcome,
    Target,
)
from kbsync.core.model import Limits
from kbsync.errors import NotOffered, Rejected, TargetError
from tests.memory.base import Content, Document, MemoryBase, Request
from tests.memory.behaviour import Crash, Fault, Phase, Subject, is_meant, pick
from tests.memory.rules import ProtocolViolation, extension, read_body, wrong_ids, wrongs


def find(documents: Iterable[Document], query: Query) -> Sequence[Hit]:
    """The `query.top_k` documents that contain `query.text` most often, whatever its case."""
    hits = [_hit(d, d.shown, query) for d in documents if d.shown is not None and _fits(d.shown, query)]
    hits.sort(key=lambda hit: (-hit.score, hit.path or "", hit.remote_id))
    return hits[: query.top_k]


def _fits(content: Content, query: Query) -> bool:
    if query.types and extension(content.path) not in query.types:
        return False
    if query.after is not None and content.mtime < query.after:
        return False
    return query.text.casefold() in content.text.casefold() and _is_below(content.path, query.path)


def _is_below(path: str, pattern: str | None) -> bool:
    if pattern is None:
        return True
    from pathspec import GitIgnoreSpec

    return GitIgnoreSpec.from_lines([pattern]).match_file(path)


def _hit(document: Document, content: Content, query: Query) -> Hit:
    text = content.text
    found = text.casefold().count(query.text.casefold())
    line = text.casefold().partition(query.text.casefold())[0].count("\n") + 1
    passage = Passage(text[:2000], line=line, score=float(found))
    return Hit(document.remote_id, float(found), (passage,), path=content.path, modified=content.mtime)


T = TypeVar("T")

DEFAULT_LIMITS = Limits(
    extensions=frozenset({"csv", "docx", "html", "md", "pdf", "rst", "txt"}),
    names=frozenset({"LICENSE", "README"}),
    max_bytes=10 * 1024 * 1024,
)


class Client:
    """A client of `base`. It keeps no state: another one on the same base sees the same.

    `clock` dates the requests; it is the base's own unless another is given.
    """

    def __init__(
        self,
        base: MemoryBase,
        *,
        limits: Limits = DEFAULT_LIMITS,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._base = base
        self._limits = limits
        self._clock = clock or base.clock
        self._closed = False

    @asynccontextmanager
    async def _request(self, op: str, what: Sequence[Outgoing] | Sequence[str]) -> AsyncIterator[None]:
        base = self._base
        if self._closed:
            raise base.violation(f"{op} after aclose")
        base.requests.append(Request(op, _about(what), self._clock()))
        base.open_requests += 1
        base.busiest = max(base.busiest, base.open_requests)
        try:
            self._base.at(op, Phase.START, what)
            await self._pause(op)
            yield
            self._base.at(op, Phase.ANSWER, what)
        finally:
            base.open_requests -= 1

    async def _pause(self, op: str) -> None:
        pause = self._base.behaviour.pause
        await (asyncio.sleep(0) if pause is None else pause(op))

    async def _play(self, fault: Fault | None, work: Callable[[], T], lie: Callable[[], T]) -> T:
        """Do `work` with `fault`: not at all, before, later, or only in words."""
        if fault is None:
            return self._do(work)
        late = self._late(fault)
        if fault.effect and late is None:
            answer = self._do(work)
            await fault.strike()
            return answer
        if late is not None:
            self._base.later(late, lambda: self._do(work))
        await fault.strike()
        return lie() if fault.lie or late is not None else self._do(work)

    def _late(self, fault: Fault) -> float | None:
        """After how many seconds the work is done; None: now or never."""
        by_base = self._base.behaviour.late_puts
        is_lost = fault.op == "put" and fault.effect and fault.error is not None
        return by_base if by_base > 0 and is_lost else fault.late

    def _do(self, work: Callable[[], T]) -> T:
        self._base.require()
        return work()

    async def _play_one(
        self,
        fault: Fault | None,
        work: Callable[[], T | TargetError],
        lie: Callable[[], T | TargetError],
    ) -> T | TargetError:
        """`_play` for one document of several: its errors are its outcome."""
        try:
            return await self._play(fault, work, lie)
        except TargetError as error:
            return error

    def _fault(self, op: str, concerns: Callable[[Fault], bool] = lambda _: True) -> Fault | None:
        return pick(self._base.faults, op, concerns)

    def _fault_of(self, op: str, subject: Subject) -> Fault | None:
        return self._fault(op, lambda fault: fault.match is not None and is_meant(fault.match, subject))

    def _fault_about(self, op: str, ids: Sequence[str]) -> Fault | None:
        subjects = [self._base.subject(remote_id) for remote_id in ids]
        return self._fault(op, lambda fault: fault.means_any(subjects))

    # ---- what clients must keep to

    def _check_put(self, documents: Sequence[Outgoing]) -> None:
        if len(documents) > self._limits.batch:
            raise self._base.violation(f"{len(documents)} documents in a batch of {self._limits.batch}")
        if len({document.upload_id for document in documents}) < len(documents):
            raise self._base.violation("one upload id occurs twice in a batch")
        for document in documents:
            for wrong in wrongs(document, self._limits):
                raise self._base.violation(wrong)

    def _check_ids(self, ids: Sequence[str]) -> None:
        self._check(wrong_ids(ids))

    def _check_id(self, remote_id: str) -> None:
        self._check_ids((remote_id,))

    def _check(self, wrong: str | None) -> None:
        """Raises `ProtocolViolation` where something is wrong."""
        if wrong is not None:
            raise self._base.violation(wrong)

    def _require_offer(self, op: str) -> None:
        if op in self._base.behaviour.not_offered:
            raise NotOffered(f"this knowledge base has no call {op!r}", code="404")

    def _guard(self, remote_id: str, op: str) -> None:
        """Others' documents are not ours to touch."""
        document = self._base.documents.get(remote_id)
        if document is not None and document.foreign:
            raise self._base.violation(f"{op} of a document that is not ours: {document.name!r}")


def _about(what: Sequence[Outgoing] | Sequence[str]) -> tuple[str, ...]:
    return tuple(one if isinstance(one, str) else one.name for one in what)


_ROW_EXTENSIONS = frozenset({"csv"})


@dataclass(frozen=True, slots=True)
class Sent:
    """A document whose body was read. `remote_id` is kept for it in case it becomes a new document."""

    document: Outgoing
    content: Content
    remote_id: str


class MemoryTarget(Client, Target):
    """A target that puts, tells, deletes, lists and searches; it ignores `replaces`.

    Where `limits.marks` is set the list gives our marks back, and a put is repeatable by its upload id.
    """

    @property
    def limits(self) -> Limits:
        """What it takes."""
        return self._limits

    def recipe(self, path: str, settings: Mapping[str, Any]) -> str:
        """A hash of the settings; `rows` matters to tables alone, every other setting to all documents."""
        kind = extension(path)
        matter = {k: v for k, v in settings.items() if k != "rows" or kind in _ROW_EXTENSIONS}
        text = json.dumps([kind, matter], sort_keys=True, default=str)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]

    async def base(self) -> Base:
        """Look at the base. Raises `Halted("knowledge-base-missing")` where there is none."""
        async with self._request("base", ()):
            return await self._play(self._fault("base"), self._base.look, self._base.look)

    async def put(self, documents: Sequence[Outgoing]) -> Sequence[PutOutcome]:
        """Store each document; outcomes in the order given."""
        self._check_put(documents)
        if not documents:
            return ()
        async with self._request("put", documents):
            fault = self._fault("put", lambda fault: fault.match is None)
            if fault is None:
                self._base.require()
                return [await self._put_one(document) for document in documents]
            sent = [await self._read(document) for document in documents]
            return await self._play(
                fault,
                lambda: [self._outcome(one) for one in sent],
                lambda: [Accepted(one.remote_id) for one in sent],
            )

    async def status(self, ids: Sequence[str]) -> Mapping[str, DocStatus]:
        """The state of each remote id; MISSING for what is unknown."""
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
        """Remove each remote id; repeatable, also for unknown ids."""
        self._check_ids(ids)
        if not ids:
            return {}
        async with self._request("delete", ids):
            fault = self._fault("delete", lambda fault: fault.match is None)
            if fault is None:
                self._base.require()
                return {remote_id: await self._delete_one(remote_id) for remote_id in ids}
            return await self._play(
                fault,
                lambda: {remote_id: self._remove(remote_id) for remote_id in ids},
                lambda: dict.fromkeys(ids),
            )

    async def search(self, query: Query) -> Sequence[Hit]:
        """Documents whose searchable text has `query.text` in it, whatever its case."""
        async with self._request("search", (query.text,)):
            shown = [d for d in self._base.documents.values() if d.shown is not None]
            return await self._play(self._fault("search"), lambda: find(shown, query), lambda: ())

    async def aclose(self) -> None:
        """End this client; the base goes on. Repeatable."""
        self._closed = True

    async def list(self) -> AsyncIterator[Listed]:
        """Every document of the base, as the list shows it."""
        async with self._request("list", ()):
            fault = self._fault("list")
            if fault is None:
                self._base.require()
            rows = self._base.rows()
            if fault is not None and fault.shortens:
                rows = rows[: fault.rows]
            for document in rows:
                yield self._row(document)
                await asyncio.sleep(0)
            if fault is not None:
                await fault.strike()

    # ---- one document

    async def _put_one(self, document: Outgoing) -> PutOutcome:
        subject = Subject(None, document.name, document.path, document.digest)
        fault = self._fault_of("put", subject)
        sent = await self._read(document)
        return await self._play_one(fault, lambda: self._outcome(sent), lambda: Accepted(sent.remote_id))

    async def _delete_one(self, remote_id: str) -> DeleteOutcome:
        fault = self._fault_of("delete", self._base.subject(remote_id))
        return await self._play_one(fault, lambda: self._remove(remote_id), lambda: None)

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

    def _outcome(self, sent: Sent) -> PutOutcome:
        try:
            return self._store_late(sent) if self._base.behaviour.late_puts > 0 else self._store_now(sent)
        except TargetError as error:
            return error

    def _store_now(self, sent: Sent) -> Accepted:
        accepted = self._store(sent)
        self._base.at("put", Phase.EFFECT, (sent.document,))
        return accepted

    def _store_late(self, sent: Sent) -> Accepted:
        """If the client dies here, its upload goes on without it and arrives later."""
        try:
            self._base.at("put", Phase.EFFECT, (sent.document,))
        except Crash:
            self._base.later(self._base.behaviour.late_puts, lambda: self._store(sent))
            raise
        return self._store(sent)

    def _store(self, sent: Sent) -> Accepted:
        document = self._known(sent.content) or self._made(sent)
        says_ready = self._base.told(document).state is DocState.READY
        return Accepted(
            document.remote_id,
            ready=self._base.behaviour.answers_ready and says_ready,
            replaced=self._is_replaced(sent.document.replaces, document),
            name=document.name if document.name != sent.document.name else "",
            created=document.created if self._base.behaviour.tells_created else None,
        )

    def _made(self, sent: Sent) -> Document:
        return self._base.accept(sent.content, sent.remote_id)

    def _is_replaced(self, replaces: str | None, document: Document) -> bool:
        return False

    def _known(self, content: Content) -> Document | None:
        """The document that this very upload made before; a failed one is indexed again."""
        if not self._limits.marks:
            return None
        document = self._base.made_by(content)
        if document is not None and document.state is DocState.FAILED:
            self._base.reindex(document.remote_id)
        return document

    def _idle(self, remote_id: str, op: str) -> DocState:
        """What is told of a document that `op` may index again: it is ours, and serves nothing."""
        document = self._base.documents.get(remote_id)
        if document is None:
            raise Rejected(f"no document {remote_id}", code="404")
        self._guard(remote_id, op)
        state = self._base.told(document).state
        if state is DocState.READY:
            raise self._base.violation(f"{op} of {document.name!r}, which serves")
        return state

    def _remove(self, remote_id: str) -> DeleteOutcome:
        self._guard(remote_id, "delete")
        self._base.remove(remote_id)
        self._base.at("delete", Phase.EFFECT, (remote_id,))
        return None

    def _row(self, document: Document) -> Listed:
        behaviour = self._base.behaviour
        return document.row(
            self._base.told(document).state,
            marks=self._limits.marks,
            tells_size=behaviour.tells_size,
            tells_created=behaviour.tells_created,
        )
