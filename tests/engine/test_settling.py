"""Files that never get quiet, and what waits for them."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from kbsync.core.brake import DeletionLimits
from kbsync.engine import judge
from kbsync.engine.judge import RACY_SECONDS
from kbsync.engine.mirror import MirrorRun, Parts
from kbsync.source.hints import Hint, HintKind
from kbsync.source.looker import stamp_of
from kbsync.source.reader import forced_take
from kbsync.state.store import Tx
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


def sent(world: Writing, *texts: str) -> list[str]:
    """Which of these texts were sent, in order."""
    names = {hashlib.sha256(text.encode()).hexdigest(): text for text in texts}
    return [names.get(effect.digest, "something else") for effect in world.base.effects_of("put")]


@pytest.mark.parametrize("settle", [0.3, SETTLE, 5.0])
async def test_what_was_young_at_the_last_pass_is_not_sent_half_written_by_the_next(
    world: Writing, settle: float
) -> None:
    world.plan = replace(world.plan, settle=settle)
    world.write("a.md", "first")
    await world.once()
    world.clock.now += RACY_SECONDS + 1.0
    world.write("a.md", "half")
    async with world.compared() as (run, _):
        await world.clock.sleep(settle / 2)
        world.write("a.md", "half and whole")
        for _ in range(30):
            await run.tend()
            await world.clock.sleep(settle / 4)
    assert sent(world, "first", "half", "half and whole") == ["first", "half and whole"]


async def test_a_change_behind_the_stamp_of_a_file_that_was_young_is_found_by_the_next_pass(
    world: Writing,
) -> None:
    file = world.write("a.md", "one")
    await world.once()
    file.write_text("two")
    os.utime(file, (world.clock.wall(), world.clock.wall()))
    world.clock.now += RACY_SECONDS + 1.0
    seen = stamp_of(file.stat())

    def keep_the_stamp(tx: Tx) -> None:
        """As if the write had come within the same tick as the read before it."""
        entry = tx.entries.get(world.run.mirror, "a.md")
        assert entry is not None
        tx.entries.put(world.run.mirror, replace(entry, stamp=seen, racy=True))

    async with world.running() as store:
        await store.write(keep_the_stamp)
    await world.once()
    assert world.served() == {"a.md": "two"}


async def test_what_was_written_a_moment_before_the_longest_wait_ended_is_not_quiet(
    world: Writing, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = itertools.count()

    def write_on(_seconds: float = 0.0) -> None:
        world.write("a.md", f"version {next(numbers)}")

    monkeypatch.setattr(judge, "forced_take", partial(forced_take, pause=write_on))
    write_on()
    async with world.compared() as (run, parts):
        while world.clock.now < LONGEST + SETTLE:
            await world.clock.sleep(SETTLE / 4)
            write_on()
            await parts.reconciler.heed([Hint("a.md", HintKind.FILE)])
            await run.tend()
        assert parts.reconciler.busy == {"a.md"}
    assert sent(world) == []
