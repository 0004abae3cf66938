"""Tests errors of kbsync itself in long-running work: they are reported, and the work continues."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from kbsync.engine import attach
from kbsync.engine import audit as auditing
from kbsync.engine import worker as worker_module
from kbsync.engine.audit import RegularAudit
from kbsync.engine.clock import keep_running
from kbsync.engine.inbox import Inbox
from kbsync.engine.loop import MirrorLoop
from kbsync.engine.mirror import Mirror
from kbsync.engine.reconcile import Reconciler
from kbsync.engine.status import find_halt
from kbsync.errors import OUT_OF_MEMORY, StateError
from kbsync.state.mirrors import Halt
from kbsync.state.uploads import Uploads
from tests.engine.test_adversities import Still, halts, until, watched
from tests.engine.world import World
from tests.memory.target import MemoryTarget

__all__ = ["halts"]


class BugError(Exception):
    """An unexpected error."""


class Bug:
    """Breaks a function of kbsync for the next `remaining` calls."""

    def __init__(self, remaining: int, error: Exception | None = None) -> None:
        self.remaining = remaining
        self.error = error or BugError("a line that nobody tested")

    def put_into(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def broken(*args: Any, **kwargs: Any) -> Any:
            if self.remaining > 0:
                self.remaining -= 1
                raise self.error
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, broken)


FOR_EVER = 10**9


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.write_many(3)
    return world


PLACES: dict[str, tuple[Any, str]] = {
    "of a round": (Uploads, "find_due"),
    "at the beginning": (Uploads, "awaited"),
    "of a job": (worker_module.Journal, "claim"),
}


@pytest.fixture(params=PLACES)
def location(request: pytest.FixtureRequest) -> Iterator[tuple[Any, str]]:
    yield PLACES[request.param]


@pytest.mark.parametrize("times", [1, FOR_EVER])
async def test_pass_survives_a_temporary_error_and_ends_on_a_permanent_one(
    world: World, location: tuple[Any, str], monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    Bug(times).put_into(monkeypatch, *location)
    end = await world.once()
    if times == 1:
        assert end.complete and world.searchable_texts() == world.on_disk()
    else:
        assert not end.complete and "internal error in kbsync" in end.problem
        assert world.run.halt is not None and world.run.halt.reason == "failing"


async def test_daemon_reports_that_it_fails_and_recovers_by_itself(
    world: World, location: tuple[Any, str], monkeypatch: pytest.MonkeyPatch, halts: list[str]
) -> None:
    bug = Bug(FOR_EVER)
    bug.put_into(monkeypatch, *location)
    async with watched(world):
        await until(world, lambda: halts, 300)
        assert halts == ["failing"]
        bug.remaining = 0
        await until(world, lambda: len(world.searchable_texts()) == 3 and len(halts) == 2, 300)
    assert halts == ["failing", ""]
    assert world.searchable_texts() == world.on_disk()


async def test_halt_is_shown_while_the_state_cannot_store_it(world: World) -> None:
    is_full = False

    def commit(_moment: str) -> None:
        if is_full:
            raise StateError("the disk is full")

    async def halt() -> Halt | None:
        return await world.run.store.read(lambda tx: find_halt(tx, world.run))

    world.on_commit = commit
    async with watched(world) as watching:
        await until(world, lambda: len(world.searchable_texts()) == 3, 300)
        is_full = True
        world.write("new.md")
        world.run.bound.request_turn()  # type: ignore[union-attr]
        world.run.bound.next_scan = 0.0  # type: ignore[union-attr]
        await until(world, lambda: world.run.halts.write_error, 300)
        assert await halt() == Halt("failing", "the disk is full", "")
        assert watching.mirror.halt is None
        is_full = False
        await until(world, lambda: len(world.searchable_texts()) == 4, 300)
        await until(world, lambda: not world.run.halts.write_error, 300)
        assert await halt() is None
    assert world.searchable_texts() == world.on_disk()


async def test_idle_daemon_writes_nothing_after_the_state_was_briefly_unreadable(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    bug, commits = Bug(0, StateError("locked by another program")), list[str]()
    bug.put_into(monkeypatch, Uploads, "find_due")
    world.on_commit = commits.append
    with capture_logs() as lines:
        async with watched(world):
            await until(world, lambda: len(world.searchable_texts()) == 3, 300)
            for _ in range(2):
                bug.remaining = 1
                world.run.bound.worker.wake()  # type: ignore[union-attr]
                await until(world, lambda: not bug.remaining, 300)
                await world.clock.sleep(60)
                commits.clear()
                await world.clock.sleep(60)
                assert commits == []
    # The second failure is news again.
    assert [line["event"] for line in lines if line["log_level"] == "error"] == ["state.failed"] * 2


async def test_job_that_always_fails_delays_no_other_document(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = MemoryTarget.put

    async def put(target: MemoryTarget, documents: Any) -> Any:
        outcomes = await real(target, documents)
        return outcomes[:0] if any(document.path == "f1.md" for document in documents) else outcomes

    monkeypatch.setattr(MemoryTarget, "put", put)  # an outcome is missing, which no target may do
    end = await world.once()
    assert {"f0.md", "f2.md"} <= world.searchable_texts().keys()
    assert end.complete or "internal error in kbsync" in end.problem


async def test_audits_continue_after_one_could_not_start(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.settings = replace(world.settings, deep_rescan=60.0)
    Bug(2).put_into(monkeypatch, auditing, "last_audit")
    audits = list[float]()
    real = RegularAudit.audit

    async def audit(self: RegularAudit) -> Any:
        audits.append(world.clock.now)
        return await real(self)

    monkeypatch.setattr(RegularAudit, "audit", audit)
    with capture_logs() as lines:
        async with watched(world):
            await until(world, lambda: audits, 3 * 60.0)
    assert audits
    assert {line["task"] for line in lines if line["event"] == "task.failed"} == {"audits"}


BROKEN: dict[str, tuple[str, Any, str]] = {
    "a start": ("mirror.failed", attach, "prepare"),
    "a scan": ("scan.failed", Reconciler, "scan"),
    "a job": ("worker.failed", worker_module.Journal, "claim"),
    "a request to a target": ("target.failed", MemoryTarget, "put"),
    "a message": ("message.failed", Inbox, "_finish"),
    "an audit": ("audit.failed", RegularAudit, "audit"),
}


@pytest.mark.parametrize("error", [BugError("a line that nobody tested"), MemoryError()])
@pytest.mark.parametrize("event, owner, name", BROKEN.values(), ids=BROKEN)
async def test_bug_is_logged_with_a_traceback_and_a_lack_of_memory_with_its_reason(
    world: World, monkeypatch: pytest.MonkeyPatch, event: str, owner: Any, name: str, error: Exception
) -> None:
    world.settings = replace(world.settings, deep_rescan=60.0)
    bug = Bug(1, error)
    bug.put_into(monkeypatch, owner, name)
    with capture_logs() as lines:
        async with watched(world):
            if owner is Inbox:
                world.change(lambda tx: tx.inbox.post("rescan", "docs", {}, 0.0))
            await until(world, lambda: any(line["event"] == event for line in lines), 300)
    [line] = [line for line in lines if line["event"] == event]
    assert line["log_level"] == "error"
    if isinstance(error, MemoryError):
        assert line["reason"] == OUT_OF_MEMORY and "exc_info" not in line
    else:
        assert line["exc_info"] is error


async def test_daemon_names_a_file_that_the_system_refuses(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is no bug, so there is no traceback, as in a pass."""
    error = PermissionError(errno.EACCES, "Permission denied", "/var/lib/kbsync/kb")
    Bug(FOR_EVER, error).put_into(monkeypatch, attach, "prepare")
    with capture_logs() as lines:
        async with watched(world) as watching:
            await until(world, lambda: watching.mirror.halt is not None, 300)
            halt = watching.mirror.halt
    assert halt is not None and str(error) in halt.detail
    [line, *_] = [line for line in lines if line["event"] == "mirror.failed"]
    assert line["reason"] == str(error) and "exc_info" not in line


async def test_mirror_that_fails_after_each_start_is_restarted_less_and_less_often(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    bug, starts, prepare = Bug(FOR_EVER), list[float](), attach.prepare

    async def count(*args: Any) -> None:
        starts.append(world.clock.steady())
        await prepare(*args)

    monkeypatch.setattr(attach, "prepare", count)
    bug.put_into(monkeypatch, Inbox, "carry_out")
    async with watched(world):
        await world.clock.sleep(600)
        assert 5 < len(starts) < 20
        assert 59 < starts[-1] - starts[-2] < 62
        bug.remaining = 0
        await until(world, lambda: len(world.searchable_texts()) == 3, 100)
        # After a long time without failures, the pause is short again.
        await world.clock.sleep(100)
        starts.clear()
        bug.remaining = 1
        world.run.bound.request_turn()  # type: ignore[union-attr]
        await until(world, lambda: starts, 5)


async def test_mirror_whose_shutdown_fails_is_watched_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, bug = Mirror._close, [BugError("at the end")]

    async def close(run: Mirror, target: Any) -> None:
        await real(run, target)
        if bug:
            raise bug.pop()

    monkeypatch.setattr(Mirror, "_close", close)
    Bug(1).put_into(monkeypatch, attach, "prepare")
    async with world.running() as store:
        stop = asyncio.Event()
        watching = MirrorLoop(world.make_run(store), world.state, stop, make_watcher=Still)  # type: ignore[arg-type]
        task = asyncio.create_task(keep_running(world.clock, watching.keep, "mirror"))
        await until(world, lambda: len(world.searchable_texts()) == 3, 300)
        stop.set()
        await asyncio.wait_for(task, 60)
    assert world.searchable_texts() == world.on_disk()
