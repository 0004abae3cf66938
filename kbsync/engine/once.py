"""One full pass: compare, carry out, wait until every document is searchable or has failed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kbsync.core.model import ON_THE_WAY
from kbsync.engine.clock import rest
from kbsync.engine.halts import FAILING, TARGET_DOWN
from kbsync.engine.mirror import MirrorRun

DOWN_BUDGET = 60.0
SHORTEST, LONGEST = 0.02, 1.0
"""Seconds between two looks whether all is done; within these, a fifth of what the pass took until then."""
PATIENCE = 60.0
"""What pauses for longer than this is left to a later pass."""


@dataclass(frozen=True, slots=True)
class PassEnd:
    """How the pass ended besides what the rows say. `busy`: files still being written."""

    complete: bool
    trouble: str = ""
    busy: tuple[str, ...] = ()


async def run_once(
    run: MirrorRun,
    *,
    budget: float = DOWN_BUDGET,
    on_scanned: Callable[[int], None] = lambda _files: None,
) -> PassEnd:
    """The pass of one mirror; `budget`: seconds a target may be down before it is given up.

    `on_scanned` gets the number of files once the folder was compared. Never raises for what the folder or
    the target does; leaves `run` ended.
    """
    run.is_pass = True
    try:
        end = await _pass(run, budget, on_scanned)
        if end.trouble and run.parts is not None and await run.base_changed():
            await run.end()  # a damaged base was made anew: everything goes there
            end = await _pass(run, budget, on_scanned)
        if run.trouble:
            await run.leave_word(TARGET_DOWN, run.trouble)
        return end
    finally:
        await run.end()


async def _pass(run: MirrorRun, budget: float, on_scanned: Callable[[int], None]) -> PassEnd:
    if not await _begin(run, budget):
        return PassEnd(False, run.trouble)
    deep, first = await run.deep_is_due()
    summary = await run.compare(deep=deep)
    if summary is None:
        return PassEnd(False)
    on_scanned(summary.files)
    trouble = await _drain(run, budget)
    if run.halt is None and not trouble:
        await run.compared(deep=deep or first)
        await run.first_pass_over()
    return PassEnd(not trouble, trouble, _still_written(run) if run.halt is None and not trouble else ())


def _still_written(run: MirrorRun) -> tuple[str, ...]:
    return tuple(sorted(run.parts.reconciler.settling.paths())) if run.parts else ()


async def _begin(run: MirrorRun, budget: float) -> bool:
    deadline, wait = run.clock.steady() + budget, 1.0
    while not await run.begin():
        await run.tell_up()  # what a daemon noted before is found out anew
        if run.halt is not None or run.clock.steady() + wait > deadline:
            return False
        await run.clock.sleep(wait)
        wait *= 2
    return True


async def _drain(run: MirrorRun, budget: float) -> str:
    """Until nothing is left to do; '' or why it was given up."""
    begun = run.clock.steady()
    while run.halt is None:
        await run.tend()
        parts = run.parts
        assert parts is not None
        down = parts.worker.pulse.down_since
        if down is not None and run.clock.steady() - down >= budget:
            run.trouble = parts.worker.pulse.trouble
            return run.trouble
        if parts.worker.pulse.state_error:
            return parts.worker.pulse.state_error
        if failing := parts.worker.pulse.failures.lasting:
            await run.leave_word(FAILING, failing)
            return failing
        if await is_done(run):
            return await _left_over(run)
        parts.worker.rested.clear()
        pause = (run.clock.steady() - begun) / 5
        await rest(run.clock, min(LONGEST, max(SHORTEST, pause)), parts.worker.rested)
    return ""


async def is_done(run: MirrorRun) -> bool:
    """Nothing of the last comparison is left to do that will not wait for longer than `PATIENCE`.

    `run` has its parts. What came after the comparison is not asked about.
    """
    parts, snapshot = run.parts, run.snapshot
    assert parts is not None
    if snapshot or run.doubted:
        return False
    until = 0.0 if snapshot is None else snapshot.missed_until
    if await parts.deletions.are_open(until) or await parts.renewals.is_due():
        return False
    return await parts.worker.is_idle(PATIENCE)


async def _left_over(run: MirrorRun) -> str:
    """Why documents are still not sent although the pass is over; '' when all are."""
    assert run.parts is not None
    terms = run.parts.journal.terms
    rows = await run.store.read(
        lambda tx: tx.uploads.in_states(terms.mirror, terms.binding, ON_THE_WAY, limit=1)
    )
    return f"{rows[0].label}: {rows[0].reason or 'not sent yet'}" if rows else ""
