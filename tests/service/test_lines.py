"""One canonical line for each finished document."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from structlog.testing import capture_logs

from kbsync.passes import note
from kbsync.targets.memory import Behaviour
from tests.engine.world import World

KEYS = {"mirror", "path", "document_id", "upload_id", "size", "attempt", "seconds"}
PHASES = ("waiting_seconds", "sending_seconds", "indexing_seconds")


async def lines_of(world: World, **kwargs: Any) -> list[dict[str, Any]]:
    """What a pass logs of documents."""

    async def work(run: Any) -> None:
        from kbsync.engine.once import run_once

        run.on_event = lambda event: note("docs", event)
        await run_once(run)

    with capture_logs() as lines:
        await world.doing(work)
    return [line for line in lines if line["event"].startswith("document.")]


async def test_the_seconds_are_told_by_what_they_were_spent_with(tmp_path: Path) -> None:
    world = World(tmp_path, list_lag=5.0)
    world.base.behaviour = Behaviour(indexing_seconds=20.0)
    world.write("a.md", "alpha")
    [line] = await lines_of(world)
    assert (line["event"], line["path"], line["size"], line["attempt"]) == ("document.ready", "a.md", 5, 1)
    assert line.keys() - {"event", "log_level"} == KEYS | set(PHASES)
    assert line["indexing_seconds"] >= 20.0
    assert abs(sum(line[phase] for phase in PHASES) - line["seconds"]) < 0.01
    uploads = world.glance(lambda tx: tx.uploads.get(line["upload_id"]))
    assert (uploads.path, uploads.remote_id) == ("a.md", line["document_id"])


async def test_what_was_not_sent_has_no_phases(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.write("a.md", "alpha")
    world.write("b.md", "beta")
    await world.once()
    world.delete("a.md")
    [line] = await lines_of(world)
    assert (line["event"], line["path"], line["size"]) == ("document.deleted", "a.md", 5)
    assert line.keys() - {"event", "log_level"} == KEYS
