"""Tests that each finished document gets one canonical log line."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from kbsync import logs
from kbsync.once import log_finished
from tests.engine.world import World
from tests.memory.behaviour import Behaviour, Failure

KEYS = {"mirror", "path", "document_id", "upload_id", "size", "attempt", "seconds"}
PHASES = ("waiting_seconds", "sending_seconds", "indexing_seconds")


async def lines_of(world: World, **kwargs: Any) -> list[dict[str, Any]]:
    """Return the log lines of a pass about documents."""

    async def work(run: Any) -> None:
        from kbsync.once import run_once

        run.on_event = lambda event: log_finished("docs", event)
        await run_once(run)

    with capture_logs() as lines:
        await world.doing(work)
    return [line for line in lines if line["event"].startswith("document.")]


async def test_durations_are_reported_by_phase(tmp_path: Path) -> None:
    world = World(tmp_path, list_lag=5.0)
    world.base.behaviour = Behaviour(indexing_seconds=20.0)
    world.write("a.md", "alpha")
    [line] = await lines_of(world)
    assert (line["event"], line["path"], line["size"], line["attempt"]) == ("document.ready", "a.md", 5, 1)
    assert line.keys() - {"event", "log_level"} == KEYS | set(PHASES)
    assert line["indexing_seconds"] >= 20.0
    assert abs(sum(line[phase] for phase in PHASES) - line["seconds"]) < 0.01
    uploads = world.read_state(lambda tx: tx.uploads.get(line["upload_id"]))
    assert (uploads.path, uploads.remote_id) == ("a.md", line["document_id"])


async def test_line_starts_with_mirror_and_path_whatever_the_outcome(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.write("a.md", "alpha")
    world.write("b.md", "beta")
    world.base.behaviour = Behaviour(failures=[Failure("b.md", times=99, reason="no can do")])
    lines = await lines_of(world)
    assert {line["event"] for line in lines} >= {"document.ready", "document.failed"}
    assert {tuple(line)[:2] for line in lines} == {("mirror", "path")}


@pytest.mark.parametrize("style", ["console", "json"])
def test_people_see_present_fields_and_programs_find_every_key(style: str) -> None:
    stream = io.StringIO()
    logs.configure(style=style, level="info", stream=stream)
    fields = {"mirror": "docs", "mode": "native", "why": "", "cure": None, "count": 0}
    structlog.get_logger("kbsync").info("watch.started", **fields)
    line = stream.getvalue()
    if style == "json":
        assert fields.items() <= json.loads(line).items()
    else:
        assert " ".join(line.split()[-3:]) == "mirror=docs mode=native count=0"


async def test_unsent_document_has_no_phases(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.mirrored({"a.md": "alpha", "b.md": "beta"})
    world.delete("a.md")
    [line] = await lines_of(world)
    assert (line["event"], line["path"], line["size"]) == ("document.deleted", "a.md", 5)
    assert line.keys() - {"event", "log_level"} == KEYS
