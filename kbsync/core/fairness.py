"""Divides the time of the request slots among lanes of work, and orders the work within each lane. This
module does no I/O.

A single priority can't order all work fairly: work that always goes first starves the rest, and work that
gains priority with age overtakes a file that was just saved. So each kind of work has a lane, and each lane
has a share of the time. While a lane is empty, the other lanes use its share.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Collection

LARGE_BYTES = 8 * 1024 * 1024
BACKLOG_PENALTY = 600.0
HUGE_PENALTY = 600.0
MAX_COST = 120.0
"""Maximum number of seconds charged for one turn, so that a slow request doesn't hold back its lane for
long."""

MIN_COST = 0.001
_NEWEST = 0.2  # weight of the latest turn in the average length

_WIDTH = 1e10
"""Distance between the ranks of two adjacent lanes. Within a lane, ranks are in epoch seconds."""


class Lane(enum.IntEnum):
    """A kind of work. Each upload's rank includes its lane."""

    FRESH = 0  # someone has just saved the file
    BACKLOG = 1
    LARGE = 2
    AGAIN = 3  # retries
    DELETE = 4
    RENAME = 5
    PROVE = 6  # documents in the target to read and compare


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
"""The share of time for each lane that has work."""


def rank(now: float, size: int, *, fresh: bool) -> float:
    """Return the rank of an upload of `size` bytes that was planned at `now` (epoch seconds).

    Lower ranks go first.
    """
    # Within a lane, the rank is a deadline: small files go before huge ones, but each gets its turn.
    if size >= LARGE_BYTES:
        lane, late = Lane.LARGE, 0.0 if fresh else BACKLOG_PENALTY
    else:
        lane, late = Lane.FRESH if fresh else Lane.BACKLOG, 0.0
    # A clock may be before 1970, and a negative time would reach into another lane.
    return lane * _WIDTH + max(0.0, now) + late + min(HUGE_PENALTY, size / 1e6)


def rank_again(before: float) -> float:
    """Return the rank of a retry. A retry never delays a first attempt."""
    return Lane.AGAIN * _WIDTH + before % _WIDTH


def reach_of(lane: Lane) -> tuple[float, float]:
    """Return a lane's range of ranks as an inclusive lower bound and an exclusive upper bound."""
    return lane * _WIDTH, (lane + 1) * _WIDTH


class FairTurns:
    """Picks the next lane so that each lane with work gets its share of the time.

    Every lane has a clock. A turn advances the clock by the turn's length divided by the lane's weight, and
    the lane that is furthest behind goes next. Slow work never takes all slots.
    """

    def __init__(self) -> None:
        self._clocks = dict.fromkeys(Lane, 0.0)
        self._under_way: Counter[Lane] = Counter()
        self._usual = MIN_COST

    def next(self, waiting: Collection[Lane], slots: int) -> Lane | None:
        """Return which of the `waiting` lanes (those that have work) goes next, or None if no lane may start
        now.

        `slots`: how many requests the target accepts at a time.
        """
        able = [lane for lane in waiting if self._has_room(lane, slots)]
        if not able:
            return None
        chosen = min(able, key=lambda lane: (self._clocks[lane], lane))
        # An empty lane must not save up time, or its next files would take all slots for a while.
        for lane in Lane:
            if lane not in waiting and not self._under_way[lane]:
                self._clocks[lane] = max(self._clocks[lane], self._clocks[chosen])
        return chosen

    def begin(self, lane: Lane) -> float:
        """Start a turn and charge the lane for a turn of the usual length.

        Pass the returned value to `end` as `charge`.
        """
        self._under_way[lane] += 1
        self._charge(lane, self._usual)
        return self._usual

    def end(self, lane: Lane, charge: float, seconds: float) -> None:
        """End a turn that took `seconds`. `charge`: the value that `begin` returned for it."""
        cost = min(max(seconds, MIN_COST), MAX_COST)
        self._under_way[lane] -= 1
        self._charge(lane, cost - charge)
        self._usual += _NEWEST * (cost - self._usual)

    def _charge(self, lane: Lane, seconds: float) -> None:
        self._clocks[lane] += seconds / WEIGHTS[lane]

    def _has_room(self, lane: Lane, slots: int) -> bool:
        """Return whether a lane may start.

        Slow work must leave one slot free, and retries must leave half of the slots free.
        """
        slow = sum(self._under_way[slow_lane] for slow_lane in (Lane.LARGE, Lane.AGAIN, Lane.PROVE))
        match lane:
            case Lane.LARGE | Lane.PROVE:
                return slow < max(1, slots - 1)
            case Lane.AGAIN:
                return slow < max(1, slots - 1) and self._under_way[lane] < max(1, slots // 2)
        return True
