"""Random lives of a folder, with faults and crashes between; no promise is broken at any moment.

The torture run lives many more of them, each time others.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.engine.machine import MirrorMachine
from tests.engine.oracle import Oracle


def test_through_any_life_every_promise_is_kept_and_then_the_base_equals_the_folder() -> None:
    lives = settings(
        max_examples=8,
        stateful_step_count=40,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(MirrorMachine, settings=lives)  # type: ignore[no-untyped-call]


# -- the oracle sees what it is there for --------------------------------------------------------------


@pytest.fixture
def oracle() -> Oracle:
    """Two files are found."""
    oracle = Oracle()
    oracle.wrote("a.md", "one")
    oracle.wrote("b.md", "two")
    oracle.look([("a.md", "one"), ("b.md", "two")], "the start")
    oracle.passed()
    return oracle


def test_the_oracle_sees_a_gap(oracle: Oracle) -> None:
    oracle.wrote("a.md", "changed")
    oracle.look([("b.md", "two")], "a delete")
    assert oracle.gaps == ["a.md is not found any more, after a delete"]


def test_the_oracle_sees_a_gap_in_a_rename(oracle: Oracle) -> None:
    oracle.moved("a.md", "c.md")
    oracle.look([("a.md", "one"), ("b.md", "two")], "nothing")
    assert oracle.gaps == []
    oracle.look([("b.md", "two")], "a delete")
    assert oracle.gaps == ["c.md is not found any more, after a delete"]


def test_the_oracle_sees_a_text_that_was_never_in_the_file(oracle: Oracle) -> None:
    oracle.look([("a.md", "two"), ("b.md", "two")], "a mix-up")
    assert oracle.gaps == ["a.md is not found any more, after a mix-up"]


def test_the_oracle_sees_what_was_sent_twice(oracle: Oracle) -> None:
    oracle.sent("a.md", "one")
    assert oracle.sent_too_often() == []
    oracle.sent("a.md", "one")
    assert oracle.sent_too_often() == ["a.md: 'one' was sent 2 times, 1 are right"]


def test_a_file_that_is_back_is_owed_nothing_until_its_deletion_is_over(oracle: Oracle) -> None:
    oracle.gone("a.md")
    oracle.passing()
    oracle.wrote("a.md", "one")
    oracle.look([("a.md", "one"), ("b.md", "two")], "nothing")
    oracle.look([("b.md", "two")], "a delete sent before")
    assert oracle.gaps == []
    oracle.sent("a.md", "one")
    oracle.look([("a.md", "one"), ("b.md", "two")], "a put")
    oracle.look([("b.md", "two")], "a delete")
    assert oracle.gaps == ["a.md is not found any more, after a delete"]


def test_the_oracle_sees_that_nobody_was_asked() -> None:
    oracle = Oracle()
    names = [f"f{n}.md" for n in range(8)]
    for name in names:
        oracle.wrote(name, "text")
    for name in names[:6]:
        oracle.gone(name)
    oracle.asked_first(names[:6])
    oracle.look([(name, "text") for name in names[1:]], "a delete")
    assert oracle.gaps == ["f0.md was deleted and nobody was asked, after a delete"]
