"""Plays random lives of a folder at each stand-in, through the real client and TCP; `make torture` plays
more."""

from __future__ import annotations

import pytest

from tests.remote.machine import machine
from tests.services.rows import ROWS
from tests.share import enumerated, long, run_seed
from tests.torture.machine import live


@long
@enumerated()
@pytest.mark.parametrize("life", range(4))
@pytest.mark.parametrize("service", ROWS)
def test_random_histories_at_a_service_keep_every_promise_and_end_equal(service: str, life: int) -> None:
    assert live(machine(service), 4 * run_seed() + life, lives=1, rules=40).steps > 20
