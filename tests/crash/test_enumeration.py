"""A crash at every commit, request, effect and answer of every job, in memory and on the embedded target."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.house import MEMORY, jobs_on
from tests.crash.plays import cut_everywhere, cut_recovery, play_job
from tests.share import SHARE, boundaries, share_of

CASES = [(stage, job) for stage in (*MEMORY, "local") for job in jobs_on(stage)]
FIRST = (3, 9, 15, 21)


@pytest.mark.parametrize(("stage", "job"), share_of(CASES))
def test_a_crash_anywhere_leaves_one_document_a_file(tmp_path: Path, stage: str, job: str) -> None:
    numbers = boundaries(CASES.index((stage, job)))
    tally = play_job(lambda there, one: cut_everywhere(there, one, numbers), stage, job, tmp_path / "w")
    assert tally.crashes >= max(1, 8 // SHARE)


@pytest.mark.parametrize(("stage", "job"), share_of(CASES)[::SHARE])
def test_a_crash_during_the_recovery_from_a_crash(tmp_path: Path, stage: str, job: str) -> None:
    offset = CASES.index((stage, job))
    first, numbers = FIRST[offset % len(FIRST)], boundaries(offset)
    tally = play_job(lambda there, one: cut_recovery(there, one, first, numbers), stage, job, tmp_path / "w")
    assert tally.crashes >= max(1, 8 // SHARE)
