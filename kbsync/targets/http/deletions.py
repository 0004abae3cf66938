"""Queues deletions, for services that run only one at a time or whose deletions interfere with each other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import field

from kbsync.contract.target import DeleteOutcome
from kbsync.dataclass import dataclass
from kbsync.errors import TargetError

Remove = Callable[[Sequence[str]], Awaitable[Mapping[str, DeleteOutcome]]]
"""Deletes documents; returns the outcome of each. May raise a `TargetError` for all of them."""


@dataclass(slots=True, eq=False)
class _Batch:
    """Ids that are deleted together. `outcomes` is empty until the response arrives."""

    ids: dict[str, None] = field(default_factory=dict)
    outcomes: Mapping[str, DeleteOutcome] = field(default_factory=dict)


class DeletionQueue:
    """Sends one batch of ids at a time. Ids that arrive in the meantime go into the next batch."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._next = _Batch()

    async def delete(self, ids: Sequence[str], remove: Remove) -> Mapping[str, DeleteOutcome]:
        """Delete documents. Return the outcome of each.

        The first call of a batch passes the ids of all its calls to `remove`. If that call is canceled, the
        second one does.
        """
        batch = self._next
        batch.ids |= dict.fromkeys(ids)
        async with self._turn:
            if batch.ids and not batch.outcomes:
                self._next = _Batch()
                try:
                    batch.outcomes = await remove(tuple(batch.ids))
                except TargetError as error:
                    batch.outcomes = dict.fromkeys(batch.ids, error)
        return {remote_id: batch.outcomes[remote_id] for remote_id in ids}
