"""Distinguishes linear from quadratic work by CPU time, however busy the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable

ROUNDS = 12


def assert_linear(work: Callable[[int], object], size: int, times: int = 8) -> None:
    """Fail if `times` as much input takes more than three times as long as linear work would."""

    def seconds(amount: int) -> float:
        began = time.process_time()
        work(amount)
        return time.process_time() - began

    small = large = float("inf")
    for _ in range(ROUNDS):
        # Load only makes runs slower, so the fastest of several is the most accurate.
        small, large = min(small, seconds(size)), min(large, seconds(times * size))
        if large < 3 * times * small + 0.02:
            return
    raise AssertionError(f"{size}: {small:.4f} s, {times * size}: {large:.4f} s")
