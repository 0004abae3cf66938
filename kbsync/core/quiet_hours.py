"""Quiet hours: the times of day, in local time, when a mirror is paused."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime, timedelta

from kbsync.dataclass import dataclass

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_TIME = r"(?:[01]?[0-9]|2[0-3]):[0-5][0-9]"
_DAY = f"(?:{'|'.join(DAYS)})"
_PERIOD = f"(?:({_DAY})(?:-({_DAY}))? )?({_TIME})-({_TIME})"


@dataclass(frozen=True, slots=True)
class QuietHours:
    """A time of day on some `days` (0 is Monday). `start` and `end` are in minutes since midnight.

    If the end isn't after the start, the period ends on the next day; `days` are the days on which it starts.
    """

    days: frozenset[int]
    start: int
    end: int


def parse_quiet_hours(text: str) -> tuple[QuietHours, ...]:
    """Parse periods such as `22:00-06:00, sat-sun 10:00-12:00`.

    An empty string means no periods. Raises ValueError with the reason.
    """
    periods = []
    for part in text.split(",") if text else ():
        match = re.fullmatch(_PERIOD, " ".join(part.lower().split()))
        if match is None:
            raise ValueError(f"{part.strip()!r} is not a time of day such as 22:00-06:00")
        first, last, *times = match.groups()
        start, end = (60 * int(hours) + int(minutes) for hours, minutes in (t.split(":") for t in times))
        if start == end:
            raise ValueError(f"{part.strip()!r} begins and ends at the same time")
        days = range(7)
        if first:
            first_day, last_day = DAYS.index(first), DAYS.index(last or first)
            days = range(first_day, first_day + (last_day - first_day) % 7 + 1)
        periods.append(QuietHours(frozenset(day % 7 for day in days), start, end))
    return tuple(periods)


def current_period(periods: Iterable[QuietHours], now: float) -> tuple[float, float] | None:
    """Return the start and end of the period at `now`, in epoch seconds, or None outside quiet hours.

    Times are local: a period during which daylight saving time begins or ends is an hour shorter or longer.
    If periods overlap, the one that ends last applies.
    """
    midnight = datetime.fromtimestamp(now).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    spans = [
        span
        for day in (midnight - timedelta(days=1), midnight)
        for period in periods
        if day.weekday() in period.days
        if (span := _span(period, day))[0] <= now < span[1]
    ]
    return max(spans, key=lambda span: span[1], default=None)


def _span(period: QuietHours, day: datetime) -> tuple[float, float]:
    # Naive datetimes are local times here, so adding to them counts hours as a wall clock shows them.
    end = period.end if period.end > period.start else period.end + 24 * 60
    starts, ends = (day + timedelta(minutes=minutes) for minutes in (period.start, end))
    return starts.timestamp(), ends.timestamp()
