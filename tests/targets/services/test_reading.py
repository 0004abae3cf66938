"""Tests that every response of a service is either read or refused as nonsense."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kbsync.targets.http.errors import HttpResponse
from kbsync.targets.services.clients import ServiceClassifier
from kbsync.targets.services.dialects import NonsenseError, order_of, vectors_of
from kbsync_standin.vectors.app import KINDS
from tests.share import long

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["data", "results", "index", "embedding", "score", "relevance_score", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


def test_vector_with_a_too_large_number_is_rejected_without_a_warning() -> None:
    assert vectors_of([[1e300, 1.0]], 1) == [None]


def test_error_without_a_code_shows_none() -> None:
    response = HttpResponse("rerank", 429, {}, {"detail": "slow"}, '{"detail": "slow"}', 0.0, "kb.example")
    error = ServiceClassifier("rerank", "/rerank")(response)
    assert error is not None and error.reason == "rerank: kb.example: slow"


@long
@settings(max_examples=400)
@given(body=JSON, count=st.integers(0, 3))
def test_any_response_is_parsed_as_vectors_or_rejected(body: Any, count: int) -> None:
    try:
        vectors = vectors_of(body, count)
    except NonsenseError:
        return
    assert len(vectors) == count
    for vector in vectors:
        assert vector is None or abs(float(np.linalg.norm(vector)) - 1) < 1e-3


@long
@settings(max_examples=400)
@given(body=JSON, count=st.integers(0, 3))
def test_any_response_is_parsed_as_a_ranking_or_rejected(body: Any, count: int) -> None:
    try:
        order = order_of(body, count)
    except NonsenseError:
        return
    assert sorted(index for index, _ in order) == list(range(count))
    assert all(math.isfinite(score) for _, score in order)
    assert [score for _, score in order] == sorted((score for _, score in order), reverse=True)


@pytest.mark.parametrize(
    "number", ["1e999", "-1e999", "NaN", "1" + "0" * 400, '"x"', "null", "true", "[1]", "{}"]
)
def test_invalid_numbers_are_ignored(number: str) -> None:
    body = json.loads(f'{{"data": [{{"index": 0, "embedding": [{number}, 1]}}]}}')
    try:
        (vector,) = vectors_of(body, 1)
    except NonsenseError:
        return
    assert vector is None or number == "true"


def test_every_vector_form_is_covered_by_a_test() -> None:
    tests = "".join(file.read_text() for file in Path(__file__).parent.glob("test_*.py"))
    assert [kind for kind in KINDS if f'"{kind}"' not in tests] == []
