"""Tests that the catalogue's quotes match the code and the tests; `make mistakes` makes each mistake."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.mistakes.__main__ import PROJECT
from tests.mistakes.catalogue import MISTAKES, Mistake
from tests.share import long


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_each_mistake_can_be_applied_and_its_tests_exist(mistake: Mistake) -> None:
    assert (PROJECT / mistake.file).read_text().count(mistake.right) == 1
    assert all(Path(PROJECT, test.partition("::")[0]).exists() for test in mistake.tests)


@long
def test_no_mistake_uses_an_undefined_name(tmp_path: Path) -> None:
    """Any test notices a `NameError`, even if none notices the mistake itself."""
    for name, mistake in MISTAKES.items():
        text = (PROJECT / mistake.file).read_text()
        tmp_path.joinpath(f"{name}.py").write_text(text.replace(mistake.right, mistake.wrong))
    check = ["ruff", "check", "--isolated", "--no-cache", "--select=F821", "--output-format=concise"]
    result = subprocess.run(
        [sys.executable, "-m", *check, "."], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout
