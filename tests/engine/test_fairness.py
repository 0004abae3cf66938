"""Tests fair order: a file just saved doesn't wait, and nothing waits forever. In virtual time."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kbsync.contract.target import DeleteOutcome, Listed, Outgoing, PutOutcome
from kbsync.core.fairness import LARGE_BYTES, MAX_COST, WEIGHTS, FairTurns, Lane, rank, rank_again, reach_of
from kbsync.engine import reconcile
from kbsync.engine.journal import Journal
from kbsync.engine.mirror import BoundMirror
from kbsync.engine.reconcile import MAX_FRESH_FILES
from kbsync.engine.settings import DeletionLimits
from kbsync.errors import Unavailable, Unsure
from kbsync.source.hints import Hint, HintKind
from kbsync.state.store import StateStore
from kbsync.threads import Threads, in_own_threads
from tests.engine.world import World
from tests.memory.base import MemoryBase
from tests.memory.target import MemoryTarget
from tests.memory.variants import ReadingMemory, RenamingMemory
from tests.share import enumerated, long

# -- priorities and turns -----------------------------------------------------------------------------


def lane_of(rank: float) -> Lane:
    return next(lane for lane in Lane if reach_of(lane)[0] <= rank < reach_of(lane)[1])


def test_rank_encodes_its_lane_and_orders_within_it() -> None:
    now = 1.8e9
    assert lane_of(rank(now, 10, fresh=True)) is Lane.FRESH
    assert lane_of(rank(now, 10, fresh=False)) is Lane.BACKLOG
    assert lane_of(rank(now, LARGE_BYTES, fresh=True)) is Lane.LARGE
    assert lane_of(rank_again(rank(now, 10, fresh=True))) is Lane.AGAIN
    assert rank(now, 1000, fresh=False) < rank(now, 5_000_000, fresh=False) < rank(now + 900, 10, fresh=False)
    repeated = rank_again(rank(now, 10, fresh=False))
    assert rank_again(repeated) == repeated


class Slots:
    """Slots that carry out the choices of `Turns` in virtual time."""

    def __init__(self, slots: int, cost: Callable[[Lane], float]) -> None:
        self.turns, self.slots, self.cost = FairTurns(), slots, cost
        self.now = 0.0
        self.time: Counter[Lane] = Counter()
        self.starts: list[tuple[float, Lane]] = []
        self.most: Counter[Lane] = Counter()
        self._ends: list[tuple[float, int, Lane, float, float]] = []
        self._numbers = itertools.count()

    def fill(self, waiting: Sequence[Lane]) -> None:
        while len(self._ends) < self.slots and (lane := self.turns.next(waiting, self.slots)) is not None:
            seconds = self.cost(lane)
            end = (self.now + seconds, next(self._numbers), lane, self.turns.begin(lane), seconds)
            heapq.heappush(self._ends, end)
            self.starts.append((self.now, lane))
            under_way = Counter(turn[2] for turn in self._ends)
            self.most[lane] = max(self.most[lane], under_way[lane])

    def end_one(self) -> None:
        self.now, _, lane, counted, seconds = heapq.heappop(self._ends)
        self.turns.end(lane, counted, seconds)
        self.time[lane] += seconds

    def run(self, seconds: float, waiting: Sequence[Lane]) -> None:
        until = self.now + seconds
        self.fill(waiting)
        while self.now < until:
            self.end_one()
            self.fill(waiting)


costs = st.fixed_dictionaries({lane: st.floats(0.5, 100.0) for lane in Lane})


@long
@settings(max_examples=25)
@given(costs, st.integers(1, 8), st.sets(st.sampled_from(list(Lane)), min_size=2))
def test_every_lane_gets_its_share_of_time(cost: dict[Lane, float], slots: int, waiting: set[Lane]) -> None:
    run = Slots(slots, cost.__getitem__)
    seconds = 4000.0
    run.run(seconds, sorted(waiting))
    total_seconds = slots * seconds
    weights = sum(WEIGHTS[lane] for lane in waiting)
    for lane in waiting & {Lane.FRESH, Lane.BACKLOG}:
        least = total_seconds * WEIGHTS[lane] / weights - 4 * slots * MAX_COST
        assert run.time[lane] >= least, (lane, dict(run.time))
    for lane in waiting:  # even work that may take long and is limited to one slot gets its turn
        assert run.time[lane] >= min(seconds, total_seconds * WEIGHTS[lane] / weights) / 3 - 4 * MAX_COST
        assert run.time[lane] > 0
    assert run.most[Lane.LARGE] <= max(1, slots - 1)  # long work never takes the last slot
    assert run.most[Lane.AGAIN] <= max(1, slots // 2)


@long
def test_idle_lane_accumulates_no_credit() -> None:
    run = Slots(1, lambda _lane: 1.0)
    run.run(10_000.0, [Lane.BACKLOG])
    start_count = len(run.starts)
    run.run(120.0, [Lane.FRESH, Lane.BACKLOG])
    after = Counter(lane for _, lane in run.starts[start_count:])
    assert after[Lane.BACKLOG] == pytest.approx(40, abs=4)


# -- the worker ---------------------------------------------------------------------------------------


class SlowTarget(MemoryTarget):
    """Delays each document by its path; can replace an outcome."""

    world: BusyWorld

    async def put(self, documents: Sequence[Outgoing]) -> Sequence[PutOutcome]:
        for document in documents:
            self.world.sends.append((self.world.clock.now, document.path))
            await self.world.clock.sleep(self.world.seconds(document.path))
            if (error := self.world.error_for(document.path)) is not None:
                return [error]
        return await super().put(documents)

    async def list(self) -> AsyncIterator[Listed]:
        self.world.looking += 1  # takes many turns of the loop and no virtual time
        try:
            async for listed in super().list():
                yield listed
        finally:
            self.world.looking -= 1


class BusyWorld(World):
    """A mirror whose target needs a second for each document."""

    def __init__(self, tmp_path: Path, concurrency: int = 1) -> None:
        target = type("Slow", (SlowTarget,), {"world": self})
        super().__init__(tmp_path, target, concurrency=concurrency, batch=1)
        self.looking = 0
        self.sends: list[tuple[float, str]] = []
        self.seconds: Callable[[str], float] = lambda _path: 1.0
        self.error_for: Callable[[str], Any] = lambda _path: None

    @asynccontextmanager
    async def working(self) -> Any:
        async with self.start_mirror() as bound:
            busy = self.clock.busy
            self.clock.busy = lambda: busy() or self.looking > 0
            await bound.compare()
            yield bound

    async def save(self, bound: BoundMirror, path: str, text: str) -> None:
        self.write(path, text)
        await bound.reconciler.take_hints([Hint(path, HintKind.FILE)])

    def sent_at(self, path: str) -> list[float]:
        return [moment for moment, sent in self.sends if sent == path]


@long
async def test_recent_edit_precedes_an_old_backlog(tmp_path: Path) -> None:
    world = BusyWorld(tmp_path)
    world.write_many(190)
    world.seconds = lambda _path: 10.0
    async with world.working() as bound:
        for number in range(6):
            await world.clock.sleep(301.0)
            saved = world.clock.now
            await world.save(bound, f"edit{number}.md", "somebody waits for this")
            await world.clock.sleep(11.0)
            assert world.sent_at(f"edit{number}.md")[0] - saved <= 10.5
        assert len({path for _, path in world.sends}) < 190, "there was a backlog all the time"


@long
async def test_hanging_document_uses_at_most_its_share_of_one_slot(tmp_path: Path) -> None:
    world = BusyWorld(tmp_path)
    world.limits = replace(world.limits, marks=False, list_lag=1.0)
    for number in range(200):
        world.write(f"f{number}.md", f"{number:03}" + "." * number)
    for number in range(6):
        world.write(f"bad{number}.md", f"{number:03}" + "." * 2 * number)
    world.seconds = lambda path: 60.0 if "bad" in path else 1.0
    world.error_for = lambda path: Unsure("no answer") if "bad" in path else None
    async with world.working():
        await world.clock.sleep(1200.0)
    good = {path for _, path in world.sends if "bad" not in path}
    assert len(good) == 200
    tries = Counter(path for _, path in world.sends if "bad" in path)
    assert set(tries) == {f"bad{number}.md" for number in range(6)}


async def test_refusal_before_a_request_is_not_an_attempt(tmp_path: Path) -> None:
    world = BusyWorld(tmp_path)
    world.write("a.md", "text")
    world.error_for = lambda _path: Unavailable("left alone", retry_after=1.0, untried=True)
    async with world.working():
        await world.clock.sleep(60.0)
        row = world.row_of("a.md")
    assert len(world.sends) > 5
    assert row.attempts <= 1
    assert lane_of(row.rank) is Lane.BACKLOG


class SlowAtAll(SlowTarget, RenamingMemory, ReadingMemory):
    """Also takes a second to delete, rename or read a document."""

    world: Housekeeping

    async def delete(self, ids: Sequence[str]) -> Mapping[str, DeleteOutcome]:
        for _ in ids:
            await self.world.record_request("delete")
        return await super().delete(ids)

    async def rename(self, remote_id: str, path: str, name: str, mtime: float) -> None:
        await self.world.record_request("rename")
        await super().rename(remote_id, path, name, mtime)

    async def digest(self, remote_id: str) -> str | None:
        await self.world.record_request("read")
        return await super().digest(remote_id)


class Housekeeping(BusyWorld):
    """Two hundred mirrored files, and much work other than uploads."""

    def __init__(self, tmp_path: Path, concurrency: int) -> None:
        super().__init__(tmp_path, concurrency)
        self.target_type = type("Slow", (SlowAtAll,), {"world": self})
        limits = DeletionLimits(fraction=1.0, count=10_000)
        self.settings = replace(self.settings, deletions=limits, settle=0.5)
        self.asks: list[str] = []
        self.is_slow = False

    async def record_request(self, op: str) -> None:
        self.asks.append(op)
        if self.is_slow:
            await self.clock.sleep(1.0)

    async def saved_amid(self, op: str) -> float:
        """Return how long a file that is saved amid other work waits to be sent."""
        self.seconds, self.is_slow = (lambda _path: 1.0), True
        async with self.working() as bound:
            await self.take_turns(bound, 40, 0.25)
            assert op in self.asks
            done = self.asks.count(op)
            saved = self.clock.now
            await self.save(bound, "fresh.md", "somebody waits for this")
            while not self.sent_at("fresh.md") and self.clock.now < saved + 20.0:
                await self.clock.sleep(0.05)
            waited = min([*self.sent_at("fresh.md"), self.clock.now]) - saved
            await self.clock.sleep(5.0)
            assert self.asks.count(op) > done, "it was in the midst of it, and goes on"
            return waited


@long
@enumerated()
@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("op", ["delete", "rename", "read"])
async def test_recent_save_waits_for_at_most_one_slot(tmp_path: Path, op: str, concurrency: int) -> None:
    world = Housekeeping(tmp_path, concurrency)
    world.seconds = lambda _path: 0.0
    if op == "read":
        world.limits = replace(world.limits, marks=False)
        world.settings = replace(world.settings, names="plain")
    await world.mirrored(120)
    match op:
        case "delete":
            world.delete_many(119)
        case "rename":
            for number in range(119):
                world.move(f"f{number}.md", f"moved/f{number}.md")
        case "read":
            world.lose_state()  # every document at the target must be proven ours
    assert await world.saved_amid(op) <= 1.1


# -- two mirrors --------------------------------------------------------------------------------------

FOREVER = 1e9


@enumerated()
@pytest.mark.parametrize("problem", ["hangs", "down", "backlog"])
async def test_mirror_with_problems_delays_no_edit_of_another(tmp_path: Path, problem: str) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    world, other = BusyWorld(tmp_path / "one", 2), BusyWorld(tmp_path / "other", 2)
    other.clock, other.base = world.clock, MemoryBase(clock=world.clock.wall)
    other.settings = replace(other.settings, name="other")
    world.configured = other.configured = ("docs", "other")
    world.write_many(80)
    world.seconds = lambda _path: FOREVER if problem == "hangs" else 1.0
    world.error_for = lambda _path: Unavailable("no") if problem == "down" else None
    async with world.running() as store:
        troubled, well = world.make_run(store), other.make_run(store)
        async with troubled.bind() as down, well.bind() as bound:
            assert down is not None and bound is not None
            await down.compare()
            await bound.compare()
            for number in range(3):
                saved = world.clock.now
                await other.save(bound, f"e{number}.md", f"edit {number}")
                await world.clock.sleep(20.0)
                assert other.sent_at(f"e{number}.md")[0] - saved < 0.1
                assert other.searchable_texts()[f"e{number}.md"]


async def test_mirror_blocks_only_its_own_threads() -> None:
    asyncio.get_running_loop().set_default_executor(Threads())
    released = threading.Event()
    hung = [asyncio.create_task(in_own_threads("slow", asyncio.to_thread(released.wait))) for _ in range(50)]
    await asyncio.sleep(0)
    try:
        for name in ("well", "other"):
            work = asyncio.create_task(in_own_threads(name, asyncio.to_thread(threading.current_thread)))
            thread = await asyncio.wait_for(work, 60)
            assert thread.name.startswith(f"kbsync-{name}")
        assert not any(task.done() for task in hung)
    finally:
        released.set()
        await asyncio.gather(*hung)


async def test_journal_is_readable_while_every_other_thread_is_blocked(tmp_path: Path) -> None:
    store, released = StateStore(tmp_path / "state.db"), threading.Event()
    hung = [asyncio.create_task(asyncio.to_thread(released.wait)) for _ in range(50)]
    await asyncio.sleep(0)
    try:
        assert await asyncio.wait_for(store.read(lambda tx: tx.mirrors.named("docs")), 10) is None
    finally:
        released.set()
        await asyncio.gather(*hung)
        store.close()


@long
async def test_excluding_a_large_folder_locks_the_journal_only_briefly(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "PAGE", 20)
    world.write("kept.md")
    await world.mirrored(60, "big/f")
    in_commits, real = [0], Journal.deselect

    def deselect(self: Journal, tx: Any, *args: Any) -> None:
        in_commits[-1] += 1
        real(self, tx, *args)

    monkeypatch.setattr(Journal, "deselect", deselect)
    world.on_commit = lambda _moment: in_commits.append(0)
    await world.mirrored({".kbsyncignore": "big/\n"})
    assert 0 < max(in_commits) <= 20
    assert world.statuses()["held"] == 60


async def test_burst_of_files_is_backlog_and_a_few_are_recent(tmp_path: Path) -> None:
    world = BusyWorld(tmp_path)
    async with world.working() as bound:
        for count, lane in ((MAX_FRESH_FILES + 1, Lane.BACKLOG), (3, Lane.FRESH)):
            paths = [f"{lane.name}{number}.md" for number in range(count)]
            for path in paths:
                world.write(path, path)
            await bound.reconciler.take_hints([Hint(path, HintKind.FILE) for path in paths])
            assert lane_of(world.row_of(paths[-1]).rank) is lane
