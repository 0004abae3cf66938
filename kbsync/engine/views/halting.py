"""Why a mirror at work does nothing, as `status` shows it."""

from __future__ import annotations

from kbsync.engine.mirror import MirrorRun
from kbsync.engine.status import mirror_status
from kbsync.state.glance import Tx
from kbsync.state.mirrors import Halt


def halt_shown(tx: Tx, run: MirrorRun) -> Halt | None:
    """The halt of the run, or held deletions, which are one as well; None where it works."""
    record = tx.mirrors.named(run.plan.name)
    if record is None or run.halt is not None:
        return run.halt
    return mirror_status(tx, record, now=run.clock.wall(), cure=run.site.cure, at_work=run.site.at_work).halt
