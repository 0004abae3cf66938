"""Random lives of a folder at each stand-in, through the real client and TCP; the torture run lives more."""

from __future__ import annotations

import pytest

from tests.remote.machine import SERVICES, machine
from tests.torture.machine import live


@pytest.mark.parametrize("service", SERVICES)
def test_at_a_service_every_promise_is_kept_and_then_the_base_equals_the_folder(service: str) -> None:
    tally = live(machine(service), 30, lives=4, rules=40)
    assert tally.steps > 100
    assert tally.crashes > 0
    assert tally.faults > 0
