"""Tests that decisions and approvals of deletions apply to exactly these documents, whatever happens
later."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kbsync.engine import deletions
from kbsync.source.roots import identify
from tests.engine.world import World
from tests.share import long


async def test_lost_mount_halts_each_pass_until_it_is_back(world: World) -> None:
    await world.mirrored(12)
    was = replace(identify(world.root), is_mount=True, ino=1)
    world.change(lambda tx: tx.mirrors.set_root(world.run.id, was))
    world.delete_many(3)
    for _ in range(2):
        await world.once()
        assert world.run.halt is not None and world.run.halt.reason == "folder-missing"
        assert len(world.base.documents) == 12
    assert world.read_state(lambda tx: tx.mirrors.get(world.run.id)).root == was


async def test_disk_missing_after_a_typo_in_the_folder_was_corrected_halts(world: World) -> None:
    await world.mirrored(12)
    was = replace(identify(world.root), is_mount=True, ino=1)
    world.change(lambda tx: tx.mirrors.set_root(world.run.id, was))
    right, settings = world.root, world.settings
    world.root = right.with_name("typo")
    world.root.mkdir()
    world.settings = replace(settings, root=world.root)
    await world.once()
    world.root, world.settings = right, settings
    for file in right.iterdir():
        file.unlink()
    await world.once()
    assert world.run.halt is not None and world.run.halt.reason == "folder-missing"
    assert len(world.base.documents) == 12


async def test_folder_replaced_right_before_a_delete_keeps_the_document(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is back, in the folder that somebody has moved away."""
    await world.mirrored(10)
    world.delete("f0.md")
    find_returned, away = deletions.find_returned, world.root.with_name("away")

    async def replace_folder(*args: Any) -> Any:
        if not away.exists():
            world.write("f0.md", "text of f0")
            world.root.rename(away)
            world.root.mkdir()
        return await find_returned(*args)

    monkeypatch.setattr(deletions, "find_returned", replace_folder)
    await world.once()
    assert away.exists() and world.base.effects_of("delete") == []
    monkeypatch.undo()
    world.root.rmdir()
    away.rename(world.root)
    await world.ends_equal()


@long
async def test_approval_covers_only_what_was_listed(world: World) -> None:
    await world.mirrored(30)
    world.delete_many(8)
    await world.once()
    [hold_id] = world.read_state(lambda tx: tx.holds.current(world.run.id))
    world.delete_many(9, start=8)
    await world.once()
    assert world.statuses() == {"held": 17, "ready": 13}
    world.post_request("approve", holds=[hold_id.id])
    await world.once()
    assert world.statuses() == {"held": 9, "ready": 13}
    assert set(world.base.searchable_texts()) == {f"f{number}.md" for number in range(8, 30)}


async def test_file_restored_before_its_deletion_keeps_its_document(world: World) -> None:
    await world.mirrored(10)
    aside = world.root.parent / "aside.md"
    async with world.start_mirror() as bound:
        bound.working.cancel()  # as after a halt: nothing is sent
        (world.root / "f3.md").rename(aside)
        await bound.compare()
        world.clock.now += 100
        for _ in range(3):
            await bound.turn()
            world.clock.now += 100
        assert world.row_of("f3.md").state.name == "RETIRING"
    aside.rename(world.root / "f3.md")
    sent = world.puts()
    async with world.start_mirror():  # before the folder is scanned
        await world.clock.sleep(5.0)
    await world.once()
    assert world.base.effects_of("delete") == []
    assert (world.statuses(), world.puts()) == ({"ready": 10}, sent)
