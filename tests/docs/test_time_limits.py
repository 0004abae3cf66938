"""A test that hangs fails under its own name, also where it catches exceptions."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.docs.pages import ROOT

HANGING = """
import time
from hypothesis import given, strategies

@given(strategies.integers())
def test_examples(number):
    time.sleep(1000)

def test_what_comes_after():
    pass
"""


def test_an_example_of_hypothesis_that_hangs_fails_once_and_the_next_test_is_run(tmp_path: Path) -> None:
    (tmp_path / "test_hanging.py").write_text(HANGING)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "tests.conftest",
        "--timeout",
        "1",
        "--rootdir",
        tmp_path,
    ]
    ran = subprocess.run(
        [*command, "-p", "no:cacheprovider", "-o", "addopts=", tmp_path / "test_hanging.py"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "FAILED" in ran.stdout and "test_hanging.py::test_examples" in ran.stdout, ran.stdout
    assert "1 failed, 1 passed" in ran.stdout
