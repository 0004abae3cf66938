"""Random lives of a folder at a stand-in, through the real client and TCP; the torture run lives more."""

from __future__ import annotations

import pytest

from tests.engine.machine import MirrorMachine
from tests.remote.machine import GptbotsMachine, ZhipuMachine
from tests.torture.machine import live


@pytest.mark.parametrize(
    ("machine", "seed", "rules", "fewest"), [(ZhipuMachine, 20, 30, 60), (GptbotsMachine, 22, 40, 80)]
)
def test_at_a_service_every_promise_is_kept_and_then_the_base_equals_the_folder(
    machine: type[MirrorMachine], seed: int, rules: int, fewest: int
) -> None:
    tally = live(machine, seed, lives=3, rules=rules)
    assert tally.steps > fewest
    assert tally.crashes > 0
    assert tally.faults > 0
