"""Has the pages of link documents fetched anew when their time has come: a few at a time, behind all else.

What serves goes on serving. A request is announced on disk and repeated after a crash, since it may be; its
end is polled for like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from kbsync.config.durations import read_duration
from kbsync.contract import DocState, DocStatus, Outgoing, Refreshes, Target
from kbsync.core import refreshing as steps
from kbsync.core.model import Upload, UploadState
from kbsync.engine.ledger import Ledger
from kbsync.engine.outcomes import Happened
from kbsync.engine.sending import Bodies
from kbsync.errors import Halted, Rejected, TargetError, Unavailable, Unsure
from kbsync.state.store import Store, Tx

Step = Callable[[Upload], Upload]

_UNKNOWN = DocStatus(DocState.UNKNOWN)


class Refreshing:
    """The fetching of one mirror's pages. `on_event` is told of each that was fetched."""

    def __init__(
        self,
        store: Store,
        ledger: Ledger,
        target: Target,
        bodies: Bodies,
        on_event: Callable[[Happened], None],
    ) -> None:
        self._store, self._ledger, self._target = store, ledger, target
        self._bodies, self._on_event = bodies, on_event

    async def take(self, rows: Sequence[Upload]) -> None:
        """Look at those under way, and weigh the others until one of them had to be asked for.

        Raises `Halted`, and `TargetError` where the target did not answer about those under way.
        """
        under_way = [row for row in rows if row.code == steps.ASKED]
        if under_way:
            await self._look(under_way)
        for row in rows:
            if row.code != steps.ASKED and await self._weigh(row):
                return

    async def _look(self, rows: Sequence[Upload]) -> None:
        try:
            known = await self._target.status([row.remote_id or "" for row in rows])
        except TargetError:
            for row in rows:
                await self._step(row, lambda one: steps.wait_on(one, self._ledger.rhythm))
            raise
        for row in rows:
            status = known.get(row.remote_id or "", _UNKNOWN)
            done = await self._step(row, lambda one, status=status: self._looked(one, status))  # type: ignore[misc]
            if done is not None and status.state is DocState.READY:
                path = done.path or done.label
                self._on_event(Happened("document.refreshed", path, done.remote_id, size=done.size))

    def _looked(self, row: Upload, status: DocStatus) -> Upload:
        rhythm = self._ledger.rhythm
        match status.state:
            case DocState.READY:
                return steps.fetched(row, rhythm)
            case DocState.FAILED:
                return steps.failed(row, f"{_FAILED}: {status.reason}", rhythm)
            case DocState.MISSING:
                return steps.failed(row, f"{_FAILED}: the document is no longer at the target", rhythm)
            case _ if steps.is_overdue(row, rhythm):
                return steps.failed(row, f"{_FAILED} within {rhythm.limits.give_up:.0f} s", rhythm)
        return steps.wait_on(row, rhythm)

    async def _weigh(self, row: Upload) -> bool:
        """Whether its page was asked for."""
        async with self._bodies.opened([row]) as batch:
            if not batch.sendable:  # it was changed, and what follows from that is on its way
                await self._step(row, lambda one: replace(one, next_look_at=self._now + steps.PAUSE))
                return False
            document = batch.outgoing(row, row.remote_id)
            interval = _interval({**document.settings, **batch.settings_of(row)})
            if interval is None:
                await self._step(row, steps.never)
            elif not steps.is_due(row, interval, self._now):
                rhythm = self._ledger.rhythm
                await self._step(row, lambda one: steps.put_off(one, interval, rhythm))
            elif await self._step(row, lambda one: steps.ask(one, self._ledger.rhythm)) is not None:
                await self._ask(row, document)
                return True
        return False

    async def _ask(self, row: Upload, document: Outgoing) -> None:
        assert isinstance(self._target, Refreshes)
        try:
            await self._target.refresh(document)
        except Unavailable as error:
            reason, wait = error.reason, error.retry_after
            await self._failed(row, reason, wait)
            return
        except Halted as error:
            await self._failed(row, error.reason)
            raise
        except Rejected as error:
            await self._failed(row, error.reason)
            return
        except Unsure:
            pass  # it costs money: rather waited for than asked twice
        await self._step(row, lambda one: steps.asked(one, self._ledger.rhythm))

    async def _failed(self, row: Upload, reason: str, wait: float | None = None) -> None:
        rhythm = self._ledger.rhythm
        await self._step(row, lambda one: steps.failed(one, f"{_FAILED}: {reason}", rhythm, wait))

    @property
    def _now(self) -> float:
        return self._ledger.rhythm.now

    async def _step(self, row: Upload, step: Step) -> Upload | None:
        """Take a row on, unless it serves no more; the row as it is then."""
        return await self._store.write(lambda tx: _stepped(tx, row.id, step))


def _stepped(tx: Tx, number: int, step: Step) -> Upload | None:
    upload = tx.uploads.get(number)
    if upload is None or upload.state is not UploadState.SERVING:
        return None
    changed = step(upload)
    tx.uploads.save(changed)
    return changed


def _interval(settings: Mapping[str, Any]) -> float | None:
    """Seconds between two fetches of a page; None: it is fetched once."""
    wanted = settings.get("refresh")
    return read_duration(wanted) if isinstance(wanted, str) else None


_FAILED = "its page could not be fetched anew, and what was fetched before stays"
