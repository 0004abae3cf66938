"""Tests that waiting deletions are sent together, and each call gets the outcomes of its own ids."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from kbsync.contract.target import DeleteOutcome
from kbsync.errors import Unavailable
from kbsync.targets.http.deletions import DeletionQueue


class SlowService:
    """A service that holds each batch until the test releases it."""

    def __init__(self) -> None:
        self.batches: list[Sequence[str]] = []
        self.free = asyncio.Event()
        self.error: Unavailable | None = None

    async def remove(self, ids: Sequence[str]) -> dict[str, DeleteOutcome]:
        self.batches.append(ids)
        await self.free.wait()
        if self.error is not None:
            raise self.error
        return dict.fromkeys(ids)


async def start_calls(
    deletions: DeletionQueue, service: SlowService, *calls: list[str]
) -> list[asyncio.Task[object]]:
    tasks: list[asyncio.Task[object]] = [
        asyncio.ensure_future(deletions.delete(ids, service.remove)) for ids in calls
    ]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


async def test_concurrent_deletions_share_one_batch() -> None:
    deletions, service = DeletionQueue(), SlowService()
    tasks = await start_calls(deletions, service, ["a"], ["b", "c"], ["c", "a"], [])
    service.free.set()
    assert await asyncio.gather(*tasks) == [
        {"a": None},
        {"b": None, "c": None},
        {"c": None, "a": None},
        {},
    ]
    assert service.batches == [("a",), ("b", "c", "a")]


async def test_error_applies_only_to_its_batch() -> None:
    deletions, service = DeletionQueue(), SlowService()
    service.error = Unavailable("down")
    service.free.set()
    assert await deletions.delete(["a", "b"], service.remove) == dict.fromkeys("ab", service.error)
    service.error = None
    assert await deletions.delete(["a"], service.remove) == {"a": None}


async def test_cancelling_the_first_deletion_does_not_stop_the_others() -> None:
    deletions, service = DeletionQueue(), SlowService()
    first, second = await start_calls(deletions, service, ["a"], ["b"])
    first.cancel()
    with suppress(asyncio.CancelledError):
        await first
    service.free.set()
    assert await second == {"b": None}
    assert service.batches == [("a",), ("b",)]
