"""Tests when quiet hours begin and end, also on days when the clocks change."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime

import pytest

from kbsync.core.quiet_hours import current_period, parse_quiet_hours


@pytest.fixture(autouse=True)
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Set Berlin's time zone by a rule, so that no time zone database is needed."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
        time.tzset()
        yield
    time.tzset()


def timestamp(text: str, *, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(fold=fold).timestamp()


def period(hours: str, now: str | float) -> tuple[str, str] | None:
    """Return start and end of the period in local time."""
    span = current_period(parse_quiet_hours(hours), timestamp(now) if isinstance(now, str) else now)
    return span and tuple(datetime.fromtimestamp(moment).isoformat(" ", "minutes") for moment in span)  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("hours", "now", "expected"),
    [
        ("22:00-06:00", "2026-11-25 21:59:59", None),
        ("22:00-06:00", "2026-11-25 22:00", ("2026-11-25 22:00", "2026-11-26 06:00")),
        ("22:00-06:00", "2026-11-26 05:59:59", ("2026-11-25 22:00", "2026-11-26 06:00")),
        ("22:00-06:00", "2026-11-26 06:00", None),
        ("8:00-18:00", "2026-11-28 12:00", ("2026-11-28 08:00", "2026-11-28 18:00")),
        ("mon-fri 08:00-18:00", "2026-11-28 12:00", None),  # a Saturday
        ("Mon-Fri 08:00-18:00", "2026-11-27 12:00", ("2026-11-27 08:00", "2026-11-27 18:00")),
        ("fri-mon 22:00-06:00", "2026-12-01 05:00", ("2026-11-30 22:00", "2026-12-01 06:00")),
        ("fri-mon 22:00-06:00", "2026-12-02 05:00", None),
        ("sat 20:00-00:00", "2026-11-28 23:59", ("2026-11-28 20:00", "2026-11-29 00:00")),
        ("12:00-13:00, 12:30-14:00", "2026-11-28 12:45", ("2026-11-28 12:30", "2026-11-28 14:00")),
        ("12:00-13:00, 22:00-06:00", "2026-11-28 14:00", None),
        ("", "2026-11-28 14:00", None),
    ],
)
def test_period_runs_from_its_start_to_its_end(
    hours: str, now: str, expected: tuple[str, str] | None
) -> None:
    assert period(hours, now) == expected


def test_period_follows_local_time_across_dst_changes() -> None:
    hours = parse_quiet_hours("22:00-06:00")
    for evening, seconds in (("2026-03-28 23:00", 7 * 3600), ("2026-10-24 23:00", 9 * 3600)):
        span = current_period(hours, timestamp(evening))
        assert span is not None and span[1] - span[0] == seconds
        assert datetime.fromtimestamp(span[1]).hour == 6
    # Both hours between two and three belong to it, and no hour between two and three in spring.
    assert period("01:30-03:30", timestamp("2026-10-25 02:15", fold=1)) == (
        "2026-10-25 01:30",
        "2026-10-25 03:30",
    )
    assert period("02:15-02:45", "2026-03-29 03:20") == ("2026-03-29 03:15", "2026-03-29 03:45")
    # An ambiguous time is the earlier one.
    assert period("02:15-02:45", timestamp("2026-10-25 02:30", fold=0)) is not None
    assert period("02:15-02:45", timestamp("2026-10-25 02:30", fold=1)) is None


@pytest.mark.parametrize(
    ("hours", "reason"),
    [
        ("22:00-22:00", "'22:00-22:00' begins and ends at the same time"),
        ("7:00-07:00", "begins and ends at the same time"),
        ("22-6", "'22-6' is not a time of day such as 22:00-06:00"),
        ("24:00-06:00", "is not a time of day"),
        ("22:00-06:60", "is not a time of day"),
        ("22:00-06:00,", "'' is not a time of day"),
        ("monday 22:00-06:00", "is not a time of day"),
        ("at night", "is not a time of day"),
    ],
)
def test_invalid_quiet_hours_are_refused_with_a_reason(hours: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_quiet_hours(hours)
