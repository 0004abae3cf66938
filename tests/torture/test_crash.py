"""Plays the exercise that crashes again during the recovery, which no other test plays."""

from __future__ import annotations

from pathlib import Path

from tests.share import long, run_seed
from tests.torture.crash import during_recovery


@long
def test_crash_during_recovery_is_played_at_every_boundary(tmp_path: Path) -> None:
    tally = during_recovery(run_seed(), tmp_path)
    assert tally.steps > 0
    assert not tally.broken
