"""Files that never get quiet, and what waits for them."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from kbsync.core.brake import DeletionLimits
from kbsync.engine.mirror import MirrorRun, Parts
from tests.engine.world import World

SETTLE, LONGEST = 2.0, 10.0


class Writing(World):
    """Files are as young here as the clock says."""

    def __init__(self, tmp_path: Path) -> None:
        super().__init__(tmp_path)
        limits = DeletionLimits(fraction=0.9)
        self.plan = replace(self.plan, settle=SETTLE, settle_longest=LONGEST, deletions=limits)

    def write(self, path: str, text: str = "hello") -> Path:
        file = super().write(path, text)
        os.utime(file, (self.clock.wall(), self.clock.wall()))
        return file

    @asynccontextmanager
    async def compared(self) -> AsyncIterator[tuple[MirrorRun, Parts]]:
        async with self.running() as store:
            run = self.make_run(store)
            assert await run.begin() and run.parts is not None
            await run.compare()
            yield run, run.parts
            await run.end()


@pytest.fixture
def world(tmp_path: Path) -> Writing:
    return Writing(tmp_path)


async def test_a_missed_file_waits_to_be_known_again_no_longer_than_a_file_is_waited_for(
    world: Writing,
) -> None:
    world.write_many(5)
    await world.once()
    inode = (world.root / "f1.md").stat().st_ino
    world.delete("f1.md")
    async with world.compared() as (run, parts):
        parts.deletions._coming = lambda: {inode}
        since = world.clock.now
        while "f1.md" in world.base.shown():
            await run.tend(weigh_now=True)
            await world.clock.sleep(SETTLE / 4)
        assert LONGEST <= world.clock.now - since < LONGEST + 3 * SETTLE
    assert world.served() == world.on_disk()


async def test_a_file_emptied_and_filled_without_end_is_taken_in_the_end(world: Writing) -> None:
    world.write("kept.md")
    await world.once()
    async with world.compared() as (run, _):
        since = world.clock.now
        for text in itertools.cycle(["text", ""]):
            world.write("new.md", text)
            await run.compare()
            await run.tend()
            await world.clock.sleep(SETTLE / 2)
            if "new.md" in world.base.shown():
                break
            assert world.clock.now - since < LONGEST + 3 * SETTLE
    assert world.base.shown()["new.md"] == ["text"]
