from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from kbsync.contract.target import DeleteOutcome
from kbsync.targets.http.deletions import DeletionQueue
from tests.clocks import let_tasks_run


async def test_cancelling_the_first_deletion_does_not_stop_the_others() -> None:
    deletions, batches, may_end = DeletionQueue(), list[Sequence[str]](), asyncio.Event()

    async def remove(ids: Sequence[str]) -> dict[str, DeleteOutcome]:
        batches.append(ids)
        await may_end.wait()
        return dict.fromkeys(ids)

    first, second = (asyncio.ensure_future(deletions.delete([remote_id], remove)) for remote_id in "ab")
    await let_tasks_run()
    first.cancel()
    with suppress(asyncio.CancelledError):
        await first
    may_end.set()
    assert await second == {"b": None}
    assert batches == [("a",), ("b",)]


async def test_cancelled_deletion_is_not_sent_with_a_later_one() -> None:
    """By then, the id may belong to a document that was uploaded again."""
    deletions, batches, may_end = DeletionQueue(), list[Sequence[str]](), asyncio.Event()

    async def remove(ids: Sequence[str]) -> dict[str, DeleteOutcome]:
        batches.append(ids)
        await may_end.wait()
        return dict.fromkeys(ids)

    first, second = (asyncio.ensure_future(deletions.delete([remote_id], remove)) for remote_id in "ab")
    await let_tasks_run()
    second.cancel()
    with suppress(asyncio.CancelledError):
        await second
    may_end.set()
    await first
    await deletions.delete(["c"], remove)
    assert batches == [("a",), ("c",)]
