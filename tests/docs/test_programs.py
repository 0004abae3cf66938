"""Tests for which a program is missing are skipped by name, or fail where none may be missing."""

from __future__ import annotations

import pytest

from tests import programs

MISSING = "no-such-program"


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


def test_the_summary_counts_by_program() -> None:
    skipped = ["git is not installed", "root reads everything", "a is not installed", "git is not installed"]
    assert programs.summary(skipped) == ["1 skipped: a is not installed", "2 skipped: git is not installed"]
