"""The page of faults names every kind there is, and every kind of vectors is played."""

from __future__ import annotations

import re

from kbsync_standin.gptbots.behaviour import KINDS as AT_GPTBOTS
from kbsync_standin.kinds import TRANSPORT
from kbsync_standin.vectors.app import KINDS as OF_VECTORS
from kbsync_standin.zhipu.faults import KINDS as AT_ZHIPU
from tests.docs.pages import ROOT

PAGE = ROOT / "docs" / "internals" / "faults.md"


def test_every_kind_of_fault_has_its_place_on_the_page() -> None:
    rows = [line.split("|")[2] for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    told = {kind for row in rows for kind in re.findall(r"`([\w-]+)`", row)}
    assert told == {*TRANSPORT, *AT_ZHIPU, *AT_GPTBOTS, *OF_VECTORS}


def test_every_kind_of_vectors_is_played_by_a_test() -> None:
    tests = "".join(file.read_text() for file in (ROOT / "tests/targets/services").glob("test_*.py"))
    assert [kind for kind in OF_VECTORS if f'"{kind}"' not in tests] == []
