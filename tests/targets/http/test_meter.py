from __future__ import annotations

from kbsync.contract.meter import BOUNDS, Histogram, Meter, Outcome


def test_requests_are_counted_by_what_was_asked_and_how_it_ended() -> None:
    meter = Meter()
    meter.answered("upload", Outcome.OK, 0.2, sent_bytes=100)
    meter.answered("upload", Outcome.OK, 0.3, sent_bytes=50)
    meter.answered("upload", Outcome.UNSURE, 60.0)
    meter.answered("list", Outcome.OK, 0.1)
    assert meter.requests == {("upload", "ok"): 2, ("upload", "unsure"): 1, ("list", "ok"): 1}
    assert (meter.total, meter.sent_bytes) == (4, 150)


def test_a_bucket_holds_what_took_at_most_its_bound() -> None:
    meter = Meter()
    for seconds in (0.0, 0.005, 0.0051, 120.0, 121.0):
        meter.answered("list", Outcome.OK, seconds)
    buckets = dict(zip((*BOUNDS, "all"), meter.times["list"].buckets, strict=True))
    assert (buckets[0.005], buckets[0.01], buckets[60.0]) == (2, 3, 3)
    assert (buckets[120.0], buckets["all"]) == (4, 5)
    assert meter.times["list"].sum == 0.005 + 0.0051 + 241.0


def test_what_two_have_counted_can_be_told_as_one() -> None:
    one, other = Meter(), Meter()
    one.answered("list", Outcome.OK, 0.1)
    other.answered("list", Outcome.OK, 0.3)
    other.answered("upload", Outcome.UNSURE, 61.0, sent_bytes=7)
    one.add(other)
    assert one.requests == {("list", "ok"): 2, ("upload", "unsure"): 1}
    assert (one.times["list"].buckets[-1], one.times["upload"].buckets[-1], one.sent_bytes) == (2, 1, 7)
    assert (one.times["list"].sum, other.total) == (0.4, 2)


def test_a_histogram_counts_by_its_own_bounds() -> None:
    times = Histogram((1.0, 10.0))
    for seconds in (0.5, 1.0, 1.1, 11.0):
        times.observe(seconds)
    assert (times.buckets, times.sum) == ((2, 3, 4), 13.6)
