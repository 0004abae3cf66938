"""Tests that no deletion is lost when a mirror changes its base or another one takes over a former base."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kbsync.engine import reconcile
from tests.engine.auditing import verified
from tests.engine.read_only_commands import planned
from tests.engine.world import World
from tests.memory.base import MemoryBase
from tests.share import long

pytestmark = long


def use_another_base(world: World) -> MemoryBase:
    """Return the base that the mirror no longer uses."""
    former, world.base = world.base, MemoryBase(clock=world.clock.wall)
    world.base.id = "another"
    return former


async def collect(world: World, count: int) -> None:
    """Run a daemon that ends while it still collects this many deletions."""
    async with world.start_mirror() as bound:
        await bound.compare()
        while world.read_state(lambda tx: tx.removals.times(bound.mirror.id)[0]) < count:
            await world.clock.sleep(0.2)
            await bound.turn()


@pytest.mark.parametrize(
    ("deleted", "status"),
    [(6, "held"), (1, "pending")],  # pending: still being collected
)
async def test_deletion_survives_when_another_mirror_takes_over_a_former_base(
    tmp_path: Path, deleted: int, status: str
) -> None:
    world, alpha = World(tmp_path), tmp_path / "alpha"
    await world.mirrored(10)
    former = use_another_base(world)
    await world.once()
    world.delete_many(deleted)
    await (world.once() if status == "held" else collect(world, 1))
    assert world.statuses() == {status: deleted, "ready": 10 - deleted}
    current, settings = world.base, world.settings
    alpha.mkdir()
    (alpha / "a.md").write_text("text of alpha")
    world.base, world.configured = former, ("docs", "alpha")
    world.settings = replace(settings, name="alpha", root=alpha)
    await world.once()
    assert former.searchable("a.md") and former.searchable("f0.md")  # another folder: it asks first
    world.base, world.settings = current, settings
    await world.once()
    if status == "held":
        assert world.statuses() == {"held": 6, "ready": 4}
        world.approve()
        await world.once()
    assert world.searchable_texts() == world.on_disk()
    assert world.statuses() == {"ready": 10 - deleted}


# -- documents of a former base, in a directory that is excluded now -------------------------------------


def no_folder(world: World) -> None:
    world.delete("d/deep/b.md", "d/deep/c.md")
    (world.root / "d/deep").rmdir()
    (world.root / "d").rmdir()


@pytest.mark.parametrize("change", [None, no_folder, lambda world: world.write("d/a.md", "written again")])
@pytest.mark.parametrize("excluded", ["d/", "deep/"])
async def test_document_below_an_excluded_directory_of_a_reused_base_is_deleted(
    world: World, excluded: str, change: Callable[[World], object] | None
) -> None:
    for path in ("d/a.md", "d/deep/a.md", "d/deep/b.md", "d/deep/c.md"):
        world.write(path, f"text of {path}")
    await world.mirrored(60)
    former = use_another_base(world)
    await world.once()
    world.delete("d/a.md", "d/deep/a.md")
    await world.once()
    world.settings = replace(world.settings, exclude=(excluded,))
    await world.once()
    if change is not None:
        change(world)
    world.base = former
    deleted_paths = {"d/deep/a.md", "d/deep/b.md", "d/deep/c.md"} | ({"d/a.md"} if change is None else set())
    assert deleted_paths <= {line.path for line in (await planned(world)).delete}
    assert (await world.once()).complete
    assert world.searchable_texts() == {
        path: text for path, text in world.on_disk().items() if f"/{excluded}" not in f"/{path}"
    }
    assert (await verified(world)).ok


async def test_files_excluded_by_an_upgrade_keep_their_documents_when_their_directory_is_checked_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.write("d/kept.md", "kept")
    world.write("d/a.md", "text of a")
    await world.mirrored(20)
    former = use_another_base(world)
    await world.once()
    world.delete("d/a.md")
    await world.once()
    world.settings = replace(world.settings, exclude=("d/",))
    with monkeypatch.context() as upgraded:
        upgraded.setattr(reconcile, "is_by_person", lambda _before, _now: False)
        await world.once()
    assert "d/kept.md" in world.searchable_texts()
    world.base = former
    await world.once()
    assert "d/kept.md" in world.searchable_texts() and "d/a.md" not in world.searchable_texts()
