"""kill -9 at every commit of the state and every request to the service, by enumeration, and once more."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.crash.house import jobs_on
from tests.crash.plays import crash_at_random, cut_everywhere, play_job
from tests.share import SHARE, boundaries, some_of

CASES = [(stage, job) for stage in ("zhipu", "zhipu-in-place") for job in jobs_on(stage)]

# What a killed process leaves open is closed by its end; here the process goes on.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.mark.parametrize(("stage", "job"), some_of(CASES))
def test_a_crash_anywhere_leaves_one_document_a_file(tmp_path: Path, stage: str, job: str) -> None:
    numbers = boundaries(CASES.index((stage, job)))
    tally = play_job(lambda there, one: cut_everywhere(there, one, numbers), stage, job, tmp_path / "w")
    assert tally.crashes >= max(1, 10 // SHARE)


@pytest.mark.parametrize("seed", some_of(range(3)))
def test_crashes_in_a_row_leave_one_document_a_file(tmp_path: Path, seed: int) -> None:
    chance, jobs = random.Random(seed), [job for job in jobs_on("zhipu").values() if not job.plan]
    tally = play_job(
        lambda there, _: crash_at_random(there, jobs, chance, 4), "zhipu", "create", tmp_path / "w"
    )
    assert tally.crashes >= 4
