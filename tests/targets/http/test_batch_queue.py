from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress

from kbsync.contract.target import DeleteOutcome
from kbsync.errors import Unavailable
from kbsync.targets.http.batch_queue import BatchQueue
from tests.clocks import let_tasks_run


class Service:
    """Deletes one batch at a time, and responds once `may_end` is set."""

    def __init__(self) -> None:
        self.batches: list[Sequence[str]] = []
        self.may_end = asyncio.Event()
        self._deletions = BatchQueue[DeleteOutcome]()

    async def delete(self, remote_id: str) -> Mapping[str, DeleteOutcome]:
        return await self._deletions.run([remote_id], self._remove)

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


async def test_failed_batch_raises_its_error_in_every_call_and_the_next_call_runs_again() -> None:
    queue, batches, may_end = BatchQueue[str](), list[Sequence[str]](), asyncio.Event()

    async def fail_once(ids: Sequence[str]) -> Mapping[str, str]:
        batches.append(ids)
        await may_end.wait()
        if len(batches) == 2:
            raise Unavailable("down")
        return {"a": "row"}

    calls = [asyncio.ensure_future(queue.run([remote_id], fail_once)) for remote_id in "abc"]
    await let_tasks_run()
    may_end.set()
    first, *others = await asyncio.gather(*calls, return_exceptions=True)
    assert first == {"a": "row"}
    assert [type(outcome) for outcome in others] == [Unavailable] * 2
    assert await queue.run(["d", "a"], fail_once) == {"a": "row"}
    assert batches == [("a",), ("b", "c"), ("d", "a")]
