"""Random lives of a folder at the stand-in, through the real client and TCP; the torture run lives more."""

from __future__ import annotations

from tests.targets.gptbots.machine import GptbotsMachine
from tests.torture.machine import live

SEED = 22


def test_at_a_service_every_promise_is_kept_and_then_the_base_equals_the_folder() -> None:
    tally = live(GptbotsMachine, SEED, lives=3, rules=40)
    assert tally.steps > 80
    assert tally.crashes > 0
    assert tally.faults > 0
