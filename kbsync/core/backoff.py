"""Computes pauses between attempts."""

from __future__ import annotations

from collections.abc import Callable

CHECK_PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
"""Seconds between checks for an upload whose outcome is unknown."""

FIRST_PAUSE, MAX_PAUSE = 1.0, 300.0

LIMITED_PAUSE = 5.0
"""The first pause, in seconds, after a rate limit or an unreachable model caused a failure. Such limits often
apply per minute.
"""


def pause(
    tries: int, chance: Callable[[], float], *, first: float = FIRST_PAUSE, longest: float = MAX_PAUSE
) -> float:
    """Return the pause, in seconds, before attempt number `tries + 1`.

    The pause doubles with each attempt, and `chance` (0..1) randomizes its upper half.
    """
    # Jitter spreads out the retries of a thousand documents that failed together.
    full_pause = min(longest, first * 2.0 ** max(0, min(tries - 1, 30)))
    return full_pause * (0.5 + 0.5 * chance())


def check_pause(checks: int) -> float:
    """Return how many seconds to wait before the next check for an upload whose outcome is unknown."""
    return CHECK_PAUSES[min(checks, len(CHECK_PAUSES) - 1)]
