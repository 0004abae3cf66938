"""Tests gateways that answer every request with a page of their own for a while, instead of the service."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.remote.world import RemoteWorld, sha_of_folder
from tests.services.rows import ROWS
from tests.share import enumerated

TITLES = {400: "400 Bad Request", 403: "Just a moment...", 404: "404 Not Found"}


@enumerated("service")
@pytest.mark.parametrize("status", TITLES)
@pytest.mark.parametrize("service", ROWS)
async def test_page_of_a_gateway_blames_no_document(tmp_path: Path, service: str, status: int) -> None:
    page = f"<html><head><title>{TITLES[status]}</title></head></html>"
    async with ROWS[service].world(tmp_path).serving() as world:
        await world.mirrored(6)
        world.write("f0.md", "changed")
        world.delete("f1.md")
        world.move("f2.md", "moved.md")
        world.write("new.md", "new text")
        world.write("new2.md", "other new text")
        requests, began = world.request_count(), world.clock.now
        world.play("status", op="*", skip=3, times=0, effect=False, args={"status": status, "body": page})
        await world.once()
        assert world.halted == "target-down" and "failed" not in world.statuses()
        assert TITLES[status] in world.run.halt.detail  # type: ignore[union-attr]
        assert world.clock.now - began < 90 and world.request_count() - requests < 120
        world.server.faults.clear()
        world.clock.now += 300
        await world.once()
        assert world.statuses() == {"ready": 7} and world.bytes_by_path() == sha_of_folder(world)


async def test_pass_does_not_sit_out_a_long_pause(tmp_path: Path) -> None:
    async with RemoteWorld(tmp_path).serving() as world:
        world.write_many(6)
        began = world.clock.now
        args = {"status": 429, "body": "slow down", "retry_after": "86400"}
        world.play("status", op="*", skip=3, times=0, effect=False, args=args)
        end = await world.once()
        assert not end.complete and ("slow down" in end.problem or "pause its requests" in end.problem)
        assert world.clock.now - began < 90
        world.server.faults.clear()
        world.clock.now += 300
        await world.once()
        assert world.statuses() == {"ready": 6}
