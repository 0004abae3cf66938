"""Scores of a ranking service become scores of hits: positive, in its order, the rest behind."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kbsync.index.search import behind, spread, with_unranked

SCORES = st.lists(st.floats(-50, 50), min_size=1, max_size=20).map(lambda each: sorted(each, reverse=True))


@given(SCORES)
def test_the_order_is_kept_and_every_score_is_a_share(scores: list[float]) -> None:
    order = spread(list(enumerate(scores)))
    assert [index for index, _ in order] == list(range(len(scores)))
    shares = [score for _, score in order]
    assert shares == sorted(shares, reverse=True)
    assert all(0 < share <= 1 for share in shares)


def test_shares_stay_as_they_are() -> None:
    assert spread([(1, 0.9), (0, 0.2)]) == [(1, 0.9), (0, 0.2)]


def test_who_is_not_asked_about_keeps_its_place_and_no_score_rises() -> None:
    order = [(2, 0.9), (0, 0.5), (1, 0.1)]
    assert with_unranked(order, [0, 1, 2]) == order
    assert with_unranked(order, [1, 3, 4]) == [(0, 0.9), (4, 0.9), (2, 0.9), (1, 0.5), (3, 0.1)]


@given(st.lists(st.floats(0.01, 1), max_size=10).map(lambda each: sorted(each, reverse=True)))
def test_what_was_not_asked_about_stays_behind_in_its_order(scores: list[float]) -> None:
    rest = behind(scores, 0.3)
    assert rest == sorted(rest, reverse=True)
    assert all(score < 0.3 for score in rest)


def test_nothing_is_behind_nothing() -> None:
    assert behind([], 0.3) == pytest.approx([])
