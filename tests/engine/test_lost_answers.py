"""Tests uploads whose response is lost each time: after a bounded number of tries they fail (promise 9)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from kbsync.core.lifecycle import MAX_LOSSES
from kbsync.core.model import UploadState
from kbsync.errors import StateError, Unavailable, Unsure
from kbsync.state.read_only import Tx
from tests.crash.harness import Guillotine
from tests.engine.world import World
from tests.memory.behaviour import Fault
from tests.share import long

pytestmark = long

HOUR = 3600.0
FOR_EVER = 1_000_000


def lost_response(match: str | None = None) -> Fault:
    return Fault("put", error=lambda: Unsure("connection reset"), match=match, times=FOR_EVER)


def down(op: str) -> Fault:
    return Fault(op, error=lambda: Unavailable("no route"), times=FOR_EVER)


async def passes(world: World, n: int) -> None:
    for _ in range(n):
        world.clock.now += HOUR
        await world.once()


@pytest.fixture(params=[0.0, 5.0], ids=["the list is the truth", "the list lags"])
def listed(request: pytest.FixtureRequest, world: World) -> World:
    world.limits = replace(world.limits, list_lag=request.param)
    return world


async def test_document_whose_answers_get_lost_fails_after_bounded_attempts(listed: World) -> None:
    await listed.mirrored(2)
    listed.write("bad.md", "its answers get lost")
    listed.base.faults.append(lost_response("bad.md"))
    sent = listed.requests("put")
    await passes(listed, 6)
    assert listed.requests("put") - sent == MAX_LOSSES
    assert listed.statuses() == {"ready": 2, "failed": 1}
    [failed] = listed.rows(UploadState.FAILED)
    assert "connection reset" in failed.reason and "kbsync retry" in failed.reason
    assert listed.searchable_texts().keys() == {"f0.md", "f1.md"}


@pytest.mark.parametrize("action", ["retry", "edit"])
async def test_retry_and_edit_reset_the_attempts(listed: World, action: str) -> None:
    listed.write("bad.md", "its answers get lost")
    listed.base.faults.append(lost_response("bad.md"))
    await passes(listed, 6)
    sent = listed.requests("put")
    if action == "retry":
        listed.post_request("retry", paths=["bad.md"])
    else:
        listed.write("bad.md", "edited")
    await passes(listed, 6)
    assert listed.requests("put") - sent == MAX_LOSSES
    assert listed.statuses() == {"failed": 1}
    listed.base.faults.clear()
    listed.post_request("retry", paths=None)
    await passes(listed, 1)
    assert listed.searchable_texts() == listed.on_disk()


async def test_old_version_serves_while_answers_of_the_new_one_get_lost(listed: World) -> None:
    await listed.mirrored({"bad.md": "old"})
    listed.write("bad.md", "new")
    listed.base.faults.append(lost_response("bad.md"))
    await passes(listed, 6)
    assert listed.searchable_texts() == {"bad.md": "old"} and listed.statuses() == {"failed": 1}


async def test_late_upload_replaces_the_one_that_failed(world: World) -> None:
    world.limits = replace(world.limits, list_lag=5.0)
    world.write("bad.md", "late")
    for _ in range(MAX_LOSSES - 1):
        world.base.faults.append(Fault("put", error=lambda: Unsure("connection reset"), match="bad.md"))
    late = 20 * HOUR
    world.base.faults.append(Fault("put", error=lambda: Unsure("reset"), match="bad.md", late=late))
    await passes(world, 6)
    assert world.statuses() == {"failed": 1}
    await passes(world, 40)
    assert world.searchable_texts() == world.on_disk() and world.statuses() == {"ready": 1}


async def test_document_that_crashes_kbsync_is_not_retried_at_every_start(listed: World) -> None:
    await listed.mirrored(1)
    listed.write("bad.md", "kills whoever sends it")
    for _ in range(12):
        listed.clock.now += HOUR
        await listed.crash(Guillotine(upon=["put start"]))
    sent = listed.requests("put")
    await passes(listed, 2)
    assert listed.requests("put") == sent <= MAX_LOSSES + 1
    assert listed.statuses() == {"ready": 1, "failed": 1}
    [failed] = listed.rows(UploadState.FAILED)
    assert "interrupted" in failed.reason and "kbsync retry" in failed.reason


async def test_documents_of_the_same_batch_do_not_fail_together(world: World) -> None:
    """The target accepts many at once; from the third try on, an interrupted document is sent alone."""
    world.limits = replace(world.limits, batch=8, concurrency=1)
    world.write_many(7)
    world.write("bad.md", "kills whoever sends it")
    for _ in range(20):
        world.clock.now += HOUR
        await kill_at(world, "bad.md")
    await passes(world, 1)
    assert world.statuses() == {"ready": 7, "failed": 1}


async def kill_at(world: World, path: str) -> None:
    """A pass that is killed as soon as this document is being sent."""
    guillotine = Guillotine()
    put = world.target_type.put

    async def deadly(target: object, documents: list[object]) -> object:
        if any(document.path == path for document in documents):  # type: ignore[attr-defined]
            guillotine.fallen = True
            guillotine.boundary("put")
        return await put(target, documents)  # type: ignore[arg-type]

    world.target_type = type("Deadly", (world.target_type,), {"put": deadly})
    try:
        await world.crash(guillotine)
    finally:
        world.target_type = world.target_type.__base__  # type: ignore[assignment]


async def test_unreachable_target_uses_no_attempts(listed: World) -> None:
    listed.write("a.md")
    listed.base.faults += [lost_response(), down("list")]
    await passes(listed, 5)
    listed.base.faults[:] = [down("put"), down("list")]
    await passes(listed, 6)
    listed.base.faults.clear()
    await passes(listed, 1)
    assert listed.searchable_texts() == listed.on_disk()


async def test_target_that_answers_no_upload_uses_no_attempts(listed: World) -> None:
    """Five different documents in a row get no response, and none is accepted in between: the target is to
    blame.
    """
    listed.write_many(6)
    listed.base.faults.append(lost_response())
    await run_for(listed, 1300.0)
    assert listed.requests("put") > 6 * MAX_LOSSES
    assert listed.statuses() == {"pending": 6}
    listed.base.faults.clear()
    await passes(listed, 1)
    assert listed.searchable_texts() == listed.on_disk()


async def run_for(world: World, seconds: float) -> None:
    """Run one process for this long."""
    async with world.start_mirror() as bound:
        await bound.compare()
        await bound.turn()
        await world.clock.sleep(seconds)


async def test_restart_uses_no_attempts(listed: World) -> None:
    listed.write("a.md")
    for _ in range(12):
        listed.base.faults[:] = [Fault("put", hang=asyncio.Event(), times=FOR_EVER)]
        await run_for(listed, 40.0)
    assert listed.requests("put") > MAX_LOSSES
    listed.base.faults.clear()
    await passes(listed, 1)
    assert listed.searchable_texts() == listed.on_disk()


async def test_unwritable_state_uses_no_attempts(world: World) -> None:
    """The outcome of an upload can't be recorded: that is no document's fault."""
    world.write("a.md")
    world.base.faults.append(Fault("put", error=lambda: Unsure("reset"), times=20))
    async with world.start_mirror() as bound:
        store, failed_at = bound.mirror.store, 0
        write = store.write

        async def failing(work: Callable[[Tx], Any]) -> Any:
            nonlocal failed_at
            if failed_at < world.requests("put") < 20:
                failed_at = world.requests("put")
                raise StateError("disk full")
            return await write(work)

        store.write = failing  # type: ignore[method-assign]
        await bound.compare()
        await bound.turn()
        await world.clock.sleep(12 * HOUR)
    assert world.requests("put") > MAX_LOSSES
    assert world.searchable_texts() == world.on_disk()
