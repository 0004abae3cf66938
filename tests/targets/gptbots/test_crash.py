"""kill -9 at every commit of the state and every request to the service, by enumeration."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.house import jobs_on
from tests.crash.plays import cut_one_part, cut_recovery_of_one_part
from tests.share import enumerated, in_parts

# What a killed process leaves open is closed by its end; here the process goes on.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@enumerated("job")
@in_parts
@pytest.mark.parametrize("job", jobs_on("gptbots"))
def test_a_crash_anywhere_leaves_one_document_a_file(tmp_path: Path, job: str, part: int) -> None:
    cut_one_part(tmp_path, "gptbots", job, part)


@enumerated("job")
@in_parts
@pytest.mark.parametrize("job", jobs_on("gptbots"))
def test_a_crash_during_the_recovery_from_a_crash(tmp_path: Path, job: str, part: int) -> None:
    cut_recovery_of_one_part(tmp_path, "gptbots", job, part)
