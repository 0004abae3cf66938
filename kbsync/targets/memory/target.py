"""The client side of a base in memory: the contract, kept strictly, with scripted faults."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kbsync.contract.mirroring import (
    Accepted,
    Base,
    DeleteOutcome,
    DocState,
    DocStatus,
    Listed,
    Outgoing,
    PutOutcome,
)
from kbsync.contract.searching import Hit, Query
from kbsync.core.model import Limits
from kbsync.errors import Rejected, TargetError
from kbsync.targets.memory.behaviour import Subject
from kbsync.targets.memory.client import Client
from kbsync.targets.memory.documents import Content, Document
from kbsync.targets.memory.faults import Crash, Phase
from kbsync.targets.memory.search import find
from kbsync.targets.memory.strict import ProtocolViolation, extension, read_body

_ROW_EXTENSIONS = frozenset({"csv"})


@dataclass(frozen=True, slots=True)
class Sent:
    """A document whose body was read. `remote_id` is kept for it in case it becomes a new document."""

    document: Outgoing
    content: Content
    remote_id: str


class MemoryTarget(Client):
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
