"""After a clock was set back: what was to be looked at in a future that never was, is looked at now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kbsync.core import pauses
from kbsync.core.lifecycle import LATER_LOOKS, LONGEST_AFTER_LOSS, REJECTED_DELETE_PAUSE, RETIRE_TRIES
from kbsync.core.model import Upload, UploadState
from kbsync.core.refreshing import LONGEST_PAUSE
from kbsync.engine.ledger import LONGEST_LAG, Ledger
from kbsync.state.store import Store, Tx

PAGE = 1000

LONGEST = {
    UploadState.INTENDED: LONGEST_AFTER_LOSS,
    UploadState.UNSURE: LONGEST_AFTER_LOSS,
    UploadState.PRESUMED_LOST: LATER_LOOKS[-1],
    UploadState.INDEXING: 2 * LONGEST_LAG,
    UploadState.RETIRING: REJECTED_DELETE_PAUSE,
    UploadState.ADOPTING: REJECTED_DELETE_PAUSE,
}
"""Seconds: no pause of a state is longer."""


async def bring_forward(store: Store, ledger: Ledger) -> int:
    """Rows due later than any pause explains become due; returns how many were."""
    terms, after, found = ledger.terms, 0, 0
    if terms.abilities.refreshes:
        await store.write(
            lambda tx: tx.uploads.weigh_again(terms.mirror, terms.binding, ledger.rhythm.now, LONGEST_PAUSE)
        )
    while rows := await store.read(
        lambda tx, after=after: tx.uploads.in_states(  # type: ignore[misc]
            terms.mirror, terms.binding, tuple(LONGEST), after, PAGE
        )
    ):
        after = rows[-1].id
        late = [row.id for row in rows if _is_too_late(row, ledger.rhythm.now)]
        found += len(late)
        if late:
            await store.write(lambda tx, late=late: _bring_forward(ledger, tx, late))  # type: ignore[misc]
    return found


def _is_too_late(row: Upload, now: float) -> bool:
    return row.next_look_at is not None and row.next_look_at > now + _longest(row)


def _longest(row: Upload) -> float:
    """A deletion that nobody answered yet waits for nothing, one that was put off now and then for little."""
    if row.state is not UploadState.RETIRING or row.attempts >= RETIRE_TRIES:
        return LONGEST[row.state]
    return pauses.LONGEST if row.reason else 0.0


def _bring_forward(ledger: Ledger, tx: Tx, numbers: Sequence[int]) -> None:
    now = ledger.rhythm.now
    for number in numbers:
        row = tx.uploads.get(number)
        if row is not None and row.state in LONGEST and _is_too_late(row, now):
            tx.uploads.save(replace(row, next_look_at=now))
