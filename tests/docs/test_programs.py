"""Tests that `.ci/run` installs the programs that tests need."""

from __future__ import annotations

import re
from pathlib import Path

from tests.cli.test_completion import ASK
from tests.docs.as_unit import LIBRARY
from tests.docs.pages import ROOT
from tests.share import long

OF_EXTRAS = {"check-jsonschema", "hadolint", "kubernetes-validate", "pyproject-build"}


@long
def test_documented_requirements_match_what_ci_installs() -> None:
    """By Debian packages named in `.ci/run`, or by the extras of this project."""
    listed = set(re.findall(r"^    (\S+)=\S+$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE))
    assert {name for name in _needed() if name not in listed} <= OF_EXTRAS
    assert listed <= _needed() | {"bash"}


def _needed() -> set[str]:
    """Return every name in a call of `needs` or `require_programs`, including the shells and the library."""
    text = "\n".join(file.read_text() for file in (ROOT / "tests").rglob("*.py") if file != Path(__file__))
    calls = re.findall(r"\b(?:needs|require_programs)\(\[?((?:\"[^\"]+\"(?:, )?)+)", text)
    return {name for call in calls for name in re.findall(r'"([^"]+)"', call)} | {*ASK, LIBRARY}
