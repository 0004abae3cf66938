"""Tests that a paused mirror starts nothing, finishes what it sent, and stays paused after a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from kbsync.core.model import Upload, UploadState
from kbsync.core.quiet_hours import parse_quiet_hours
from kbsync.engine.loop import MirrorLoop
from kbsync.engine.mirror import Mirror
from kbsync.once import run_once
from kbsync.source import watch
from kbsync.source.wake import wake
from kbsync.state.mirrors import Pause
from kbsync.state.store import StateStore
from tests.crash.harness import Guillotine
from tests.engine.world import World
from tests.memory.behaviour import Failure
from tests.memory.variants import ReembeddingMemory
from tests.share import enumerated, long

MIRROR = 1


def pause(world: World, seconds: float | None = None) -> None:
    now = world.clock.wall()
    until = None if seconds is None else now + seconds
    world.change(lambda tx: tx.pauses.begin(MIRROR, Pause(now, until)))


def rows_of(world: World) -> list[Upload]:
    uploads: list[Upload] = world.read_state(
        lambda tx: tx.uploads.in_states(MIRROR, 1, tuple(UploadState), limit=10_000)
    )
    return uploads


def resume(world: World) -> None:
    world.change(lambda tx: tx.pauses.end(MIRROR, world.clock.wall(), world.settings.quiet_hours))


async def test_pass_over_a_paused_mirror_sends_no_request_and_changes_nothing(world: World) -> None:
    await world.mirrored(10)
    pause(world)
    world.write("new.md")
    world.delete("f1.md")
    before, rows = len(world.base.requests), rows_of(world)
    end = await world.once()
    assert (end.complete, len(world.base.requests), rows_of(world)) == (False, before, rows)
    resume(world)
    assert (await world.ends_equal()).complete


async def test_pause_ends_on_time_without_a_process(world: World) -> None:
    await world.mirrored(1)
    pause(world, 7200.0)
    world.write("new.md")
    world.clock.now += 7199.0
    assert not (await world.once()).complete
    world.clock.now += 2.0
    assert (await world.ends_equal()).complete


@pytest.mark.parametrize("set_back", [300.0, 86400.0 * 3650])
async def test_pause_that_is_over_stays_over_when_the_clock_is_set_back(
    world: World, set_back: float
) -> None:
    await world.mirrored(1)
    pause(world, 600.0)
    world.clock.now += 601.0
    assert (await world.once()).complete
    world.clock.skew -= set_back
    world.write("new.md")
    assert (await world.ends_equal()).complete


@pytest.mark.parametrize("set_back", [300.0, 86400.0 * 3650])
async def test_pause_takes_no_longer_than_requested_when_the_clock_is_set_back(
    world: World, set_back: float
) -> None:
    await world.mirrored(1)
    pause(world, 600.0)
    world.clock.now += 100.0
    world.clock.skew -= set_back
    world.write("new.md")
    assert not (await world.once()).complete
    world.clock.now += 601.0
    assert (await world.once()).complete


async def test_pause_that_is_not_over_survives_every_check_of_it(world: World) -> None:
    await world.mirrored(1)
    pause(world, 600.0)
    for seconds in (1.0, 598.0):
        world.clock.now += seconds
        assert not (await world.once()).complete
    resume(world)
    pause(world)
    world.clock.now += 86400.0 * 3650
    assert not (await world.once()).complete


async def watched(world: World, work: Callable[[Mirror, StateStore], Awaitable[None]]) -> None:
    """Run `work` in parallel with the mirror's loop of a daemon."""
    async with world.running() as store:
        mirror, stop = world.make_run(store), asyncio.Event()
        loop = MirrorLoop(mirror, world.state, stop)
        # Otherwise the clock would advance by hours while a busy machine opens the watch.
        with pytest.MonkeyPatch.context() as patches:
            patches.setattr(watch, "run_detached", world.run_in_thread)
            task = asyncio.create_task(loop.keep())
            try:
                await work(mirror, store)
            finally:
                stop.set()
                await task


async def test_nobody_waits_for_a_mirror_that_is_stopped_before_it_starts(world: World) -> None:
    async with world.running() as store:
        stop = asyncio.Event()
        loop = MirrorLoop(world.make_run(store), world.state, stop)
        keeping = asyncio.create_task(loop.keep())
        await asyncio.sleep(0)  # it now checks whether it is paused
        stop.set()
        await keeping
        assert loop.started.is_set() and loop.compared.is_set()


@long
@pytest.mark.parametrize("fails", [False, True], ids=["ready", "failed"])
async def test_daemon_finishes_sent_work_and_then_rests_until_resumed(world: World, fails: bool) -> None:
    """A document that fails during the pause is indexed again only after it."""
    world.target_type = ReembeddingMemory
    world.base.behaviour.indexing_seconds = 30.0
    if fails:
        world.base.behaviour.failures.append(Failure("f0.md"))
    world.write_many(3)

    async def work(mirror: Mirror, store: StateStore) -> None:
        while world.puts() < 3:
            await world.clock.sleep(0.1)
        # By a command that is killed before it can wake the daemon.
        await store.write(lambda tx: tx.pauses.begin(mirror.id, Pause(world.clock.wall())))
        world.write("late.md")
        await world.clock.sleep(120.0)
        while mirror.bound is not None:  # real threads that watched the folder end
            await asyncio.sleep(0.001)
        assert len(world.base.searchable_texts()) == 3 - fails
        assert (world.puts(), world.requests("reembed")) == (3, 0)
        requests_before = len(world.base.requests)
        await world.clock.sleep(900.0)
        assert len(world.base.requests) == requests_before
        await store.write(lambda tx: tx.pauses.end(mirror.id, world.clock.wall(), world.settings.quiet_hours))
        while world.searchable_texts() != world.on_disk():
            await world.clock.sleep(1.0)

    await watched(world, work)


@long
async def test_daemon_started_during_a_pause_sends_no_request_until_its_end(world: World) -> None:
    await world.mirrored(2)
    pause(world, 3600.0)
    world.write("new.md")
    requests_before = len(world.base.requests)

    async def work(mirror: Mirror, _store: StateStore) -> None:
        await world.clock.sleep(3500.0)
        assert (len(world.base.requests), mirror.is_paused) == (requests_before, True)
        while world.searchable_texts() != world.on_disk():
            await world.clock.sleep(1.0)

    await watched(world, work)


@long
async def test_nothing_starts_after_the_pause_is_on_disk(world: World) -> None:
    """At whatever point of a pass the pause begins, only uploads recorded as sending before it are still
    sent.
    """
    await world.mirrored(6)
    for number in range(6):
        world.write(f"f{number}.md", f"changed {number}")
    world.write("f9.md")
    commits = 0

    async def paused_at(number: int) -> bool:
        """Return whether the pass had so many commits."""
        commit_count = 0

        def on_commit(moment: str) -> None:
            nonlocal commit_count
            commit_count += moment == "after"
            if moment == "after" and commit_count == number and world.store is not None:
                now = world.clock.wall()
                world.store.submit(lambda tx: tx.pauses.begin(MIRROR, Pause(now)))

        world.on_commit = on_commit
        await world.once()
        world.on_commit = None
        return commit_count >= number

    while await paused_at(commits := commits + 1):
        states = [row.state.name for row in rows_of(world)]
        assert "SENDING" not in states and "UNSURE" not in states and "INDEXING" not in states, states
        assert set(world.searchable_texts()) >= {f"f{number}.md" for number in range(6)}  # promise 2
        resume(world)
        commits += 3
    assert commits > 4
    await world.ends_equal()


@enumerated()
@pytest.mark.parametrize("boundary", range(0, 20, 3))
async def test_kill_around_a_pause_loses_neither_the_pause_nor_a_document(
    world: World, boundary: int
) -> None:
    await world.mirrored(3)
    world.write_many(3, "g")
    await world.crash(Guillotine(boundary), run_once)
    pause(world)
    sent = world.puts()
    assert not (await world.once()).complete
    assert world.puts() == sent
    resume(world)
    await world.ends_equal()


def quiet(world: World, *hours: tuple[float, float]) -> None:
    """Quiet hours from so many seconds from now to so many; local times have whole minutes."""
    now = world.clock.wall()
    world.clock.skew += 60.0 - now % 60
    now = world.clock.wall()
    periods = [
        "-".join(datetime.fromtimestamp(now + seconds).strftime("%H:%M") for seconds in span)
        for span in hours
    ]
    world.settings = replace(world.settings, quiet_hours=parse_quiet_hours(", ".join(periods)))


async def until(is_so: Callable[[], bool]) -> None:
    """Wait while the clock advances with the sleeps of the mirror's loop, because real threads watch the
    folder.
    """
    while not is_so():
        await asyncio.sleep(0.001)


@long
async def test_quiet_hours_pause_a_daemon_and_end_automatically(world: World) -> None:
    await world.mirrored(2)
    quiet(world, (3600.0, 7200.0))
    begin, end = world.clock.wall() + 3600.0, world.clock.wall() + 7200.0

    async def work(mirror: Mirror, store: StateStore) -> None:
        await until(lambda: mirror.is_paused)
        assert begin <= world.clock.wall() < end
        pause = await store.read(lambda tx: tx.pauses.current(mirror.id, world.clock.wall()))
        assert pause == Pause(begin, end, is_quiet=True)
        world.write("night.md")
        await until(lambda: mirror.bound is None)
        requests_before = len(world.base.requests)

        def is_mirrored() -> bool:
            is_over = world.clock.wall() >= end
            assert is_over or (len(world.base.requests), mirror.is_paused) == (requests_before, True)
            return is_over and world.searchable_texts() == world.on_disk()

        await until(is_mirrored)

    await watched(world, work)


async def test_daemon_first_started_in_quiet_hours_shows_them(world: World) -> None:
    world.write("a.md")
    quiet(world, (-60.0, 3600.0))

    async def work(mirror: Mirror, store: StateStore) -> None:
        await until(lambda: mirror.is_paused)
        assert await store.read(lambda tx: tx.pauses.current(mirror.id, world.clock.wall())) is not None
        assert world.base.requests == []

    await watched(world, work)


@long
async def test_resume_skips_the_current_quiet_hours_also_after_a_restart(world: World) -> None:
    await world.mirrored(1)
    world.write("new.md")
    quiet(world, (-60.0, 3600.0), (5400.0, 7200.0))
    next_begin, quiet_hours = world.clock.wall() + 5400.0, world.settings.quiet_hours

    async def resumed(mirror: Mirror, store: StateStore) -> None:
        await until(lambda: mirror.is_paused)
        await store.write(lambda tx: tx.pauses.end(mirror.id, world.clock.wall(), quiet_hours))
        await until(lambda: world.searchable_texts() == world.on_disk())
        # A user's pause in quiet hours ends at its own time.
        now = world.clock.wall()
        await store.write(lambda tx: tx.pauses.begin(mirror.id, Pause(now, now + 600.0)))
        await until(lambda: mirror.is_paused)
        await until(lambda: not mirror.is_paused)
        assert world.clock.wall() >= now + 600.0

    async def restarted(mirror: Mirror, _store: StateStore) -> None:
        await until(lambda: mirror.bound is not None)
        await until(lambda: mirror.is_paused)
        assert world.clock.wall() >= next_begin

    await watched(world, resumed)
    await watched(world, restarted)


@long
async def test_pass_runs_in_quiet_hours_but_not_during_a_user_pause(world: World) -> None:
    await world.mirrored(1)
    quiet(world, (-60.0, 3600.0))
    world.write("new.md")
    # Leaves the pause of the quiet hours in the state.
    await watched(world, lambda mirror, _store: until(lambda: mirror.is_paused))
    assert (await world.ends_equal()).complete
    pause(world)
    assert not (await world.once()).complete


@long
async def test_quiet_hours_set_after_a_resume_begin_at_once(world: World) -> None:
    await world.mirrored(1)
    pause(world)
    resume(world)
    quiet(world, (-3600.0, 3600.0))
    await watched(world, lambda mirror, _store: until(lambda: mirror.is_paused))


async def test_quiet_hours_begin_again_although_the_clock_was_ahead_at_a_resume(world: World) -> None:
    await world.mirrored(1)
    quiet(world, (-60.0, 3600.0))
    async with world.running() as store:
        mirror = world.make_run(store)
        for seconds in (86400.0, -86400.0):
            assert await mirror.find_pause() is not None
            now = world.clock.wall()
            await store.write(lambda tx, now=now: tx.pauses.end(mirror.id, now, world.settings.quiet_hours))  # type: ignore[misc]
            assert await mirror.find_pause() is None
            world.clock.skew += seconds
            assert await mirror.find_pause() is not None


@long
async def test_quiet_hours_removed_from_the_config_end_immediately(world: World) -> None:
    await world.mirrored(1)
    quiet(world, (-60.0, 3600.0))
    await watched(world, lambda mirror, _store: until(lambda: mirror.is_paused))
    world.settings = replace(world.settings, quiet_hours=())
    await watched(world, lambda mirror, _store: until(lambda: mirror.bound is not None))


@long
async def test_idle_daemon_reads_neither_state_nor_folder_every_second(world: World) -> None:
    """Promise 4."""
    await world.mirrored(2)
    world.settings = replace(world.settings, given=world.root)
    executions = 0

    async def work(mirror: Mirror, store: StateStore) -> None:
        loop = asyncio.get_running_loop()
        run_in_executor = loop.run_in_executor

        def counted(*arguments: Any) -> Any:
            nonlocal executions
            executions += 1
            return run_in_executor(*arguments)

        while not mirror.has_compared:
            await world.clock.sleep(1.0)
        await world.clock.sleep(100.0)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop, "run_in_executor", counted)
            await world.clock.sleep(600.0)
        assert executions < 150
        await store.write(lambda tx: tx.pauses.begin(mirror.id, Pause(world.clock.wall())))
        wake(world.state)
        while not mirror.is_paused:
            await world.clock.sleep(0.5)

    await watched(world, work)
