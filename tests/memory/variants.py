"""Clients of an in-memory base with further abilities, which can be combined."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from kbsync.contract.searching import Hit, Query
from kbsync.contract.target import DocState, Limits, Outgoing, PutOutcome
from kbsync.errors import Rejected
from tests.memory.base import Document, MemoryBase
from tests.memory.behaviour import FOREVER, Failure, Phase
from tests.memory.rules import wrong_name, wrong_new_slices, wrong_path
from tests.memory.target import DEFAULT_LIMITS, MemoryTarget, Sent


class RenamingMemory(MemoryTarget):
    """Renames documents without indexing them again."""

    async def rename(self, remote_id: str, path: str, name: str, mtime: float) -> None:
        """Rename a document to `path`. Raises `Rejected` for an unknown id."""
        self._check(wrong_path(path) or wrong_name(name, marks=self._limits.marks))
        await self._ask("rename", remote_id, lambda: self._rename(remote_id, path, name, mtime), lambda: None)

    def _rename(self, remote_id: str, path: str, name: str, mtime: float) -> None:
        if remote_id not in self._base.documents:
            raise Rejected(f"no document {remote_id}", code="404")
        self._guard(remote_id, "rename")
        self._base.rename(remote_id, path, name, mtime)
        self._base.report_progress("rename", Phase.EFFECT, (remote_id,))


class UpdatingMemory(MemoryTarget):
    """Puts with `replaces` change the document in place; the remote id stays.

    With `Behaviour.updates_make_new_ids` the new content gets its own id, and the base drops the old document
    by itself as soon as the new one is searchable.
    """

    updates_in_place = True

    async def _put_one(self, document: Outgoing) -> PutOutcome:
        """Put a document; two simultaneous updates of one document are a violation, since either could
        win.
        """
        key, updating = document.replaces, self._base.updating
        if key is None:
            return await super()._put_one(document)
        if key in updating:
            raise self._base.violation(f"two updates of {key} in flight at once")
        updating.add(key)
        try:
            return await super()._put_one(document)
        finally:
            updating.discard(key)

    def _create(self, upload: Sent) -> Document:
        replaces = upload.document.replaces
        if replaces is None or replaces not in self._base.documents:
            return super()._create(upload)
        self._guard(replaces, "update")
        if self._base.behaviour.updates_make_new_ids:
            return self._base.accept(upload.content, upload.remote_id, supersedes=replaces)
        return self._base.update(replaces, upload.content)

    def _is_replaced(self, replaces: str | None, document: Document) -> bool:
        if replaces is None:
            return False
        return replaces == document.remote_id or replaces not in self._base.documents


class OnceMemory(MemoryTarget):
    """Stores each text once: a renamed file's document is deleted before the one with its new name is
    created.
    """

    stores_texts_once = True

    def _create(self, upload: Sent) -> Document:
        documents = self._base.documents
        old = documents.get(upload.document.replaces or "")
        if old is not None and old.digest == upload.content.digest:
            self._remove(old.remote_id)
        for document in documents.values():
            if document.digest == upload.content.digest:
                reason = f"another document has this text: {document.name}"
                failure = Failure(upload.remote_id, FOREVER, reason, "duplicate", twin=document.remote_id)
                self._base.behaviour.failures.append(failure)
                break
        return super()._create(upload)

    def _is_replaced(self, replaces: str | None, document: Document) -> bool:
        return replaces is not None and replaces not in self._base.documents


class ReembeddingMemory(MemoryTarget):
    """Indexes failed documents again on request."""

    async def reembed(self, remote_id: str) -> None:
        """Start indexing again; poll `status` for the result.

        Raises `Rejected` for an unknown id, and `NotOffered` if the behaviour says so.
        """
        await self._ask("reembed", remote_id, lambda: self._reembed(remote_id), lambda: None)

    def _reembed(self, remote_id: str) -> None:
        if self._idle(remote_id, "reembed") is DocState.FAILED:
            self._base.reindex(remote_id)
        self._base.report_progress("reembed", Phase.EFFECT, (remote_id,))


class AbleMemory(RenamingMemory, UpdatingMemory, ReembeddingMemory):
    """Renames, updates in place, and indexes failed documents again."""


class ReadingMemory(MemoryTarget):
    """Returns the digest of a document's bytes."""

    async def digest(self, remote_id: str) -> str | None:
        """Return the SHA-256 of the newest bytes stored; None for an unknown id."""
        return await self._ask("digest", remote_id, lambda: self._digest(remote_id), lambda: None)

    def _digest(self, remote_id: str) -> str | None:
        document = self._base.documents.get(remote_id)
        return None if document is None else hashlib.sha256(document.data).hexdigest()


class ForgetfulMemory(ReembeddingMemory, ReadingMemory):
    """The abilities of a service that indexes later and keeps no marks, whatever `limits` say about marks.

    Its hits have no paths and no times, so it can't filter a search by them.
    """

    def __init__(
        self, base: MemoryBase, *, limits: Limits = DEFAULT_LIMITS, clock: Callable[[], float] | None = None
    ) -> None:
        super().__init__(base, limits=replace(limits, marks=False), clock=clock)

    async def search(self, query: Query) -> Sequence[Hit]:
        """Return documents whose searchable text contains `query.text`; the rest of the query is ignored."""
        hits = await super().search(Query(query.text, query.top_k))
        return [replace(hit, path=None, modified=None) for hit in hits]

    async def is_searchable(self, remote_id: str, name: str) -> bool:
        """Return whether a search finds some version of the document; false for an unknown id."""
        self._check(wrong_name(name, marks=self._limits.marks))
        return await self._ask("is_searchable", remote_id, lambda: self._is_shown(remote_id), lambda: False)

    def _is_shown(self, remote_id: str) -> bool:
        document = self._base.documents.get(remote_id)
        return document is not None and document.searchable is not None

    async def reslice(self, remote_id: str, path: str, settings: Mapping[str, Any]) -> None:
        """Start slicing again; poll `status` for the result.

        Raises `Rejected` for an unknown id, and `NotOffered` if the behaviour says so.
        """
        name = self._base.subject(remote_id).name
        self._check(wrong_new_slices(path, name, settings, self._limits))
        await self._ask("reslice", remote_id, lambda: self._reslice(remote_id, path, settings), lambda: None)

    def _reslice(self, remote_id: str, path: str, settings: Mapping[str, Any]) -> None:
        self._idle(remote_id, "reslice")
        self._base.reslice(remote_id, self.recipe(path, settings), settings)
        self._base.report_progress("reslice", Phase.EFFECT, (remote_id,))
