"""Deletions at services that have one at a time, or whose deletions do harm to each other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from kbsync.contract.target import DeleteOutcome
from kbsync.errors import TargetError

Remove = Callable[[Sequence[str]], Awaitable[Mapping[str, DeleteOutcome]]]
"""Removes documents, each id once; the outcome of each. May raise `TargetError`, which is that of all."""


@dataclass(slots=True, eq=False)
class _Deletion:
    """A call of `delete`. `outcomes` is empty until it has its answer."""

    ids: Sequence[str]
    outcomes: dict[str, DeleteOutcome] = field(default_factory=dict)


class DeletionQueue:
    """They go one batch at a time: what waits for its turn goes with the next."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._waiting: list[_Deletion] = []

    async def delete(self, ids: Sequence[str], remove: Remove) -> Mapping[str, DeleteOutcome]:
        """The outcome of each. Where this call was first, `remove` gets the ids of all that wait."""
        own = _Deletion(ids)
        self._waiting.append(own)
        try:
            async with self._turn:
                if ids and not own.outcomes:
                    calls = [one for one in self._waiting if not one.outcomes]
                    batch = tuple(dict.fromkeys(each for one in calls for each in one.ids))
                    try:
                        outcomes = await remove(batch)
                    except TargetError as error:
                        outcomes = dict.fromkeys(batch, error)
                    for one in calls:
                        one.outcomes |= {each: outcomes[each] for each in one.ids}
            return own.outcomes
        finally:
            self._waiting.remove(own)
