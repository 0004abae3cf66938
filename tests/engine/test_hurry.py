"""Tests that a callback about a document only makes kbsync poll it sooner."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kbsync.core import lifecycle
from kbsync.core.model import Phase, Upload, UploadState
from kbsync.engine.mirror import BoundMirror
from tests.core.test_lifecycle import SENT, timing
from tests.remote.world import RemoteWorld
from tests.share import long

LONG = 300.0
"""Seconds that the service takes."""

NEVER = {"poll_first": 500.0, "poll_longest": 900.0}
"""Seconds between polls: so long that within a test only a callback causes one."""


@asynccontextmanager
async def indexing(tmp_path: Path, **settings: Any) -> AsyncIterator[tuple[RemoteWorld, BoundMirror, Upload]]:
    """Send a document that the service is still indexing."""
    world = RemoteWorld(tmp_path, vectorize=(LONG, LONG), **settings)
    world.write("a.md", "alpha")
    async with world.serving(), world.start_mirror() as bound:
        await bound.compare()
        while not (rows := world.rows(UploadState.INDEXING)):
            await bound.turn()
            await world.clock.sleep(0.2)
        yield world, bound, rows[0]


@long
async def test_event_for_a_document_triggers_the_poll_that_finds_it_ready(tmp_path: Path) -> None:
    async with indexing(tmp_path, poll_first=2.0, poll_longest=900.0) as (world, bound, row):
        await world.clock.sleep(LONG + 1.0)
        [waiting] = world.rows(UploadState.INDEXING)
        before = waiting.due_at
        assert before is not None and before > world.clock.wall() + 5.0  # pauses have grown meanwhile
        await bound.hurry([row.remote_id or ""])
        await world.clock.sleep(4.0)
        [serving] = world.rows(UploadState.SERVING)
        assert serving.id == row.id
        assert world.clock.wall() < before


async def test_event_content_is_not_trusted(tmp_path: Path) -> None:
    """A callback reports that it is done, but it isn't: one more poll, then kbsync keeps waiting."""
    async with indexing(tmp_path, poll_first=10.0, poll_longest=900.0) as (world, bound, row):
        await world.clock.sleep(11.0)
        await bound.hurry([row.remote_id or ""])
        await world.clock.sleep(11.0)
        [still] = world.rows(UploadState.INDEXING)
        assert still.id == row.id
        assert still.due_at is not None and still.due_at > world.clock.wall()
        assert world.app.violations == []


async def test_events_for_foreign_documents_are_ignored(tmp_path: Path) -> None:
    async with indexing(tmp_path, **NEVER) as (world, bound, row):
        planted = world.plant("others.txt", "of somebody else")
        requests_before = world.request_count()
        await bound.hurry([planted, "17", "", "' OR 1=1 --"])
        await world.clock.sleep(5.0)
        assert world.request_count() == requests_before
        [still] = world.rows(UploadState.INDEXING)
        assert still == row


@long
async def test_flood_of_events_costs_no_more_polls_than_the_shortest_interval(tmp_path: Path) -> None:
    async with indexing(tmp_path, poll_first=10.0, poll_longest=10.0) as (world, bound, row):
        requests_before, began = world.request_count(), world.clock.wall()
        for _ in range(100):
            await bound.hurry([row.remote_id or ""])
            await world.clock.sleep(0.3)
        seconds = world.clock.wall() - began
        assert 1 <= world.request_count() - requests_before <= seconds / 10.0 + 1


ROW = replace(lifecycle.accept(SENT, "id", False, timing(0.0)), checked_at=None, due_at=None)
FIRST = timing(0.0).limits.poll_first
NOW = 1000.0


@pytest.mark.parametrize(
    ("looked", "due", "expected"),
    [
        (NOW - 100, NOW + 50, NOW),
        (NOW - 100, NOW - 5, NOW - 5),
        (NOW, NOW + 50, NOW + FIRST),
        (NOW + 500, NOW + 50, NOW + FIRST),  # the clock was set back
        (None, None, NOW + FIRST),
    ],
)
def test_poll_is_never_postponed_and_never_too_early(
    looked: float | None, due: float | None, expected: float
) -> None:
    hurried = lifecycle.hurry(replace(ROW, checked_at=looked, due_at=due), timing(NOW))
    assert hurried.due_at == pytest.approx(expected)


def test_event_does_not_hurry_other_states() -> None:
    assert lifecycle.may_be_hurried(ROW)
    assert not lifecycle.may_be_hurried(replace(ROW, phase=Phase.NO_ROOM))
    assert not lifecycle.may_be_hurried(replace(ROW, phase=Phase.TO_CUT))
    assert not lifecycle.may_be_hurried(replace(ROW, state=UploadState.SERVING))
