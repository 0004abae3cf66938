"""Random lives of a folder, with faults and crashes between; no promise is broken at any moment.

The torture run lives many more of them, each time others.
"""

from __future__ import annotations

from typing import Any

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


A, B, C = ("a.md", "one"), ("b.md", "two"), ("c.md", "one")
RENAMED: list[tuple[Any, ...]] = [("moved", "a.md", "c.md"), ("look", "nothing", A, B)]
NOTED: list[tuple[Any, ...]] = [
    ("moved", "a.md", "c.md"),
    ("passing",),
    ("passed",),
    ("wrote", *A),
    ("look", "nothing", A, B),
]
"""A rename that was not carried out when there was a new file at its old path."""
CARRIED_OUT: list[tuple[Any, ...]] = [
    ("look", "a put", A, C, B),
    ("carried_out",),
    ("look", "nothing", A, C, B),
]
BACK: list[tuple[Any, ...]] = [
    ("gone", "a.md"),
    ("passing",),
    ("wrote", *A),
    ("look", "nothing", A, B),
    ("look", "a delete", B),
]


@pytest.mark.parametrize(
    ("steps", "lost", "after"),
    [
        ([("wrote", "a.md", "changed"), ("look", "a delete", B)], "a.md", "a delete"),
        ([("look", "a text of another file", ("a.md", "two"), B)], "a.md", "a text of another file"),
        ([*RENAMED, ("look", "a delete", B)], "c.md", "a delete"),
        # one of both names is enough until both were found, or the rename was carried out
        (
            [*NOTED, ("look", "a rename", C, B), ("look", "a put", A, C, B), ("look", "it", C, B)],
            "a.md",
            "it",
        ),
        ([*NOTED, *CARRIED_OUT, ("look", "it", C, B)], "a.md", "it"),
        # no pass saw it
        (
            [*RENAMED, ("wrote", *A), ("look", "nothing", A, B), ("look", "a rename", C, B)],
            "a.md",
            "a rename",
        ),
        # its deletion was sent before it was back
        ([*BACK, ("sent", *A), ("look", "a put", A, B), ("look", "it", B)], "a.md", "it"),
    ],
)
def test_the_oracle_sees_a_gap(oracle: Oracle, steps: list[tuple[Any, ...]], lost: str, after: str) -> None:
    for verb, *args in steps:
        if verb == "look":
            oracle.look(args[1:], args[0])
        else:
            getattr(oracle, verb)(*args)
    assert oracle.gaps == [f"{lost} is not found any more, after {after}"]


def test_the_oracle_sees_what_was_sent_twice(oracle: Oracle) -> None:
    oracle.sent("a.md", "one")
    assert oracle.sent_too_often() == []
    oracle.sent("a.md", "one")
    assert oracle.sent_too_often() == ["a.md: 'one' was sent 2 times, 1 are right"]


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
