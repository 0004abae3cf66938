"""Tests files that keep changing, and the work that waits for them."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import itertools
import math
import os
import random
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from kbsync.contract.target import Outgoing, PutOutcome
from kbsync.engine import reconcile
from kbsync.engine.mirror import BoundMirror, Rechecks
from kbsync.engine.reconcile import RACY_SECONDS
from kbsync.engine.settings import DeletionLimits, MirrorSettings
from kbsync.errors import StateError
from kbsync.once import run_once
from kbsync.source import scan
from kbsync.source.hints import Hint, HintKind
from kbsync.source.read import copy_growing
from kbsync.source.stat import stamp_of, stat_path
from kbsync.state.approvals import RENEWALS
from kbsync.state.read_only import Tx
from tests.engine.world import VirtualClock, World
from tests.memory.target import MemoryTarget
from tests.share import long, run_seed

SETTLE, LONGEST = 2.0, 10.0


class Writing(World):
    """Files whose age follows the world's clock."""

    def __init__(self, tmp_path: Path, target: type[MemoryTarget] = MemoryTarget) -> None:
        super().__init__(tmp_path, target)
        limits = DeletionLimits(fraction=0.9)
        self.settings = replace(self.settings, settle=SETTLE, settle_longest=LONGEST, deletions=limits)

    def write(self, path: str, text: str = "hello") -> Path:
        file = super().write(path, text)
        os.utime(file, (self.clock.wall(), self.clock.wall()))
        return file

    @asynccontextmanager
    async def compared(self) -> AsyncIterator[BoundMirror]:
        async with self.start_mirror() as bound:
            await bound.compare()
            yield bound


@pytest.fixture
def world(tmp_path: Path) -> Writing:
    return Writing(tmp_path)


@long
async def test_continuously_rewritten_file_is_eventually_taken(world: Writing) -> None:
    await world.mirrored({"kept.md": "hello"})
    async with world.compared() as bound:
        since = world.clock.now
        for text in itertools.cycle(["text", ""]):
            world.write("new.md", text)
            await bound.compare()
            await bound.turn()
            await world.clock.sleep(SETTLE / 2)
            if "new.md" in world.base.searchable_texts():
                break
            assert world.clock.now - since < LONGEST + 3 * SETTLE
    assert world.base.searchable_texts()["new.md"] == ["text"]


@long
async def test_file_found_empty_at_every_check_keeps_its_document(world: Writing) -> None:
    """The file is rewritten endlessly, and each read comes when it is empty."""
    await world.mirrored(3)
    async with world.compared() as bound:
        bound.mirror.is_pass = True
        since = world.clock.now
        while world.clock.now - since < 2 * LONGEST:
            world.write("f0.md", "")
            await bound.compare()
            await bound.turn()
            world.write("f0.md", f"filled at {world.clock.now}")
            await world.clock.sleep(SETTLE / 4)
            assert "f0.md" in world.base.searchable_texts()


def sent_texts(world: Writing, *texts: str) -> list[str]:
    """Return which of these texts were sent, in order."""
    names = {hashlib.sha256(text.encode()).hexdigest(): text for text in texts}
    return [names.get(effect.digest, "something else") for effect in world.base.effects_of("put")]


def churned(world: Writing, path: str, seconds: float) -> None:
    """Rewrite a file four times a second and sometimes delete it, starting at once."""
    steps = int(seconds / CHURN)
    for step in range(steps):
        if step % 4 == 3:
            world.clock.ring(step * CHURN, lambda: (world.root / path).unlink(missing_ok=True))
        else:
            world.clock.ring(step * CHURN, partial(world.write, path, f"{step} " * 1000))


CHURN = 0.25


async def test_pass_ignores_files_created_after_its_scan_and_drops_vanished_ones(world: Writing) -> None:
    world.settings = replace(world.settings, settle=0.3, settle_longest=60.0)
    world.write_many(10)
    world.write("gone.md", "soon")
    world.write("churn0.md", "at the scan")
    async with world.running() as store:
        churned(world, "churn0.md", 100.0)
        churned(world, "churn1.md", 100.0)
        world.clock.ring(0.2, partial(world.delete, "gone.md"))
        began = world.clock.now
        await run_once(world.make_run(store))
        assert world.clock.now - began < 8.0
    assert world.breaches == []
    assert set(world.searchable_texts()) >= {f"f{number}.md" for number in range(10)}
    assert "gone.md" not in listed(world)


@long
async def test_short_lived_files_do_not_delay_weighing_deletions(world: Writing) -> None:
    world.settings = replace(world.settings, settle=0.3, settle_longest=60.0)
    await world.mirrored(10)
    world.delete_many(3)
    world.write("churn.md", "at the scan")
    async with world.running() as store:
        churned(world, "churn.md", 100.0)
        began = world.clock.now
        await run_once(world.make_run(store))
        assert world.clock.now - began < 8.0
    assert {path for path in world.searchable_texts() if path != "churn.md"} == {
        f"f{n}.md" for n in range(3, 10)
    }


@long
@pytest.mark.parametrize("seed", range(4))
async def test_pass_ends_whatever_the_rhythm_of_short_lived_files(
    world: Writing, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Files are written, or deleted and written again, at random moments."""
    world.settings = replace(world.settings, settle=0.3, settle_longest=5.0)
    world.write_many(12)
    world.clock.now += 10.0
    chance = random.Random(f"{run_seed()} {seed}")
    stats = Counter[str]()
    monkeypatch.setattr(
        reconcile, "stat_path", lambda root, path: stats.update([path]) or stat_path(root, path)
    )

    def write_again(path: str) -> None:
        (world.root / path).unlink(missing_ok=True)
        world.write(path, f"{chance.random()} " * chance.choice([1, 1000]))

    for number in range(4):
        write_again(f"busy{number}.md")
    async with world.running() as store:
        moment = 0.0
        while moment < 200.0:
            moment += 0.25 if seed == 0 else chance.choice([0.05, 0.25, 0.35, 1.1])
            for number in range(4):
                world.clock.ring(moment, partial(write_again, f"busy{number}.md"))
        await run_once(world.make_run(store))
        assert world.clock.now < 10.0 + 30.0
    assert world.breaches == []
    assert set(world.searchable_texts()) >= {f"f{number}.md" for number in range(12)}
    assert max(stats.values()) < 2 * 5.0 / 0.3


def written_on(world: Writing, path: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Write a file that changes with each call, as it would while it is read."""
    numbers = itertools.count()

    def write_on(_seconds: float = 0.0) -> None:
        world.write(path, f"version {next(numbers)}")

    monkeypatch.setattr(reconcile, "copy_growing", partial(copy_growing, pause=write_on))
    write_on()
    return write_on


async def test_file_still_being_written_at_the_longest_wait_is_skipped_and_named(
    world: Writing, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_on = written_on(world, "log.md", monkeypatch)
    world.write("b.md", "quiet soon")
    async with world.running() as store:
        for step in range(100):
            world.clock.ring(step * 0.5, write_on)
        end = await run_once(world.make_run(store))
        assert LONGEST <= world.clock.now < LONGEST + SETTLE
    assert end.complete and end.busy == ("log.md",)
    assert world.searchable_texts() == {"b.md": "quiet soon"}
    assert world.statuses() == {"ready": 1, "pending": 1}


async def test_awaited_file_is_not_displaced_by_a_vanished_busy_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = Writing(tmp_path, type("Slow", (SlowForOne,), {}))
    world.limits = replace(world.limits, concurrency=1, batch=1)
    write_on = written_on(world, "log.md", monkeypatch)
    world.write("sent-first.md", "x")
    world.write("sent-second.md", "old, and long enough to go second")
    world.clock.now += SETTLE
    write_on()
    async with world.running() as store:
        run = world.make_run(store)
        world.target_type.sleep = world.clock.sleep
        for step in range(22):
            world.clock.ring(step * 0.5, write_on)
        world.clock.ring(11.0, partial(world.delete, "log.md"))  # after it was found busy
        for step in range(10):  # read, not sent yet, until it is missing
            world.clock.ring(5.5 + step, partial(world.write, "sent-second.md", f"new {step}"))
        await run_once(run)
    assert world.searchable_texts() == {"sent-first.md": "x", "sent-second.md": "new 9"}


class SlowForOne(MemoryTarget):
    """Delays the first document."""

    sleep: Any

    async def put(self, documents: Sequence[Outgoing]) -> Sequence[PutOutcome]:
        if documents[0].path == "sent-first.md":
            await self.sleep(7.0)
        return await super().put(documents)


def listed(world: Writing) -> list[str]:
    """Return the files in the state."""
    return [entry.path for entry in world.read_state(lambda tx: list(tx.entries.visible(world.run.id)))]


@pytest.mark.parametrize("settle", [0.3, SETTLE, 5.0])
async def test_file_recent_at_the_last_pass_is_not_sent_half_written_by_the_next(
    world: Writing, settle: float
) -> None:
    world.settings = replace(world.settings, settle=settle)
    await world.mirrored({"a.md": "first"})
    world.clock.now += RACY_SECONDS + 1.0
    world.write("a.md", "half")
    async with world.compared() as bound:
        await world.clock.sleep(settle / 2)
        world.write("a.md", "half and whole")
        await world.take_turns(bound, 30, settle / 4)
    assert sent_texts(world, "first", "half", "half and whole") == ["first", "half and whole"]


async def test_change_behind_an_equal_stamp_of_a_recent_file_is_found_by_the_next_pass(
    world: Writing,
) -> None:
    file = world.write("a.md", "one")
    await world.once()
    file.write_text("two")
    os.utime(file, (world.clock.wall(), world.clock.wall()))
    world.clock.now += RACY_SECONDS + 1.0
    path_stat = stamp_of(file.stat())

    def keep_the_stamp(tx: Tx) -> None:
        """Keep the stamp, as if the write had come within the same tick as the read before it."""
        entry = tx.entries.get(world.run.id, "a.md")
        assert entry is not None
        tx.entries.put(world.run.id, replace(entry, stamp=path_stat, racy=True))

    world.change(keep_the_stamp)
    await world.once()
    assert world.searchable_texts() == {"a.md": "two"}


# -- files whose bytes differ at each read while the stamp stays: on FUSE, or mapped into memory ------------


@pytest.fixture
def unstable(world: Writing, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count reads of `live.md`, which begins with another number each time."""
    reads, readv = Counter[str](), os.readv

    def read(fd: int, buffers: Sequence[Any]) -> int:
        size = readv(fd, buffers)
        if size and os.readlink(f"/proc/self/fd/{fd}").endswith("live.md"):
            reads["live.md"] += 1
            buffers[0][:7] = b"%07d" % reads["live.md"]
        return size

    monkeypatch.setattr(os, "readv", read)
    world.write("live.md", "0000000 a view of something")
    world.write("calm.md", "calm")
    world.clock.now += 10.0
    return reads


@long
async def test_unstable_file_is_read_ever_less_often_and_named(
    world: Writing, unstable: Counter[str]
) -> None:
    with capture_logs() as logs:
        async with world.compared() as bound:
            while world.clock.now < 3600.0:
                await bound.turn()
                await world.clock.sleep(1.0)
            assert unstable["live.md"] < 30
            await bound.compare()  # each rescan tries once more
            await world.take_turns(bound, 60, 1.0)
    assert unstable["live.md"] < 34
    assert [line["path"] for line in logs if line["event"] == "file.unstable"] == ["live.md"]
    assert world.searchable_texts() == {"calm.md": "calm"}
    assert len(world.rows()) < 20


async def test_pass_skips_an_unstable_file(world: Writing, unstable: Counter[str]) -> None:
    end = await world.once()
    assert end.complete and end.busy == ("live.md",)
    assert unstable["live.md"] < 10


@pytest.fixture
def unlistable_folder_and_retry(world: Writing, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that the pass can't list, and a person who requests another try."""
    world.write("sub/a.md")
    read, refusals = scan._Folder.read, [PermissionError(errno.EACCES, "denied")]

    def refuse_once(folder: scan._Folder) -> None:
        if folder.path == "sub" and refusals:
            world.post_request("retry")
            raise refusals.pop()
        read(folder)

    monkeypatch.setattr(scan._Folder, "read", refuse_once)


@pytest.mark.usefixtures("unlistable_folder_and_retry")
async def test_pass_waits_for_a_folder_it_lists_again(world: Writing) -> None:
    world.write("b.md")
    assert (await world.ends_equal()).complete


@pytest.mark.usefixtures("unlistable_folder_and_retry")
async def test_pass_is_incomplete_when_it_cannot_list_a_folder_again(
    world: Writing, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_reconciler: reconcile.Reconciler) -> None:
        raise StateError("the disk is full")

    monkeypatch.setattr(reconcile.Reconciler, "scan_trees", fail)
    with pytest.raises(StateError, match="the disk is full"):
        await world.once()


@long
async def test_old_finished_rows_are_removed_while_a_daemon_runs(world: Writing) -> None:
    async with world.compared() as bound:
        for number in range(40):
            world.write("a.md", f"version {number}")
            world.clock.now += 3 * 86400.0
            await bound.compare()
            while not await bound.worker.is_idle():
                await bound.turn()
                await world.clock.sleep(1.0)
            await bound.compared()
    assert len(world.rows()) < 15


# -- short-lived scratch files don't affect decisions about other deletions --------------------------------

TICK = 0.5


class Churned(World):
    """A daemon's folder in which some file has always just been deleted."""

    def __init__(self, tmp_path: Path, **limits: Any) -> None:
        super().__init__(tmp_path, **limits)
        self.settings = replace(self.settings, settle=SETTLE, settle_longest=2 * LONGEST)
        self.numbers = itertools.count()
        self.events: list[Hint] = []

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        async with self.start_mirror() as bound:
            await bound.compare()
            await self.until(lambda: False, 4 * SETTLE)
            await self.run.first_pass_over()
            yield
        assert self.breaches == []

    async def until(self, condition: Callable[[], object], seconds: float = 100.0) -> bool:
        """Let the daemon run while, in every tick, one scratch file is deleted and another one created."""
        bound = self.run.bound
        assert bound is not None
        for _ in range(int(seconds / TICK)):
            if condition():
                break
            number = next(self.numbers)
            self.see(self.write(f"scratch{number}.tmp").name)
            await self.clock.sleep(TICK)
            old = f"scratch{number - int(SETTLE / TICK)}.tmp"
            if (self.root / old).exists():
                self.delete(old)
                self.see(old)
            hints, self.events = self.events, []
            await bound.reconciler.take_hints(hints)
            await bound.turn()
            await bound.deletions.next_due()
        return bool(condition())

    def see(self, *paths: str) -> None:
        """Report events for these files."""
        self.events += [Hint(path, HintKind.FILE) for path in paths]

    def held_counts(self, kind: str = "deletions") -> list[int]:
        """Return the number of documents in each hold that needs approval."""
        assert self.store is not None

        def count(tx: Tx) -> list[int]:
            return [tx.removals.count(hold, held=True) for hold in tx.holds.current(self.run.id, kind)]

        return self.store.read_now(count)


async def sixty_more(world: Churned) -> None:
    paths = {f"new{number}.md" for number in range(60)}
    for path in paths:
        world.write(path, f"text of {path}")
    world.see(*paths)
    assert await world.until(lambda: paths <= world.searchable_texts().keys())


@long
async def test_few_deletions_among_many_documents_run_although_the_folder_was_small_once(
    tmp_path: Path,
) -> None:
    world = Churned(tmp_path)
    world.write_many(2)
    async with world.watched():
        await sixty_more(world)
        await world.until(lambda: False, 4 * LONGEST)
        world.delete("new1.md", "new2.md")
        world.see("new1.md", "new2.md")
        await world.until(lambda: len(world.searchable_texts()) == 60)
        assert world.held_counts() == []
        assert world.searchable_texts() == world.on_disk()


@long
async def test_everything_that_existed_is_held_although_new_files_arrive(tmp_path: Path) -> None:
    world = Churned(tmp_path)
    world.write_many(3)
    async with world.watched():
        world.delete_many(3)
        world.see("f0.md", "f1.md", "f2.md")
        await world.until(lambda: False, 2 * TICK)
        await sixty_more(world)
        await world.until(world.held_counts)
        assert world.held_counts() == [3]
        assert len(world.searchable_texts()) == 63


@long
async def test_settings_changes_are_weighed_while_files_keep_vanishing(tmp_path: Path) -> None:
    world = Churned(tmp_path, paid=True)
    world.write_many(10)
    async with world.watched():
        await world.until(lambda: False, 4 * SETTLE)
    world.settings = replace(world.settings, document_settings=lambda _path: {"size": 2}, fingerprint="2")
    scratch = next(world.root.glob("*.tmp")).name
    world.delete(scratch)
    world.see(scratch)
    async with world.watched():
        assert await world.until(lambda: world.held_counts(RENEWALS), 6 * LONGEST)


async def test_file_deleted_during_the_check_for_pending_work_is_weighed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path)
    await world.mirrored(9)
    async with world.start_mirror() as bound:
        store, read = bound.mirror.store, bound.mirror.store.read

        async def read_late(work: Callable[[Tx], Any]) -> Any:
            monkeypatch.undo()
            before = await read(work)
            world.delete("f0.md")
            await bound.reconciler.take_hints([Hint("f0.md", HintKind.FILE)])
            return before

        monkeypatch.setattr(store, "read", read_late)
        await bound.next_due()
        assert await bound.next_due() < math.inf


@long
def test_files_that_vanish_before_they_are_sent_leave_nothing_in_memory(tmp_path: Path) -> None:
    clock = VirtualClock()
    rechecks = Rechecks(MirrorSettings("docs", tmp_path, "memory"), clock, asyncio.Event())

    def used_after(numbers: range) -> int:
        for number in numbers:
            rechecks.add_changed(f"a folder with a long name/temporary-{number}.md")
            rechecks.take_due()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = used_after(range(12_000))
        assert used_after(range(12_000, 32_000)) - before < 1_000_000
    finally:
        tracemalloc.stop()
