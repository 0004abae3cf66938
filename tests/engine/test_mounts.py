"""Tests that files on an unmounted disk, or hidden by a mounted one, keep their documents until a user
decides; with real mounts, root only."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cli.test_mounts import can_mount, mounted
from tests.engine.test_watching import WatchingWorld, until
from tests.engine.world import World
from tests.share import long

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not can_mount(), reason="mounting needs root and the right to mount"
)


def write_notes(world: World) -> None:
    for number in range(10):
        world.write(f"d{number % 3}/n{number}.md", f"note {number}")


async def settle(world: World) -> None:
    """Let files become old enough, and mirror them."""
    world.clock.now += 100
    await world.once()


@pytest.mark.parametrize("hidden", ["d1", "."])
async def test_files_hidden_by_a_mount_are_held_and_return_with_the_unmount(
    world: World, hidden: str
) -> None:
    """However few they are; also in a directory that both have."""
    write_notes(world)
    world.write("d1/sub/deep.md", "deep")
    await settle(world)
    with mounted(world.root / "d1", "1m"):
        world.write("d1/sub/other.md" if hidden == "." else "d1/other.md", "other")
        for _ in range(3):
            await settle(world)
            assert world.statuses() == {"held": 4, "ready": 8}
    assert world.puts() == 12
    for _ in range(2):
        await settle(world)
        assert world.statuses() == {"held": 1, "ready": 11}
    assert world.puts() == 12
    assert world.base.effects_of("delete") == []
    world.approve()
    await settle(world)
    assert world.searchable_texts() == world.on_disk()


async def test_approval_deletes_what_a_mount_hides(world: World) -> None:
    write_notes(world)
    await settle(world)
    with mounted(world.root / "d1", "1m"):
        await settle(world)
        world.approve()
        await settle(world)
        assert world.searchable_texts() == world.on_disk()
        world.write("d1/new.md", "new")
        await settle(world)
        world.delete("d1/new.md")
        await settle(world)
        assert world.statuses() == {"ready": 7}, "small deletions need no approval again"


async def test_disk_with_the_files_of_the_folder_below_it_hides_nothing(world: World) -> None:
    """A later unmount makes its files unknown, as those of any disk."""
    world.write("a.md", "alpha")
    world.write("data/b.md", "beta")
    await settle(world)
    with mounted(world.root / "data", "1m"):
        world.write("data/b.md", "beta")
        await settle(world)
        assert world.statuses() == {"ready": 2}
    world.write("data/b.md", "an old version")
    await settle(world)
    assert world.searchable_texts() == {"a.md": "alpha", "data/b.md": "beta"}
    assert [row.path for row in world.look_up(lambda tx: tx.folders.problems(world.run.id))] == ["data"]


# -- the daemon --------------------------------------------------------------------------------------


@long
async def test_daemon_follows_mounts_inside_the_folder_without_a_rescan(tmp_path: Path) -> None:
    daemon = WatchingWorld(tmp_path)
    write_notes(daemon)
    daemon.settings = replace(daemon.settings, rescan=3600.0)
    async with daemon.run_daemon():
        with mounted(daemon.root / "d1", "1m"):
            await until(lambda: daemon.tally() == {"held": 3, "ready": 7})
        await until(lambda: daemon.tally() == {"ready": 10})
        assert daemon.puts() == 10
        assert daemon.base.effects_of("delete") == []


@long
async def test_changes_on_a_disk_mounted_again_are_followed(tmp_path: Path) -> None:
    daemon = WatchingWorld(tmp_path)
    daemon.settings = replace(daemon.settings, rescan=3600.0)
    daemon.write("a.md", "alpha")
    with mounted(usb := daemon.root / "usb", "1m"):
        daemon.write("usb/u.md", "note")
        async with daemon.run_daemon():
            subprocess.run(f"umount {usb} && mount -t tmpfs -o size=1m none {usb}", shell=True, check=True)
            daemon.write("usb/u.md", "note")
            for number in range(3):
                daemon.write(f"usb/w{number}.md", f"written {number}")
                await until(daemon.mirrors_disk)
