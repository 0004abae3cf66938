from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kbsync.config.kinds import parse_duration, write_duration


def test_forms_are_read() -> None:
    forms = {"500ms": 0.5, "2s": 2.0, "0.5s": 0.5, "15m": 900.0, "1h": 3600.0, "1d": 86400.0, "0s": 0.0}
    assert {text: parse_duration(text) for text in forms} == forms


@pytest.mark.parametrize(
    "text", ["", "5", "s", "-1s", "1.s", "2 s", "2S", "2s\n", "1h30m", "٢s", "1e3s", "infs"]
)
def test_everything_else_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(ValueError, match="such as 500ms, 2s, 15m, 1h or 1d"):
        parse_duration(text)


@given(st.integers(0, 10**9))
@settings(deadline=None)
def test_written_durations_are_read_back(milliseconds: int) -> None:
    assert parse_duration(write_duration(milliseconds / 1000)) == pytest.approx(milliseconds / 1000)


def test_written_durations_are_short() -> None:
    seconds = (0.0, 0.1, 2.0, 90.0, 900.0, 7200.0, 86400.0)
    assert " ".join(map(write_duration, seconds)) == "0s 100ms 2s 90s 15m 2h 1d"
