"""Others make a mess of the knowledge base: `verify` finds and explains it, a repair mends what is ours."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.share import enumerated
from tests.torture.audits_gptbots import audited


@enumerated()
@pytest.mark.parametrize("seed", range(30))
async def test_a_repair_ends_a_mess_that_others_made(tmp_path: Path, seed: int) -> None:
    tally = await audited(tmp_path, random.Random(seed), turns=2)
    assert tally.faults > 1
