"""kill -9 at every commit of the state and every request to the service, by enumeration."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from tests.crash.house import jobs_on
from tests.crash.plays import cut_everywhere, play_job
from tests.share import SHARE, share_of

PLAYED = list(jobs_on("gptbots"))
STEP = 1 if SHARE == 1 else 4 * SHARE
"""The boundaries of all targets are many: of these the test command goes through one in so many."""

# What a killed process leaves open is closed by its end; here the process goes on.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.mark.parametrize("job", share_of(PLAYED))
def test_a_crash_anywhere_leaves_one_document_a_file(tmp_path: Path, job: str) -> None:
    numbers = itertools.count(1 + PLAYED.index(job) % STEP, STEP)
    tally = play_job(lambda there, one: cut_everywhere(there, one, numbers), "gptbots", job, tmp_path / "w")
    assert tally.crashes > 0
