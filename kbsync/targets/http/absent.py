"""Calls that a vendor turned out not to have, so that they are not asked for again and again."""

from __future__ import annotations

from collections.abc import Callable

REMEMBERED = 3600.0
"""Seconds for which a missing call is not asked for again."""


class AbsentCalls:
    """What is missing, by the word for the call. `steady`: seconds that never go back."""

    def __init__(self, steady: Callable[[], float]) -> None:
        self._steady = steady
        self._since: dict[str, float] = {}

    def note(self, op: str) -> None:
        """The vendor has just said that there is no such call."""
        self._since[op] = self._steady()

    def __contains__(self, op: str) -> bool:
        since = self._since.get(op)
        return since is not None and self._steady() - since < REMEMBERED
