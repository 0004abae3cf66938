"""Runs calls about documents one at a time, for deletions that interfere with each other, and for lookups
that read the same pages of a list.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Generic, TypeVar

from kbsync.dataclass import dataclass
from kbsync.errors import TargetError

V = TypeVar("V")


@dataclass(slots=True, eq=False)
class _Waiting(Generic[V]):
    """A waiting call to `run`. `outcome` is None until its batch has ended."""

    ids: Sequence[str]
    outcome: Mapping[str, V] | TargetError | None = None


class BatchQueue(Generic[V]):
    """Runs one batch of ids at a time. Ids that arrive in the meantime go into the next batch."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._waiting: list[_Waiting[V]] = []

    async def wait(self) -> None:
        """Wait until no batch is running, for uploads that the service would refuse meanwhile."""
        async with self._turn:
            pass

    async def run(
        self, ids: Sequence[str], call: Callable[[Sequence[str]], Awaitable[Mapping[str, V]]]
    ) -> Mapping[str, V]:
        """Return what `call` returns for these ids. `call` starts only after this call to `run`.

        The first waiting call passes the ids of all waiting calls to its `call`. If that raises a
        `TargetError`, all of them raise it.
        """
        waiting = _Waiting[V](ids)
        self._waiting.append(waiting)
        try:
            async with self._turn:
                if ids and waiting.outcome is None:
                    batch = [other for other in self._waiting if other.outcome is None]
                    unique = tuple(dict.fromkeys(remote_id for other in batch for remote_id in other.ids))
                    outcome: Mapping[str, V] | TargetError
                    try:
                        outcome = await call(unique)
                    except TargetError as error:
                        outcome = error
                    for other in batch:
                        other.outcome = outcome
        finally:
            self._waiting.remove(waiting)
        outcomes = waiting.outcome or {}
        if isinstance(outcomes, TargetError):
            raise outcomes
        return {remote_id: outcomes[remote_id] for remote_id in ids if remote_id in outcomes}
