"""Calls that a service turned out not to have, so that nobody asks for them again and again."""

from __future__ import annotations

from collections.abc import Callable

from kbsync.errors import NotOffered

REMEMBERED = 3600.0
"""Seconds for which a missing call is not asked for again."""

APART = 60.0
"""Seconds between two answers that prove it: one alone, or several of one moment, may be a gateway's."""


STRAY = ("404", "405", "501")
"""What gateways and servers say of a call for reasons of their own, too."""


class Lacking:
    """Those that are missing now, for all mirrors of one account. `steady`: seconds that never go back."""

    def __init__(self, steady: Callable[[], float]) -> None:
        self._steady = steady
        self._doubted: dict[str, float] = {}  # when it was missing for the first time since it last worked
        self._missing: dict[str, tuple[float, NotOffered]] = {}

    def check(self, op: str) -> None:
        """Raises the `NotOffered` that was proven within the last hour."""
        if self.lacks(op):
            error = self._missing[op][1]
            raise NotOffered(error.reason, code=error.code)

    def lacks(self, op: str) -> bool:
        """It was proven within the last hour."""
        return op in self._missing and self._steady() - self._missing[op][0] < REMEMBERED

    def note(self, op: str, error: NotOffered) -> NotOffered:
        """The whole call was missing, which is not the fault of a document; `error` is given back.

        The vendor's own code proves it. Of HTTP's the second one does, `APART` from the first; once it was
        proven, each does.
        """
        now = self._steady()
        first = self._doubted.setdefault(op, now)
        is_plain = error.code not in STRAY
        if is_plain or op in self._missing or APART <= now - first < REMEMBERED:
            self._missing[op] = (now, error)
        elif now - first >= REMEMBERED:
            self._doubted[op] = now
        return error

    def works(self, op: str) -> None:
        """It was answered: what was missing before was not the call."""
        self._doubted.pop(op, None)
        self._missing.pop(op, None)
