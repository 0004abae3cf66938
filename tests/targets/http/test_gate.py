from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from collections.abc import Callable

import pytest

from kbsync.targets.http.limits import Account, Gate, Pace
from tests.targets.http.clocks import Clock, settled


@pytest.fixture
def clock() -> Clock:
    return Clock()


def gate(clock: Clock, concurrency: int = 4, per_minute: int = 0) -> Gate:
    return Gate(concurrency, per_minute, clock.steady, clock.sleep)


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


async def test_all_uploads_together_keep_the_pace(clock: Clock) -> None:
    pace = Pace(1000, clock.steady)
    waits = [pace.claim(500) for _ in range(4)]
    assert waits == pytest.approx([0.0, 0.5, 1.0, 1.5])
    clock.now += 10.0
    assert pace.claim(500) == 0.0


async def test_without_a_limit_nobody_waits(clock: Clock) -> None:
    pace = Pace(0, clock.steady)
    assert [pace.claim(10**9), pace.claim(10**9)] == [0.0, 0.0]
    assert pace.chunk(65536) == 65536
    assert Pace(10_000, clock.steady).chunk(65536) == 2500


class Service:
    """Answers through a gate as many at a time as it lets in; `seconds(at_once)` says how long one takes."""

    def __init__(self, concurrency: int, seconds: Callable[[int], float]) -> None:
        self.now = 0.0
        self.gate = Gate(concurrency, 0, lambda: self.now, asyncio.sleep)
        self.seconds = seconds
        self.chance = random.Random(11)
        self._ends: list[tuple[float, int, str, float, int]] = []
        self._numbers = itertools.count()

    async def serve(self, count: int, kind: str = "upload", jitter: float = 0.0) -> None:
        for _ in range(count):
            while self.gate.in_flight < self.gate.limit:
                burst = await self.gate.enter()
                took = self.seconds(self.gate.in_flight) * (1 + jitter * self.chance.random())
                heapq.heappush(self._ends, (self.now + took, next(self._numbers), kind, took, burst))
            self.now, _, which, took, burst = heapq.heappop(self._ends)
            self.gate.succeeded(burst)
            self.gate.answered(burst, which, took)
            self.gate.leave()


@pytest.mark.parametrize("concurrency", [1, 4, 16, 64])
@pytest.mark.parametrize("seconds", [0.001, 0.05, 3.0, 20.0])
async def test_a_service_that_is_simply_slow_or_uneven_is_not_throttled(
    concurrency: int, seconds: float
) -> None:
    service = Service(concurrency, lambda _at_once: seconds)
    for _ in range(20):
        await service.serve(50, jitter=0.8)
        assert service.gate.limit == concurrency


async def test_one_slow_answer_in_ten_throttles_nobody() -> None:
    turns = itertools.cycle([0.1] * 9 + [20.0])
    service = Service(8, lambda _at_once: next(turns))
    await service.serve(2000)
    assert service.gate.limit == 8


async def test_answers_that_queue_up_are_asked_for_fewer_at_a_time() -> None:
    service = Service(16, lambda at_once: 0.4 * at_once)
    await service.serve(400)
    assert service.gate.limit <= 4
    await service.serve(4000)
    assert service.gate.limit <= 8


async def test_where_answers_are_quick_again_the_limit_rises_slowly_to_its_start() -> None:
    pace = 1.0
    service = Service(8, lambda at_once: 0.2 + pace * max(0, at_once - 1))
    await service.serve(200)
    assert service.gate.limit <= 4
    pace = 0.0
    await service.serve(10)
    assert service.gate.limit < 8
    await service.serve(400)
    assert service.gate.limit == 8


async def test_a_service_that_has_become_slow_for_good_is_not_kept_at_the_lowest_limit() -> None:
    seconds = 0.1
    service = Service(8, lambda _at_once: seconds)
    await service.serve(200)
    seconds = 2.0
    await service.serve(200)
    assert service.gate.limit < 8
    await service.serve(4000)
    assert service.gate.limit == 8


async def test_kinds_of_requests_are_not_compared_with_each_other() -> None:
    seconds = {"detail": 0.05, "upload": 5.0}
    kind = "detail"
    service = Service(8, lambda _at_once: seconds[kind])
    for kind in ("detail", "upload") * 10:
        await service.serve(40, kind)
    assert service.gate.limit == 8


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
    the_gate = Gate(4, 1, clock.steady, clock.sleep, is_first=True)
    await the_gate.enter()
    assert clock.slept == []


async def test_what_a_service_wishes_is_kept_by_all_who_use_the_account(clock: Clock) -> None:
    account = Account(clock.steady)
    one, other = (Gate(8, 0, clock.steady, clock.sleep, account=account) for _ in range(2))
    one.slowed(await one.enter(), 7.0)
    await other.enter()
    assert clock.slept == pytest.approx([7.0])
    assert (one.limit, other.limit) == (4, 8)
