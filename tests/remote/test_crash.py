"""kill -9 at every commit of the state and every request to the service, by enumeration, and once more."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.crash.house import jobs_on
from tests.crash.plays import crash_at_random, cut_one_part, cut_recovery_of_one_part, play_job
from tests.share import enumerated, in_parts

CASES = [("zhipu", job) for job in jobs_on("zhipu")]

# What a killed process leaves open is closed by its end; here the process goes on.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@enumerated("stage", "job")
@in_parts
@pytest.mark.parametrize(("stage", "job"), CASES)
def test_a_crash_anywhere_leaves_one_document_a_file(tmp_path: Path, stage: str, job: str, part: int) -> None:
    cut_one_part(tmp_path, stage, job, part)


@enumerated("stage", "job")
@in_parts
@pytest.mark.parametrize(("stage", "job"), CASES)
def test_a_crash_during_the_recovery_from_a_crash(tmp_path: Path, stage: str, job: str, part: int) -> None:
    cut_recovery_of_one_part(tmp_path, stage, job, part)


@pytest.mark.parametrize("seed", range(3))
def test_crashes_in_a_row_leave_one_document_a_file(tmp_path: Path, seed: int) -> None:
    chance, jobs = random.Random(seed), [job for job in jobs_on("zhipu").values() if not job.plan]
    tally = play_job(
        lambda there, _: crash_at_random(there, jobs, chance, 4), "zhipu", "create", tmp_path / "w"
    )
    assert tally.crashes >= 4
