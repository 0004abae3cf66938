"""Others make a mess of the knowledge base: audits put in order what is ours, and ask little for it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.share import enumerated
from tests.torture.audits import audited


@enumerated()
@pytest.mark.parametrize("seed", range(30))
async def test_audits_end_a_mess_that_others_made(tmp_path: Path, seed: int) -> None:
    tally = await audited(tmp_path, random.Random(seed), turns=2)
    assert tally.faults > 1
