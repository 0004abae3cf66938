"""Asks how documents that are indexing get on, and does what can be done for those that failed.

A failed document is asked to be indexed again, a bounded number of times. A failure shown soon after that may
be the old one and is not counted. An account without room costs no document a try. What never says that it
is done is searched for.
"""

from __future__ import annotations

from collections.abc import Sequence

from kbsync.contract import Confirms, DocState, DocStatus, Reads, Reembeds, Reslices, Target
from kbsync.core import lifecycle
from kbsync.core.model import Upload
from kbsync.engine import outcomes
from kbsync.engine.ledger import Ledger
from kbsync.engine.outcomes import Happened, Repair
from kbsync.errors import Halted, NotOffered, Rejected, TargetError, Unavailable, Unsure
from kbsync.state.store import Store, Tx

Judged = tuple[Upload, DocStatus, Repair]


class Polls:
    """What concerns documents the target has and that do not serve yet."""

    def __init__(self, store: Store, ledger: Ledger, target: Target) -> None:
        self._store = store
        self._ledger = ledger
        self._target = target
        self._can_reembed = isinstance(target, Reembeds)

    async def ask(self, rows: Sequence[Upload]) -> list[Happened | None]:
        """Look at these documents and record what was seen. Raises `TargetError`, also `Halted`."""
        await self._reslice([row for row in rows if row.code == lifecycle.RESLICE])
        asked = [row for row in rows if row.code != lifecycle.RESLICE]
        if not asked:
            return []
        known = await self._target.status([row.remote_id or "" for row in asked])
        judged = [await self._judged(row, known.get(row.remote_id or "", _UNKNOWN)) for row in asked]
        happened = await self._store.write(lambda tx: self._record(tx, judged))
        for _, status, repair in judged:
            if repair is Repair.AWAITED:
                cure = f"kbsync --once --mirror {self._ledger.terms.plan.name}"
                raise Halted(status.halt, status.reason, cure=cure, code=status.code)
        return happened

    def _record(self, tx: Tx, judged: Sequence[Judged]) -> list[Happened | None]:
        return [
            outcomes.status_known(self._ledger, tx, row.id, status, repair) for row, status, repair in judged
        ]

    async def _judged(self, row: Upload, status: DocStatus) -> Judged:
        rhythm = self._ledger.rhythm
        if status.state is DocState.FAILED:
            if lifecycle.may_be_stale(row, rhythm):
                return row, _UNKNOWN, Repair.NONE
            repair = await self._mended(row, status)
            return row, _UNKNOWN if repair is Repair.LATER else status, repair
        if status.state in _UNDECIDED and lifecycle.is_overdue(row, rhythm):
            return await self._confirmed(row, status)
        return row, status, Repair.NONE

    async def _mended(self, row: Upload, status: DocStatus) -> Repair:
        if status.halt and row.code != lifecycle.QUOTA:
            return Repair.AWAITED
        if not self._can_reembed:
            return Repair.NOT_OFFERED
        if not status.halt and row.repairs >= self._ledger.terms.limits.reembed_tries:
            return Repair.NONE
        assert isinstance(self._target, Reembeds)
        try:
            await self._target.reembed(row.remote_id or "")
        except NotOffered:
            self._can_reembed = False
            return Repair.NOT_OFFERED
        except Rejected:
            return Repair.NONE
        except Unavailable:
            return Repair.LATER
        except Unsure:
            return Repair.ASKED  # it costs money: rather waited for than asked twice
        return Repair.ASKED

    async def _confirmed(self, row: Upload, status: DocStatus) -> Judged:
        """It never said that it is done; a search that finds it decides."""
        if not isinstance(self._target, Confirms) or row.remote_id is None:
            return row, status, Repair.NONE
        try:
            is_there = await self._target.is_searchable(row.remote_id, row.name)
        except Rejected:
            is_there = False
        except (Unavailable, Unsure):
            return row, status, Repair.LATER
        return row, DocStatus(DocState.READY) if is_there else status, Repair.NONE

    async def _reslice(self, rows: Sequence[Upload]) -> None:
        for row in rows:
            is_asked = await self._is_resliced(row)
            await self._store.write(
                lambda tx, row=row, asked=is_asked: outcomes.resliced(self._ledger, tx, row.id, asked)  # type: ignore[misc]
            )

    async def _is_resliced(self, row: Upload) -> bool:
        if not isinstance(self._target, Reslices) or row.remote_id is None:
            return False
        path = row.path or row.label
        try:
            await self._target.reslice(row.remote_id, path, self._ledger.terms.plan.settings(path))
        except Rejected:
            return False
        return True

    async def prove(self, rows: Sequence[Upload]) -> None:
        """Read documents found at the target. Raises `TargetError` when it is down, rows untouched."""
        for row in rows:
            digest = await self._digest(row)
            await self._store.write(
                lambda tx, row=row, digest=digest: outcomes.proof_ended(self._ledger, tx, row.id, digest)  # type: ignore[misc]
            )

    async def _digest(self, row: Upload) -> str | None:
        if not isinstance(self._target, Reads) or row.remote_id is None:
            return None
        try:
            return await self._target.digest(row.remote_id)
        except Halted:
            raise
        except TargetError:
            return None


_UNKNOWN = DocStatus(DocState.UNKNOWN)
_UNDECIDED = (DocState.UNKNOWN, DocState.INDEXING)
