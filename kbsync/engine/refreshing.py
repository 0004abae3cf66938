"""Has the pages of link documents fetched anew when their time has come: a few at a time, behind all else.

What serves goes on serving. A request is announced on disk. After a crash the document is looked at: if it
is being indexed, the request arrived; if not, it is made again later, since it may be. Its end is polled for
like any other. A page that is about to be replaced is not fetched, and where documents are changed in place
no replacement begins before a fetch has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kbsync.config.kinds import read_duration
from kbsync.contract.target import DocState, DocStatus, Outgoing, Refreshes, Target
from kbsync.core import refreshing as steps
from kbsync.core.model import ON_THE_WAY, Upload, UploadState
from kbsync.engine.journal import Happened, Journal
from kbsync.engine.sending import Bodies
from kbsync.errors import Halted, Rejected, TargetError, Unavailable, Unsure
from kbsync.state.glance import Tx
from kbsync.state.store import Store

Step = Callable[[Upload], Upload]

_UNKNOWN = DocStatus(DocState.UNKNOWN)


class Refreshing:
    """The fetching of one mirror's pages. `on_event` is told of each that was fetched."""

    def __init__(
        self,
        store: Store,
        ledger: Journal,
        target: Target,
        bodies: Bodies,
        on_event: Callable[[Happened], None],
    ) -> None:
        self._store, self._ledger, self._target = store, ledger, target
        self._bodies, self._on_event = bodies, on_event

    async def take(self, rows: Sequence[Upload]) -> None:
        """Look at those that may be under way, and weigh the others until one of them had to be asked for.

        Raises `Halted`, and `TargetError` where the target did not answer about those under way.
        """
        under_way = [row for row in rows if steps.is_under_way(row)]
        if under_way:
            await self._look(under_way)
        for row in rows:
            if row not in under_way and await self._weigh(row):
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
            if done is not None and done.code == steps.WEIGHED:
                path = done.path or done.label
                self._on_event(Happened("document.refreshed", path, done.remote_id, size=done.size))

    def _looked(self, row: Upload, status: DocStatus) -> Upload:
        rhythm = self._ledger.rhythm
        match status.state:
            case DocState.READY if row.code == steps.ASKING:
                return steps.failed(row, f"{_FAILED}: the request was cut off", rhythm)
            case DocState.READY:
                return steps.fetched(row, rhythm)
            case DocState.INDEXING if row.code == steps.ASKING:
                return steps.asked(row, rhythm)
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
                await self._step(row, lambda one: steps.later(one, self._ledger.rhythm))
                return False
            document = batch.outgoing(row, row.remote_id)
            interval = _interval({**document.settings, **batch.settings_of(row)})
            if interval is None:
                await self._step(row, steps.never)
            elif not steps.is_due(row, interval, self._now):
                rhythm = self._ledger.rhythm
                await self._step(row, lambda one: steps.put_off(one, interval, rhythm))
            elif await self._store.write(lambda tx: self._announced(tx, row.id)):
                await self._ask(row, document)
                return True
        return False

    def _announced(self, tx: Tx, number: int) -> bool:
        """Whether its page may be asked for now, which is on disk then."""
        upload = tx.uploads.get(number)
        if upload is None or upload.state is not UploadState.SERVING:
            return False
        is_free = not self._is_to_be_replaced(tx, upload)
        tx.uploads.save((steps.ask if is_free else steps.later)(upload, self._ledger.rhythm))
        return is_free

    def _is_to_be_replaced(self, tx: Tx, upload: Upload) -> bool:
        """A newer version is on its way, or waits for a person where to fetch would be to change as well."""
        path = upload.path or ""
        if any(one.state in ON_THE_WAY for one in self._ledger.uploads(tx, path)):
            return True
        entry = tx.entries.get(self._ledger.terms.mirror, path)
        is_other = entry is not None and self._ledger.wish(entry).recipe != upload.recipe
        return self._ledger.terms.abilities.updates and is_other

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
        return await self._store.write(lambda tx: self._stepped(tx, row.id, step))

    def _stepped(self, tx: Tx, number: int, step: Step) -> Upload | None:
        upload = tx.uploads.get(number)
        if upload is None or upload.state is not UploadState.SERVING:
            return None
        changed = step(upload)
        tx.uploads.save(changed)
        if steps.is_under_way(upload) and not steps.is_under_way(changed) and upload.path is not None:
            self._ledger.settle(tx, upload.path)  # an edit may have waited for this
        return changed


def _interval(settings: Mapping[str, Any]) -> float | None:
    """Seconds between two fetches of a page; None: it is fetched once."""
    wanted = settings.get("refresh")
    return read_duration(wanted) if isinstance(wanted, str) else None


_FAILED = "its page could not be fetched anew, and what was fetched before stays"
