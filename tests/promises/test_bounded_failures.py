"""Tests promise 9, failures are seen and bounded: the stand-in counts requests while it fails."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from kbsync.engine.mirror import Mirror
from tests.remote.world import RemoteWorld
from tests.services.dify import DifyWorld

LONG = 1200.0


async def keep_working(run: Mirror) -> None:
    """Run twenty minutes of a daemon's life: one scan, and the decision about its deletions."""
    async with run.bind() as bound:
        assert bound is not None, run.halt
        await bound.compare()
        until = run.clock.steady() + LONG
        while run.clock.steady() < until:
            await bound.turn()
            await run.clock.sleep(5.0)


@pytest.mark.parametrize(
    ("kind", "op", "more"),
    [
        ("status", "upload", {"effect": False, "args": {"status": 503}}),
        ("rate-limited", "upload", {}),
        ("code-in-200", "upload", {"effect": False, "args": {"code": 1302}}),
        ("status", "delete", {"effect": False, "args": {"status": 503}}),
    ],
    ids=str,
)
async def test_retry_delays_grow_during_an_outage(
    tmp_path: Path, kind: str, op: str, more: dict[str, object]
) -> None:
    """In the second half of the time requests are rare."""
    async with RemoteWorld(tmp_path).serving() as world:
        await world.mirrored({"gone.md": "one", "kept.md": "two"})
        world.delete("gone.md")
        world.write("new.md", "three")
        world.clock.now += 10
        moments: list[float] = []
        method = {"upload": "POST", "delete": "DELETE"}[op]
        world.at_request = lambda name: moments.append(world.clock.now) if name == f"{method} start" else None
        world.play(kind, op=op, times=0, **more)
        started_at = world.clock.now
        await world.doing(keep_working)
        world.at_request = None
    times = [moment - started_at for moment in moments]
    assert 5 <= len(times) <= 80, times  # a deletion is tried three times in a row
    late = [moment for moment in times if moment > LONG / 2]
    assert 1 <= len(late) <= 30, times
    assert max(after - before for before, after in itertools.pairwise(times)) > 50.0


@pytest.mark.parametrize(
    ("words", "least", "most"),
    [("Unsupported encoding", 3.0, 12.0), ("Rate limit reached. Please try again in 20s.", 17.0, 60.0)],
    ids=["damaged", "rate-limited"],
)
async def test_tries_to_index_take_longer_if_a_rate_limit_is_to_blame(
    tmp_path: Path, words: str, least: float, most: float
) -> None:
    async with DifyWorld(tmp_path, vectorize=(0.0, 0.0)).serving() as world:
        world.write("a.md", "one")
        world.write("b.md", "two")
        tries: list[float] = []
        world.watch({"upload", "reembed"}, lambda op: tries.append(world.clock.now))
        world.play("fails", match="a*", times=0, args={"error": words})
        await world.once()
        assert len(tries) == 2 + world.limits.reembed_tries, tries
        assert least < tries[-1] - tries[0] < most
        assert world.statuses() == {"ready": 1, "failed": 1}
