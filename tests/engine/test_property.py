"""Plays random lives of a folder, with faults and crashes, and checks the promises at every moment.

The torture run plays many more, different each time.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.engine.machine import MirrorMachine
from tests.engine.oracle import Oracle
from tests.memory.target import MemoryTarget
from tests.memory.variants import AbleMemory, RenamingMemory, UpdatingMemory
from tests.share import long, run_seed
from tests.torture.machine import live


@long
def test_random_histories_keep_every_promise_and_end_with_base_equal_to_folder() -> None:
    assert live(MirrorMachine, run_seed(), lives=5, rules=40).steps > 100


@long
@pytest.mark.parametrize(
    ("variant", "call"),
    [(MemoryTarget, "put"), (UpdatingMemory, "put"), (RenamingMemory, "rename"), (AbleMemory, "rename")],
)
def test_new_file_at_the_old_path_of_a_pending_rename_leaves_no_gap(
    variant: type[MemoryTarget], call: str
) -> None:
    """The rename is recorded, and interrupted before it is carried out."""
    life = MirrorMachine()
    life.begin(variant=variant, lag=0.0, indexing=5.0 if call == "rename" else 0.0, bad="")
    life.once()
    life.move("f0.md", "else.md")
    life.fault(op=call, kind="full")
    life.once()
    assert ("f0.md", life.oracle.files["else.md"]) in life.search_results()
    life.write("f0.md", life.oracle.files["else.md"])
    life.once()
    life.teardown()


def test_file_restored_under_another_name_ends_the_hold_of_its_document() -> None:
    """One decision serves the document again and renames it."""
    life = MirrorMachine()
    life.begin(variant=RenamingMemory, lag=0.0, indexing=0.0, bad="")
    life.once()
    life.unmount(empty=True)
    life.once()
    life.move("f0.md", "else.md")
    life.mount()
    life.once()
    life.teardown()


# -- the oracle detects violations -------------------------------------------------------------------------


A, B, C = ("a.md", "one"), ("b.md", "two"), ("c.md", "one")
Steps = list[tuple[Any, ...]]
RENAMED: Steps = [("moved", "a.md", "c.md"), ("check", "nothing", A, B)]
NOTED: Steps = [*RENAMED[:1], ("passing",), ("passed",), ("wrote", *A), ("check", "nothing", A, B)]
"""A rename that wasn't carried out when a new file appeared at its old path."""
PUT = ("check", "a put", A, C, B)


@pytest.mark.parametrize(
    ("steps", "missing"),
    [
        ([("wrote", "a.md", "changed"), ("check", "it", B)], "a.md"),
        ([("check", "it", ("a.md", "two"), B)], "a.md"),  # another file's text
        ([*RENAMED, ("check", "it", B)], "c.md"),
        # One of both names is enough until both were found, or the rename was carried out.
        ([*NOTED, ("check", "a rename", C, B), PUT, ("check", "it", C, B)], "a.md"),
        ([*NOTED, PUT, ("carried_out",), PUT, ("check", "it", C, B)], "a.md"),
        # no pass saw it
        ([*RENAMED, ("wrote", *A), ("check", "nothing", A, B), ("check", "it", C, B)], "a.md"),
    ],
)
def test_oracle_detects_gaps_and_duplicate_uploads(steps: Steps, missing: str) -> None:
    oracle = Oracle()
    oracle.wrote(*A)
    oracle.wrote(*B)
    for verb, *args in [("check", "the start", A, B), ("passed",), *steps]:
        if verb == "check":
            oracle.check(args[1:], args[0])
        else:
            getattr(oracle, verb)(*args)
    assert oracle.gaps == [f"{missing} is not found any more, after it"]
    oracle.record_upload(*B)
    assert oracle.sent_too_often() == []
    oracle.record_upload(*B)
    assert oracle.sent_too_often() == ["b.md: 'two' was sent 2 times, 1 are right"]
