from __future__ import annotations

import pytest

from kbsync.targets.http.limits import Breaker
from tests.clocks import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock(1000.0)


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(clock)


def fail(breaker: Breaker, times: int) -> None:
    for _ in range(times):
        assert breaker.admit() is None
        breaker.failed("it is down")


def test_pauses_double_to_a_minute_and_begin_anew_after_a_success(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 5)
    pauses = []
    for _ in range(8):
        assert breaker.rest is not None
        pauses.append(breaker.rest)
        clock.now += breaker.rest
        fail(breaker, 1)
    assert pauses == pytest.approx([1, 2, 4, 8, 16, 32, 60, 60])
    breaker.succeeded()
    fail(breaker, 5)
    assert breaker.rest == pytest.approx(1.0)


def test_calls_that_were_under_way_do_not_make_the_pause_longer(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 5)
    clock.now += 0.75
    for _ in range(16):
        breaker.failed("it is down")
    assert breaker.rest == pytest.approx(0.25)


def test_a_probe_that_takes_long_keeps_nobody_else_from_probing(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 5)
    clock.now += 1.0
    assert breaker.admit() is None
    clock.now += 9.9
    assert breaker.admit() is not None
    clock.now += 0.2
    assert breaker.admit() is None
    assert breaker.admit() is not None


def test_a_longer_wish_of_the_target_is_kept(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 4)
    breaker.failed("it is down", 40.0)
    assert breaker.rest == pytest.approx(40.0)
    clock.now += 40.0
    assert breaker.admit() is None
    breaker.failed("it is down", 0.5)
    assert breaker.rest == pytest.approx(2.0)
