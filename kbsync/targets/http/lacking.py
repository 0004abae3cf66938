"""Calls that a service turned out not to have, so that nobody asks for them again and again."""

from __future__ import annotations

from collections.abc import Callable

from kbsync.errors import NotOffered

REMEMBERED = 3600.0
"""Seconds for which a missing call is not asked for again."""


class Lacking:
    """Those that are missing now, for all mirrors of one account. `steady`: seconds that never go back."""

    def __init__(self, steady: Callable[[], float]) -> None:
        self._steady = steady
        self._missing: dict[str, tuple[float, NotOffered]] = {}

    def check(self, op: str) -> None:
        """Raises the `NotOffered` that was noted within the last hour."""
        if self.lacks(op):
            error = self._missing[op][1]
            raise NotOffered(error.reason, code=error.code)

    def lacks(self, op: str) -> bool:
        """It was noted within the last hour."""
        return op in self._missing and self._steady() - self._missing[op][0] < REMEMBERED

    def note(self, op: str, error: NotOffered) -> NotOffered:
        """The whole call is missing, which is not the fault of a document; `error` is given back."""
        self._missing[op] = (self._steady(), error)
        return error
