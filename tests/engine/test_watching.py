"""Tests the daemon's loop on a real folder with real events; waits are for conditions, with a limit."""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from watchdog.observers.api import BaseObserver
from watchdog.observers.inotify import InotifyObserver

from kbsync.core.model import Stamp
from kbsync.engine import deletions, halts, reconcile
from kbsync.engine.clock import SystemClock
from kbsync.engine.inbox import Inbox, InboxResult
from kbsync.engine.loop import HINT_PAUSE, MirrorLoop, ReloadQueue, ReloadScope
from kbsync.engine.mirror import Mirror
from kbsync.engine.settings import DeletionLimits
from kbsync.errors import Halted, StateError, Unavailable
from kbsync.source.hints import Hint
from kbsync.source.read import ReadProblem, StableDigest
from kbsync.source.wake import wake
from kbsync.source.watch import TRY_AGAIN, Machine, Mode, Watcher
from kbsync.state.files import Entries
from kbsync.state.store import StateStore
from tests.cli.test_mounts import can_mount, mounted, unmount
from tests.engine.world import World
from tests.memory.base import MemoryBase
from tests.memory.behaviour import FOREVER, Fault
from tests.memory.target import MemoryTarget
from tests.memory.variants import RenamingMemory
from tests.share import long

pytestmark = long

PATIENCE = 60.0


async def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.01)


class Reloads(ReloadQueue):
    """Reloads the config at once, without any change."""

    def __init__(self) -> None:
        super().__init__()
        self.scopes: list[ReloadScope] = []

    def request(self, mirror: str, scope: ReloadScope) -> asyncio.Event:
        self.scopes.append(scope)
        done = super().request(mirror, scope)
        done.set()
        return done


class WatchingWorld(World):
    def __init__(self, tmp_path: Path, target: type[MemoryTarget] = MemoryTarget) -> None:
        super().__init__(tmp_path, target)
        self.clock = SystemClock()  # type: ignore[assignment]
        self.base = MemoryBase(clock=self.clock.wall)
        self.settings = replace(self.settings, settle=0.2, settle_longest=2.0)
        self.watching: MirrorLoop | None = None

    @asynccontextmanager
    async def run_daemon(self, make_watcher: Callable[..., Watcher] = Watcher) -> AsyncIterator[StateStore]:
        store = self.store = StateStore(self.state / "state.db")
        stop = asyncio.Event()
        self.watching = MirrorLoop(self.make_run(store), self.state, stop, make_watcher)
        task = asyncio.create_task(self.watching.keep())
        try:
            await until(lambda: self.run.has_compared)
            await until(lambda: self.mirrors_disk() or self.run.halt)
            yield store
        finally:
            stop.set()
            await asyncio.wait_for(task, PATIENCE)
            store.close()
        assert self.breaches == []
        assert self.base.violations == []

    def mirrors_disk(self) -> bool:
        expected = {path: [text] for path, text in self.on_disk().items()}
        return (
            self.base.searchable_texts() == expected
        )  # the old and the new version may both exist for a moment

    def tally(self) -> dict[str, int]:
        assert self.store is not None
        result = self.store.read_now(lambda tx: tx.mirrors.tally(self.run.id))
        return {status.word: n for status, n in result.items() if n}


@pytest.fixture
def daemon(tmp_path: Path) -> WatchingWorld:
    world = WatchingWorld(tmp_path, RenamingMemory)
    world.write_many(10)
    return world


async def test_deletions_renames_and_directory_moves_are_followed(daemon: WatchingWorld) -> None:
    async with daemon.run_daemon():
        daemon.write("dir/x.md", "x")
        daemon.write("dir/sub/y.md", "y")
        await until(daemon.mirrors_disk)
        sent = daemon.puts()
        daemon.delete("f1.md")
        daemon.move("dir", "elsewhere/dir")
        daemon.move("f2.md", "g2.md")
        await until(daemon.mirrors_disk)
        assert daemon.puts() == sent


@pytest.fixture
def hasty(daemon: WatchingWorld, monkeypatch: pytest.MonkeyPatch) -> WatchingWorld:
    """Decide about deletions as soon as files are missing."""
    monkeypatch.setattr(deletions, "QUIET_LEAST", 0.0)
    daemon.settings = replace(daemon.settings, deletions=DeletionLimits(fraction=0.9))
    return daemon


async def test_moved_files_are_recognized_however_long_the_scan_takes(
    hasty: WatchingWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasty.write_many(5, "old/")
    async with hasty.run_daemon():
        sent = hasty.puts()
    hasty.move("old", "z-moved")
    hasty.write_many(200, "new/")
    await asyncio.sleep(hasty.settings.settle)  # old enough to be read as soon as they are seen
    read = reconcile.digest

    def slowly(*args: Any) -> StableDigest | ReadProblem:
        time.sleep(0.01)
        return read(*args)

    monkeypatch.setattr(reconcile, "digest", slowly)
    async with hasty.run_daemon():
        await until(lambda: hasty.tally() == {"ready": 215})
    assert hasty.puts() == sent + 200
    assert hasty.base.effects_of("delete") == []


async def test_saves_and_requests_do_not_wait_for_a_moved_in_tree(
    hasty: WatchingWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading the tree takes ten seconds; it is all new, and an old tree moves meanwhile."""
    hasty.write_many(5, "old/")
    big = hasty.root.with_name("big")
    big.mkdir()
    for number in range(500):
        (big / f"{number:03}.md").write_text(f"entry {number}")
    read, reads = reconcile.digest, list[str]()

    def slowly(root: Path, path: str, *args: Any) -> StableDigest | ReadProblem:
        if path.startswith("big/"):
            reads.append(path)
            time.sleep(0.02)
        return read(root, path, *args)

    monkeypatch.setattr(reconcile, "digest", slowly)
    async with hasty.run_daemon() as store:
        sent = hasty.puts()
        big.rename(hasty.root / "big")
        hasty.move("old", "z-moved")
        await until(lambda: "big/000.md" in hasty.base.searchable_texts())
        reads.clear()
        hasty.write("fresh.md", "saved")
        store.submit(lambda tx: tx.inbox.post("retry", "docs", {}, 0.0)).result()
        wake(hasty.state)
        await until(lambda: not store.read_now(lambda tx: tx.inbox.waiting("docs")))
        await until(lambda: "fresh.md" in hasty.base.searchable_texts())
        assert len(reads) < 200  # four seconds
        await until(lambda: hasty.tally() == {"ready": 516})
        assert hasty.puts() == sent + 501
        assert hasty.base.effects_of("delete") == []


async def test_moved_and_touched_file_is_recognized(hasty: WatchingWorld) -> None:
    async with hasty.run_daemon():
        sent = hasty.puts()
        hasty.move("f1.md", "sub/moved.md")
        for _ in range(6):
            await asyncio.sleep(hasty.settings.settle * 0.7)
            (hasty.root / "sub/moved.md").touch()
        await until(hasty.mirrors_disk)
        assert hasty.puts() == sent
    assert hasty.base.effects_of("delete") == []


@pytest.mark.parametrize("is_moved_there", [True, False])
async def test_document_of_a_file_is_deleted_once_a_folder_has_its_name(
    hasty: WatchingWorld, is_moved_there: bool
) -> None:
    async with hasty.run_daemon():
        await until(hasty.mirrors_disk)
    # Now all documents serve from the start: while they are being uploaded, one may count as all (promise 5).
    async with hasty.run_daemon():
        await until(hasty.mirrors_disk)
        folder = hasty.root / ("new" if is_moved_there else "f1.md")
        if is_moved_there:
            folder.mkdir()
        (hasty.root / "f1.md").unlink()
        if is_moved_there:
            folder.rename(hasty.root / "f1.md")
        else:
            folder.mkdir()
        (hasty.root / "f1.md" / "inside.md").write_text("inside")
        await until(hasty.mirrors_disk)


async def test_file_that_is_written_continuously_is_checked_only_a_few_times_a_second(
    daemon: WatchingWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = itertools.count()
    take_hints = reconcile.Reconciler.take_hints

    async def count_and_take(self: reconcile.Reconciler, hints: Sequence[Hint]) -> list[Hint]:
        next(checks)
        return await take_hints(self, hints)

    monkeypatch.setattr(reconcile.Reconciler, "take_hints", count_and_take)
    async with daemon.run_daemon():
        before, began = next(checks), time.monotonic()
        for _ in range(300):
            with (daemon.root / "movie.bin").open("ab") as movie:
                movie.write(b"frame")
            await asyncio.sleep(0.005)
        daemon.write("last.md", "last")
        await until(daemon.mirrors_disk)
        assert next(checks) - before <= (time.monotonic() - began) / HINT_PAUSE + 3


async def test_edit_through_one_hard_link_updates_the_documents_of_all(daemon: WatchingWorld) -> None:
    """The kernel reports only the path that was written through."""
    daemon.settings = replace(daemon.settings, rescan=3600.0)
    daemon.write("h1.md", "first")
    (daemon.root / "sub").mkdir()
    for path in ("h2.md", "sub/h3.md"):
        (daemon.root / path).hardlink_to(daemon.root / "h1.md")
    async with daemon.run_daemon():
        with (daemon.root / "h2.md").open("a") as file:
            file.write(", edited")
        await until(daemon.mirrors_disk)
        assert daemon.searchable_texts()["sub/h3.md"] == "first, edited"


async def test_only_files_with_several_names_are_looked_up_by_inode(
    daemon: WatchingWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    inodes: list[int] = []
    outdated_links = Entries.outdated_links

    def counted(entries: Entries, mirror: int, stamp: Stamp, limit: int) -> list[str]:
        inodes.append(stamp.ino)
        return outdated_links(entries, mirror, stamp, limit)

    monkeypatch.setattr(Entries, "outdated_links", counted)
    async with daemon.run_daemon():
        daemon.write("f1.md", "edited")
        daemon.write("new.md", "new")
        await until(daemon.mirrors_disk)
        assert inodes == []
        (daemon.root / "twin.md").hardlink_to(daemon.root / "f1.md")
        await until(daemon.mirrors_disk)
        assert set(inodes) == {(daemon.root / "f1.md").stat().st_ino}


async def test_missing_path_is_deleted_while_its_inode_is_written_continuously(hasty: WatchingWorld) -> None:
    async with hasty.run_daemon():
        hasty.move("f1.md", "sub/moved.md")
        writing = asyncio.create_task(write_on(hasty.root / "sub/moved.md"))
        await until(lambda: "f1.md" not in hasty.base.searchable_texts())
        assert not writing.done()
        writing.cancel()
        await until(hasty.mirrors_disk)


async def write_on(path: Path) -> None:
    """Write to the file endlessly, with different content each time."""
    for number in itertools.count():
        path.write_text(f"version {number}")
        await asyncio.sleep(0.02)


async def test_vanished_root_halts_and_recovers(daemon: WatchingWorld) -> None:
    async with daemon.run_daemon():
        away = daemon.root.with_name("away")
        daemon.root.rename(away)
        await until(lambda: daemon.run.halt is not None)
        assert daemon.run.halt is not None and daemon.run.halt.reason == "folder-missing"
        assert len(daemon.searchable_texts()) == 10
        away.rename(daemon.root)
        await until(lambda: daemon.run.halt is None)
        daemon.write("f1.md", "after the return")
        await until(daemon.mirrors_disk)
        assert {effect.path for effect in daemon.base.effects_of("delete")} <= {"f1.md"}


async def test_request_to_a_halted_mirror_reloads_the_config_first(daemon: WatchingWorld) -> None:
    async with daemon.run_daemon() as store:

        def is_waiting() -> bool:
            return bool(store.read_now(lambda tx: tx.inbox.waiting("docs")))

        class Early(Reloads):
            def request(self, mirror: str, scope: ReloadScope) -> asyncio.Event:
                assert is_waiting()  # not carried out yet
                return super().request(mirror, scope)

        assert daemon.watching is not None
        daemon.watching.reloads = reloads = Early()
        for is_halted in (False, True):
            if is_halted:
                # With a single refusal, the mirror could resume by itself before the request arrives.
                fault = Fault("put", error=lambda: Halted("quota", "no money"), times=FOREVER)
                daemon.base.faults.append(fault)
                daemon.write("f1.md", "changed")
                await until(lambda: daemon.run.halt)
            await store.write(lambda tx: tx.inbox.post("retry", "docs", {}, 0.0))
            wake(daemon.state)
            await until(lambda: not is_waiting())
            assert reloads.scopes == [ReloadScope.CONFIG] * is_halted
        daemon.base.faults.clear()
        await until(daemon.mirrors_disk)


async def test_request_that_arrives_during_a_turn_also_reloads_the_config_first(
    daemon: WatchingWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, posted = Inbox.carry_out, list[str]()

    async def carry_out(inbox: Inbox, *args: Any) -> InboxResult:
        if daemon.run.halt is not None and not posted:
            posted.append("retry")
            await daemon.run.store.write(lambda tx: tx.inbox.post("retry", "docs", {}, 0.0))
        return await real(inbox, *args)

    monkeypatch.setattr(Inbox, "carry_out", carry_out)
    async with daemon.run_daemon():
        assert daemon.watching is not None
        daemon.watching.reloads = reloads = Reloads()
        fault = Fault("put", error=lambda: Halted("quota", "no money"), times=FOREVER)
        daemon.base.faults.append(fault)
        daemon.write("f1.md", "changed")
        await until(lambda: daemon.run.halt)
        wake(daemon.state)
        await until(lambda: reloads.scopes)
        assert posted and reloads.scopes == [ReloadScope.CONFIG]
        daemon.base.faults.clear()
        await until(daemon.mirrors_disk)


async def test_secrets_are_reloaded_only_when_a_refused_key_is_retried(
    daemon: WatchingWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kbsync.engine.halts.PROBE_EVERY", 0.1)
    async with daemon.run_daemon():
        assert daemon.watching is not None
        daemon.watching.reloads = reloads = Reloads()
        for reason, scopes in (("quota", []), ("credentials", [ReloadScope.SECRETS])):
            daemon.base.faults.append(Fault("put", error=partial(Halted, reason, "refused")))
            daemon.write("f1.md", f"changed, and there is {reason}")
            await until(daemon.mirrors_disk)
            await until(lambda: daemon.run.halt is None)
            assert reloads.scopes == scopes


async def test_log_says_how_the_folder_is_watched_and_when_that_changes(daemon: WatchingWorld) -> None:
    ahead, tries = [0.0], iter([OSError(errno.ENOSPC, "no watch is left")])

    def full_once() -> BaseObserver:
        for error in tries:
            raise error
        return InotifyObserver()

    machine = Machine(clock=lambda: time.monotonic() + ahead[0], make_observer=full_once)
    with capture_logs() as lines:
        async with daemon.run_daemon(partial(Watcher, machine=machine)):
            ahead[0] = TRY_AGAIN
            await until(lambda: any(line["event"] == "watch.changed" for line in lines))
    matching_lines = [line for line in lines if line["event"].startswith("watch.")]
    assert [(line["event"], line["mode"]) for line in matching_lines] == [
        ("watch.started", "polling"),
        ("watch.changed", "native"),
    ]
    assert "the kernel allows" in matching_lines[0]["why"] and matching_lines[1]["why"] == ""


async def test_retargeted_symlink_is_followed_and_deletes_nothing_without_approval(
    daemon: WatchingWorld,
) -> None:
    link, other = daemon.root.with_name("current"), daemon.root.with_name("other")
    link.symlink_to(daemon.root)
    other.mkdir()
    (other / "f1.md").write_text("text of f1")
    (other / "new.md").write_text("only in the other folder")
    daemon.settings = replace(daemon.settings, given=link)
    async with daemon.run_daemon():
        link.unlink()
        link.symlink_to(other)
        await until(lambda: "new.md" in daemon.searchable_texts())
        await until(lambda: daemon.tally().get("held") == 9)
        assert len(daemon.searchable_texts()) == 11


async def test_known_halt_is_reported_again_by_the_next_run(daemon: WatchingWorld) -> None:
    async with daemon.run_daemon():
        daemon.root.rename(daemon.root.with_name("away"))
        await until(lambda: daemon.run.halt is not None)
    with capture_logs() as lines:
        async with next_run(daemon):
            await until(lambda: lines)
    [line] = lines
    assert (line["event"], line["mirror"], line["folder"]) == ("mirror.halted", "docs", str(daemon.root))
    assert line["cure"] == "kbsync retry --mirror docs"


async def test_target_that_responds_again_ends_the_halt_although_no_work_is_left(
    daemon: WatchingWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(halts, "DOWN_AFTER", 0.1)
    monkeypatch.setattr(halts, "PROBE_EVERY", 0.1)
    async with daemon.run_daemon():
        daemon.base.faults.append(Fault("put", error=lambda: Unavailable("502"), times=99))
        path = daemon.write("a.md")
        await until(lambda: daemon.run.halt)
        path.unlink()
        await until(lambda: daemon.run.halt is None)


async def test_successful_rename_ends_the_halt_of_a_target_that_did_not_respond(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(halts, "DOWN_AFTER", 0.1)
    monkeypatch.setattr(halts, "PROBE_EVERY", 3600.0)
    daemon = WatchingWorld(tmp_path, RenamingMemory)
    path = daemon.write("a.md")
    async with daemon.run_daemon():
        daemon.base.faults.append(Fault("rename", error=lambda: Unavailable("502"), times=99))
        path.rename(path.with_name("b.md"))
        await until(lambda: daemon.run.halt)
        daemon.base.faults.clear()
        await until(lambda: daemon.run.halt is None)


# -- state that a restart must keep ----------------------------------------------------------------------


async def test_disk_removed_while_a_file_on_it_settles_deletes_no_document(
    daemon: WatchingWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deletions, "QUIET_LEAST", 0.1)
    daemon.write("disk/x.md", "x")
    async with daemon.run_daemon() as store:
        store.submit(lambda tx: tx.folders.record_listing(daemon.run.id, "disk", "", True)).result()
        daemon.write("disk/x.md", "x, changed")
        daemon.delete("disk/x.md")  # what unmounting looks like from above
        daemon.write("late.md", "later")
        await until(lambda: "late.md" in daemon.base.searchable_texts())
        await asyncio.sleep(6 * daemon.settings.settle)
        assert daemon.base.searchable_texts()["disk/x.md"] == ["x"]
        assert daemon.base.effects_of("delete") == []


async def test_deletions_need_no_extra_approval_after_another_folder_was_scanned(
    daemon: WatchingWorld,
) -> None:
    async with daemon.run_daemon():
        daemon.root.rename(daemon.root.with_name("away"))
        await until(lambda: daemon.run.halt is not None)
        shutil.copytree(daemon.root.with_name("away"), daemon.root)
        daemon.post_request("retry")
        await until(lambda: daemon.run.halt is None and daemon.mirrors_disk())
        await until(lambda: not is_all_held(daemon))
        daemon.delete("f3.md")
        await until(daemon.mirrors_disk)


def is_all_held(daemon: WatchingWorld) -> bool:
    assert daemon.store is not None
    return bool(daemon.store.read_now(lambda tx: tx.mirrors.get(daemon.run.id).hold_all))


@asynccontextmanager
async def next_run(daemon: WatchingWorld) -> AsyncIterator[None]:
    """Start the daemon's next run, in which the test makes its own checks."""
    stop, store = asyncio.Event(), StateStore(daemon.state / "state.db")
    daemon.store = store
    task = asyncio.create_task(MirrorLoop(daemon.make_run(store), daemon.state, stop).keep())
    yield
    stop.set()
    await task
    store.close()


async def test_deletions_in_another_folder_need_approval_until_it_was_scanned(
    daemon: WatchingWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with daemon.run_daemon():
        pass
    daemon.root.rename(daemon.root.with_name("away"))
    shutil.copytree(daemon.root.with_name("away"), daemon.root)
    failed = asyncio.Event()

    async def failing(_run: Mirror) -> tuple[bool, bool]:
        failed.set()
        raise StateError("the disk is full")

    monkeypatch.setattr(Mirror, "deep_is_due", failing)
    async with next_run(daemon):
        await failed.wait()
        await asyncio.sleep(4 * daemon.settings.settle)
        assert is_all_held(daemon)


# -- audits ----------------------------------------------------------------------------------------------


@pytest.fixture
def audited(tmp_path: Path) -> WatchingWorld:
    daemon = WatchingWorld(tmp_path)
    daemon.write_many(10)
    daemon.settings = replace(daemon.settings, deep_rescan=0.5)
    return daemon


async def test_documents_deleted_by_others_are_restored_automatically(audited: WatchingWorld) -> None:
    async with audited.run_daemon():
        audited.base.lose(audited.base.searchable("f3.md")[0].remote_id)
        await until(audited.mirrors_disk)
    assert audited.puts() == 11


async def test_base_emptied_by_others_halts_until_repair(audited: WatchingWorld) -> None:
    async with audited.run_daemon() as store:
        lost = [audited.base.searchable(f"f{i}.md")[0].remote_id for i in range(8)]
        for remote_id in lost:
            audited.base.lose(remote_id)
            audited.base.add(f"theirs-{remote_id}.txt", b"others")
        await until(lambda: audited.run.halt)
        assert audited.run.halt is not None
        assert audited.run.halt.reason == "knowledge-base-emptied"
        await until(lambda: audited.run.bound is None)  # it restarted, and halted again
        assert audited.puts() == 10
        await store.write(lambda tx: tx.inbox.post("repair", "docs", {"missing": lost}, 0.0))
        wake(audited.state)
        await until(lambda: audited.puts() == 18)
        await until(lambda: audited.run.halt is None)


# -- a mount that may not report changes -------------------------------------------------------------------


@contextmanager
def overlaid(layers: Path, folder: Path) -> Iterator[Path]:
    """Mount an overlay at `folder` over the yielded folder, whose changes no watch at `folder` sees."""
    with mounted(layers, "10m"):
        lower, upper, work = (layers / name for name in ("lower", "upper", "work"))
        for layer in (lower, upper, work):
            layer.mkdir()
        options = f"lowerdir={lower},upperdir={upper},workdir={work}"
        subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", folder], check=True)
        try:
            yield lower
        finally:
            unmount(folder)


@pytest.mark.skipif(os.geteuid() != 0 or not can_mount(), reason="mounting needs root and the right to mount")
async def test_folder_without_events_is_polled_until_one_arrives(tmp_path: Path) -> None:
    daemon = WatchingWorld(tmp_path)
    daemon.settings = replace(daemon.settings, rescan=1.0)
    with overlaid(tmp_path / "layers", daemon.root) as behind:
        (behind / "a.md").write_text("first")
        async with daemon.run_daemon():
            watching = daemon.watching
            assert watching is not None and watching._mode is Mode.NATIVE
            (behind / "a.md").write_text("changed from behind")
            await until(lambda: watching._mode is Mode.POLLING)
            await until(daemon.mirrors_disk)
            daemon.write("b.md", "written here")
            await until(lambda: watching._mode is Mode.NATIVE)
            await until(daemon.mirrors_disk)
