"""Carries out what the journal says: sends, looks, polls, renames and deletes.

The worker decides nothing. It takes due rows by rank, announces an effect on disk, makes it, and records the
answer. It can be cut anywhere: the next start finds every announced effect in the journal.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from kbsync.contract import DocState, DocStatus, Listed, Outgoing, PutOutcome, Reembeds, Renames, Target
from kbsync.core.model import Upload, UploadState
from kbsync.engine import looks, outcomes
from kbsync.engine.clock import Clock, rest
from kbsync.engine.ledger import Ledger
from kbsync.engine.outcomes import Happened
from kbsync.engine.pulse import STATE_PAUSE, Pulse
from kbsync.engine.sending import Batch, Bodies, replaced_by
from kbsync.errors import Halted, Rejected, StateError, TargetError, Unavailable, Unsure
from kbsync.state.store import Store, Tx
from kbsync.state.uploads import WORKING

log = structlog.get_logger("kbsync")

LONGEST_REST = 30.0
POLL_BATCH = 100


class Worker:
    """The worker of one mirror.

    `on_halt` is told when only a person can help, `on_event` what was done, `on_doubt` which file does not
    hold the bytes any more that were to be sent. `may_delete` looks at the root before documents go.
    """

    def __init__(
        self,
        store: Store,
        ledger: Ledger,
        target: Target,
        clock: Clock,
        bodies: Bodies,
        *,
        on_halt: Callable[[Halted], Awaitable[None]],
        on_event: Callable[[Happened], None] = lambda _event: None,
        on_doubt: Callable[[str], None] = lambda _path: None,
        may_delete: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._target = target
        self._clock = clock
        self._on_halt = on_halt
        self._on_event = on_event
        self._on_doubt = on_doubt
        self._may_delete = may_delete
        self._bodies = bodies
        self._wake = asyncio.Event()
        self._busy: set[int] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self.pulse = Pulse()
        self.rested = asyncio.Event()
        """Set whenever the last task under way has ended."""

    def wake(self) -> None:
        """There may be something to do."""
        self._wake.set()

    async def run(self) -> None:
        """Work until `stop`."""
        while not self._stopping:
            self._wake.clear()
            try:
                seconds = await self._round()
            except StateError as error:
                self._state_failed(error)
                seconds = STATE_PAUSE
            await rest(self._clock, seconds, self._wake)

    async def stop(self, grace: float = 0.5) -> None:
        """No new requests; those in flight get `grace` seconds, then they are cut."""
        self._stopping = True
        self.wake()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def is_idle(self, patience: float = 0.0) -> bool:
        """Nothing is being done, and nothing is left to do within `patience` seconds."""
        if self._busy or self._tasks:
            return False
        due = await self._next_due()
        return due is None or due > self._clock.wall() + patience

    async def _next_due(self) -> float | None:
        terms = self._ledger.terms
        states = (*WORKING, UploadState.SERVING)  # a serving one may wait to be renamed
        return await self._store.read(lambda tx: tx.uploads.next_due(terms.mirror, terms.binding, states))

    def resume(self) -> None:
        """The cause of a halt is gone."""
        self.pulse = Pulse()
        self.wake()

    async def _round(self) -> float:
        """Start what is due and can be started; returns how long nothing else will be."""
        if self.pulse.halted is not None:
            return LONGEST_REST
        now = self._clock.steady()
        if now < self.pulse.not_before:
            return self.pulse.not_before - now
        await self._expire()
        started = [
            await self._start_deletes(),
            await self._start_looks(),
            await self._start_polls(),
            await self._start_renames(),
            await self._start_sends(),
        ]
        return 0.0 if any(started) else await self._until_next()

    async def _until_next(self) -> float:
        due = await self._next_due()
        if due is None or self._busy:
            return LONGEST_REST  # a task that ends wakes us
        return min(LONGEST_REST, max(0.02, due - self._clock.wall()))

    async def _due(self, state: UploadState, limit: int) -> list[Upload]:
        terms, now = self._ledger.terms, self._clock.wall()
        busy = len(self._busy)
        rows = await self._store.read(
            lambda tx: tx.uploads.due(terms.mirror, terms.binding, state, now, limit + busy)
        )
        return [row for row in rows if row.id not in self._busy][:limit]

    @property
    def _slots(self) -> int:
        return max(0, self._ledger.terms.limits.concurrency - len(self._tasks))

    def _start(self, rows: Sequence[Upload], work: Callable[[Sequence[Upload]], Awaitable[None]]) -> bool:
        """Run `work` on rows as a task of its own; they are busy until it ends."""
        if not rows or self._stopping:
            return False
        numbers = {row.id for row in rows}
        self._busy |= numbers
        task = asyncio.create_task(self._guarded(work, rows))
        self._tasks.add(task)
        task.add_done_callback(lambda ended: self._ended(ended, numbers))
        return True

    def _ended(self, task: asyncio.Task[None], numbers: set[int]) -> None:
        if not task.cancelled():
            task.exception()  # what is no Exception ends the program elsewhere; it is not lost here
        self._tasks.discard(task)
        self._busy -= numbers
        if not self._tasks:
            self.rested.set()
        self.wake()

    async def _guarded(
        self, work: Callable[[Sequence[Upload]], Awaitable[None]], rows: Sequence[Upload]
    ) -> None:
        try:
            await work(rows)
            self.pulse.state_error = ""
        except StateError as error:
            self._state_failed(error)
        except Exception:
            self.pulse.not_before = self._clock.steady() + STATE_PAUSE
            log.exception("worker.failed", mirror=self._ledger.terms.plan.name)

    def _state_failed(self, error: StateError) -> None:
        """Nothing is sent until the journal can be written; said once, not at every try."""
        if self.pulse.state_failed(str(error), self._clock.steady()):
            log.error("state.failed", mirror=self._ledger.terms.plan.name, reason=str(error))

    # -- sending ---------------------------------------------------------------------------------------

    async def _start_sends(self) -> bool:
        if not self._slots:
            return False
        batch = self._ledger.terms.limits.batch
        rows = await self._due(UploadState.INTENDED, batch * self._slots)
        share = max(1, min(batch, -(-len(rows) // max(1, self._slots))))
        started = [
            self._start(rows[i : i + share], self._send) for i in range(0, len(rows), share) if self._slots
        ]
        return any(started)

    async def _send(self, rows: Sequence[Upload]) -> None:
        async with self._bodies.opened(rows) as batch:
            claims = await self._store.write(lambda tx: self._announce(tx, batch))
            for row in rows:
                if row.id in batch.unsendable and row.path is not None:
                    self._on_doubt(row.path)
            if not claims:
                return
            answers = await self._put([batch.outgoing(upload, old) for upload, old in claims])
        await self._record_puts([upload for upload, _ in claims], answers)

    def _announce(self, tx: Tx, batch: Batch) -> list[tuple[Upload, str | None]]:
        """On disk before the first byte leaves: what is sent, each with the remote id it replaces."""
        for number in batch.unsendable:
            outcomes.unsendable(self._ledger, tx, number)
        claimed = outcomes.claim(self._ledger, tx, batch.sendable)
        return [(upload, replaced_by(self._ledger, tx, upload)) for upload in claimed]

    async def _put(self, documents: Sequence[Outgoing]) -> Sequence[PutOutcome]:
        try:
            return await self._target.put(documents)
        except TargetError as error:
            return [error] * len(documents)
        except Exception as error:
            log.exception("target.failed", mirror=self._ledger.terms.plan.name)
            return [Unsure(f"unexpected {type(error).__name__}: {error}")] * len(documents)

    async def _record_puts(self, claimed: Sequence[Upload], answers: Sequence[PutOutcome]) -> None:
        pairs = list(zip(claimed, answers, strict=True))
        await self._weigh_blame(pairs)
        halted = self.pulse.halted

        def record(tx: Tx) -> list[Happened | None]:
            return [
                outcomes.put_ended(self._ledger, tx, u.id, _or_halt(answer, halted)) for u, answer in pairs
            ]

        self._tell(await self._store.write(record))
        await self._note_trouble([a for a in answers if isinstance(a, TargetError)], len(answers))

    async def _weigh_blame(self, pairs: Sequence[tuple[Upload, PutOutcome]]) -> None:
        terms = self._ledger.terms
        halted = None if terms.limits.embedded else self.pulse.blame(pairs, terms.cure("retry"))
        if halted is not None:
            await self._halt(halted)

    # -- looking for lost answers, waiting, deleting, renaming ------------------------------------------

    async def _start_looks(self) -> bool:
        rows = await self._due(UploadState.UNSURE, 10_000)
        return self._start(rows, self._look)

    async def _look(self, rows: Sequence[Upload]) -> None:
        try:
            seen = await looks.look_for(self._store, self._ledger, self._target, rows)
        except TargetError as error:
            await self._note_trouble([error], 1)
            return
        for sighting in seen:
            await self._record_look(sighting.row.id, sighting.listed)
        self.pulse.down_since = None

    async def _expire(self) -> None:
        rows = [row for state in looks.PAST for row in await self._due(state, 100)]
        if rows:
            numbers = [row.id for row in rows]
            await self._store.write(lambda tx: outcomes.expire(self._ledger, tx, numbers))

    async def _record_look(self, number: int, listed: Listed | None) -> None:
        self._tell(
            [await self._store.write(lambda tx: outcomes.look_ended(self._ledger, tx, number, listed))]
        )

    async def _start_polls(self) -> bool:
        if not self._slots:
            return False
        rows = await self._due(UploadState.INDEXING, POLL_BATCH)
        return self._start(rows, self._poll)

    async def _poll(self, rows: Sequence[Upload]) -> None:
        ids = [row.remote_id or "" for row in rows]
        try:
            known = await self._target.status(ids)
        except TargetError as error:
            await self._note_trouble([error], 1)
            return
        self.pulse.down_since = None
        for row in rows:
            status = known.get(row.remote_id or "", DocStatus(DocState.UNKNOWN))
            await self._record_status(row, status)

    async def _record_status(self, row: Upload, status: DocStatus) -> None:
        reembedded = False
        if status.state is DocState.FAILED and row.repairs < self._ledger.terms.limits.reembed_tries:
            reembedded = await self._reembed(row)
        self._tell(
            [
                await self._store.write(
                    lambda tx: outcomes.status_known(self._ledger, tx, row.id, status, reembedded)
                )
            ]
        )

    async def _reembed(self, row: Upload) -> bool:
        if not isinstance(self._target, Reembeds) or row.remote_id is None:
            return False
        try:
            await self._target.reembed(row.remote_id)
        except TargetError as error:
            await self._note_trouble([error], 1)
            return not isinstance(error, Rejected)
        return True

    async def _start_deletes(self) -> bool:
        if not self._slots:
            return False
        rows = await self._due(UploadState.RETIRING, max(self._ledger.terms.limits.batch, 1))
        if rows and self._may_delete is not None and not await self._may_delete():
            return False
        return self._start(rows, self._delete)

    async def _delete(self, rows: Sequence[Upload]) -> None:
        numbers = [row.id for row in rows]
        begun = await self._store.write(lambda tx: outcomes.begin_deletes(self._ledger, tx, numbers))
        ids = [row.remote_id for row in begun if row.remote_id is not None]
        if not ids:
            return
        try:
            answers = dict(await self._target.delete(ids))
        except TargetError as error:
            answers = dict.fromkeys(ids, error)

        def record(tx: Tx) -> list[Happened | None]:
            return [
                outcomes.delete_ended(self._ledger, tx, row.id, answers.get(row.remote_id or "", _SILENT))
                for row in begun
            ]

        self._tell(await self._store.write(record))
        await self._note_trouble([a for a in answers.values() if a is not None], len(answers))

    async def _start_renames(self) -> bool:
        if not isinstance(self._target, Renames) or not self._slots:
            return False
        rows = await self._due(UploadState.SERVING, 100)
        return self._start(rows, self._rename)

    async def _rename(self, rows: Sequence[Upload]) -> None:
        assert isinstance(self._target, Renames)
        for row in rows:
            path = row.path or row.label
            mtime = await self._mtime(path)
            try:
                name = self._ledger.terms.remote_name(path)
                await self._target.rename(row.remote_id or "", path, name, mtime)
            except TargetError as error:
                await self._rename_failed(row, error)
                continue
            await self._record_rename(row.id, path)

    async def _mtime(self, path: str) -> float:
        entry = await self._store.read(lambda tx: tx.entries.get(self._ledger.terms.mirror, path))
        return self._clock.wall() if entry is None else entry.stamp.mtime_ns / 1e9

    async def _record_rename(self, number: int, path: str) -> None:
        self._tell([await self._store.write(lambda tx: outcomes.renamed(self._ledger, tx, number, path))])

    async def _rename_failed(self, row: Upload, error: TargetError) -> None:
        wait = error.retry_after if isinstance(error, Unavailable) else None
        await self._store.write(
            lambda tx: outcomes.rename_failed(self._ledger, tx, row.id, error.reason, wait)
        )
        await self._note_trouble([error], 1)

    # -- trouble ---------------------------------------------------------------------------------------

    async def _note_trouble(self, errors: Sequence[TargetError], asked: int) -> None:
        """What the answers say about the target as a whole."""
        halted = self.pulse.answered(errors, asked, self._clock.steady())
        if halted is not None:
            await self._halt(halted)

    async def _halt(self, error: Halted) -> None:
        if self.pulse.halted is None:
            self.pulse.halted = error
            await self._on_halt(error)

    def _tell(self, happened: Sequence[Happened | None]) -> None:
        for event in happened:
            if event is not None:
                self._on_event(event)


_SILENT = Unsure("the target did not say what became of it")


def _or_halt(answer: PutOutcome, halted: Halted | None) -> PutOutcome:
    """While the target is to blame, a rejection is no document's fault."""
    return halted if halted is not None and isinstance(answer, Rejected) else answer
