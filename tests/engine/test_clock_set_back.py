"""Tests that work postponed by a clock that ran ahead doesn't wait until that time."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from kbsync.core.lifecycle import MAX_PAUSES
from kbsync.core.model import FINAL, LOOKED_FOR, TO_BE_DONE, UploadState
from kbsync.state.read_only import Tx
from tests.engine.world import World, save_unchecked
from tests.memory.behaviour import Behaviour
from tests.memory.variants import RenamingMemory

YEARS = 4 * 365 * 86400.0
HOUR = 3600.0

NEVER_DUE = {UploadState.SENDING, UploadState.HELD, UploadState.FAILED, *FINAL}
"""States that wait for a response, for a person, or for nothing."""


def test_every_state_has_a_longest_delay_or_is_never_due() -> None:
    assert set(MAX_PAUSES) == set(UploadState) - NEVER_DUE
    due = {*TO_BE_DONE, *LOOKED_FOR, UploadState.UNSURE, UploadState.INDEXING} - {UploadState.SENDING}
    assert set(MAX_PAUSES) == due, "what the worker looks for"


@pytest.mark.parametrize("state", sorted(set(UploadState) - NEVER_DUE), ids=lambda state: state.name)
async def test_row_due_in_years_is_due_now(world: World, state: UploadState) -> None:
    await world.mirrored(1)
    row = world.row_of("f0.md")

    def put_off(tx: Tx) -> None:
        save_unchecked(tx.uploads, replace(row, state=state, due_at=world.clock.wall() + YEARS))

    world.change(put_off)
    now = world.clock.wall()
    world.change(lambda tx: tx.uploads.bring_forward(row.mirror, row.binding, now))
    assert world.row_of("f0.md").due_at == now


async def test_rename_does_not_wait_for_a_clock_set_back(world: World) -> None:
    """The rename was decided in the future and not carried out before the clock was corrected."""
    world.target_type = RenamingMemory
    await world.mirrored(3)
    row = world.row_of("f0.md")
    world.move("f0.md", "g0.md")
    put_off = replace(row, due_at=world.clock.wall() + YEARS)
    world.change(lambda tx: tx.uploads.move(row.mirror, row.binding, "f0.md", "g0.md"))
    world.change(lambda tx: save_unchecked(tx.uploads, put_off))
    await world.once()
    assert world.row_of("g0.md").label == "g0.md"
    assert world.puts() == 3 and world.searchable_texts() == world.on_disk()


async def test_tombstone_does_not_wait_for_a_clock_set_back(world: World) -> None:
    """A document deleted in the future and still listed is deleted again, as without the correction."""
    world.limits = replace(world.limits, list_lag=5.0)
    await world.mirrored(3)
    row = world.row_of("f0.md")
    world.delete("f0.md")
    in_future = world.clock.wall() + YEARS
    dead = replace(row, state=UploadState.TOMBSTONE, checked_at=in_future, due_at=in_future + 86400)
    world.change(lambda tx: tx.entries.remove(row.mirror, "f0.md"))
    world.change(lambda tx: save_unchecked(tx.uploads, dead))
    for _ in range(3):
        await world.once()
        world.clock.now += HOUR
    assert row.remote_id not in world.base.documents
    assert world.searchable_texts() == world.on_disk()


async def test_deep_scan_in_the_future_does_not_prevent_the_next(world: World) -> None:
    await world.mirrored(1)
    world.clock.skew = YEARS
    await world.once()
    assert world.read_state(lambda tx: tx.mirrors.get(world.run.id)).last_deep > world.clock.wall() - YEARS
    world.clock.skew = 0.0
    async with world.running() as store:
        run = world.make_run(store)
        async with run.bind():
            assert await run.deep_is_due() == (True, False)
    await world.once()
    record = world.read_state(lambda tx: tx.mirrors.get(world.run.id))
    assert record.last_deep <= world.clock.wall() and record.last_pass <= world.clock.wall()


async def test_everything_is_mirrored_with_a_clock_before_1970(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.clock.epoch = -1e6
    world.base.behaviour = Behaviour(indexing_seconds=100.0)
    await world.mirrored(3)
    assert world.statuses() == {"ready": 3}
    world.write("f1.md", "changed")
    os.utime(world.root / "f1.md", (-2e6, -2e6))
    world.delete("f2.md")
    await world.ends_equal()
