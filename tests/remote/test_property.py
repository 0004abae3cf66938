"""Random lives of a folder at the stand-in, through the real client and TCP; the torture run lives more."""

from __future__ import annotations

from tests.remote.machine import ZhipuMachine
from tests.torture.machine import live

SEED = 20


def test_at_a_service_every_promise_is_kept_and_then_the_base_equals_the_folder() -> None:
    tally = live(ZhipuMachine, SEED, lives=3, rules=30)
    assert tally.steps > 60
