"""Tests rate limits and outages over TCP: a service that asks for less, or fails for one document or all."""

from __future__ import annotations

from pathlib import Path

import pytest

from kbsync.core.model import UploadState
from tests.remote.world import RemoteWorld, sha_of_folder
from tests.share import enumerated, long

WAITING = (UploadState.INTENDED, UploadState.SENDING, UploadState.UNSURE)


@enumerated()
@pytest.mark.parametrize("concurrency", [1, 4])
async def test_document_the_service_cannot_accept_blocks_no_other(tmp_path: Path, concurrency: int) -> None:
    async with RemoteWorld(tmp_path, concurrency=concurrency).serving() as world:
        world.write("bad.md", "0")
        world.write_many(25)
        world.play("status", op="upload", match="bad*", times=0, effect=False, args={"status": 500})
        async with world.start_mirror() as bound:
            await bound.compare()
            await world.clock.sleep(30.0)
            mirrored = set(world.bytes_by_path())
        assert mirrored == {f"f{number}.md" for number in range(25)}


async def test_requests_per_minute_budget_survives_restarts(tmp_path: Path) -> None:
    async with RemoteWorld(tmp_path, requests_per_minute=12).serving() as world:
        starts: list[float] = []
        world.at_request = lambda request: (
            starts.append(world.clock.now) if request.endswith("start") else None
        )
        for number in range(4):
            world.write(f"f{number}.md", f"text {number}")
            await world.once(budget=600.0)
        assert world.bytes_by_path() == sha_of_folder(world)
    assert len(starts) >= 15
    for first, beyond in zip(starts, starts[12:], strict=False):
        assert beyond - first >= 60.0 - 1e-6


@long
async def test_file_changes_are_tracked_while_the_service_is_down(tmp_path: Path) -> None:
    async with RemoteWorld(tmp_path).serving() as world:
        world.write_many(5)
        async with world.start_mirror() as bound:
            world.play("status", times=0, effect=False, args={"status": 503})
            await bound.compare()
            await world.clock.sleep(600.0)
            world.write("new.md", "written while it is down")
            await bound.compare()
            assert {row.path for row in world.rows(*WAITING)} == {
                "f0.md",
                "f1.md",
                "f2.md",
                "f3.md",
                "f4.md",
                "new.md",
            }
            requests_before = world.request_count()
            await world.clock.sleep(600.0)
            assert world.request_count() - requests_before <= 30  # it is left alone, but for probes
            world.server.faults.clear()
            await world.clock.sleep(120.0)
        assert world.bytes_by_path() == sha_of_folder(world)


@long
async def test_call_counts_as_missing_only_after_two_405_a_minute_apart(tmp_path: Path) -> None:
    async with RemoteWorld(tmp_path).serving() as world, world.start_mirror() as bound:

        async def failing(name: str) -> int:
            """Add a document that a re-embed would fix; return the number of re-embeds at its end."""
            world.play("fails", op="upload", match=f"{name}*")
            world.write(f"{name}.md", f"text of {name}")
            world.clock.now += 10.0
            await bound.compare()
            await world.clock.sleep(30.0)
            assert f"{name}.md" in world.bytes_by_path(searchable=True)
            return world.request_count("reembed")

        world.play("status", op="reembed", effect=False, args={"status": 405})
        assert await failing("stray") == 1
        assert await failing("after") == 2
        world.play("status", op="reembed", times=0, effect=False, args={"status": 405})
        assert await failing("first") == 3
        await world.clock.sleep(60.0)
        assert await failing("second") == 4
        assert await failing("known") == 4
