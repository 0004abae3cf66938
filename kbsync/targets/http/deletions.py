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
class _Deletion:
    """A waiting call to `delete`. `outcomes` is empty until the response arrives."""

    ids: Sequence[str]
    outcomes: dict[str, DeleteOutcome] = field(default_factory=dict)


class DeletionQueue:
    """Sends one batch of ids at a time. Ids that arrive in the meantime go into the next batch."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._waiting: list[_Deletion] = []

    async def wait(self) -> None:
        """Wait until no batch is being deleted, for uploads that the service would refuse meanwhile."""
        async with self._turn:
            pass

    async def delete(self, ids: Sequence[str], remove: Remove) -> Mapping[str, DeleteOutcome]:
        """Delete documents. Return the outcome of each.

        The first waiting call passes the ids of all waiting calls to `remove`.
        """
        deletion = _Deletion(ids)
        self._waiting.append(deletion)
        try:
            async with self._turn:
                if ids and not deletion.outcomes:
                    calls = [call for call in self._waiting if not call.outcomes]
                    batch = tuple(dict.fromkeys(remote_id for call in calls for remote_id in call.ids))
                    try:
                        outcomes = await remove(batch)
                    except TargetError as error:
                        outcomes = dict.fromkeys(batch, error)
                    for call in calls:
                        call.outcomes |= {remote_id: outcomes[remote_id] for remote_id in call.ids}
            return deletion.outcomes
        finally:
            self._waiting.remove(deletion)
