"""The page of faults names every kind there is, and tests that exist."""

from __future__ import annotations

import re

from kbsync_standin.gptbots.behaviour import KINDS as AT_GPTBOTS
from kbsync_standin.kinds import TRANSPORT
from kbsync_standin.vectors.app import KINDS as OF_VECTORS
from kbsync_standin.zhipu.faults import KINDS as AT_ZHIPU
from tests.docs.pages import ROOT

PAGE = ROOT / "docs" / "internals" / "faults.md"


def test_the_tests_that_the_page_names_exist() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE.read_text())
    assert len(named) > 20
    for file, test in named:
        assert re.search(rf"def {test}\(", (ROOT / file).read_text()), f"{file} has no {test}"


def test_every_kind_of_fault_has_its_place_on_the_page() -> None:
    rows = [line.split("|")[2] for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    told = {kind for row in rows for kind in re.findall(r"`([\w-]+)`", row)}
    assert told == {*TRANSPORT, *AT_ZHIPU, *AT_GPTBOTS, *OF_VECTORS}


def test_the_kinds_of_vectors_have_a_section_and_are_played_by_the_test_beside_them() -> None:
    section = PAGE.read_text().partition("## Vectors and ranking")[2].partition("\n\nThe test")[0]
    rows = [line.split("|") for line in section.splitlines() if "::" in line]
    told = {kind: row[4] for row in rows for kind in re.findall(r"`([\w-]+)`", row[2])}
    assert told.keys() == OF_VECTORS.keys()
    for kind, place in told.items():
        assert f'"{kind}"' in source_of(place), f"{kind} is not played by {place}"


def source_of(place: str) -> str:
    """The text of a test that the page names, from what is set before it to the next one."""
    file, name = re.findall(r"`([\w/.]+)::(\w+)`", place)[0]
    tests = re.split(r"\n\n\n", (ROOT / file).read_text())
    return next(text for text in tests if f"def {name}(" in text)
