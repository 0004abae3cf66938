"""Tests that the catalogue's quotes match the code and the tests; `make mistakes` makes each mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mistakes.__main__ import PROJECT
from tests.mistakes.catalogue import MISTAKES, Mistake


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_each_mistake_can_be_applied_and_its_tests_exist(mistake: Mistake) -> None:
    assert (PROJECT / mistake.file).read_text().count(mistake.right) == 1
    assert all(Path(PROJECT, test.partition("::")[0]).exists() for test in mistake.tests)
