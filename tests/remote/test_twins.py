"""Our own document of a file is gone and another of its name and bytes is there: that one is adopted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.engine.auditing import audited, paths
from tests.remote.world import RemoteWorld, sha_of_folder


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[RemoteWorld]:
    async with RemoteWorld(tmp_path, vectorize=(0.0, 0.0)).serving() as world:
        world.write_many(6)
        await world.once()
        world.clock.now += 100
        yield world


def replace(world: RemoteWorld, path: str, twins: int = 1) -> list[str]:
    """Somebody deletes the document of a file; documents of its name and bytes are there. Their ids."""
    [ours] = world.documents_of(path)
    text = (world.root / path).read_text()
    planted = [world.plant(ours["sent_name"], text) for _ in range(twins)]
    world.app.put_foreign({"delete": str(ours["id"])})
    world.foreign.clear()
    world.clock.now += 100
    world.server.requests.clear()
    return planted


@pytest.mark.parametrize("twins", [1, 3])
async def test_one_repair_and_one_pass_adopt_a_twin_and_leave_nothing_to_find(
    world: RemoteWorld, twins: int
) -> None:
    planted = replace(world, "f1.md", twins)
    await world.repair()
    assert world.asked("upload") == 0
    assert world.bytes_by_path(searchable=True) == sha_of_folder(world)
    assert str(world.documents_of("f1.md")[0]["id"]) in planted
    assert paths(await world.verify()) == {}


async def test_a_namesake_with_other_bytes_is_not_adopted(world: RemoteWorld) -> None:
    [ours] = world.documents_of("f1.md")
    namesake = world.plant(ours["sent_name"], "other bytes, of another length")
    world.lose("f1.md")
    world.clock.now += 100
    await world.repair()
    assert namesake in {str(one["id"]) for one in world.documents()}
    assert world.bytes_by_path(searchable=True) == sha_of_folder(world)


async def test_an_audit_of_a_daemon_adopts_the_twin_too(world: RemoteWorld) -> None:
    [planted] = replace(world, "f1.md")
    outcome = await audited(world)
    assert (outcome.missing, outcome.duplicate) == (1, 0)
    assert world.asked("upload") == 0
    assert [str(one["id"]) for one in world.documents_of("f1.md")] == [planted]
    assert paths(await world.verify()) == {}
