"""Tests a base that was deleted at its service: no document counts as gone, and the mirror waits for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.remote.world import RemoteWorld, sha_of_folder
from tests.services.rows import ROWS
from tests.share import enumerated


def untouched(world: RemoteWorld) -> list[str]:
    """Return the ids of the documents whose files don't change."""
    return [
        str(document["id"]) for path in ("f2.md", "f3.md", "f4.md") for document in world.documents_of(path)
    ]


@enumerated()
@pytest.mark.parametrize("is_within", [False, True], ids=["before a pass", "within a pass"])
@pytest.mark.parametrize("service", ROWS)
async def test_missing_base_halts_the_mirror_until_it_is_back(
    service: str, is_within: bool, tmp_path: Path
) -> None:
    async with ROWS[service].world(tmp_path).serving() as world:
        await world.mirrored(5)
        ids = untouched(world)
        assert world.bytes_by_path() == sha_of_folder(world)
        world.clock.now += 10
        goings = iter(["deleted"])

        def lose(_op: str = "") -> None:
            for state in goings:
                world.turn(base=state)

        if is_within:
            world.watch(["base"], lose)  # the base existed when the pass began
        else:
            lose()
        world.write("f0.md", "changed")
        world.write("new.md", "new")
        world.delete("f1.md")
        for _ in range(2):
            await world.once()
            assert world.run.halt is not None
            assert world.run.halt.reason == "knowledge-base-missing"
            assert world.run.halt.detail
        assert world.effects("deleted") == []
        world.turn(base="present")
        await world.once()
        assert world.halted == ""
        assert world.bytes_by_path() == sha_of_folder(world)
        assert untouched(world) == ids
