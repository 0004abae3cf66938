"""Clocks are compared by what lies outside of the time a request took."""

from __future__ import annotations

import pytest

from kbsync.targets.http.client import A_SECOND, ClockSkew


@pytest.mark.parametrize(
    ("date", "sent", "heard", "apart"),
    [
        (100.0, 99.5, 100.2, 0.0),
        (100.0, 100.9, 101.0, 0.0),  # a Date leaves out the second's parts
        (100.0, 40.0, 160.0, 0.0),  # a slow upload is no difference
        (700.0, 100.0, 100.5, 599.5),
        (100.0, 700.0, 700.5, -599.0),
    ],
)
def test_only_what_lies_outside_of_the_request_counts(
    date: float, sent: float, heard: float, apart: float
) -> None:
    skew = ClockSkew()
    skew.learn(date, sent, heard, leaves_out=A_SECOND)
    assert skew.apart == pytest.approx(apart)


def test_an_answer_without_a_date_teaches_nothing() -> None:
    skew = ClockSkew()
    skew.learn(None, 1.0, 2.0)
    assert skew.apart is None
    skew.learn(700.0, 100.0, 100.0)
    skew.learn(None, 1.0, 2.0)
    assert skew.apart == 600.0
