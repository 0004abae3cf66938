"""Whatever is done about many documents is done a page a transaction, and goes on after a kill in between."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from kbsync.engine import deletions, inbox
from kbsync.engine.journal import Journal
from kbsync.errors import Rejected
from tests.engine.world import World
from tests.memory.behaviour import Fault

MANY, SMALL = 60, 7


@pytest.fixture
def largest(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many documents were decided about in each transaction since."""
    for room in (deletions, inbox):
        monkeypatch.setattr(room, "PAGE", SMALL)
    decide, found = Journal.decide, [0]

    def counting(self: Journal, *args: Any, **options: Any) -> None:
        found[-1] += 1
        decide(self, *args, **options)

    monkeypatch.setattr(Journal, "decide", counting)
    world.on_commit = lambda _moment: found.append(0)
    yield found


async def test_many_deletions_are_weighed_held_and_approved_by_pages(
    world: World, largest: list[int]
) -> None:
    await world.mirrored(MANY)
    world.delete_many(MANY - 5)
    largest.append(0)
    await world.once()
    assert world.statuses() == {"held": MANY - 5, "ready": 5}
    [hold] = world.look_up(lambda tx: tx.holds.current(world.run.mirror))
    assert world.look_up(lambda tx: tx.holds.item_count(hold.id)) == MANY - 5
    world.approve()
    await world.once()
    assert world.statuses() == {"ready": 5}
    assert max(largest) <= 2 * SMALL  # a path that parts with its document is decided about once more


async def test_deletions_that_go_unasked_go_by_pages(world: World, largest: list[int]) -> None:
    await world.mirrored(4 * MANY)
    world.delete_many(40)
    await world.once()
    assert len(world.base.documents) == 4 * MANY - 40
    assert max(largest) <= 2 * SMALL


async def test_many_failures_are_retried_by_pages(world: World, largest: list[int]) -> None:
    numbers = itertools.count()
    world.base.faults.append(
        Fault(
            "put",
            error=lambda: Rejected("no can do", code=f"code {next(numbers)}"),
            match=lambda one: one.path.startswith("x"),
            times=MANY,
        )
    )
    world.write_many(MANY, "x")
    world.write_many(2 * MANY)
    await world.once()
    assert world.statuses() == {"failed": MANY, "ready": 2 * MANY}
    world.base.faults.clear()
    largest.append(0)
    world.tell("retry")
    await world.once()
    assert world.statuses() == {"ready": 3 * MANY}
    assert max(largest) <= 2 * SMALL
