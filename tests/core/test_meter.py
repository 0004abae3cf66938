from __future__ import annotations

from kbsync.core.meter import BOUNDS, Meter, Outcome


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
    buckets = dict(zip((*BOUNDS, "all"), meter.buckets["list"], strict=True))
    assert (buckets[0.005], buckets[0.01], buckets[60.0]) == (2, 3, 3)
    assert (buckets[120.0], buckets["all"]) == (4, 5)
    assert meter.sums["list"] == 0.005 + 0.0051 + 241.0


def test_what_was_read_does_not_change_with_later_requests() -> None:
    meter = Meter()
    before = meter.requests
    meter.answered("list", Outcome.HALTED, 1.0)
    assert (before, meter.requests) == ({}, {("list", "halted"): 1})
