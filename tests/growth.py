"""Distinguishes linear from quadratic work by CPU time, however busy the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable

ROUNDS = 12


def assert_linear(work: Callable[[int], object], size: int) -> None:
    """Fail if eight times as much input takes more than three times as long as linear work would."""

    def seconds(amount: int) -> float:
        began = time.process_time()
        work(amount)
        return time.process_time() - began

    small = large = float("inf")
    for _ in range(ROUNDS):
        # Load only makes runs slower, so the fastest of several is the most accurate.
        small, large = min(small, seconds(size)), min(large, seconds(8 * size))
        if large < 3 * 8 * small + 0.02:
            return
    raise AssertionError(f"{size}: {small:.4f} s, {8 * size}: {large:.4f} s")
