"""Whose turn it is: lanes that share the time of the slots, and the order within a lane. Pure.

One number cannot order all work fairly: what always goes first starves the rest, and what moves up as it ages
ends by going before the file that somebody has just saved. So each kind of work has a lane, and each lane a
share of the time, which the others take up while nothing waits in it.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Collection

LARGE_BYTES = 8 * 1024 * 1024
BACKLOG_PENALTY = 600.0
HUGE_PENALTY = 600.0
LONGEST_COST = 120.0
"""Seconds that one turn counts at most: a lane does not pay for ever for one slow request."""

LEAST_COST = 0.001
_NEWEST = 0.2  # of the last turn, in what a turn is thought to take

_WIDTH = 1e10
"""Ranks are epoch seconds within a lane; lanes are this far apart."""


class Lane(enum.IntEnum):
    """What kind of work it is; of what is to be sent it is kept in the upload's rank."""

    FRESH = 0  # somebody has just saved it
    BACKLOG = 1
    LARGE = 2
    AGAIN = 3  # it failed before
    DELETE = 4
    RENAME = 5
    PROVE = 6  # documents that were found at the target are read


SENDS = (Lane.FRESH, Lane.BACKLOG, Lane.LARGE, Lane.AGAIN)

WEIGHTS = {
    Lane.FRESH: 8,
    Lane.BACKLOG: 4,
    Lane.LARGE: 2,
    Lane.AGAIN: 1,
    Lane.DELETE: 4,
    Lane.RENAME: 4,
    Lane.PROVE: 2,
}
"""Shares of the time among the lanes in which something waits."""


def rank(now: float, size: int, *, fresh: bool) -> float:
    """Where an upload of `size` bytes intended at `now` (epoch seconds) stands: smaller goes first."""
    # Within a lane it is a deadline: small goes before huge, and nothing waits for ever.
    if size >= LARGE_BYTES:
        lane, late = Lane.LARGE, 0.0 if fresh else BACKLOG_PENALTY
    else:
        lane, late = Lane.FRESH if fresh else Lane.BACKLOG, 0.0
    return lane * _WIDTH + now + late + min(HUGE_PENALTY, size / 1e6)


def rank_again(before: float) -> float:
    """The rank of what failed before: what was never tried does not wait for it."""
    return Lane.AGAIN * _WIDTH + before % _WIDTH


def reach_of(lane: Lane) -> tuple[float, float]:
    """The ranks of a lane: from, and below."""
    return lane * _WIDTH, (lane + 1) * _WIDTH


class FairTurns:
    """Which lane is next, so that each gets its share of time while something waits in it.

    Every lane has a clock; a turn moves it on by the time the turn took, divided by the lane's weight. The
    lane that is furthest behind goes next. What may take long never holds all slots.
    """

    def __init__(self) -> None:
        self._clocks = dict.fromkeys(Lane, 0.0)
        self._under_way: Counter[Lane] = Counter()
        self._usual = LEAST_COST

    def next(self, waiting: Collection[Lane], slots: int) -> Lane | None:
        """The lane whose turn it is, of those in which something waits; None where none may go now.

        `slots`: how many requests the target is to get at a time.
        """
        able = [lane for lane in waiting if self._has_room(lane, slots)]
        if not able:
            return None
        chosen = min(able, key=lambda lane: (self._clocks[lane], lane))
        # A lane in which nothing waits saves up no time, or its next files would keep all slots for a while.
        for lane in Lane:
            if lane not in waiting and not self._under_way[lane]:
                self._clocks[lane] = max(self._clocks[lane], self._clocks[chosen])
        return chosen

    def begin(self, lane: Lane) -> float:
        """A turn begins; counts as one of the usual length until it ends. Give the answer to `end`."""
        self._under_way[lane] += 1
        self._charge(lane, self._usual)
        return self._usual

    def end(self, lane: Lane, counted: float, seconds: float) -> None:
        """A turn for which `counted` was counted took so long."""
        cost = min(max(seconds, LEAST_COST), LONGEST_COST)
        self._under_way[lane] -= 1
        self._charge(lane, cost - counted)
        self._usual += _NEWEST * (cost - self._usual)

    def _charge(self, lane: Lane, seconds: float) -> None:
        self._clocks[lane] += seconds / WEIGHTS[lane]

    def _has_room(self, lane: Lane, slots: int) -> bool:
        """One slot is kept from what takes long, and half of them from what failed before."""
        slow = sum(self._under_way[each] for each in (Lane.LARGE, Lane.AGAIN, Lane.PROVE))
        match lane:
            case Lane.LARGE | Lane.PROVE:
                return slow < max(1, slots - 1)
            case Lane.AGAIN:
                return slow < max(1, slots - 1) and self._under_way[lane] < max(1, slots // 2)
        return True
