"""Tests for which a program is missing are skipped by name, or fail where none may be missing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import programs
from tests.cli.test_completion import SHELLS
from tests.docs.as_unit import LIBRARY
from tests.docs.pages import ROOT

MISSING = "no-such-program"
OF_EXTRAS = {"check-jsonschema", "hadolint", "kubernetes-validate", "pyproject-build"}


def test_a_missing_program_is_a_reason_to_skip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KBSYNC_NO_SKIP", raising=False)
    programs.look_for(["sh", "libc.so.6"])
    for name in (MISSING, "libno-such-library.so.1"):
        with pytest.raises(pytest.skip.Exception, match=f"{name} is not installed"):
            programs.look_for(["sh", name])


def test_where_everything_has_to_be_there_it_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KBSYNC_NO_SKIP", "1")
    with pytest.raises(pytest.fail.Exception, match=f"{MISSING} is not installed"):
        programs.look_for([MISSING])


def test_what_is_needed_is_what_the_machine_that_judges_installs() -> None:
    """By Debian packages named in `.ci/run`, or by the extras of this project."""
    listed = set(re.findall(r"^    (\S+)=\S+$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE))
    assert {name for name in _needed() if name not in listed} <= OF_EXTRAS
    assert listed <= _needed() | {"bash"}


def _needed() -> set[str]:
    """Every name that a test gives to `needs` or `look_for`, those of the shells and the library included."""
    text = "\n".join(file.read_text() for file in (ROOT / "tests").rglob("*.py") if file != Path(__file__))
    calls = re.findall(r"\b(?:needs|look_for)\(\[?((?:\"[^\"]+\"(?:, )?)+)", text)
    return {name for call in calls for name in re.findall(r'"([^"]+)"', call)} | {*SHELLS, LIBRARY}
