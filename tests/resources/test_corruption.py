"""Tests that no damage to the state file makes kbsync send anything twice."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from kbsync import daemon, once
from kbsync.cli.context import prepare
from kbsync.config.model import folder_config
from kbsync.engine.mirror import Mirror
from kbsync.errors import StateError
from kbsync.installation import Installation
from kbsync.once import PassEnd, open_or_set_aside, run_once
from kbsync.state.db import set_aside
from kbsync.state.store import StateStore
from tests.cli.sandbox import Sandbox, eventually
from tests.cli.zhipu import ZhipuSandbox, digests_in, zhipu_sandbox
from tests.engine.test_watching import until
from tests.engine.world import World
from tests.remote.world import RemoteWorld, sha_of_folder
from tests.resources.spoiling import LOST, SPOILT, copy_closed, put_back
from tests.share import boundaries, enumerated, in_parts, long

FILES = 12


def reopened(world: World) -> list[str]:
    """Open the state as a start does; return the message to the user."""
    reports: list[str] = []
    open_or_set_aside(world.state / "state.db", reports.append).close()
    return reports


@asynccontextmanager
async def mirrored(tmp_path: Path) -> AsyncIterator[RemoteWorld]:
    world = RemoteWorld(tmp_path)
    async with world.serving():
        await world.mirrored(FILES)
        yield world


async def play_spoilt(folder: Path, kind: str) -> None:
    folder.mkdir(exist_ok=True)
    async with mirrored(folder) as world:
        {**SPOILT, **LOST}[kind](world.state / "state.db")
        reports = reopened(world)
        assert bool(reports) == (kind in SPOILT)
        label = "foreign" if "another database" in kind else "damaged"
        assert os.path.lexists(world.state / f"state.db.{label}-1") == bool(reports)
        await world.once()
        assert world.request_count("upload") == FILES
        assert world.bytes_by_path() == sha_of_folder(world)


@long
@pytest.mark.parametrize("kind", [*SPOILT, *LOST])
async def test_damaged_state_resends_nothing(tmp_path: Path, kind: str) -> None:
    await play_spoilt(tmp_path, kind)


@long
async def test_state_restored_from_a_backup_resends_nothing(tmp_path: Path) -> None:
    async with mirrored(tmp_path) as world:
        state = world.state / "state.db"
        backup = copy_closed(state)
        world.write("f0.md", "edited after the backup")
        world.write("later.md", "written after the backup")
        world.delete("f1.md")
        await world.once()
        sent = world.request_count("upload")
        put_back(backup, state)
        await world.once()
        assert world.request_count("upload") == sent == FILES + 2
        assert world.bytes_by_path() == sha_of_folder(world)


async def test_uploads_after_a_restored_state_have_new_numbers(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.mirrored({"a.md": "alpha"})
    backup = copy_closed(world.state / "state.db")
    await world.mirrored({"b.md": "beta"})
    given = set(world.read_state(lambda tx: [row.id for row in tx.uploads.at_path(1, 1, "b.md")]))
    put_back(backup, world.state / "state.db")
    await world.mirrored({"c.md": "gamma"})
    assert not given & set(world.read_state(lambda tx: [row.id for row in tx.uploads.at_path(1, 1, "c.md")]))
    assert world.searchable_texts() == world.on_disk()
    assert world.puts() == 3


@long
@enumerated()
@in_parts
async def test_damage_found_mid_pass_resends_nothing(tmp_path: Path, part: int) -> None:
    """The file is overwritten after each commit in turn."""
    for number in boundaries(part):
        folder = tmp_path / str(number)
        folder.mkdir()
        if await spoilt_after(World(folder), number):
            continue
        assert number > 10
        return


async def spoilt_after(world: World, number: int) -> bool:
    """Overwrite the state after that many commits; return whether there were so many."""
    world.write_many(FILES)
    passed = 0

    def spoil(moment: str) -> None:
        nonlocal passed
        passed += moment == "after"
        if moment == "after" and passed == number:
            overwrite(world.state / "state.db")

    world.on_commit = spoil
    with suppress(StateError):
        await world.once()
    assert world.store is not None
    world.on_commit = None
    reopened(world)
    await world.once()
    assert world.searchable_texts() == world.on_disk(), f"after commit {number}"
    assert world.puts() == FILES, f"after commit {number}"
    return passed >= number


def overwrite(state: Path) -> None:
    """Overwrite the state as a program does that uses the disk directly.

    In place: if the file were empty for a moment, any process opening it then would remove the files next to
    it.
    """
    for file in (state, state.with_name("state.db-wal")):
        size = max(file.stat().st_size, 8192)
        with file.open("r+b") as content:
            content.write(b"\xa5" * size)


@pytest.fixture
def desk(tmp_path: Path):  # type: ignore[no-untyped-def]
    with zhipu_sandbox(tmp_path) as desk:
        yield desk


@long
def test_daemon_rebuilds_a_damaged_or_deleted_state_each_time(desk: ZhipuSandbox) -> None:
    for n in range(6):
        desk.write(f"f{n}.md", f"text {n}")
    daemon = desk.watch()
    daemon.wait_for_event("document.ready", times=6)
    overwrite(desk.state / "state.db")
    desk.write("new.md", "written after the damage")
    assert "set aside" in daemon.wait_for_event("state.set_aside")["detail"]
    eventually(lambda: desk.service.digests() == digests_in(desk.docs), 30)
    daemon.wait_for_event("watch.started", times=2)
    for file in desk.state.glob("state.db*"):
        file.unlink()
    daemon.wait_for_event("state.lost")
    daemon.wait_for_event("watch.started", times=3)
    eventually(lambda: desk.status()["documents"]["ready"] == 7, 30)
    assert daemon.end() == 0
    assert desk.service.request_count("upload") <= 7
    assert desk.service.digests() == digests_in(desk.docs)


class ReadOnlyDisk:
    """Fails to set the state aside, as on a read-only file system, until it `gives`."""

    def __init__(self) -> None:
        self.gives, self.calls = False, 0

    def __call__(self, path: Path, *, is_foreign: bool = False) -> Path:
        self.calls += 1
        if self.gives:
            return set_aside(path, is_foreign=is_foreign)
        raise OSError(errno.EROFS, "Read-only file system", str(path))


async def test_damaged_state_that_cannot_be_set_aside_is_reported_and_retried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing, messages, opened = ReadOnlyDisk(), list[str](), list[StateStore]()
    monkeypatch.setattr(once, "set_aside", refusing)
    monkeypatch.setattr(daemon, "CHECK_STATE_EVERY", 0.05)
    monkeypatch.setattr(daemon, "log_damage", messages.append)
    watch = daemon.Daemon._watch_mirrors
    (tmp_path / "docs").mkdir()
    installation = Installation(folder_config(tmp_path / "docs"), tmp_path / "state")

    async def watched(self: daemon.Daemon, store: StateStore) -> None:
        opened.append(store)
        if len(opened) == 1:
            # Before a mirror reads it: what it has read isn't read from the disk again.
            overwrite(installation.state_file)
            with pytest.raises(StateError):
                store.read_now(lambda tx: tx.mirrors.all())
        await watch(self, store)

    monkeypatch.setattr(daemon.Daemon, "_watch_mirrors", watched)
    prepare(installation)
    watcher = daemon.Daemon(installation, lambda current: current)
    running = asyncio.create_task(watcher.run())
    await until(lambda: refusing.calls > 2)
    assert len(messages) == 1
    assert "cannot be set aside (read-only file system)" in messages[0]
    refusing.gives = True
    await until(lambda: opened[-1] is not opened[0])
    assert "was set aside as" in messages[-1]
    watcher._receive(signal.SIGTERM)
    await running


def test_pass_reports_a_damaged_state_that_cannot_be_set_aside(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def spoilt(run: Mirror) -> PassEnd:
        overwrite(run.store.path)
        return await run_once(run)

    sandbox.prepare({"a.md": "alpha"})
    monkeypatch.setattr(once, "set_aside", ReadOnlyDisk())
    monkeypatch.setattr(once, "run_once", spoilt)
    for _ in ("met on the way", "met at the start"):
        result = sandbox.run("--once")
        assert result.code == 4
        assert "cannot be set aside (read-only file system)" in result.err
        assert "Traceback" not in result.err
