"""Counts events since the daemon started, for Prometheus and for the latest changes on the web page.

The counts exist only in memory, in the mirrors' event loop; counting a finished document takes a few
additions. The text for Prometheus is rendered at each request. `LoopMonitor` shows other threads whether the
loop is still running.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import field
from functools import partial

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import CollectorRegistry

from kbsync import __version__, revision
from kbsync.contract.meter import Histogram, Meter
from kbsync.dataclass import dataclass
from kbsync.engine.journal import DocumentEvent
from kbsync.engine.mirror import Mirror
from kbsync.engine.status import MirrorStatus, pause_reason
from kbsync.state.mirrors import Halt

FRESHNESS = (0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0, 14400.0)
"""Histogram buckets in seconds: a single edit is searchable after one or two seconds, a backlog after
hours.
"""

LAST_CHANGES = 30


@dataclass(frozen=True, slots=True)
class CounterSnapshot:
    """The counts at a point in time. Requests are counted by target, everything else by mirror.

    `uploaded`: bytes of documents. `changes`: the latest changes as the page shows them, oldest first.
    `unwritten`: the halts of mirrors whose state isn't writable.
    """

    requests: Mapping[str, Meter] = field(default_factory=dict)
    freshness: Mapping[str, Histogram] = field(default_factory=dict)
    pass_seconds: Mapping[str, float] = field(default_factory=dict)
    uploaded: int = 0
    changes: tuple[dict[str, object], ...] = ()
    unwritten: Mapping[str, Halt] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class MetricFigures:
    """The metrics for monitoring, as a Prometheus collector.

    `silence`: how many seconds ago the mirrors' event loop last ran.
    """

    mirrors: Sequence[MirrorStatus] = ()
    counted: CounterSnapshot = field(default_factory=CounterSnapshot)
    silence: float = 0.0

    def collect(self) -> Iterator[Metric]:
        """Yield every metric, for a Prometheus registry."""
        documents = _gauge("kbsync_documents", "A mirror's files by state.", "mirror", "state")
        about = "How long the longest-waiting file has been waiting; 0 if no file is waiting."
        oldest = _gauge("kbsync_oldest_pending_seconds", about, "mirror")
        about = "1 while the mirror is halted for this reason."
        halted = _gauge("kbsync_halted", about, "mirror", "reason")
        about = "Time of the last full comparison of the folder; absent before the first one."
        last_pass = _gauge("kbsync_last_pass_timestamp_seconds", about, "mirror")
        paused = _gauge("kbsync_paused", "1 while the mirror is paused.", "mirror")
        about = (
            "Time at which the mirror's pause ends automatically, by reason; absent if only a user can end "
            "it."
        )
        paused_until = _gauge("kbsync_paused_until_timestamp_seconds", about, "mirror", "reason")
        about = "Passages with and without a better vector; absent if the better extra isn't installed."
        better = _gauge("kbsync_better_vectors", about, "mirror", "state")
        for mirror in self.mirrors:
            if mirror.better is not None:
                better.add_metric((mirror.name, "made"), mirror.better[0])
                better.add_metric((mirror.name, "missing"), mirror.better[1] - mirror.better[0])
            paused.add_metric((mirror.name,), float(mirror.pause is not None))
            if mirror.pause is not None and mirror.pause.until is not None:
                paused_until.add_metric((mirror.name, pause_reason(mirror.pause)), mirror.pause.until)
            for state, n in mirror.documents.to_json().items():
                documents.add_metric((mirror.name, state), n)
            oldest.add_metric((mirror.name,), mirror.oldest_pending_s)
            if mirror.halt is not None:
                halted.add_metric((mirror.name, mirror.halt.reason), 1)
            if mirror.last_pass is not None:
                last_pass.add_metric((mirror.name,), mirror.last_pass)
        yield from (documents, oldest, halted, paused, paused_until, last_pass)
        if better.samples:
            yield better

        requests = CounterMetricFamily(
            "kbsync_requests", "Requests to a target by kind and outcome.", labels=("target", "op", "outcome")
        )
        durations = HistogramMetricFamily(
            "kbsync_request_seconds", "Duration of requests to a target.", labels=("target", "op")
        )
        for target, meter in self.counted.requests.items():
            for (op, outcome), n in sorted(meter.requests.items()):
                requests.add_metric((target, op, outcome), n)
            for op, times in sorted(meter.times.items()):
                durations.add_metric((target, op), _buckets(times.bounds, times.buckets), times.sum)
        yield from (requests, durations)
        yield CounterMetricFamily(
            "kbsync_uploaded_bytes", "Bytes of documents sent to targets.", value=self.counted.uploaded
        )

        freshness = HistogramMetricFamily(
            "kbsync_freshness_seconds",
            "Time from when a file settles until it is searchable.",
            labels=("mirror",),
        )
        for name, times in self.counted.freshness.items():
            freshness.add_metric((name,), _buckets(times.bounds, times.buckets), times.sum)
        about = "Duration of the last full comparison of a folder."
        passes = _gauge("kbsync_pass_seconds", about, "mirror")
        for name, seconds in self.counted.pass_seconds.items():
            passes.add_metric((name,), seconds)
        yield from (freshness, passes)
        about = "Time since the mirrors' event loop last ran."
        yield GaugeMetricFamily("kbsync_loop_silence_seconds", about, value=self.silence)
        about = "Always 1; the labels identify the build."
        built = _gauge("kbsync_build_info", about, "version", "revision")
        built.add_metric((__version__, revision()), 1)
        yield built


class Counters:
    """The counts for every mirror so far.

    `current`: the running mirrors by name, updated as they start and end.
    """

    def __init__(self, current: Mapping[str, Mirror]) -> None:
        self._current = current
        self._runs: set[Mirror] = set()
        self._ended: dict[str, Meter] = {}
        self._freshness: dict[str, Histogram] = {}
        self._embedded_bytes = 0
        self._changes: deque[dict[str, object]] = deque(maxlen=LAST_CHANGES)

    def attend(self, run: Mirror) -> None:
        """Count this mirror's events from now on."""
        self._runs.add(run)
        self._freshness.setdefault(run.settings.name, Histogram(FRESHNESS))
        run.on_event = partial(self._note, run, run.on_event)

    def _note(self, run: Mirror, then: Callable[[DocumentEvent], None], event: DocumentEvent) -> None:
        change = event.event.partition(".")[2]
        self._changes.append(
            {
                "at": run.clock.wall(),
                "mirror": run.settings.name,
                "path": event.path,
                "event": "replaced" if event.replaced and change == "ready" else change,
                "seconds": round(event.seconds, 3),
                "reason": event.upload.reason,
            }
        )
        if event.event == "document.ready":
            self._freshness[run.settings.name].observe(event.seconds)
            if run.bound is None or run.bound.target.meter is None:
                self._embedded_bytes += event.upload.size
        then(event)

    async def snapshot(self) -> CounterSnapshot:
        """Return a copy of the counts for another thread."""
        # A removed mirror keeps its counts: a Prometheus counter must not go down.
        current = set(self._current.values())
        for run in [run for run in self._runs if run not in current and run.bound is None]:
            self._runs.discard(run)
            self._ended.setdefault(run.settings.target_type, Meter()).add(run.requests())
        requests: dict[str, Meter] = {}
        meters = [*self._ended.items(), *((run.settings.target_type, run.requests()) for run in self._runs)]
        for target, meter in meters:
            requests.setdefault(target, Meter()).add(meter)
        return CounterSnapshot(
            requests=requests,
            freshness=deepcopy(self._freshness),
            pass_seconds={r.settings.name: r.pass_seconds for r in self._runs if r.pass_seconds is not None},
            uploaded=self._embedded_bytes + sum(meter.sent_bytes for meter in requests.values()),
            changes=tuple(self._changes),
            unwritten={
                name: halt
                for name, run in self._current.items()
                # A mirror without a row can't store its halt.
                if (run.halts.write_error or not run.id) and (halt := run.halts.shown) is not None
            },
        )


BEAT_EVERY = 1.0
STALLED_AFTER = 10.0
"""Seconds without a heartbeat after which the loop counts as stuck. Even a long step, such as opening a large
state, takes less."""


class LoopMonitor:
    """Tells other threads whether the mirrors' event loop is still running.

    `steady` returns the time in seconds.
    """

    def __init__(self, steady: Callable[[], float] = time.monotonic) -> None:
        self._steady = steady
        self._last = steady()

    def beat(self) -> None:
        """Record that the loop is running."""
        self._last = self._steady()

    @property
    def silence(self) -> float:
        """Seconds since the last heartbeat."""
        return self._steady() - self._last

    @property
    def is_turning(self) -> bool:
        """Whether the loop is still running."""
        return self.silence < STALLED_AFTER

    async def keep(self) -> None:
        """Record heartbeats until canceled."""
        while True:
            self.beat()
            await asyncio.sleep(BEAT_EVERY)


def rendered(figures: MetricFigures) -> bytes:
    """Render the Prometheus text format, version 0.0.4."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(figures)
    return generate_latest(registry)


def _gauge(name: str, about: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, about, labels=labels)


def _buckets(bounds: Sequence[float], counts: Sequence[int]) -> list[tuple[str, float]]:
    return list(zip([*map(str, bounds), "+Inf"], counts, strict=True))
