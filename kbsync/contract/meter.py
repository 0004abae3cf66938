"""Counts the requests to a target. Counting takes only a few additions and no I/O.

`server/metrics` exports the counts as `kbsync_requests_total{target,op,outcome}`, `kbsync_request_seconds`
(histogram) and `kbsync_uploaded_bytes_total`.
"""

from __future__ import annotations

import enum
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate

BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
"""Inclusive upper bounds of the histogram buckets, in seconds; the last bucket (not listed) is unbounded."""


class Outcome(enum.StrEnum):
    """How a request ended. The value is the label used in the metrics."""

    OK = "ok"
    UNAVAILABLE = "unavailable"
    UNSURE = "unsure"
    REJECTED = "rejected"
    HALTED = "halted"


class Histogram:
    """A histogram of durations.

    The buckets have inclusive upper `bounds` in seconds, except for the last one, which has none.
    """

    def __init__(self, bounds: Sequence[float] = BOUNDS) -> None:
        self.bounds = tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        """Add one duration."""
        self._counts[bisect_left(self.bounds, seconds)] += 1
        self.sum += seconds

    @property
    def buckets(self) -> tuple[int, ...]:
        """The cumulative counts: the number of durations up to each bound, followed by the total number."""
        return tuple(accumulate(self._counts))

    def add(self, other: Histogram) -> None:
        """Add another histogram with the same bounds."""
        self._counts = [count + added for count, added in zip(self._counts, other._counts, strict=True)]
        self.sum += other.sum


class Meter:
    """Counts requests by operation and outcome, and measures their durations.

    `sent_bytes`: the number of document bytes sent, including those of failed requests.
    """

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str]] = Counter()
        self.times: dict[str, Histogram] = {}
        self.sent_bytes = 0

    def answered(self, op: str, outcome: Outcome, seconds: float, sent_bytes: int = 0) -> None:
        """Count a finished request that took `seconds`."""
        self.requests[(op, str(outcome))] += 1
        self.times.setdefault(op, Histogram()).observe(seconds)
        self.sent_bytes += sent_bytes

    def add(self, other: Meter) -> None:
        """Add the counts of another meter."""
        self.requests.update(other.requests)
        for op, times in other.times.items():
            self.times.setdefault(op, Histogram()).add(times)
        self.sent_bytes += other.sent_bytes

    @property
    def total(self) -> int:
        """The total number of requests."""
        return self.requests.total()
