"""Plays random lives of a folder at each stand-in, through the real client and TCP; `make torture` plays
more."""

from __future__ import annotations

import pytest

from tests.remote.machine import machine
from tests.services.rows import ROWS
from tests.share import enumerated, run_seed
from tests.torture.machine import live


@enumerated()
@pytest.mark.parametrize("life", range(4))
@pytest.mark.parametrize("service", ROWS)
def test_at_a_service_every_promise_is_kept_and_then_the_base_equals_the_folder(
    service: str, life: int
) -> None:
    assert live(machine(service), 4 * run_seed() + life, lives=1, rules=40).steps > 20
