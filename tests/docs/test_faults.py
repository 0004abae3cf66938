"""The page of faults names every kind there is, and tests that exist."""

from __future__ import annotations

import re

from kbsync.standin.gptbots.faults import KINDS as AT_GPTBOTS
from kbsync.standin.kinds import TRANSPORT
from kbsync.standin.zhipu.faults import KINDS as AT_ZHIPU
from tests.docs.pages import ROOT

PAGE = ROOT / "docs" / "faults.md"


def test_the_tests_that_the_page_names_exist() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE.read_text())
    assert len(named) > 20
    for file, test in named:
        assert re.search(rf"def {test}\(", (ROOT / file).read_text()), f"{file} has no {test}"


def test_every_kind_of_fault_has_its_place_on_the_page() -> None:
    rows = [line.split("|")[2] for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    told = {kind for row in rows for kind in re.findall(r"`([\w-]+)`", row)}
    assert told == {*TRANSPORT, *AT_ZHIPU, *AT_GPTBOTS}
