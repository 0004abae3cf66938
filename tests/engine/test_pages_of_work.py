"""Tests that work on many documents is done in batches, one transaction each, and continues after a kill."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from kbsync.core import lifecycle
from kbsync.engine import deletions, inbox, reconcile
from kbsync.engine.journal import Journal
from kbsync.engine.reconcile import PAGE_SECONDS
from kbsync.errors import Rejected
from kbsync.source.hints import Hint, HintKind
from kbsync.source.read import ReadProblem, StableDigest, UnreadableFile
from kbsync.state.approvals import PENDING_APPROVAL
from kbsync.state.files import Entries
from kbsync.state.read_only import Tx
from tests.crash.harness import Guillotine
from tests.engine.world import World
from tests.memory.behaviour import Fault
from tests.share import long

MANY, SMALL = 60, 7


@pytest.fixture
def largest(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Return the number of documents decided in each transaction since."""
    for room in (deletions, inbox):
        monkeypatch.setattr(room, "PAGE", SMALL)
    decide, matching = Journal.decide, [0]

    def counting(self: Journal, *args: Any, **options: Any) -> None:
        matching[-1] += 1
        decide(self, *args, **options)

    monkeypatch.setattr(Journal, "decide", counting)
    world.on_commit = lambda _moment: matching.append(0)
    yield matching


@long
async def test_many_deletions_are_weighed_held_and_approved_in_batches(
    world: World, largest: list[int]
) -> None:
    await world.mirrored(MANY)
    world.delete_many(MANY - 5)
    largest.append(0)
    await world.once()
    assert world.statuses() == {"held": MANY - 5, "ready": 5}
    [hold] = world.read_state(lambda tx: tx.holds.current(world.run.id))
    assert world.read_state(lambda tx: tx.removals.count(hold, held=True)) == MANY - 5
    world.approve()
    await world.once()
    assert world.statuses() == {"ready": 5}
    assert max(largest) <= 2 * SMALL  # a path that loses its document is decided once more


@long
async def test_many_deletions_wait_for_approval_only_together(
    world: World, largest: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No transaction takes long, and nobody is asked about only a part of the deletions."""
    await world.mirrored(MANY)
    world.delete_many(MANY - 5)
    held, questions, hold = [0], set[int](), lifecycle.hold

    def counting(row: Any) -> Any:
        held[-1] += 1
        return hold(row)

    def committed(moment: str) -> None:
        held.append(0)
        if moment == "after" and world.store is not None:
            questions.add(world.store.read_now(lambda tx: sum(count(tx))))

    def count(tx: Tx) -> list[int]:
        return [tx.removals.count(hold, held=True) for hold in tx.holds.current(world.run.id)]

    monkeypatch.setattr(lifecycle, "hold", counting)
    world.on_commit = committed
    await world.once()
    assert sum(held) == MANY - 5 and max(held) <= SMALL
    assert questions == {0, MANY - 5}


@long
async def killed_while_holding(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """Yield ten documents, eight to be held, after a kill at every boundary in turn."""
    monkeypatch.setattr(deletions, "PAGE", 2)
    for boundary in itertools.count(1):
        (folder / str(boundary)).mkdir()
        world = World(folder / str(boundary))
        await world.mirrored(10)
        world.delete_many(8)
        guillotine = Guillotine(boundary)
        await world.crash(guillotine)
        yield world
        if not guillotine.fallen:
            break
    assert boundary > 10


@long
async def test_deletions_held_during_a_kill_are_one_question(
    tmp_path: Path, largest: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    async for world in killed_while_holding(tmp_path, monkeypatch):
        end = await world.once()
        assert end.complete and len(world.base.documents) == 10
        [hold] = world.read_state(lambda tx: tx.holds.current(world.run.id))  # noqa: B023
        assert world.read_state(lambda tx: tx.removals.count(hold, held=True)) == 8  # noqa: B023


@long
async def test_files_restored_after_a_kill_leave_no_question(
    tmp_path: Path, largest: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    async for world in killed_while_holding(tmp_path, monkeypatch):
        await world.mirrored({f"f{n}.md": f"text of f{n}" for n in range(10)})
        assert world.read_state(lambda tx: tx.holds.current(world.run.id)) == []  # noqa: B023
        assert world.searchable_texts() == world.on_disk()


async def test_held_deletion_stays_in_its_question_when_another_version_serves(world: World) -> None:
    """An update in place may end between the decision and the batch that carries it out."""
    await world.mirrored(1)
    mirror = world.run.id

    def decide(tx: Tx) -> list[int]:
        tx.removals.nominate(mirror, "f0.md", 1, "gone", 1.0, tx.holds.batch(mirror, 1.0))
        [batch] = tx.holds.batches(mirror, decided=False)
        tx.holds.decide(batch.id, PENDING_APPROVAL, 2.0)
        tx.removals.nominate(mirror, "f0.md", 2, "gone", 3.0, tx.holds.batch(mirror, 3.0))
        return [removal.upload for removal in tx.removals.page(batch, held=False)]

    assert world.change(decide) == [2]


@long
async def test_unasked_deletions_run_in_batches(world: World, largest: list[int]) -> None:
    await world.mirrored(4 * MANY)
    world.delete_many(40)
    await world.once()
    assert len(world.base.documents) == 4 * MANY - 40
    assert max(largest) <= 2 * SMALL


@long
async def test_many_failures_are_retried_in_batches(world: World, largest: list[int]) -> None:
    numbers = itertools.count()
    world.base.faults.append(
        Fault(
            "put",
            error=lambda: Rejected("no can do", code=f"code {next(numbers)}"),
            match=lambda document: document.path.startswith("x"),
            times=MANY,
        )
    )
    world.write_many(MANY, "x")
    await world.mirrored(2 * MANY)
    assert world.statuses() == {"failed": MANY, "ready": 2 * MANY}
    world.base.faults.clear()
    largest.append(0)
    world.post_request("retry")
    await world.once()
    assert world.statuses() == {"ready": 3 * MANY}
    assert max(largest) <= 2 * SMALL


class SlowDisk(World):
    """Counts files and bytes read since each commit, and rows of unreadable files that are read at once;
    reading a file takes time.
    """

    def __init__(self, tmp_path: Path) -> None:
        super().__init__(tmp_path)
        self.reads, self.bytes, self.unread_rows = [0], [0], [0]
        self.on_commit = lambda _moment: self.restart()
        self.seconds = 0.0
        self.is_readable = True

    def restart(self) -> None:
        self.reads.append(0)
        self.bytes.append(0)

    def read(self, root: Path, path: str, *more: Any) -> StableDigest | ReadProblem:
        self.reads[-1] += 1
        self.bytes[-1] += (root / path).stat().st_size
        self.clock.now += self.seconds
        return _digest(root, path, *more) if self.is_readable else UnreadableFile("permission denied")


_digest, _unread = reconcile.digest, Entries.unread
TRIGGERS = pytest.mark.parametrize("trigger", ["scan", "hints", "quiet", "retry"])


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SlowDisk:
    world = SlowDisk(tmp_path)

    def unread(entries: Entries, *args: Any) -> Any:
        rows = _unread(entries, *args)
        world.unread_rows.append(len(rows))
        return rows

    monkeypatch.setattr(reconcile, "digest", world.read)
    monkeypatch.setattr(inbox, "PAGE", SMALL)
    monkeypatch.setattr(Entries, "unread", unread)
    return world


@long
@TRIGGERS
async def test_daemon_reads_slow_files_briefly_before_others_get_a_turn(slow: SlowDisk, trigger: str) -> None:
    slow.seconds = 0.1
    await take(slow, trigger, 40)
    assert max(slow.reads) <= PAGE_SECONDS / slow.seconds + 1
    assert max(slow.unread_rows) == (SMALL if trigger == "retry" else 0)
    assert slow.searchable_texts() == slow.on_disk()


@long
@TRIGGERS
async def test_files_are_read_in_batches_of_bytes(
    slow: SlowDisk, trigger: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "PAGE_BYTES", 100)
    await take(slow, trigger, 40)
    assert max(slow.bytes) <= 100 + len("text of f10")
    assert slow.searchable_texts() == slow.on_disk()


async def take(world: SlowDisk, trigger: str, files: int) -> None:
    """Add files to the folder of a daemon: found by a scan, by events, when they settle, or by `retry` after
    their permissions were corrected.
    """
    async with world.start_mirror() as bound:
        await bound.compare()
        world.is_readable = trigger != "retry"
        world.write_many(files)
        hints = [Hint(f"f{number}.md", HintKind.FILE) for number in range(files)]
        if trigger == "quiet":
            for path in world.root.iterdir():
                os.utime(path, (world.clock.wall(), world.clock.wall()))
        if trigger in ("scan", "retry"):
            await bound.compare()
        while hints and trigger not in ("scan", "retry"):
            hints = await bound.reconciler.take_hints(hints)
        if trigger == "retry":
            assert world.statuses() == {"failed": files}
            world.is_readable = True
            await bound.mirror.store.write(lambda tx: tx.inbox.post("retry", "docs", {}, 0.0))
        await world.take_turns(bound, 60, 1.0)
