"""Tests that files on an unmounted disk, or hidden by a mounted one, keep their documents until a user
decides; with real mounts, root only."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kbsync.source.hints import Hint, HintKind
from kbsync.source.wake import wake
from kbsync.source.watch import Machine, Watcher
from kbsync.state.read_only import Tx
from tests.cli.test_mounts import can_mount, mounted, run_until_idle, unmount
from tests.crash.harness import Guillotine
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


async def settle_equal(world: World) -> None:
    """Settle, after which searches find exactly the folder's texts."""
    await settle(world)
    assert world.searchable_texts() == world.on_disk()


async def mirror_disk(world: World, *paths: str) -> None:
    """Mirror a disk at data/ with these files, and unmount it."""
    with mounted(world.root / "data", "1m"):
        for path in paths:
            world.write(path, path)
        await settle(world)


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
    await settle_equal(world)


async def test_approval_deletes_what_a_mount_hides(world: World) -> None:
    write_notes(world)
    await settle(world)
    with mounted(world.root / "d1", "1m"):
        await settle(world)
        world.approve()
        await settle_equal(world)
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
    assert [row.path for row in world.read_state(lambda tx: tx.folders.problems(world.run.id))] == ["data"]


@pytest.mark.parametrize("between", ["a pass", "nothing"])
async def test_files_of_a_disk_are_held_while_another_disk_is_mounted_in_its_place(
    world: World, between: str
) -> None:
    """However few they are; also in a directory that both have."""
    write_notes(world)
    with mounted(world.root / "data", "1m"):
        for path in ("data/x.md", "data/both/y.md", "data/one/z.md"):
            world.write(path, path)
        await settle(world)
    if between == "a pass":
        await settle(world)
    with mounted(world.root / "data", "2m"):
        world.write("data/both/other.md", "other")
        for _ in range(3):
            await settle(world)
            assert world.statuses() == {"held": 3, "ready": 11}
        assert world.base.effects_of("delete") == []
        world.approve()
        await settle_equal(world)
        world.delete("data/both/other.md")
        await settle(world)
        assert world.statuses() == {"ready": 10}, "it is the mirrored disk now"


async def test_files_missing_on_another_disk_mounted_at_the_root_are_held(world: World) -> None:
    """However few they are: a backup of the disk may lack the newest files."""
    with mounted(world.root, "1m"):
        write_notes(world)
        await settle(world)
    with mounted(world.root, "2m"):
        write_notes(world)
        world.delete("d0/n0.md")
        for _ in range(3):
            await settle(world)
            assert world.statuses() == {"held": 1, "ready": 9}
    assert world.base.effects_of("delete") == []
    assert world.puts() == 10


async def test_same_disk_mounted_again_at_the_root_changes_nothing(world: World, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    with bound(disk, world.root):
        write_notes(world)
        await settle(world)
    (disk / "d0/n0.md").unlink()
    with bound(disk, world.root):
        await settle(world)
        assert world.statuses() == {"ready": 9}


async def test_same_disk_mounted_again_changes_nothing(world: World, tmp_path: Path) -> None:
    write_notes(world)
    disk = tmp_path / "disk"
    disk.mkdir()
    (disk / "x.md").write_text("x")
    (disk / "y.md").write_text("y")
    for name in ("x.md", "y.md"):
        with bound(disk, world.root / "data"):
            await settle(world)
            (disk / name).unlink()
    with bound(disk, world.root / "data"):
        await settle(world)
        assert world.statuses() == {"ready": 10}
        assert world.puts() == 12


@contextmanager
def bound(folder: Path, point: Path) -> Iterator[None]:
    point.mkdir(exist_ok=True)
    subprocess.run(["mount", "--bind", str(folder), str(point)], check=True)
    try:
        yield
    finally:
        unmount(point)


async def test_folder_mounted_over_a_disk_hides_its_files(world: World, tmp_path: Path) -> None:
    write_notes(world)
    (tmp_path / "other").mkdir()
    with mounted(world.root / "data", "1m"):
        world.write("data/x.md", "x")
        await settle(world)
        with bound(tmp_path / "other", world.root / "data"):
            await settle(world)
            assert world.statuses() == {"held": 1, "ready": 10}
        await settle(world)
        assert world.statuses() == {"ready": 11}
    assert world.base.effects_of("delete") == []


def forget_disk(world: World) -> None:
    """Leave the state as versions without identities of mounts wrote it."""

    def forget(tx: Tx) -> None:
        row = tx.folders.get(world.run.id, "data")
        assert row is not None
        tx.folders.record_listing(world.run.id, "data", row.version, True)

    world.change(forget)
    assert world.read_state(lambda tx: tx.folders.mounts_over(world.run.id, "data")) == {"data": ""}


async def test_disk_of_an_earlier_state_is_learnt_without_a_hold(world: World) -> None:
    """Earlier states record only that a disk was mounted, not which."""
    write_notes(world)
    with mounted(world.root / "data", "1m"):
        world.write("data/x.md", "x")
        world.write("data/y.md", "y")
        await settle(world)
        forget_disk(world)
        world.delete("data/y.md")
        await settle(world)
        assert world.statuses() == {"ready": 11}
        forget_disk(world)
        await settle(world)
    with mounted(world.root / "data", "1m"):
        await settle(world)
        assert world.statuses() == {"held": 1, "ready": 10}


async def test_directory_accepted_without_its_disk_is_mirrored(world: World) -> None:
    world.write("a.md", "alpha")
    await mirror_disk(world, "data/old.md")
    world.write("data/old.md", "data/old.md")
    world.write("data/new.md", "new")
    await settle(world)
    assert world.puts() == 2
    world.post_request("approve", folders=["data"])
    await settle_equal(world)
    assert (world.statuses(), world.puts()) == ({"ready": 3}, 3)
    assert world.read_state(lambda tx: tx.folders.problems(world.run.id)) == []
    world.delete("data/new.md")
    await settle(world)
    assert world.statuses() == {"ready": 2}, "it is a directory like any other"


@pytest.mark.parametrize("leaves", ["the directory", "nothing"])
async def test_files_missing_in_an_accepted_directory_are_held(world: World, leaves: str) -> None:
    world.write_many(20)
    await mirror_disk(world, "data/x.md", "data/sub/y.md")
    if leaves == "nothing":
        (world.root / "data").rmdir()
    world.post_request("approve", folders=["data"])
    for _ in range(2):
        await settle(world)
        assert world.statuses() == {"held": 2, "ready": 20}
    assert world.base.effects_of("delete") == []
    world.approve()
    await settle_equal(world)
    world.delete("f3.md")
    await settle(world)
    assert world.statuses() == {"ready": 19}


async def test_other_approvals_do_not_accept_a_directory_without_its_disk(world: World) -> None:
    world.write("a.md", "alpha")
    await mirror_disk(world, "data/old.md")
    world.post_request("approve", holds=[])
    world.post_request("approve", folders=["a.md", "elsewhere"])
    await settle(world)
    assert world.statuses() == {"ready": 2}


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
async def test_files_hidden_by_a_mount_that_ends_between_two_checks_return(tmp_path: Path) -> None:
    """Only the scan of a subtree finds the mount, because the watcher checks the mounts once a second."""
    daemon, watchers = WatchingWorld(tmp_path), list[Watcher]()
    write_notes(daemon)
    daemon.settings = replace(daemon.settings, rescan=3600.0)

    def make_watcher(*args: Any, **options: Any) -> Watcher:
        watchers.append(Watcher(*args, **options, machine=Machine(mounts=lambda: ())))
        return watchers[-1]

    async with daemon.run_daemon(make_watcher):
        with mounted(daemon.root / "d1", "1m"):
            watchers[-1].hints.add(Hint("d1", HintKind.TREE))
            daemon.run.wake.set()
            await until(lambda: daemon.tally() == {"held": 3, "ready": 7})
        await until(lambda: daemon.tally() == {"ready": 10})
        assert daemon.puts() == 10


@long
async def test_daemon_mirrors_a_directory_accepted_without_its_disk(tmp_path: Path) -> None:
    daemon = WatchingWorld(tmp_path)
    daemon.write("a.md", "alpha")
    daemon.settings = replace(daemon.settings, rescan=3600.0)

    def has_problem() -> bool:
        assert daemon.store is not None
        return bool(daemon.store.read_now(lambda tx: tx.folders.problems(daemon.run.id)))

    with ExitStack() as disk:
        disk.enter_context(mounted(daemon.root / "data", "1m"))
        daemon.write("data/old.md", "old")
        async with daemon.run_daemon() as store:
            disk.close()
            await until(has_problem)
            daemon.write("data/old.md", "old")
            daemon.write("data/new.md", "new")
            await store.write(lambda tx: tx.inbox.post("approve", "docs", {"folders": ["data"]}, 0.0))
            wake(daemon.state)
            await until(daemon.mirrors_disk)
            await until(lambda: not has_problem())
            assert daemon.puts() == 3


@long
async def test_changes_on_a_disk_mounted_again_are_followed(tmp_path: Path) -> None:
    daemon = WatchingWorld(tmp_path)
    daemon.settings = replace(daemon.settings, rescan=3600.0)
    daemon.write("a.md", "alpha")
    with mounted(usb := daemon.root / "usb", "1m"):
        daemon.write("usb/u.md", "note")
        async with daemon.run_daemon():
            run_until_idle("sh", "-c", f"umount {usb} && mount -t tmpfs -o size=1m none {usb}")
            daemon.write("usb/u.md", "note")
            for number in range(3):
                daemon.write(f"usb/w{number}.md", f"written {number}")
                await until(daemon.mirrors_disk)


@long
async def test_files_hidden_by_a_mount_are_held_although_a_scan_is_killed(tmp_path: Path) -> None:
    """Wherever it is killed, also between the listings of the mount point and of a directory in it."""
    for boundary in itertools.count(1):
        (folder := tmp_path / str(boundary)).mkdir()
        world, guillotine = World(folder), Guillotine(boundary)
        write_notes(world)
        world.write("d1/sub/deep.md", "deep")
        await settle(world)
        with mounted(world.root / "d1", "1m"):
            for number in (1, 4, 7):
                world.write(f"d1/n{number}.md", f"note {number}")
            world.write("d1/sub/other.md", "other")
            world.clock.now += 100
            await world.crash(guillotine)
            for _ in range(2):
                await settle(world)
            assert world.statuses() == {"held": 1, "ready": 11}, boundary
        assert world.base.effects_of("delete") == []
        if not guillotine.fallen:
            return
