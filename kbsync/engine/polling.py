"""Polls documents that are being indexed, and handles those that failed.

kbsync asks the target to reindex a failed document, a bounded number of times. A failure reported soon after
the request may be the earlier one and doesn't count. A full account doesn't cost a document an attempt; while
the account may be full, only a few documents are tried. If a document is never reported as done, a search
confirms that it is searchable.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from functools import partial

from kbsync.contract.target import (
    DocState,
    DocStatus,
    SupportsDigest,
    SupportsReembed,
    SupportsReslice,
    SupportsSearchCheck,
    Target,
)
from kbsync.core import lifecycle
from kbsync.core.model import AWAITING, Phase, Upload
from kbsync.dataclass import dataclass
from kbsync.engine.halts import BLAME_LIMIT
from kbsync.engine.journal import DocumentEvent, Journal, Remedy
from kbsync.engine.status import TARGET_STUCK
from kbsync.errors import Halted, NotOffered, Rejected, TargetError, Unavailable, Unsure
from kbsync.source.stat import stat_path
from kbsync.state.read_only import Tx
from kbsync.state.store import StateStore

CUT_AT_ONCE = 20
"""Number of documents to reindex before polling the waiting ones again."""

PollResult = tuple[Upload, DocStatus, Remedy]


@dataclass(slots=True)
class _Turn:
    """A round of polling.

    `tries`: see `Poller.poll`. `gets_done`: whether at least one document became searchable.
    """

    tries: float
    gets_done: bool = False
    halted: Halted | None = None


class Poller:
    """Handles documents that the target has but that aren't searchable yet."""

    def __init__(self, store: StateStore, journal: Journal, target: Target) -> None:
        self._store = store
        self._journal = journal
        self._target = target
        self.paused_failures: set[int] = set()
        """Uploads that failed during a pause, to be retried after it."""
        self._overdue: set[str] = set()
        """The paths of documents that were overdue since a poll last found documents searchable."""
        self._last_done = -math.inf
        """When a poll last found documents searchable."""
        self._first_accepted = math.inf
        """The earliest time at which the target accepted one of the documents that the last successful poll
        found searchable.
        """
        self._can_reembed = isinstance(target, SupportsReembed)
        """Whether the target can reindex a document, as far as kbsync knows.

        If it can't, kbsync re-uploads the document, within the same number of tries (promise 9).
        """

    async def poll(
        self, rows: Sequence[Upload], tries: int | None
    ) -> tuple[Sequence[DocumentEvent | None], Halted | None]:
        """Poll these documents and record the results.

        `tries`: how many of the documents that wait until the target can index may be retried (None: all).
        Raises `Halted` if only a user can help, or `TargetError` if there was no result.
        """
        polled = [row for row in rows if row.phase is not Phase.TO_CUT]
        to_cut = [row for row in rows if row.phase is Phase.TO_CUT][:CUT_AT_ONCE]
        await self._reslice(to_cut, is_alone=not polled)
        if not polled:
            return (), None
        statuses = await self._target.status([row.remote_id or "" for row in polled])
        done = [row for row in polled if statuses.get(row.remote_id or "", _UNKNOWN).state is DocState.READY]
        turn = _Turn(math.inf if tries is None else tries, gets_done=bool(done))
        if turn.gets_done:
            # The target works, so it isn't to blame for overdue documents.
            self._overdue.clear()
            self._last_done = self._journal.timing.now
            self._first_accepted = min(row.accepted_at or 0.0 for row in done)
        results: list[PollResult] = []
        for row in polled:
            try:
                results.append(await self._classify(row, statuses.get(row.remote_id or "", _UNKNOWN), turn))
            except Halted as error:
                turn.halted = error  # the results of other documents are still recorded

        def record(tx: Tx) -> list[DocumentEvent | None]:
            return [self._journal.record_status(tx, row.id, status, retry) for row, status, retry in results]

        events = await self._store.write(record)
        failed = next((status for _, status, retry in results if retry is Remedy.AWAITED), None)
        if turn.halted is None and failed is not None:
            return events, Halted(failed.halt, failed.reason, code=failed.code)
        return events, turn.halted

    async def _classify(self, row: Upload, status: DocStatus, turn: _Turn) -> PollResult:
        """Try to remedy a failure. Return the row, its status and the remedy."""
        timing = self._journal.timing
        if status.state is DocState.FAILED and not status.is_final:
            if lifecycle.may_be_stale(row, timing):
                return row, _UNKNOWN, Remedy.NONE
            if status.twin and await self._has_orphan(row, status.twin):
                return row, status, Remedy.ORPHAN
            retry = await self._ask_again(row, status, turn)
            return row, _UNKNOWN if retry is Remedy.LATER else status, retry
        # Documents accepted before this one, or soon after, have become searchable since its last poll.
        latest = (row.accepted_at or 0.0) + timing.limits.give_up
        is_queued = self._first_accepted <= latest and (row.checked_at or 0.0) <= self._last_done
        if status.state is DocState.INDEXING and is_queued:
            return row, status, Remedy.QUEUED
        if status.state in _UNDECIDED and lifecycle.is_overdue(row, timing):
            if turn.halted is not None:
                return row, status, Remedy.LATER
            return await self._confirm_by_search(row, status, turn)
        return row, status, Remedy.NONE

    async def _has_orphan(self, row: Upload, twin: str) -> bool:
        """Return whether the target has another document with the same text, whose file no longer exists."""

        def find(tx: Tx) -> tuple[str, bool] | None:
            orphan = self._journal.orphan_with(tx, row, twin)
            if orphan is None:
                return None
            return orphan.path, tx.entries.get(self._journal.binding.mirror, orphan.path) is not None

        orphan = await self._store.read(find)
        if orphan is None:
            return False
        path, is_known = orphan
        # Before the first scan ends, a file may exist although it isn't in the state yet.
        root = self._journal.binding.settings.root
        return is_known or (await asyncio.to_thread(stat_path, root, path)).lacks_file

    async def _ask_again(self, row: Upload, status: DocStatus, turn: _Turn) -> Remedy:
        """Ask the target to reindex a failed document if that may help."""
        if status.halt and row.phase not in AWAITING:
            return Remedy.AWAITED
        if turn.halted is not None:
            return Remedy.LATER
        if await self._store.read(self._journal.is_paused):
            self.paused_failures.add(row.id)
            return Remedy.LATER
        if row.phase in AWAITING:
            # Only a few documents check whether the target can index again, because each costs a request.
            turn.tries -= 1
            if turn.tries < 0:
                return Remedy.LATER
        if not isinstance(self._target, SupportsReembed):
            return Remedy.NOT_OFFERED
        if not status.halt and row.repairs >= self._journal.binding.limits.reembed_tries:
            return Remedy.NONE if self._can_reembed else Remedy.NOT_OFFERED
        try:
            await self._target.reembed(row.remote_id or "")
            self._can_reembed = True
        except NotOffered:  # for now: only the target knows whether that is permanent
            self._can_reembed = False
            return Remedy.NOT_OFFERED
        except Rejected:
            return Remedy.NONE
        except Unavailable:
            return Remedy.NONE if lifecycle.is_overdue(row, self._journal.timing) else Remedy.LATER
        except Unsure:
            return Remedy.ASKED  # reindexing costs money, so wait instead of asking twice
        return Remedy.ASKED

    async def _confirm_by_search(self, row: Upload, status: DocStatus, turn: _Turn) -> PollResult:
        """Search for a document that is never reported as done, and let the result decide (promise 10)."""
        if not isinstance(self._target, SupportsSearchCheck) or row.remote_id is None:
            return await self._give_up(row, turn)
        try:
            is_there = await self._target.is_searchable(row.remote_id, row.name)
        except Rejected:
            is_there = False
        except (Unavailable, Unsure):
            if not lifecycle.is_overdue(row, self._journal.timing, times=2):
                return row, status, Remedy.LATER
            is_there = False
        return (row, _READY, Remedy.NONE) if is_there else await self._give_up(row, turn)

    async def _give_up(self, row: Upload, turn: _Turn) -> PollResult:
        """Fail the document, unless the target never finishes any documents and is therefore to blame."""
        if not turn.gets_done:
            self._overdue.add(row.path)
        seconds = self._journal.timing.limits.give_up
        if len(self._overdue) >= BLAME_LIMIT:
            # Quarantining one document after another would hide that the target is stuck (promise 9).
            self._overdue.clear()
            raise Halted(
                TARGET_STUCK,
                f"{BLAME_LIMIT} documents in a row were accepted, but none was searchable after "
                f"{seconds:.0f} s; the account may be out of credit, or the service may be stuck",
            )
        status = DocStatus(DocState.FAILED, f"not searchable after {seconds:.0f} s", "overdue")
        return row, status, await self._ask_again(row, status, turn)

    async def _reslice(self, rows: Sequence[Upload], *, is_alone: bool) -> None:
        """Ask the target to reindex each of these documents. A failure doesn't delay the others.

        `is_alone`: whether no other response shows that the target is up.
        """
        down: TargetError | None = None
        for row in rows:
            if not await self._store.read(partial(self._journal.is_to_be_resliced, number=row.id)):
                continue
            try:
                retry = Remedy.NOT_OFFERED
                if isinstance(self._target, SupportsReslice) and row.remote_id is not None:
                    path = row.path
                    settings = self._journal.binding.settings.document_settings(path)
                    await self._target.reslice(row.remote_id, path, settings)
                    retry = Remedy.ASKED
            except Rejected:
                pass
            except (Unavailable, Unsure) as error:
                retry, down = Remedy.LATER, error
            await self._store.write(partial(self._journal.record_reslice, number=row.id, remedy=retry))
        if down is not None and is_alone:
            raise down

    async def prove(self, rows: Sequence[Upload]) -> None:
        """Read documents that were found at the target.

        If the target is down, raise `TargetError` without changing any rows.
        """
        for row in rows:
            digest = None
            if isinstance(self._target, SupportsDigest) and row.remote_id is not None:
                try:
                    digest = await self._target.digest(row.remote_id)
                except (Unavailable, Unsure):
                    await self._target.base()  # if the target is down, no document is to blame
                except Rejected:
                    pass
            await self._store.write(partial(self._journal.record_proof, number=row.id, digest=digest))


_UNKNOWN, _READY = DocStatus(DocState.UNKNOWN), DocStatus(DocState.READY)
_UNDECIDED = (DocState.UNKNOWN, DocState.INDEXING)
