"""Tests when the service manager gets which message, in virtual time, on a real state."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from kbsync import daemon
from kbsync.config.model import folder_config
from kbsync.engine.clock import Clock
from kbsync.engine.status import DocumentCounts, MirrorStatus
from kbsync.installation import Installation
from kbsync.state.mirrors import Halt
from kbsync.state.store import StateStore
from kbsync.systemd import MIN_PAUSE, READY_LATEST, ServiceManager, ServiceReports, status_sentence
from tests.engine.world import VirtualClock, World, driven
from tests.share import long

WATCHDOG = 60.0


class RecordingManager(ServiceManager):
    """Records each message with its time."""

    def __init__(self, clock: Clock) -> None:
        super().__init__({"NOTIFY_SOCKET": "/nowhere"})
        self.watchdog = WATCHDOG
        self.messages: list[tuple[float, str]] = []
        self._clock = clock

    def send(self, *messages: str, patience: float = 0.0) -> None:
        self.messages += [(self._clock.steady(), message) for message in messages]

    def times(self, message: str) -> list[float]:
        return [moment for moment, sent in self.messages if sent.startswith(message)]


@asynccontextmanager
async def reporting() -> AsyncIterator[ServiceReports]:
    clock = VirtualClock()
    async with driven(clock):
        reports = ServiceReports(RecordingManager(clock), clock)
        yield reports
        reports.manager.close()


def manager_of(reports: ServiceReports) -> RecordingManager:
    assert isinstance(reports.manager, RecordingManager)
    return reports.manager


async def test_ready_waits_for_every_mirror() -> None:
    async with reporting() as reports:
        started = [asyncio.Event(), asyncio.Event()]
        ready = asyncio.create_task(reports.ready_after(started))
        started[0].set()
        await reports.clock.sleep(READY_LATEST / 2)
        assert manager_of(reports).messages == []
        started[1].set()
        await ready
        assert manager_of(reports).messages == [(READY_LATEST / 2, "READY=1")]


async def test_slow_mirror_delays_ready_only_up_to_a_limit() -> None:
    async with reporting() as reports:
        await reports.ready_after([asyncio.Event()])
        assert manager_of(reports).messages == [(READY_LATEST, "READY=1")]


async def test_messages_to_systemd_keep_their_order() -> None:
    async with reporting() as reports:
        with reports.reloading():  # before READY the manager would take it for the end of the start
            assert manager_of(reports).messages == []
        await reports.ready_after([])
        with reports.reloading():
            assert [message.partition("=")[0] for _, message in manager_of(reports).messages[1:]] == [
                "RELOADING",
                "MONOTONIC_USEC",
            ]
        reports.stopping()
        with reports.reloading():
            pass
        reports.stopping()
        messages = [message for _, message in manager_of(reports).messages]
        assert messages[3:5] == ["READY=1", "STOPPING=1"]
        assert "READY=1" not in messages[4:]
        assert messages.count("STOPPING=1") == 1


async def test_watchdog_is_pinged_at_half_its_interval(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.running() as store:
        reports = ServiceReports(RecordingManager(world.clock), world.clock)
        async with reports.over(store, list):
            await world.clock.sleep(10 * WATCHDOG)
        signs = manager_of(reports).times("WATCHDOG=1")
        gaps = [later - earlier for earlier, later in pairwise(signs)]
        assert len(signs) >= 20
        assert max(gaps) <= WATCHDOG / 2 + 0.001
        reports.manager.close()


@pytest.fixture
def store(tmp_path: Path) -> StateStore:
    return StateStore(tmp_path / "state.db")


async def until_heard(reports: ServiceReports, message: str) -> None:
    while not manager_of(reports).times(message):
        await asyncio.sleep(0)


async def test_hanging_writer_stops_the_watchdog_pings(store: StateStore) -> None:
    async with reporting() as reports, reports.over(store, list):
        await until_heard(reports, "WATCHDOG=1")
        hanging, end = threading.Event(), threading.Event()

        def hang(_tx: object) -> None:
            hanging.set()
            end.wait()

        done = store.submit(hang)
        await asyncio.to_thread(hanging.wait)
        ping_count = len(manager_of(reports).times("WATCHDOG=1"))
        await reports.clock.sleep(20 * WATCHDOG)
        # One response may have been in progress.
        assert len(manager_of(reports).times("WATCHDOG=1")) <= ping_count + 1
        end.set()
        await asyncio.wrap_future(done)
        manager_of(reports).messages.clear()
        await until_heard(reports, "WATCHDOG=1")
    store.close()


async def test_long_work_in_threads_does_not_stop_the_pings(store: StateStore) -> None:
    threads, end = ThreadPoolExecutor(2), threading.Event()
    asyncio.get_running_loop().set_default_executor(threads)
    working = [asyncio.create_task(asyncio.to_thread(end.wait)) for _ in range(4)]
    async with reporting() as reports, reports.over(store, list):
        for _ in range(5):
            manager_of(reports).messages.clear()
            await until_heard(reports, "WATCHDOG=1")
        end.set()
        await asyncio.gather(*working)
    store.close()


async def test_unwritable_state_does_not_stop_the_pings(tmp_path: Path) -> None:
    store = StateStore(tmp_path / "state.db")
    async with reporting() as reports, reports.over(store, list):
        store._writer.pragma("query_only", True)
        manager_of(reports).messages.clear()
        await until_heard(reports, "WATCHDOG=1")
    store.close()


async def test_counts_are_reported_on_change_and_not_too_often(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.mirrored(3)
    async with world.running() as store:
        reports = ServiceReports(RecordingManager(world.clock), world.clock)
        async with reports.over(store, lambda: ["docs"]):
            for _ in range(100):
                reports.send_soon()
                await world.clock.sleep(0.1)
            assert [message for _, message in manager_of(reports).messages if "STATUS" in message] == [
                "STATUS=3 ready, 0 pending, 0 failed"
            ]
            for number in range(100):
                reports.complain(f"complaint {number}")
                await world.clock.sleep(0.1)
        status_times = manager_of(reports).times("STATUS")
        gaps = [later - earlier for earlier, later in pairwise(status_times)]
        assert 5 <= len(status_times) <= 12
        assert min(gaps) >= MIN_PAUSE - 0.001
        reports.manager.close()


async def test_status_stops_complaining_as_soon_as_the_problem_is_fixed(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.mirrored(3)
    async with world.running() as store:
        reports = ServiceReports(RecordingManager(world.clock), world.clock)
        reports.complain("refused")
        async with reports.over(store, lambda: ["docs"]):
            await world.clock.sleep(0.1)
            reports.complain("")
            await world.clock.sleep(2 * MIN_PAUSE)
        assert [message for _, message in manager_of(reports).messages if "STATUS" in message] == [
            "STATUS=refused; 3 ready, 0 pending, 0 failed",
            "STATUS=3 ready, 0 pending, 0 failed",
        ]
        reports.manager.close()


@long
async def test_config_with_an_unresponsive_folder_is_refused_without_blocking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon, "RELOAD_SECONDS", 0.2)
    world, is_responding = World(tmp_path), threading.Event()

    def hangs(_installation: Installation) -> Installation:
        is_responding.wait()
        raise AssertionError("nobody waits for this any more")

    async with world.running() as store:
        watcher = daemon.Daemon(Installation(folder_config(world.root), world.state), hangs)
        reading = asyncio.create_task(watcher._read_config(store))
        await asyncio.sleep(0)
        assert not reading.done()
        await reading
        assert "refused" in watcher._reports.complaint
    is_responding.set()


def test_status_line_summarises_and_names_halts() -> None:
    well = MirrorStatus("a", "/a", "local", DocumentCounts(ready=1200, pending=1, skipped=4))
    halted = MirrorStatus(
        "b", "/b", "zhipu", DocumentCounts(ready=1, failed=2), halt=Halt("credentials", "…", "…")
    )
    assert status_sentence([well, halted]) == "1,201 ready, 1 pending, 2 failed, 4 skipped; b: key refused"
    assert status_sentence([]) == "0 ready, 0 pending, 0 failed"
