"""Counts of the requests to a target: a few additions a request. Pure.

Exported by `server/metrics` as `kbsync_requests_total{target,op,outcome}`, `kbsync_request_seconds`
(histogram) and `kbsync_uploaded_bytes_total`.
"""

from __future__ import annotations

import enum
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate

BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
"""Upper ends of the histogram's buckets in seconds, each included; one more bucket has no end."""


class Outcome(enum.StrEnum):
    """How a request ended; equal to its word."""

    OK = "ok"
    UNAVAILABLE = "unavailable"
    UNSURE = "unsure"
    REJECTED = "rejected"
    HALTED = "halted"


class Histogram:
    """How long something took, in buckets that end at `bounds` (seconds, each included); one has no end."""

    def __init__(self, bounds: Sequence[float] = BOUNDS) -> None:
        self.bounds = tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        """One more."""
        self._counts[bisect_left(self.bounds, seconds)] += 1
        self.sum += seconds

    @property
    def buckets(self) -> tuple[int, ...]:
        """How many took at most `bounds[i]` seconds, and last all of them (cumulative)."""
        return tuple(accumulate(self._counts))

    def add(self, other: Histogram) -> None:
        """Those of another with the same bounds as well."""
        self._counts = [mine + its for mine, its in zip(self._counts, other._counts, strict=True)]
        self.sum += other.sum


class Meter:
    """Counts requests by what was asked and how it ended, and how long they took.

    `sent_bytes`: of documents, those of requests that failed included.
    """

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str]] = Counter()
        self.times: dict[str, Histogram] = {}
        self.sent_bytes = 0

    def answered(self, op: str, outcome: Outcome, seconds: float, sent_bytes: int = 0) -> None:
        """One request ended. `seconds`: from its start to its end."""
        self.requests[(op, str(outcome))] += 1
        self.times.setdefault(op, Histogram()).observe(seconds)
        self.sent_bytes += sent_bytes

    def add(self, other: Meter) -> None:
        """What another counted, as well."""
        self.requests.update(other.requests)
        for op, times in other.times.items():
            self.times.setdefault(op, Histogram()).add(times)
        self.sent_bytes += other.sent_bytes

    @property
    def total(self) -> int:
        """All requests."""
        return self.requests.total()
