"""Scratch files that come and go all the time: what else is to be weighed is weighed as without them."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kbsync.engine.mirror import MirrorRun
from kbsync.source.hints import Hint, HintKind
from kbsync.state.approvals import RENEWALS
from tests.engine.world import World

TICK, SETTLE, LONGEST = 0.5, 2.0, 20.0


class Churned(World):
    """A folder in which there is never a moment without a file that has just gone."""

    def __init__(self, tmp_path: Path, **limits: Any) -> None:
        super().__init__(tmp_path, **limits)
        self.settings = replace(self.settings, settle=SETTLE, settle_longest=LONGEST)
        self._numbers = itertools.count()
        self._seen: list[Hint] = []

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        async with self.running() as store:
            run = self.make_run(store)
            bound = await run.begin()
            assert bound is not None
            await bound.compare()
            await self.first_pass(run)
            try:
                yield
            finally:
                await run.end()
        assert self.breaches == []

    async def first_pass(self, run: MirrorRun) -> None:
        await self.pass_time(4 * SETTLE)
        await run.first_pass_over()

    async def pass_time(self, seconds: float) -> None:
        await self.until(lambda: False, seconds)

    async def until(self, condition: Callable[[], object], seconds: float = 100.0) -> bool:
        """What a daemon does meanwhile, in every tick of which a scratch file goes and another one comes."""
        bound = self.run.bound
        assert bound is not None
        for _ in range(int(seconds / TICK)):
            if condition():
                break
            number = next(self._numbers)
            self.see(self.write(f"scratch{number}.tmp").name)
            await self.clock.sleep(TICK)
            old = f"scratch{number - int(SETTLE / TICK)}.tmp"
            if (self.root / old).exists():
                self.delete(old)
                self.see(old)
            await self.look()
        return bool(condition())

    def see(self, *paths: str) -> None:
        """Something happened to these files."""
        self._seen += [Hint(path, HintKind.FILE) for path in paths]

    _seen: list[Hint]

    async def look(self) -> None:
        bound = self.run.bound
        assert bound is not None
        seen, self._seen = self._seen, []
        await bound.reconciler.take_hints(seen)
        await bound.do_due_work()
        await bound.deletions.next_due()

    def held(self, kind: str = "deletions") -> int:
        """Documents that a person is asked about."""
        store = self.store
        assert store is not None
        holds = store.read_now(lambda tx: tx.holds.current(self.run.mirror, kind))
        if kind == RENEWALS:
            return len(holds)
        return sum(store.read_now(lambda tx, hold=hold: tx.holds.item_count(hold.id)) for hold in holds)  # type: ignore[misc]


@pytest.fixture
def world(tmp_path: Path) -> Churned:
    return Churned(tmp_path)


def write_more(world: Churned, count: int) -> set[str]:
    paths = {f"new{number}.md" for number in range(count)}
    for path in paths:
        world.write(path, f"text of {path}")
    world.see(*paths)
    return paths


def delete(world: Churned, *paths: str) -> None:
    for path in paths:
        world.delete(path)
    world.see(*paths)


async def test_a_few_deletions_go_among_many_documents_although_the_folder_was_small_once(
    world: Churned,
) -> None:
    world.write_many(2)
    async with world.watched():
        paths = write_more(world, 60)
        assert await world.until(lambda: paths <= world.served().keys())
        await world.pass_time(2 * LONGEST)
        delete(world, "new1.md", "new2.md")
        await world.until(lambda: len(world.served()) == 60)
        assert world.held() == 0
        assert world.served() == world.on_disk()


async def test_all_that_was_there_is_held_although_more_comes_meanwhile(world: Churned) -> None:
    world.write_many(3)
    async with world.watched():
        delete(world, "f0.md", "f1.md", "f2.md")
        await world.pass_time(2 * TICK)
        paths = write_more(world, 60)
        assert await world.until(lambda: paths <= world.served().keys())
        await world.until(world.held)
        assert world.held() == 3
        assert len(world.served()) == 63


async def test_changed_settings_are_weighed_although_files_never_cease_to_go(tmp_path: Path) -> None:
    world = Churned(tmp_path, paid=True)
    world.write_many(10)
    async with world.watched():
        await world.pass_time(4 * SETTLE)
    world.settings = replace(world.settings, document_settings=lambda _path: {"size": 2}, fingerprint="2")
    delete(world, next(world.root.glob("*.tmp")).name)
    async with world.watched():
        assert await world.until(lambda: world.held(RENEWALS), 3 * LONGEST)
