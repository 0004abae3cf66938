"""Tests that a hanging test fails under its own name, even if it catches exceptions."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT
from tests.programs import run_program
from tests.share import long

HANGING = """
import time
import pytest
from hypothesis import given, strategies

@pytest.mark.timeout(1)
@given(strategies.integers())
def test_examples(number):
    time.sleep(1000)

def test_what_comes_after():
    pass
"""

SLOW_REPORTS = """
import time
import pytest
import tests.conftest
tests.conftest.AGAIN = 0.2

@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call):
    if call.excinfo is not None:
        time.sleep(1.0)
    return (yield)
"""


@long
@pytest.mark.parametrize("reports", ["", SLOW_REPORTS], ids=["quick reports", "slow reports"])
def test_hanging_hypothesis_example_fails_once_and_the_next_test_runs(reports: str, tmp_path: Path) -> None:
    test = tmp_path / "test_hanging.py"
    test.write_text(HANGING)
    tmp_path.joinpath("conftest.py").write_text(reports)
    limits = ["-p", "tests.conftest", "--rootdir", tmp_path]
    plain = ["-p", "no:cacheprovider", "-o", "addopts="]
    every = {**os.environ, "KBSYNC_SHARE": "all"}
    completed = run_program(
        sys.executable, "-m", "pytest", *limits, *plain, test, cwd=ROOT, env=every, timeout=60
    )
    assert "FAILED" in completed.stdout and "test_hanging.py::test_examples" in completed.stdout, (
        completed.stdout
    )
    assert "1 failed, 1 passed" in completed.stdout
