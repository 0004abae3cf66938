"""Counts of the requests to a target, to be exported later. Pure and cheap: a few additions a request.

Exported as `kbsync_requests_total{target,op,outcome}`, `kbsync_request_seconds` (histogram) and
`kbsync_uploaded_bytes_total`.
"""

from __future__ import annotations

import enum
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
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


class Meter:
    """Counts requests by what was asked and how it ended, and how long they took."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, str]] = Counter()
        self._counts: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}
        self._sent_bytes = 0

    def answered(self, op: str, outcome: Outcome, seconds: float, sent_bytes: int = 0) -> None:
        """One request ended. `seconds`: from its start to its end; `sent_bytes`: of documents."""
        self._requests[(op, str(outcome))] += 1
        counts = self._counts.setdefault(op, [0] * (len(BOUNDS) + 1))
        counts[bisect_left(BOUNDS, seconds)] += 1
        self._sums[op] = self._sums.get(op, 0.0) + seconds
        self._sent_bytes += sent_bytes

    @property
    def requests(self) -> Mapping[tuple[str, str], int]:
        """How many requests there were by (op, outcome); a copy."""
        return dict(self._requests)

    @property
    def total(self) -> int:
        """All requests."""
        return self._requests.total()

    @property
    def sent_bytes(self) -> int:
        """Bytes of documents that were sent, those of requests that failed included."""
        return self._sent_bytes

    @property
    def buckets(self) -> Mapping[str, tuple[int, ...]]:
        """By op: requests that took at most `BOUNDS[i]` seconds, and last all of them (cumulative)."""
        return {op: tuple(accumulate(counts)) for op, counts in self._counts.items()}

    @property
    def sums(self) -> Mapping[str, float]:
        """By op: seconds of all requests together."""
        return dict(self._sums)
