"""The audit that a daemon makes by itself, about once in every `deep_rescan`, slowly.

It goes through four states, none of which is on disk: only the end of an audit is (`engine.findings`).

- *resting* until `deep_rescan` after the last audit ended, or until a person asks for one. A restart changes
  nothing about the first and forgets the second.
- *reading* the whole list, each request after a rest (`Limits.unhurried`) and behind fresh work.
- *asking* about what looked wrong, once more and a horizon later: documents that the list lacks, and those
  that it shows and nothing needs.
- *mending*, a transaction for each page or document: documents the target says are missing are sent again,
  deleted ones that are back and twins of which this state made both are retired. Anything else is told.

Cut anywhere (kill -9, a halt, a target that does not answer) it is as if it had not begun, but for what it
mended; the next one begins anew. What it mends are rows, each true by itself: the worker does the rest.
Many documents missing at once are a person's business: the mirror halts and nothing is sent.

Memory: the ids of the listed documents, and `MOST_STRAYS` strays. Each read of the state is of one page.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import structlog

from kbsync.contract.mirroring import Target, Unhurried
from kbsync.core import lifecycle
from kbsync.core.model import Upload, UploadState
from kbsync.engine import findings
from kbsync.engine.attach import is_emptied
from kbsync.engine.clock import Clock, rest
from kbsync.engine.ledger import Ledger
from kbsync.engine.repairs import Repairs, stray_json
from kbsync.engine.views.audit import Audit, Auditor, Proof, Stray
from kbsync.engine.views.footing import Footing
from kbsync.engine.views.placing import Finding, Placed, Placing
from kbsync.errors import Halted, StateError, TargetError
from kbsync.state.store import Store, Tx

log = structlog.get_logger("kbsync")

LONGEST_REST = 3600.0
PUT_OFF = 1800.0
"""Seconds until an audit that was cut short begins anew."""

PATIENCE, LOOK_EVERY = 60.0, 1.0
"""Seconds that a request waits for fresh work to end at most, and between two looks whether it did."""

MOST_STRAYS, MOST_TOLD = 200, 20
SAMPLE = 20
"""So many of very many missing documents are asked for before the mirror halts."""


class PutOffError(Exception):
    """The audit cannot go on now."""


@dataclass(slots=True)
class Outcome:
    """What one audit came to: documents by what is wrong; `mended` counts those among them it saw to.

    `beyond`: documents that serve nothing and were too many to look at; the next audit sees to them.
    """

    missing: int = 0
    duplicate: int = 0
    orphaned: int = 0
    foreign: int = 0
    beyond: int = 0
    mended: int = 0
    left: dict[str, int] = field(default_factory=lambda: {"duplicate": 0, "orphaned": 0})
    told: int = 0


@dataclass(slots=True)
class Auditing:
    """The audits of one mirror.

    `may_work`: the mirror is not halted and the folder was compared once. `is_idle`: no fresh work is due.
    `on_halt` is told when the base lost many documents, `on_work` that there is something to do.
    """

    store: Store
    ledger: Ledger
    target: Target
    clock: Clock
    may_work: Callable[[], bool]
    is_idle: Callable[[], Awaitable[bool]]
    on_halt: Callable[[Halted], Awaitable[None]]
    on_work: Callable[[], None]
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def keep(self) -> None:
        """Audit whenever it is time, until cancelled."""
        while True:
            await rest(self.clock, await self._step(), self._asked)
            if self._asked.is_set():
                await self._answer()

    def ask(self) -> None:
        """A person wants one now."""
        self._asked.set()

    async def _answer(self) -> None:
        """Audit now; a mirror that cannot be audited now is audited when it is time."""
        self._asked.clear()
        if self.may_work():
            await self._try()

    async def _step(self) -> float:
        """Audit if it is time; seconds until the next step."""
        try:
            left = await self._until_due()
        except StateError:  # whoever works on the state says so
            return LONGEST_REST
        if left > 0:
            return min(LONGEST_REST, left)
        if not self.may_work():
            return PATIENCE
        return 0.0 if await self._try() else PUT_OFF

    async def _until_due(self) -> float:
        """Seconds. After a clock was set back it is counted from now: one period late, and no more."""
        terms = self.ledger.terms
        period, now = terms.plan.deep_rescan, self.clock.wall()
        known = await self.store.read(lambda tx: findings.recall(tx, terms.mirror))
        if known is None or known.binding != terms.binding:
            known = findings.Findings(terms.binding, now)  # as good as audited: it is well known
            await self.store.write(partial(_kept, terms.mirror, known))
        elif known.ended > now:
            known = replace(known, ended=now)
            await self.store.write(partial(_kept, terms.mirror, known))
        return known.ended + period - now

    async def _try(self) -> bool:
        """One audit; False where it was cut short."""
        try:
            await self.audit()
        except (PutOffError, TargetError, StateError) as error:
            self._put_off(str(error))
        except Exception as error:
            log.exception("audit.failed", mirror=self.ledger.terms.plan.name)
            self._put_off(type(error).__name__)
        else:
            return True
        return False

    def _put_off(self, reason: str) -> None:
        log.info("audit.put_off", mirror=self.ledger.terms.plan.name, reason=reason)

    # -- one audit -------------------------------------------------------------------------------------

    async def audit(self) -> Outcome:
        """Go through all of it. Raises `TargetError`, `StateError` or `PutOffError`: nothing is recorded."""
        began, outcome = self.clock.wall(), Outcome()
        auditor = Auditor(self.ledger.terms, self._slow(), self.store.read)
        audit = await auditor.read_list(MOST_STRAYS)
        await self._rest_for_horizon()
        await self._weigh(auditor, audit, began)
        async for page in auditor.unseen(audit, began):
            lost = await auditor.confirmed(page)
            await self._mend_missing(lost, await self._twins(auditor, audit, lost), outcome)
        await self._see_to_strays(auditor, audit, outcome)
        outcome.foreign, outcome.beyond = await auditor.count_foreign(audit), audit.beyond
        await self._end(outcome, began)
        return outcome

    def _slow(self) -> Target:
        return self.target.unhurried(self.pace) if isinstance(self.target, Unhurried) else self.target

    async def pace(self) -> None:
        """Returns when one more request may be made, one caller after the other.

        Fresh work goes first, yet not for ever: a mirror that never rests would never be audited.
        """
        async with self._turn:
            await self.clock.sleep(self.ledger.terms.limits.unhurried)
            latest = self.clock.steady() + PATIENCE
            while not await self.is_idle() and self.clock.steady() < latest:
                await self.clock.sleep(LOOK_EVERY)
            self._go_on()

    def _go_on(self) -> None:
        if not self.may_work():
            raise PutOffError("the mirror is halted")

    async def _rest_for_horizon(self) -> None:
        await self.clock.sleep(self.ledger.rhythm.horizon)
        self._go_on()

    async def _weigh(self, auditor: Auditor, audit: Audit, began: float) -> None:
        """Halts over a base that lost many documents; a list is believed when single looks agree."""
        terms = self.ledger.terms
        first, count = await _counted(auditor.unseen(audit, began))
        serving = await self.store.read(lambda tx: tx.uploads.serving_count(terms.mirror, terms.binding))
        if not is_emptied(serving, serving - count):
            return
        if len(await auditor.confirmed(first)) == len(first):
            await self.on_halt(_emptied(terms.plan.name, count, serving))
            raise PutOffError(f"{count} of {serving} documents are missing")

    async def _twins(self, auditor: Auditor, audit: Audit, lost: Sequence[Upload]) -> list[Stray]:
        """Documents that may take the place of lost ones; each is there at a second look."""
        paths = {row.path for row in lost}
        twins = [stray for stray in audit.strays if stray.path in paths and stray.row is None]
        return await auditor.read_into(audit, await auditor.still_stray(twins)) if twins else []

    async def _mend_missing(self, lost: Sequence[Upload], twins: Sequence[Stray], outcome: Outcome) -> None:
        self._go_on()
        sent = await self.store.write(partial(self._send_again, lost, twins))
        outcome.missing += len(lost)
        outcome.mended += sent
        for row in lost:
            why = "a twin takes its place, or it is sent again"
            self._tell(outcome, "missing", row.path or row.label, row.remote_id, why)
        if lost:
            self.on_work()

    def _send_again(self, lost: Sequence[Upload], twins: Sequence[Stray], tx: Tx) -> int:
        repairs, missing = Repairs(self.ledger), {row.remote_id or "" for row in lost}
        for twin in twins:
            repairs.adopt(tx, stray_json(twin), missing)
        return sum(repairs.send_again(tx, row.remote_id or "") for row in lost)

    # -- documents that serve nothing ------------------------------------------------------------------

    async def _see_to_strays(self, auditor: Auditor, audit: Audit, outcome: Outcome) -> None:
        strays = await auditor.read_into(audit, await auditor.still_stray(audit.strays))
        placed = await self.store.read(partial(self._placed, strays))
        self._go_on()
        for finding in placed.duplicate:
            outcome.duplicate += 1
            await self._see_to(outcome, "duplicate", finding)
        for finding in placed.orphaned:
            outcome.orphaned += 1
            await self._see_to(outcome, "orphaned", finding)

    def _placed(self, strays: Sequence[Stray], tx: Tx) -> Placed:
        footing = Footing(self.ledger.terms, tx.mirrors.get(self.ledger.terms.mirror))
        return Placing(tx, footing, is_compared=True).sorted(strays)

    async def _see_to(self, outcome: Outcome, kind: str, finding: Finding) -> None:
        if await self.store.write(partial(self._retire, kind, finding)):
            outcome.mended += 1
            self.on_work()
            self._tell(outcome, kind, finding.path, finding.remote_id, f"{finding.why}; it is deleted")
        else:
            outcome.left[kind] += 1
            self._tell(outcome, kind, finding.path, finding.remote_id, finding.why)

    def _retire(self, kind: str, finding: Finding, tx: Tx) -> bool:
        """Only what an upload of this state made: what looks like ours is left to a person."""
        stray = finding.stray
        if stray is None or stray.row is None or stray.proof not in (Proof.ROW, Proof.MARK):
            return False
        row = tx.uploads.get(stray.row.id)
        if row is not None and row.state is UploadState.TOMBSTONE:
            again = lifecycle.still_there(row, self.ledger.rhythm)
            tx.uploads.save(again)
            return again.state is UploadState.RETIRING
        return kind == "duplicate" and Repairs(self.ledger).retire_stray(tx, stray_json(stray))

    # -- the end ---------------------------------------------------------------------------------------

    def _tell(self, outcome: Outcome, kind: str, path: str, remote_id: str | None, why: str) -> None:
        outcome.told += 1
        if outcome.told <= MOST_TOLD:
            name = self.ledger.terms.plan.name
            log.warning("audit.found", mirror=name, kind=kind, path=path, document_id=remote_id, reason=why)

    async def _end(self, outcome: Outcome, began: float) -> None:
        terms, now = self.ledger.terms, self.clock.wall()
        kept = findings.Findings(terms.binding, now, **outcome.left, mended=outcome.mended, is_audit=True)
        await self.store.write(partial(_kept, terms.mirror, kept))
        log.info(
            "audit.ended",
            mirror=terms.plan.name,
            missing=outcome.missing,
            duplicate=outcome.duplicate,
            orphaned=outcome.orphaned,
            foreign=outcome.foreign,
            beyond=outcome.beyond,
            mended=outcome.mended,
            seconds=round(now - began, 1),
        )


def _kept(mirror: int, known: findings.Findings, tx: Tx) -> None:
    findings.keep(tx, mirror, known)


async def _counted(pages: AsyncIterator[list[Upload]]) -> tuple[list[Upload], int]:
    """The first few rows, and how many there are."""
    first: list[Upload] = []
    count = 0
    async for page in pages:
        count += len(page)
        first += page[: SAMPLE - len(first)]
    return first, count


def _emptied(name: str, missing: int, serving: int) -> Halted:
    return Halted(
        "knowledge-base-emptied",
        f"{missing} of {serving} documents are no longer in the knowledge base",
        cure=f"kbsync verify --repair --mirror {name}",
    )
