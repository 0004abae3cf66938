"""What all mirrors of one account at a service know of it together."""

from __future__ import annotations

from collections.abc import Callable

from kbsync.targets.http.breaker import Breaker
from kbsync.targets.http.lacking import Lacking


class Account:
    """Whether the service is down, until when it wants to be left alone, and what it lacks: for everybody.

    How much each mirror asks is its own affair. `steady`: a clock in seconds that never steps back.
    """

    def __init__(self, steady: Callable[[], float]) -> None:
        self._steady = steady
        self.breaker = Breaker(steady)
        self.lacking = Lacking(steady)
        self.quiet_until = float("-inf")
        """No request begins before."""

    def be_quiet(self, seconds: float) -> None:
        """The service asked for it; the longest wish counts."""
        self.quiet_until = max(self.quiet_until, self._steady() + seconds)
