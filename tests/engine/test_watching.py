"""The daemon's loop on a real folder with real events; waits are for conditions, with a bound."""

from __future__ import annotations

import asyncio
import errno
import itertools
import shutil
import time
from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from watchdog.observers.api import BaseObserver
from watchdog.observers.inotify import InotifyObserver

from kbsync.engine import deletions, reconcile
from kbsync.engine.clock import SystemClock
from kbsync.engine.loop import MirrorLoop, Reread
from kbsync.engine.mirror import MirrorRun
from kbsync.engine.settings import DeletionLimits
from kbsync.errors import Halted, StateError
from kbsync.source.read import ReadProblem, StableDigest
from kbsync.source.wake import wake
from kbsync.source.watch import TRY_AGAIN, Machine, Watcher
from kbsync.state.store import StateStore
from tests.engine.world import World
from tests.memory.base import MemoryBase
from tests.memory.behaviour import Fault
from tests.memory.target import MemoryTarget
from tests.memory.variants import RenamingMemory

PATIENCE = 60.0


async def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.01)


class WatchingWorld(World):
    def __init__(self, tmp_path: Path, target: type[MemoryTarget] = MemoryTarget) -> None:
        super().__init__(tmp_path, target)
        self.clock = SystemClock()  # type: ignore[assignment]
        self.base = MemoryBase(clock=self.clock.wall)
        self.settings = replace(self.settings, settle=0.2, settle_longest=2.0)
        self.passes = 0
        self.watching: MirrorLoop | None = None

    @asynccontextmanager
    async def kept(self, make_watcher: Callable[..., Watcher] = Watcher) -> AsyncIterator[StateStore]:
        store = self.store = StateStore(self.state / "state.db")
        stop = asyncio.Event()

        def passed() -> None:
            self.passes += 1

        self.watching = MirrorLoop(self.make_run(store), self.state, stop, passed, make_watcher)
        task = asyncio.create_task(self.watching.keep())
        try:
            await until(lambda: self.passes)
            await until(lambda: self.mirrors_disk() or self.run.halt)
            yield store
        finally:
            stop.set()
            await asyncio.wait_for(task, PATIENCE)
            store.close()
        assert self.breaches == []
        assert self.base.violations == []

    def mirrors_disk(self) -> bool:
        wanted = {path: [text] for path, text in self.on_disk().items()}
        return self.base.shown() == wanted  # for a moment the old and the new version may both be there

    def tally(self) -> dict[str, int]:
        assert self.store is not None
        found = self.store.read_now(lambda tx: tx.mirrors.tally(self.run.mirror))
        return {status.word: n for status, n in found.items() if n}


@pytest.fixture
def daemon(tmp_path: Path) -> WatchingWorld:
    world = WatchingWorld(tmp_path, RenamingMemory)
    world.write_many(10)
    return world


async def test_edits_reach_the_base_and_identical_saves_do_not(daemon: WatchingWorld) -> None:
    async with daemon.kept():
        sent = daemon.puts()
        daemon.write("new/deep/a.md", "created in a new directory")
        daemon.write("f1.md", "changed")
        await until(daemon.mirrors_disk)
        daemon.write("f2.md", "text of f2")
        daemon.write("mark.md", "written after the identical save")
        await until(daemon.mirrors_disk)
        assert daemon.puts() == sent + 3


async def test_deletions_renames_and_directory_moves_are_followed(daemon: WatchingWorld) -> None:
    async with daemon.kept():
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
    """Deletions are weighed as soon as files are gone."""
    monkeypatch.setattr(deletions, "QUIET_LEAST", 0.0)
    daemon.settings = replace(daemon.settings, deletions=DeletionLimits(fraction=0.9))
    return daemon


async def test_what_moved_meanwhile_is_known_again_however_long_the_scan_takes(
    hasty: WatchingWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasty.write_many(5, "old/")
    async with hasty.kept():
        sent = hasty.puts()
    hasty.move("old", "z-moved")
    hasty.write_many(200, "new/")
    await asyncio.sleep(hasty.settings.settle)  # old enough to be read as soon as they are seen
    read = reconcile.digest

    def slowly(*args: Any) -> StableDigest | ReadProblem:
        time.sleep(0.01)
        return read(*args)

    monkeypatch.setattr(reconcile, "digest", slowly)
    async with hasty.kept():
        await until(lambda: hasty.tally() == {"ready": 215})
    assert hasty.puts() == sent + 200
    assert hasty.base.effects_of("delete") == []


async def test_a_file_that_was_moved_and_touched_is_known_again(hasty: WatchingWorld) -> None:
    async with hasty.kept():
        sent = hasty.puts()
        hasty.move("f1.md", "sub/moved.md")
        for _ in range(6):
            await asyncio.sleep(hasty.settings.settle * 0.7)
            (hasty.root / "sub/moved.md").touch()
        await until(hasty.mirrors_disk)
        assert hasty.puts() == sent
    assert hasty.base.effects_of("delete") == []


async def test_what_is_missed_while_its_inode_is_written_to_without_end_goes(hasty: WatchingWorld) -> None:
    async with hasty.kept():
        hasty.move("f1.md", "sub/moved.md")
        writing = asyncio.create_task(write_on(hasty.root / "sub/moved.md"))
        await until(lambda: "f1.md" not in hasty.base.shown())
        assert not writing.done()
        writing.cancel()
        await until(hasty.mirrors_disk)


async def write_on(path: Path) -> None:
    """Never quiet, and never the same twice."""
    for number in itertools.count():
        path.write_text(f"version {number}")
        await asyncio.sleep(0.02)


async def test_a_root_that_vanishes_halts_and_comes_back(daemon: WatchingWorld) -> None:
    async with daemon.kept():
        away = daemon.root.with_name("away")
        daemon.root.rename(away)
        await until(lambda: daemon.run.halt is not None)
        assert daemon.run.halt is not None and daemon.run.halt.reason == "folder-missing"
        assert len(daemon.served()) == 10
        away.rename(daemon.root)
        await until(lambda: daemon.run.halt is None)
        daemon.write("f1.md", "after the return")
        await until(daemon.mirrors_disk)
        assert {effect.path for effect in daemon.base.effects_of("delete")} <= {"f1.md"}


async def test_what_is_asked_of_a_halted_mirror_has_the_config_read_first(daemon: WatchingWorld) -> None:
    wishes: list[Reread] = []

    async with daemon.kept() as store:

        def read(wish: Reread, over: asyncio.Event) -> None:
            assert asked(store)  # it is not carried out yet
            wishes.append(wish)
            over.set()

        assert daemon.watching is not None
        daemon.watching.on_wish = read
        await ask(daemon, store)
        assert wishes == []  # nothing halts it
        daemon.base.faults.append(Fault("put", error=lambda: Halted("quota", "no money")))
        daemon.write("f1.md", "changed")
        await until(lambda: daemon.run.halt)
        await ask(daemon, store)
        assert wishes == [Reread.CONFIG]
        await until(daemon.mirrors_disk)


async def ask(daemon: WatchingWorld, store: StateStore) -> None:
    """A person retries, and it was done."""
    await store.write(lambda tx: tx.inbox.post("retry", "docs", {}, 0.0))
    wake(daemon.state)
    await until(lambda: not asked(store))


def asked(store: StateStore) -> bool:
    return bool(store.read_now(lambda tx: tx.inbox.waiting("docs")))


async def test_secrets_are_read_again_only_when_a_refused_key_is_tried(
    daemon: WatchingWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kbsync.engine.loop.PROBE_EVERY", 0.1)
    wishes: list[Reread] = []
    async with daemon.kept():
        assert daemon.watching is not None
        daemon.watching.on_wish = lambda wish, over: (wishes.append(wish), over.set())
        for reason, wished in (("quota", []), ("credentials", [Reread.SECRETS])):
            daemon.base.faults.append(Fault("put", error=partial(Halted, reason, "refused")))
            daemon.write("f1.md", f"changed, and there is {reason}")
            await until(daemon.mirrors_disk)
            await until(lambda: daemon.run.halt is None)
            assert wishes == wished


async def test_the_log_says_how_the_folder_is_watched_and_when_that_changes(daemon: WatchingWorld) -> None:
    clock = ClockAhead()
    with capture_logs() as lines:
        async with daemon.kept(partial(Watcher, machine=Machine(clock=clock, make_observer=full_once()))):
            clock.ahead = TRY_AGAIN
            await until(lambda: len(told_of_watching(lines)) == 2)
    (first, how, why), second = told_of_watching(lines)
    assert (first, how) == ("watch.started", "polling") and "the kernel allows" in why
    assert second == ("watch.changed", "native", "")


class ClockAhead:
    """Monotonic seconds, `ahead` of the machine's."""

    ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


def full_once() -> Callable[[], BaseObserver]:
    """Observers of a kernel whose limit is met by the first one."""
    tries = iter([OSError(errno.ENOSPC, "no watch is left")])

    def make() -> BaseObserver:
        for error in tries:
            raise error
        return InotifyObserver()

    return make


def told_of_watching(lines: list[MutableMapping[str, Any]]) -> list[tuple[str, str, str]]:
    events = [line for line in lines if line["event"].startswith("watch.")]
    return [(line["event"], line["mode"], line["why"]) for line in events]


async def test_a_symlink_that_is_set_anew_is_followed_and_deletes_nothing_unasked(
    daemon: WatchingWorld,
) -> None:
    link, other = daemon.root.with_name("current"), daemon.root.with_name("other")
    link.symlink_to(daemon.root)
    other.mkdir()
    (other / "f1.md").write_text("text of f1")
    (other / "new.md").write_text("only in the other folder")
    daemon.settings = replace(daemon.settings, given=link)
    async with daemon.kept():
        link.unlink()
        link.symlink_to(other)
        await until(lambda: "new.md" in daemon.served())
        await until(lambda: daemon.tally().get("held") == 9)
        assert len(daemon.served()) == 11


async def test_a_halt_that_was_known_before_is_told_again_by_the_next_run(daemon: WatchingWorld) -> None:
    async with daemon.kept():
        daemon.root.rename(daemon.root.with_name("away"))
        await until(lambda: daemon.run.halt is not None)
    with capture_logs() as lines:
        stop = asyncio.Event()
        store = daemon.store = StateStore(daemon.state / "state.db")
        task = asyncio.create_task(MirrorLoop(daemon.make_run(store), daemon.state, stop).keep())
        await until(lambda: lines)
        stop.set()
        await task
        store.close()
    [told] = lines
    assert (told["event"], told["mirror"], told["folder"]) == ("mirror.halted", "docs", str(daemon.root))
    assert told["cure"] == "kbsync retry --mirror docs"


# -- what a fresh beginning must not forget --------------------------------------------------------------


async def test_a_disk_that_goes_away_while_a_file_in_it_settles_takes_no_document_along(
    daemon: WatchingWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deletions, "QUIET_LEAST", 0.1)
    daemon.write("disk/x.md", "x")
    async with daemon.kept() as store:
        store.submit(lambda tx: tx.folders.seen(daemon.run.mirror, "disk", "", True)).result()
        daemon.write("disk/x.md", "x, changed")
        daemon.delete("disk/x.md")  # what unmounting looks like from above
        daemon.write("late.md", "later")
        await until(lambda: "late.md" in daemon.base.shown())
        await asyncio.sleep(6 * daemon.settings.settle)
        assert daemon.base.shown()["disk/x.md"] == ["x"]
        assert daemon.base.effects_of("delete") == []


async def test_once_another_folder_was_looked_through_deletions_ask_no_more_than_before(
    daemon: WatchingWorld,
) -> None:
    async with daemon.kept():
        passes = daemon.passes
        daemon.root.rename(daemon.root.with_name("away"))
        await until(lambda: daemon.run.halt is not None)
        shutil.copytree(daemon.root.with_name("away"), daemon.root)
        daemon.tell("retry")
        await until(lambda: daemon.passes > passes and daemon.mirrors_disk())
        await until(lambda: not is_all_held(daemon))
        daemon.delete("f3.md")
        await until(daemon.mirrors_disk)


def is_all_held(daemon: WatchingWorld) -> bool:
    assert daemon.store is not None
    return bool(daemon.store.read_now(lambda tx: tx.mirrors.get(daemon.run.mirror).hold_all))


async def test_deletions_in_another_folder_ask_until_it_was_looked_through(
    daemon: WatchingWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with daemon.kept():
        pass
    daemon.root.rename(daemon.root.with_name("away"))
    shutil.copytree(daemon.root.with_name("away"), daemon.root)
    failed = asyncio.Event()

    async def failing(_run: MirrorRun) -> tuple[bool, bool]:
        failed.set()
        raise StateError("the disk is full")

    monkeypatch.setattr(MirrorRun, "deep_is_due", failing)
    stop, store = asyncio.Event(), StateStore(daemon.state / "state.db")
    daemon.store = store
    task = asyncio.create_task(MirrorLoop(daemon.make_run(store), daemon.state, stop).keep())
    await failed.wait()
    await asyncio.sleep(4 * daemon.settings.settle)
    assert is_all_held(daemon)
    stop.set()
    await task
    store.close()
