"""What monitoring reads: the text of Prometheus, made anew for each who asks, of a registry of our own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import CollectorRegistry

from kbsync import __version__, revision
from kbsync.core.meter import BOUNDS
from kbsync.engine.status import MirrorStatus
from kbsync.server.counters import CounterSnapshot, MetricFigures

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


def rendered(figures: MetricFigures) -> bytes:
    """The text, version 0.0.4."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(figures))
    return generate_latest(registry)


class _Collector:
    def __init__(self, figures: MetricFigures) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        yield from _of_mirrors(self._figures.mirrors)
        yield from _of_requests(self._figures.counted)
        yield from _of_times(self._figures)
        labels = ("version", "revision")
        built = "Always 1; what was built is in the labels."
        one = GaugeMetricFamily("kbsync_build_info", built, labels=labels)
        one.add_metric((__version__, revision()), 1)
        yield one


def _of_mirrors(mirrors: Sequence[MirrorStatus]) -> Iterator[Metric]:
    documents = GaugeMetricFamily(
        "kbsync_documents", "Files of a mirror by state, as status shows them.", labels=("mirror", "state")
    )
    oldest = GaugeMetricFamily(
        "kbsync_oldest_pending_seconds",
        "For how long the longest waiting file has waited; 0 when none does.",
        labels=("mirror",),
    )
    halted = GaugeMetricFamily(
        "kbsync_halted", "1 while a mirror is halted, for this reason.", labels=("mirror", "reason")
    )
    passed = GaugeMetricFamily(
        "kbsync_last_pass_timestamp_seconds",
        "When the folder was last compared as a whole; absent before the first time.",
        labels=("mirror",),
    )
    for one in mirrors:
        for state, n in one.documents.to_json().items():
            documents.add_metric((one.name, state), n)
        oldest.add_metric((one.name,), one.oldest_pending_s)
        if one.halt is not None:
            halted.add_metric((one.name, one.halt.reason), 1)
        if one.last_pass is not None:
            passed.add_metric((one.name,), one.last_pass)
    yield from (documents, oldest, halted, passed)


def _of_requests(counted: CounterSnapshot) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        "kbsync_requests", "Requests to a target by kind and end.", labels=("target", "op", "outcome")
    )
    seconds = HistogramMetricFamily(
        "kbsync_request_seconds", "How long requests to a target took.", labels=("target", "op")
    )
    for target, meter in counted.requests.items():
        for (op, outcome), n in sorted(meter.requests.items()):
            requests.add_metric((target, op, outcome), n)
        for op, buckets in sorted(meter.buckets.items()):
            seconds.add_metric((target, op), _buckets(BOUNDS, buckets), meter.sums[op])
    uploaded = CounterMetricFamily(
        "kbsync_uploaded_bytes", "Bytes of documents given to targets.", value=counted.uploaded
    )
    yield from (requests, seconds, uploaded)


def _of_times(figures: MetricFigures) -> Iterator[Metric]:
    counted = figures.counted
    freshness = HistogramMetricFamily(
        "kbsync_freshness_seconds",
        "From a file that has settled on disk to its being searchable.",
        labels=("mirror",),
    )
    for name, one in counted.freshness.items():
        freshness.add_metric((name,), _buckets(one.bounds, one.buckets), one.sum)
    passes = GaugeMetricFamily(
        "kbsync_pass_seconds", "How long the last whole comparison of a folder took.", labels=("mirror",)
    )
    for name, seconds in counted.pass_seconds.items():
        passes.add_metric((name,), seconds)
    yield from (freshness, passes)
    yield GaugeMetricFamily(
        "kbsync_loop_silence_seconds", "Since the loop of the mirrors last came round.", value=figures.silence
    )


def _buckets(bounds: Sequence[float], counts: Sequence[int]) -> list[tuple[str, float]]:
    return list(zip([*map(str, bounds), "+Inf"], counts, strict=True))
