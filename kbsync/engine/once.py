"""One full pass: compare, carry out, wait until every document is searchable or has failed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kbsync.core.model import ON_THE_WAY
from kbsync.engine.clock import rest
from kbsync.engine.halts import FAILING, TARGET_DOWN
from kbsync.engine.mirror import BoundMirror, MirrorRun

DOWN_BUDGET = 60.0
SHORTEST, LONGEST = 0.02, 1.0
"""Seconds between two looks whether all is done; within these, a fifth of what the pass took until then."""


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
        if end.trouble and run.bound is not None and await run.bound.base_changed():
            await run.end()  # a damaged base was made anew: everything goes there
            end = await _pass(run, budget, on_scanned)
        if run.trouble:
            await run.leave_word(TARGET_DOWN, run.trouble)
        return end
    finally:
        await run.end()


async def _pass(run: MirrorRun, budget: float, on_scanned: Callable[[int], None]) -> PassEnd:
    deadline, wait = run.clock.steady() + budget, 1.0
    while (bound := await run.begin()) is None:
        await run.tell_up()  # what a daemon noted before is found out anew
        if run.halt is not None or run.clock.steady() + wait > deadline:
            return PassEnd(False, run.trouble)
        await run.clock.sleep(wait)
        wait *= 2
    deep, first = await run.deep_is_due()
    summary = await bound.compare(deep=deep)
    if summary is None:
        return PassEnd(False)
    on_scanned(summary.files)
    trouble = await _drain(bound, budget)
    if trouble:
        return PassEnd(False, trouble)
    if run.halt is not None:
        return PassEnd(True)
    await bound.compared(deep=deep or first)
    await run.first_pass_over()
    return PassEnd(True, busy=tuple(sorted(bound.reconciler.settling.paths())))


async def _drain(bound: BoundMirror, budget: float) -> str:
    """Until nothing is left to do; '' or why it was given up."""
    run, worker = bound.run, bound.worker
    begun = run.clock.steady()
    while run.halt is None:
        await bound.tend()
        pulse = worker.pulse
        if pulse.down_since is not None and run.clock.steady() - pulse.down_since >= budget:
            run.trouble = pulse.trouble
            return run.trouble
        if pulse.state_error:
            return pulse.state_error
        if failing := pulse.failures.lasting:
            await run.leave_word(FAILING, failing)
            return failing
        if await bound.is_done():
            return await _left_over(bound)
        worker.rested.clear()
        pause = (run.clock.steady() - begun) / 5
        await rest(run.clock, min(LONGEST, max(SHORTEST, pause)), worker.rested)
    return ""


async def _left_over(bound: BoundMirror) -> str:
    """Why documents are still not sent although the pass is over; '' when all are."""
    terms = bound.journal.terms
    rows = await bound.run.store.read(
        lambda tx: tx.uploads.in_states(terms.mirror, terms.binding, ON_THE_WAY, limit=1)
    )
    return f"{rows[0].label}: {rows[0].reason or 'not sent yet'}" if rows else ""
