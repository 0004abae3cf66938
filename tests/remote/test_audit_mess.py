"""Others make a mess of the knowledge base: audits and repairs put in order what is ours, and ask little."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.share import enumerated
from tests.torture.audits import audit


@enumerated("at")
@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("at", ["zhipu", "gptbots"])
def test_a_mess_that_others_made_is_put_in_order(tmp_path: Path, at: str, seed: int) -> None:
    assert audit(at, seed, tmp_path, turns=2).faults > 1
