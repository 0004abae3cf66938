"""Tests that metrics match events, and are served even while the mirrors' loop is stuck."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from kbsync.contract.meter import Histogram, Meter, Outcome
from kbsync.engine.status import DocumentCounts, MirrorStatus
from kbsync.errors import StateError
from kbsync.server import views
from kbsync.server.metrics import CounterSnapshot, MetricFigures, rendered
from kbsync.state.mirrors import Halt, Pause
from tests.server.mirror_with_listener import mirror_with_listener, samples

HALTED = 'kbsync_halted{mirror="docs",reason="failing"}'

CONTRACT = (
    "kbsync_documents",
    "kbsync_requests",
    "kbsync_request_seconds",
    "kbsync_uploaded_bytes",
    "kbsync_freshness_seconds",
    "kbsync_oldest_pending_seconds",
    "kbsync_pass_seconds",
)


def figures() -> MetricFigures:
    meter, times = Meter(), Histogram((1.0, 10.0))
    meter.answered("upload", Outcome.OK, 0.3, 10)
    meter.answered("upload", Outcome.UNSURE, 61.0, 5)
    times.observe(2.0)
    halt = Halt("credentials", "the key is refused", "kbsync retry")
    mirrors = [
        MirrorStatus("a", "/a", "zhipu", DocumentCounts(ready=3, failed=1), 7.5, 1000.0, halt),
        MirrorStatus("b", "/b", "local", DocumentCounts(), pause=Pause(5.0, 6.0), better=(3, 10)),
    ]
    return MetricFigures(mirrors, CounterSnapshot({"zhipu": meter}, {"a": times}, {"a": 1.5}, 15), 0.25)


def test_every_metric_of_the_contract_reports_events_with_its_labels() -> None:
    text = rendered(figures()).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert set(CONTRACT) <= set(families)
    assert all(family.documentation for family in families.values())
    assert families["kbsync_request_seconds"].type == families["kbsync_freshness_seconds"].type == "histogram"
    metrics = samples(text)
    assert metrics['kbsync_documents{mirror="a",state="ready"}'] == 3
    assert metrics['kbsync_documents{mirror="b",state="held"}'] == 0
    assert metrics['kbsync_requests_total{op="upload",outcome="unsure",target="zhipu"}'] == 1
    assert metrics['kbsync_request_seconds_bucket{le="0.5",op="upload",target="zhipu"}'] == 1
    assert metrics['kbsync_request_seconds_bucket{le="+Inf",op="upload",target="zhipu"}'] == 2
    assert metrics["kbsync_uploaded_bytes_total"] == 15
    assert metrics['kbsync_freshness_seconds_bucket{le="10.0",mirror="a"}'] == 1
    assert metrics['kbsync_oldest_pending_seconds{mirror="a"}'] == 7.5
    assert metrics['kbsync_pass_seconds{mirror="a"}'] == 1.5
    assert metrics['kbsync_halted{mirror="a",reason="credentials"}'] == 1
    assert metrics['kbsync_last_pass_timestamp_seconds{mirror="a"}'] == 1000
    assert metrics['kbsync_paused_until_timestamp_seconds{mirror="b",reason="requested"}'] == 6
    assert not [name for name in metrics if "halted" in name and 'mirror="b"' in name]


def test_better_vector_metric_exists_only_where_they_are_computed() -> None:
    metrics = samples(rendered(figures()).decode())
    assert metrics['kbsync_better_vectors{mirror="b",state="made"}'] == 3
    assert metrics['kbsync_better_vectors{mirror="b",state="missing"}'] == 7
    assert 'kbsync_better_vectors{mirror="a",state="made"}' not in metrics
    status = MirrorStatus("a", "/a", "local", DocumentCounts())
    assert "kbsync_better_vectors" not in rendered(MetricFigures([status])).decode()


async def test_counters_survive_reopening_a_target_and_removing_a_mirror(tmp_path: Path) -> None:
    world = mirror_with_listener(tmp_path)
    async with world.open():
        run = world.runs["docs"]
        run.closed_requests.answered("list", Outcome.OK, 0.1, 9)
        name = 'kbsync_requests_total{op="list",outcome="ok",target="memory"}'
        for _ in range(2):
            metrics = samples((await world.get("/metrics")).text)
            assert (metrics[name], metrics["kbsync_uploaded_bytes_total"]) == (1, 9)
            world.runs.clear()


async def test_last_known_metrics_are_served_while_the_loop_is_blocked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = mirror_with_listener(tmp_path)
    async with world.open():
        world.runs["docs"].closed_requests.answered("list", Outcome.OK, 0.1)
        await world.get("/metrics")

        async def hang() -> CounterSnapshot:
            await asyncio.Event().wait()
            return CounterSnapshot()

        monkeypatch.setattr(world.listener_app.views, "_count", hang)
        monkeypatch.setattr(views, "PATIENCE", 0.0)
        metrics = samples((await world.get("/metrics")).text)
    assert metrics['kbsync_requests_total{op="list",outcome="ok",target="memory"}'] == 1
    assert metrics["kbsync_loop_silence_seconds"] >= 0


async def test_halt_that_the_state_cannot_store_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = mirror_with_listener(tmp_path)
    async with world.open():
        await world.mirrored(1)
        run = world.runs["docs"]

        def fail(_moment: str) -> None:
            raise StateError("the disk is full")

        monkeypatch.setattr(run.store, "_on_commit", fail)
        with pytest.raises(StateError):
            await run.halts.show(Halt("quota", "no money", ""))
        assert samples((await world.get("/metrics")).text)[HALTED] == 1
        [mirror] = (await world.json("/api/status"))["mirrors"]
        assert mirror["halt"] == {"reason": "failing", "detail": "the disk is full", "cure": ""}
        monkeypatch.undo()
        await run.halts.refresh()
        assert HALTED not in samples((await world.get("/metrics")).text)


async def test_halt_of_a_mirror_without_a_row_is_served(tmp_path: Path) -> None:
    world = mirror_with_listener(tmp_path)
    async with world.open():
        run = world.runs["docs"]
        await run.halts.show(Halt("folder-missing", "its file system isn't responding", ""))
        assert samples((await world.get("/metrics")).text)[
            'kbsync_halted{mirror="docs",reason="folder-missing"}'
        ]
        [mirror] = (await world.json("/api/status"))["mirrors"]
        assert mirror["halt"]["reason"] == "folder-missing"


async def test_missing_state_counts_as_empty(tmp_path: Path) -> None:
    world = mirror_with_listener(tmp_path)
    world.make_app()
    assert samples((await world.get("/metrics")).text)['kbsync_documents{mirror="docs",state="ready"}'] == 0
    world.listener_app.state_reader.close()
