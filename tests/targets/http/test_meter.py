from __future__ import annotations

from kbsync.contract.meter import BOUNDS, Meter, Outcome


def test_histogram_bucket_counts_values_up_to_its_bound() -> None:
    meter = Meter()
    for seconds in (0.0, 0.005, 0.0051, 120.0, 121.0):
        meter.answered("list", Outcome.OK, seconds)
    buckets = dict(zip((*BOUNDS, "all"), meter.times["list"].buckets, strict=True))
    assert (buckets[0.005], buckets[0.01], buckets[60.0]) == (2, 3, 3)
    assert (buckets[120.0], buckets["all"]) == (4, 5)
    assert meter.times["list"].sum == 0.005 + 0.0051 + 241.0
