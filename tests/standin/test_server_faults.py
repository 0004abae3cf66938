"""Tests which request a fault affects, and which descriptions of faults are refused."""

from __future__ import annotations

import math

import pytest

from kbsync_standin.faults import Fault, Faults


@pytest.fixture
def faults() -> Faults:
    return Faults({"shout": "the answer is in capitals"})


def played(faults: Faults, *calls: tuple[str, str]) -> list[str]:
    played_faults = [faults.take(op, subject) for op, subject in calls]
    return ["" if fault is None else fault.kind for fault in played_faults]


UPLOAD = ("upload", "a.md")


@pytest.mark.parametrize(
    ("waiting", "calls", "hit"),
    [
        ([Fault("hang")], [UPLOAD] * 2, ["hang", ""]),
        ([Fault("hang", skip=2, times=2)], [UPLOAD] * 6, ["", "", "hang", "hang", "", ""]),
        ([Fault("hang", times=0)], [UPLOAD] * 50, ["hang"] * 50),
        (
            [Fault("hang", op="upload", match="*.pdf", skip=1)],
            [UPLOAD, ("read", "b.pdf"), ("upload", "b.pdf"), ("upload", "c.pdf")],
            ["", "", "", "hang"],
        ),
        ([Fault("hang", op="document-*", times=0)], [("document-delete", ""), ("delete", "")], ["hang", ""]),
        ([Fault("hang", match="notes [1].md")], [("upload", "notes [1].md")], ["hang"]),
        # A skipped fault counts calls that others affect; of two due faults, the first applies.
        ([Fault("hang"), Fault("empty", skip=2)], [UPLOAD] * 4, ["hang", "", "empty", ""]),
        ([Fault("hang"), Fault("empty")], [UPLOAD] * 3, ["hang", "empty", ""]),
    ],
)
def test_fault_affects_only_the_targeted_calls(
    faults: Faults, waiting: list[Fault], calls: list[tuple[str, str]], hit: list[str]
) -> None:
    for fault in waiting:
        faults.add(fault)
    assert played(faults, *calls) == hit
    faults.clear()
    assert played(faults, *calls) == [""] * len(calls)


def test_application_cannot_use_a_fault_kind_of_the_server() -> None:
    with pytest.raises(ValueError, match="hang"):
        Faults({"hang": "mine"})


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (Fault("hnag"), "unknown fault kind 'hnag'"),
        (Fault("empty", args={"status": 1}), "empty has no argument status; it has none"),
        (Fault("hang", args={"secs": 1}), "hang has no argument secs; it has seconds"),
        (Fault("hang", args={"seconds": -1}), "seconds=-1"),
        (Fault("hang", args={"seconds": math.inf}), "seconds=inf"),
        (Fault("drip", args={"every": True}), "every=True"),
        (Fault("drip", args={"every": None}), "every=None"),
        (Fault("redirect"), "`Location`"),
        (Fault("redirect", args={"to": "/x", "status": 200}), "status=200"),
        (Fault("status", args={"status": 99}), "status=99"),
        (Fault("status", args={"status": "500"}), "status='500'"),
        (Fault("slow-reading", args={"bytes_per_second": 0}), "above 0"),
        (Fault("very-large-body", args={"bytes": 10**15}), "at most"),
        (Fault("late-effect", args={"hang": 1}), "hang=1"),
    ],
)
def test_impossible_fault_is_refused(faults: Faults, fault: Fault, sentence: str) -> None:
    with pytest.raises(ValueError) as refusal:
        faults.add(fault)
    assert sentence in str(refusal.value)
    assert faults.all == []
