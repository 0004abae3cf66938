"""Clients of a base that keeps no marks of ours: what proves a document there, and what mends it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from kbsync.contract.searching import Hit, Query
from kbsync.core.model import Limits
from kbsync.targets.memory.base import MemoryBase
from kbsync.targets.memory.client import DEFAULT_LIMITS
from kbsync.targets.memory.faults import Phase
from kbsync.targets.memory.strict import wrong_name, wrong_new_slices
from kbsync.targets.memory.target import MemoryTarget
from kbsync.targets.memory.variants import ReembeddingMemory


class ReadingMemory(MemoryTarget):
    """Gives back the digest of a document's bytes."""

    async def digest(self, remote_id: str) -> str | None:
        """The SHA-256 of the newest bytes stored; None for an unknown id or where behaviour says so."""
        self._check_id(remote_id)
        async with self._request("digest", (remote_id,)):
            fault = self._fault_about("digest", (remote_id,))
            return await self._play(fault, lambda: self._digest(remote_id), lambda: None)

    def _digest(self, remote_id: str) -> str | None:
        document = self._base.documents.get(remote_id)
        if document is None or self._base.behaviour.is_unreadable(document.name):
            return None
        return hashlib.sha256(document.data).hexdigest()


class ConfirmingMemory(MemoryTarget):
    """Finds out by a search whether a document is searchable, whatever its status says."""

    async def is_searchable(self, remote_id: str, name: str) -> bool:
        """Whether some version of the document is found; false for an unknown id."""
        self._check_id(remote_id)
        self._check(wrong_name(name, marks=self._limits.marks))
        async with self._request("is_searchable", (remote_id,)):
            fault = self._fault_about("is_searchable", (remote_id,))
            return await self._play(fault, lambda: self._is_shown(remote_id), lambda: False)

    def _is_shown(self, remote_id: str) -> bool:
        document = self._base.documents.get(remote_id)
        return document is not None and document.shown is not None


class ReslicingMemory(MemoryTarget):
    """Cuts a document anew that serves nothing."""

    async def reslice(self, remote_id: str, path: str, settings: Mapping[str, Any]) -> None:
        """Accepted is not done: `status` says.

        Raises `Rejected` for an unknown id, and `NotOffered` where the behaviour says so.
        """
        self._check_id(remote_id)
        name = self._base.subject(remote_id).name
        self._check(wrong_new_slices(path, name, settings, self._limits))
        async with self._request("reslice", (remote_id,)):
            await self._play(
                self._fault_about("reslice", (remote_id,)),
                lambda: self._reslice(remote_id, path, settings),
                lambda: None,
            )

    def _reslice(self, remote_id: str, path: str, settings: Mapping[str, Any]) -> None:
        self._require_offer("reslice")
        self._idle(remote_id, "reslice")
        self._base.reslice(remote_id, self.recipe(path, settings), settings)
        self._base.at("reslice", Phase.EFFECT, (remote_id,))


class ForgetfulMemory(ReembeddingMemory, ReslicingMemory, ReadingMemory, ConfirmingMemory):
    """All that an honest vendor has who indexes later and keeps no marks, whatever `limits` say of marks.

    Its hits know no paths and no times, so that it cannot narrow a search by them.
    """

    def __init__(
        self,
        base: MemoryBase,
        *,
        limits: Limits = DEFAULT_LIMITS,
        clock: Callable[[], float] | None = None,
    ) -> None:
        super().__init__(base, limits=replace(limits, marks=False), clock=clock)

    async def search(self, query: Query) -> Sequence[Hit]:
        """Documents whose searchable text has `query.text` in it; nothing else of the query is heeded."""
        hits = await super().search(Query(query.text, query.top_k))
        return [replace(hit, path=None, modified=None) for hit in hits]
