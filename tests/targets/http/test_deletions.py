from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress

from kbsync.contract.target import DeleteOutcome
from kbsync.targets.http.deletions import DeletionQueue
from tests.clocks import let_tasks_run


class Service:
    """Deletes one batch at a time, and responds once `may_end` is set."""

    def __init__(self) -> None:
        self.batches: list[Sequence[str]] = []
        self.may_end = asyncio.Event()
        self._deletions = DeletionQueue()

    async def delete(self, remote_id: str) -> Mapping[str, DeleteOutcome]:
        return await self._deletions.delete([remote_id], self._remove)

    async def _remove(self, ids: Sequence[str]) -> dict[str, DeleteOutcome]:
        self.batches.append(ids)
        await self.may_end.wait()
        return dict.fromkeys(ids)


async def test_cancelling_the_first_deletion_does_not_stop_the_others() -> None:
    service = Service()
    first, second = (asyncio.ensure_future(service.delete(remote_id)) for remote_id in "ab")
    await let_tasks_run()
    first.cancel()
    with suppress(asyncio.CancelledError):
        await first
    service.may_end.set()
    assert await second == {"b": None}
    assert service.batches == [("a",), ("b",)]


async def test_cancelled_deletion_is_not_sent_with_a_later_one() -> None:
    """By then, the id may belong to a document that was uploaded again."""
    service = Service()
    first, second = (asyncio.ensure_future(service.delete(remote_id)) for remote_id in "ab")
    await let_tasks_run()
    second.cancel()
    with suppress(asyncio.CancelledError):
        await second
    service.may_end.set()
    await first
    await service.delete("c")
    assert service.batches == [("a",), ("c",)]
