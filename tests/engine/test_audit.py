"""Tests the audit of daemons and passes: what it repairs, what it only reports, when, and at what cost."""

from __future__ import annotations

import asyncio
import itertools
import tracemalloc
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from kbsync.contract.target import Base, Listed
from kbsync.core.model import UploadState
from kbsync.engine.audit import MAX_STRAYS, PUT_OFF
from kbsync.engine.clock import end_tasks
from kbsync.errors import Halted, Unavailable, Unsure
from kbsync.state.read_only import Tx
from tests.crash.harness import Guillotine
from tests.engine.auditing import audited, start_audits
from tests.engine.read_only_commands import planned
from tests.engine.test_status import status
from tests.engine.world import World
from tests.memory.behaviour import Fault
from tests.memory.target import MemoryTarget
from tests.share import boundaries, enumerated, in_parts, long

PERIOD = 1800.0


async def mirrored(world: World, n: int = 10) -> None:
    world.settings = replace(world.settings, deep_rescan=PERIOD)
    await world.mirrored(n)


def note(world: World) -> str:
    """Return the note that `status` shows with the counts."""
    return str(status(world).get("note", ""))


# -- repairs -------------------------------------------------------------------------------------------------


async def test_document_sent_while_listing_is_not_missing(world: World) -> None:
    class Late(MemoryTarget):
        async def list(self) -> AsyncIterator[Listed]:
            async for row in super().list():
                yield row
            if world.puts() == 10:
                world.write("late.md")
                bound = world.run.bound
                assert bound is not None
                await bound.compare()
                while not await bound.worker.is_idle():
                    await world.clock.sleep(1)

    await mirrored(world)
    world.target_type = Late
    assert (await audited(world)).missing == 0
    assert world.puts() == 11


async def test_emptied_base_halt_ends_when_the_documents_return(world: World) -> None:
    await mirrored(world, 20)
    documents = list(world.base.documents.values())[:6]
    for document in documents:
        world.base.lose(document.remote_id)
    async with world.running() as store, world.make_run(store).bind() as bound:
        assert bound is None
    assert world.run.halt is not None
    for document in documents:
        world.base._documents[document.remote_id] = document
    await world.once()
    assert world.run.halt is None
    assert world.puts() == 20


@long
async def test_reappearing_document_is_deleted_three_times_and_then_reported(tmp_path: Path) -> None:
    world = World(tmp_path, list_lag=1.0)
    await mirrored(world)
    old = world.base.searchable("f3.md")[0]
    world.clock.now += 10
    world.delete("f3.md")
    await world.once()
    mended = []
    for _ in range(5):
        world.base._documents[old.remote_id] = old
        world.clock.now += 1000
        mended.append((await audited(world)).repaired)
    assert mended == [1, 1, 1, 0, 0]
    assert "1 orphaned document" in note(world)


# -- reports -----------------------------------------------------------------------------------------------


async def test_copy_of_a_deleted_document_is_left_for_a_person(tmp_path: Path) -> None:
    world = World(tmp_path, list_lag=1.0)
    await mirrored(world)
    number = world.row_of("f3.md").id
    world.delete("f3.md")
    await world.once()
    copy = world.base.add("f3.md", b"text of f3", path="f3.md", upload_id=number, foreign=False)
    world.clock.now += 1000
    outcome = await audited(world)
    assert (outcome.orphaned, outcome.repaired, outcome.left_alone["orphaned"]) == (1, 0, 1)
    assert copy.remote_id in world.base.documents


async def test_documents_of_another_state_are_reported_and_kept_until_repair(tmp_path: Path) -> None:
    """One document is under a path of ours, with other bytes."""
    world = World(tmp_path, embedded=True)
    await mirrored(world)
    leftover = world.base.add("f0.md", b"older", path="f0.md", upload_id=7, foreign=False).remote_id
    world.base.add("gone.md", b"x", path="gone.md", upload_id=8, foreign=False)
    with capture_logs() as logs:
        outcome = await audited(world)
    assert (outcome.duplicate, outcome.orphaned, outcome.foreign, outcome.repaired) == (1, 1, 0, 0)
    assert leftover in world.base.documents
    matching = [(e["kind"], e["path"]) for e in logs if e["event"] == "audit.found"]
    assert matching == [("duplicate", "f0.md"), ("orphaned", "gone.md")]
    [ended] = [e for e in logs if e["event"] == "audit.ended"]
    assert (ended["duplicate"], ended["orphaned"], ended["missing"]) == (1, 1, 0)
    assert note(world) == (
        "the last audit found 1 duplicate and 1 orphaned document: kbsync verify --mirror docs --here"
    )
    world.post_request("repair")
    await world.once()
    assert note(world) == ""


@long
async def test_many_leftovers_are_counted_and_few_are_listed(world: World) -> None:
    await mirrored(world, 2)
    leave_behind(world, MAX_STRAYS + 30)
    with capture_logs() as logs:
        outcome = await audited(world)
    assert (outcome.orphaned, outcome.unchecked) == (MAX_STRAYS, 30)
    assert len([e for e in logs if e["event"] == "audit.found"]) == 20


async def test_documents_of_another_state_do_not_crowd_out_ours(world: World) -> None:
    await mirrored(world, 2)
    for n in range(MAX_STRAYS + 1):
        name = f"other{n}.md"
        world.base.add(name, b"y", path=name, upload_id=7, foreign=False)
    leave_behind(world, 3)
    outcome = await audited(world)
    assert (outcome.orphaned, outcome.unchecked) == (MAX_STRAYS + 3, 1)


def leave_behind(world: World, n: int) -> None:
    """Leave documents of ours whose rows ended and whose files are missing."""
    names = [f"old{i}.md" for i in range(n)]
    ids = [world.base.add(name, b"x", path=name, foreign=False).remote_id for name in names]

    def add(tx: Tx) -> None:
        row = replace(tx.uploads.at_path(world.run.id, 1, "f0.md")[0], state=UploadState.GONE)
        for name, remote_id in zip(names, ids, strict=True):
            tx.uploads.add(replace(row, path=name, label=name, name=name, remote_id=remote_id))

    world.change(add)


# -- when ------------------------------------------------------------------------------------------------


def lists(world: World) -> list[float]:
    return [request.time for request in world.base.requests if request.op == "list"]


async def audit_for(world: World, seconds: float) -> None:
    """Run a daemon's audits for this time."""
    async with start_audits(world) as auditing:
        task = asyncio.create_task(auditing.keep())
        await world.clock.sleep(seconds)
        await end_tasks([task])


@long
async def test_restarts_neither_repeat_nor_skip_an_audit(world: World) -> None:
    await mirrored(world)
    listed = len(lists(world))
    for _ in range(14):
        await audit_for(world, PERIOD / 4)
    assert len(lists(world)) - listed == 3


@long
async def test_clock_set_back_delays_an_audit_by_at_most_one_period(world: World) -> None:
    await mirrored(world)
    await audit_for(world, PERIOD / 2)
    listed = len(lists(world))
    world.clock.skew = -100 * PERIOD
    await audit_for(world, 1.2 * PERIOD)
    assert len(lists(world)) - listed <= 1
    await audit_for(world, 1.2 * PERIOD)
    assert len(lists(world)) - listed >= 1


async def test_halted_mirror_sends_no_audit_requests(world: World) -> None:
    await mirrored(world)
    listed = len(lists(world))
    async with start_audits(world) as auditing:
        await world.run.halts.halt(Halted("quota", "no money"))
        task = asyncio.create_task(auditing.keep())
        await world.clock.sleep(3 * PERIOD)
        assert len(lists(world)) == listed
        await world.run.halts.end()
        await world.clock.sleep(120)
        assert len(lists(world)) == listed + 1
        await end_tasks([task])


async def test_unreachable_target_postpones_the_audit(world: World) -> None:
    await mirrored(world)
    listed = len(lists(world))
    world.base.faults.append(Fault("list", error=lambda: Unavailable("busy"), times=3))
    with capture_logs() as logs:
        await audit_for(world, PERIOD + 3 * PUT_OFF + 60)
    assert [e["event"] for e in logs if e["event"].startswith("audit.")] == ["audit.put_off"] * 3 + [
        "audit.ended"
    ]
    assert len(lists(world)) - listed == 4


# -- scheduled passes --------------------------------------------------------------------------------------


async def mirror_and_lose_one(world: World) -> None:
    """Mirror ten documents and delete one at the base as another user; the next audit is due."""
    await mirrored(world)
    world.base.lose(world.base.searchable("f3.md")[0].remote_id)
    world.clock.now += PERIOD
    world.base.requests.clear()


async def test_due_audit_in_a_pass_resends_documents_deleted_at_the_base(world: World) -> None:
    await mirror_and_lose_one(world)
    assert (await world.ends_equal()).complete
    assert world.puts() == 11


async def test_audit_costs_a_pass_one_list_per_period_and_no_wait(tmp_path: Path) -> None:
    world = World(tmp_path, list_lag=100.0)
    await mirrored(world)
    world.base.requests.clear()
    costs = []
    for _ in range(4):
        requests, began = len(world.base.requests), world.clock.now
        await world.once()
        costs.append((len(world.base.requests) - requests, len(lists(world))))
        assert world.clock.now - began < 100
        world.clock.now += PERIOD / 2 + 1
    idle = costs[0][0]
    assert costs == [(idle, 0), (idle, 0), (idle + 1, 1), (idle, 1)]


@pytest.mark.parametrize(
    "error",
    [Unavailable("busy"), Unsure("cut"), Halted("credentials", "key"), ValueError("no list")],
    ids=repr,
)
async def test_failed_list_fails_no_pass_and_is_repeated_by_the_next(world: World, error: Exception) -> None:
    await mirror_and_lose_one(world)
    world.base.faults.append(Fault("list", error=lambda: error, times=1))
    end = await world.once()
    assert (end.complete, end.problem, world.run.halt) == (True, "", None)
    assert len(lists(world)) == 1
    assert world.puts() == 10
    await world.once()
    assert len(lists(world)) == 2
    assert world.searchable_texts() == world.on_disk()
    await world.once()
    assert len(lists(world)) == 2


@long
@in_parts
@enumerated()
async def test_killed_audit_is_repeated_by_the_next_pass(tmp_path: Path, part: int) -> None:
    for boundary in boundaries(part):
        (folder := tmp_path / str(boundary)).mkdir()
        world = World(folder)
        await mirror_and_lose_one(world)
        guillotine = Guillotine(stop_at=boundary)
        await world.crash(guillotine)
        if not guillotine.fallen:
            break
        await world.once()
        assert world.searchable_texts() == world.on_disk(), guillotine.passed
        assert world.puts() == 11, guillotine.passed
        listed = len(lists(world))
        await world.once()
        assert len(lists(world)) == listed, guillotine.passed
    assert boundary > 1


async def test_pass_halts_when_only_the_list_shows_an_emptied_base(world: World) -> None:
    class Uncounted(MemoryTarget):
        async def base(self) -> Base:
            return replace(await super().base(), documents=None)

    world.target_type = Uncounted
    await mirrored(world, 20)
    for n in range(9):
        world.base.lose(world.base.searchable(f"f{n}.md")[0].remote_id)
    world.clock.now += PERIOD
    await world.once()
    assert world.run.halt is not None
    assert world.run.halt.reason == "knowledge-base-emptied"
    assert world.puts() == 20


async def test_pass_carries_out_a_requested_audit(world: World) -> None:
    await mirrored(world)
    world.base.lose(world.base.searchable("f3.md")[0].remote_id)
    world.post_request("audit")
    await world.ends_equal()


@long
async def test_requested_audit_runs_although_a_pass_was_killed_before_its_end(tmp_path: Path) -> None:
    for boundary in itertools.count(1):
        (folder := tmp_path / str(boundary)).mkdir()
        world, guillotine = World(folder), Guillotine(stop_at=boundary)
        await mirrored(world)
        world.base.lose(world.base.searchable("f3.md")[0].remote_id)
        world.post_request("audit")
        await world.crash(guillotine)
        if not guillotine.fallen:
            break
        await world.once()
        assert world.searchable_texts() == world.on_disk(), guillotine.passed
        listed = len(lists(world))
        await world.once()
        assert len(lists(world)) == listed, guillotine.passed


async def test_plan_does_not_audit(world: World) -> None:
    await mirror_and_lose_one(world)
    await planned(world)
    assert lists(world) == []
    await world.ends_equal()


# -- bounds --------------------------------------------------------------------------------------------------

MANY = 3_000


class HugeMemory(MemoryTarget):
    """Lists very many documents of other users, generated one at a time."""

    async def list(self) -> AsyncIterator[Listed]:
        for i in range(MANY):
            yield Listed(str(3_108_600_000_000_000_001 + i), f"{i}.md", size=1)


@long
async def test_list_is_read_in_pages_keeping_only_ids_in_memory(world: World) -> None:
    await mirrored(world, 3)
    world.target_type = HugeMemory
    async with start_audits(world) as auditing:
        tracemalloc.start()
        outcome = await auditing.audit()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert outcome.foreign == MANY
    assert peak < 300 * MANY
