from __future__ import annotations

import asyncio
import random

import pytest

from kbsync.targets.http.limits import Account, Gate, Pace
from tests.clocks import Clock, settled


@pytest.fixture
def clock() -> Clock:
    return Clock(1000.0)


def gate(clock: Clock, concurrency: int = 4, per_minute: int = 0) -> Gate:
    return Gate(concurrency, per_minute, clock, clock.sleep)


async def test_no_more_than_the_limit_are_let_in(clock: Clock) -> None:
    the_gate = gate(clock, 2)
    tasks = [asyncio.create_task(the_gate.enter()) for _ in range(3)]
    await settled()
    assert [task.done() for task in tasks] == [True, True, False]
    the_gate.leave()
    await tasks[2]
    assert the_gate.in_flight == 2


async def test_first_come_first_served(clock: Clock) -> None:
    the_gate, order = gate(clock, 1), []

    async def caller(number: int) -> None:
        await the_gate.enter()
        order.append(number)
        await asyncio.sleep(0)
        the_gate.leave()

    await asyncio.gather(*[caller(number) for number in range(20)])
    assert order == list(range(20))


async def test_a_caller_who_gives_up_waiting_keeps_nobody_out(clock: Clock) -> None:
    the_gate = gate(clock, 1)
    await the_gate.enter()
    waiting = [asyncio.create_task(the_gate.enter()) for _ in range(3)]
    await settled()
    waiting[0].cancel()
    waiting[1].cancel()
    the_gate.leave()
    await waiting[2]
    assert the_gate.in_flight == 1


async def test_a_limit_of_the_target_halves_once_a_burst_and_never_below_one(clock: Clock) -> None:
    the_gate = gate(clock, 8)
    bursts = [await the_gate.enter() for _ in range(8)]
    for burst in bursts:
        the_gate.slowed(burst, None)
        the_gate.leave()
    assert the_gate.limit == 4
    for expected in (2, 1, 1):
        the_gate.slowed(await the_gate.enter(), None)
        the_gate.leave()
        assert the_gate.limit == expected


async def test_the_targets_wish_is_kept_before_anybody_goes(clock: Clock) -> None:
    the_gate = gate(clock)
    the_gate.slowed(await the_gate.enter(), 7.0)
    await the_gate.enter()
    assert clock.slept == pytest.approx([7.0])


async def test_a_longer_wish_within_a_burst_counts(clock: Clock) -> None:
    the_gate = gate(clock)
    first, second = await the_gate.enter(), await the_gate.enter()
    the_gate.slowed(first, 1.0)
    the_gate.slowed(second, 9.0)
    assert the_gate.limit == 2
    the_gate.leave()
    await the_gate.enter()
    assert sum(clock.slept) == pytest.approx(9.0)


async def test_pauses_of_our_own_grow_to_half_a_minute_until_it_goes_well_again(clock: Clock) -> None:
    the_gate = gate(clock)
    for _ in range(7):
        burst = await the_gate.enter()
        the_gate.leave()
        the_gate.slowed(burst, None)
    burst = await the_gate.enter()
    assert clock.slept == pytest.approx([1, 2, 4, 8, 16, 30, 30])
    the_gate.succeeded(burst)
    the_gate.slowed(burst, 0.0)
    the_gate.leave()
    await the_gate.enter()
    assert clock.slept[-1] == pytest.approx(1.0)


async def test_the_limit_rises_by_one_after_four_rounds_and_not_above_its_start(clock: Clock) -> None:
    the_gate = gate(clock, 4)
    old = await the_gate.enter()
    the_gate.slowed(old, None)
    the_gate.leave()
    burst = await the_gate.enter()
    the_gate.succeeded(old)
    for _ in range(7):
        the_gate.succeeded(burst)
    assert the_gate.limit == 2
    the_gate.succeeded(burst)
    assert the_gate.limit == 3
    for _ in range(100):
        the_gate.succeeded(burst)
    assert the_gate.limit == 4


async def test_a_lowered_limit_holds_even_when_many_are_in_flight(clock: Clock) -> None:
    the_gate = gate(clock, 4)
    bursts = [await the_gate.enter() for _ in range(4)]
    the_gate.slowed(bursts[0], 1.0)
    next_one = asyncio.create_task(the_gate.enter())
    for _ in range(2):
        the_gate.leave()
        await settled()
        assert not next_one.done()
    the_gate.leave()
    await next_one
    assert the_gate.in_flight == 2


@pytest.mark.parametrize("per_minute", [1, 2, 10, 30, 60, 100, 600])
async def test_requests_are_spaced_and_never_more_than_allowed_in_any_minute(
    clock: Clock, per_minute: int
) -> None:
    the_gate, starts = gate(clock, 1000, per_minute), []
    for _ in range(3 * per_minute + 5):
        await the_gate.enter()
        starts.append(clock.now)
        the_gate.leave()
    for first, beyond in zip(starts, starts[per_minute:], strict=False):
        assert beyond - first >= 60.0 - 1e-6
    at_once = sum(start == starts[0] for start in starts)
    assert at_once <= 5
    assert starts[-1] - starts[0] < 60.0 * 3.7 + 60.0 * 5 / per_minute


async def test_without_a_limit_nobody_waits(clock: Clock) -> None:
    pace = Pace(0, clock)
    assert [pace.claim(10**9), pace.claim(10**9)] == [0.0, 0.0]
    assert pace.chunk(65536) == 65536
    assert Pace(10_000, clock).chunk(65536) == 2500


@pytest.mark.parametrize("per_minute", [1, 2, 10, 30, 60, 600])
async def test_restarts_at_any_moment_do_not_make_more_requests_a_minute(
    clock: Clock, per_minute: int
) -> None:
    chance, starts = random.Random(per_minute), []
    while len(starts) < 3 * per_minute + 5:
        the_gate = gate(clock, 1000, per_minute)
        for _ in range(chance.randrange(1, per_minute + 6)):
            await the_gate.enter()
            starts.append(clock.now)
        clock.now += chance.choice([0.0, 0.3, 7.0])
    for first, beyond in zip(starts, starts[per_minute:], strict=False):
        assert beyond - first >= 60.0 - 1e-6


async def test_a_command_that_somebody_typed_begins_at_once(clock: Clock) -> None:
    the_gate = Gate(4, 1, clock, clock.sleep, is_first=True)
    await the_gate.enter()
    assert clock.slept == []


async def test_what_a_service_wishes_is_kept_by_all_who_use_the_account(clock: Clock) -> None:
    account = Account(clock)
    one, other = (Gate(8, 0, clock, clock.sleep, account=account) for _ in range(2))
    one.slowed(await one.enter(), 7.0)
    await other.enter()
    assert clock.slept == pytest.approx([7.0])
    assert (one.limit, other.limit) == (4, 8)
