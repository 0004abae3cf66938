"""Random lives of a folder, with faults and crashes between; no promise is broken at any moment.

The torture run lives many more of them, each time others.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.engine.machine import MirrorMachine
from tests.engine.oracle import Oracle
from tests.memory.target import MemoryTarget
from tests.memory.variants import AbleMemory, RenamingMemory, UpdatingMemory


def test_through_any_life_every_promise_is_kept_and_then_the_base_equals_the_folder() -> None:
    lives = settings(
        max_examples=5,
        stateful_step_count=40,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(MirrorMachine, settings=lives)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("variant", "call"),
    [(MemoryTarget, "put"), (UpdatingMemory, "put"), (RenamingMemory, "rename"), (AbleMemory, "rename")],
)
def test_a_new_file_at_the_old_path_of_a_rename_under_way_leaves_no_gap(
    variant: type[MemoryTarget], call: str
) -> None:
    """The rename is noted, and halted before it is carried out."""
    life = MirrorMachine()
    life.begin(variant=variant, lag=0.0, indexing=5.0 if call == "rename" else 0.0, bad="")
    life.once()
    life.move("f0.md", "else.md")
    life.fault(op=call, kind="full")
    life.once()
    assert ("f0.md", life.oracle.files["else.md"]) in life.shown()
    life.write("f0.md", life.oracle.files["else.md"])
    life.once()
    life.teardown()


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


@pytest.fixture
def renaming(oracle: Oracle) -> Oracle:
    """One of them was moved, and its rename not carried out when there was a new file at its old path."""
    oracle.moved("a.md", "c.md")
    oracle.passing()
    oracle.passed()
    oracle.wrote("a.md", "one")
    oracle.look([("a.md", "one"), ("b.md", "two")], "nothing")
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


def test_what_is_new_at_the_old_path_of_a_rename_that_was_noted_is_found_by_one_of_two_names(
    renaming: Oracle,
) -> None:
    renaming.look([("c.md", "one"), ("b.md", "two")], "the rename")
    assert renaming.gaps == []
    renaming.look([("c.md", "one"), ("a.md", "one"), ("b.md", "two")], "a put")
    renaming.look([("c.md", "one"), ("b.md", "two")], "a delete")
    assert renaming.gaps == ["a.md is not found any more, after a delete"]


def test_the_oracle_sees_that_neither_name_is_found(renaming: Oracle) -> None:
    renaming.look([("b.md", "two")], "a delete")
    assert "a.md is not found any more, after a delete" in renaming.gaps


def test_a_rename_that_was_carried_out_lends_its_old_name_no_more(renaming: Oracle) -> None:
    renaming.look([("c.md", "one"), ("a.md", "one"), ("b.md", "two")], "a put")
    renaming.carried_out()
    renaming.look([("c.md", "one"), ("a.md", "one"), ("b.md", "two")], "nothing")
    renaming.look([("c.md", "one"), ("b.md", "two")], "a delete")
    assert renaming.gaps == ["a.md is not found any more, after a delete"]


def test_a_rename_that_no_pass_saw_keeps_the_old_path_found(oracle: Oracle) -> None:
    oracle.moved("a.md", "c.md")
    oracle.wrote("a.md", "one")
    oracle.look([("a.md", "one"), ("b.md", "two")], "nothing")
    oracle.look([("c.md", "one"), ("b.md", "two")], "a rename")
    assert oracle.gaps == ["a.md is not found any more, after a rename"]


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
