"""Tests promises under rare coincidences."""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kbsync.contract.target import DocState, DocStatus, Listed
from kbsync.core.model import NO_STAMP, Presence, Purpose, Status, UploadState
from kbsync.engine import reconcile
from kbsync.engine.deletions import Deletions
from kbsync.engine.halts import Halts
from kbsync.engine.loop import MirrorLoop
from kbsync.errors import Halted, Rejected, StateError, Unavailable, Unsure
from kbsync.once import run_once
from kbsync.source.hints import Hint, HintKind, HintSet
from kbsync.source.scan import FolderListing, _Folder
from kbsync.source.stat import PathStat
from kbsync.state.read_only import Tx
from tests.engine.world import World
from tests.memory.base import Document
from tests.memory.behaviour import FOREVER, Behaviour, Failure, Fault
from tests.memory.target import MemoryTarget
from tests.memory.variants import ForgetfulMemory
from tests.share import long


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path, ForgetfulMemory, list_lag=1.0, marks=False, poll_first=1.0, reembed_grace=5.0)
    world.base.behaviour = Behaviour(indexing_seconds=3.0)
    return world


# -- lost answers --------------------------------------------------------------------------------------


@long
async def test_pass_ends_when_the_answer_for_a_document_is_always_lost(world: World) -> None:
    world.base.faults.append(Fault("put", error=lambda: Unsure("no answer"), match="bad.md", times=FOREVER))
    world.write("bad.md", "one")
    world.write("good.md", "two")
    end = await world.once()
    assert end.complete
    assert world.statuses() == {"ready": 1, "failed": 1}
    [failed] = world.rows(UploadState.FAILED)
    assert failed.path == "bad.md"
    assert "no answer" in failed.reason
    assert world.searchable_texts() == {"good.md": "two"}
    assert world.requests("list") < 80
    world.base.faults.clear()
    world.post_request("retry")
    assert (await world.ends_equal()).complete


@long
async def test_attempts_are_remembered_after_a_lost_answer(world: World) -> None:
    world.base.behaviour.failures.append(Failure(lambda _s: True, times=FOREVER))
    world.base.faults.append(Fault("put", error=lambda: Unsure("reset"), nth=2))
    await world.mirrored({"a.md": "hello"})
    assert "FAILED" in world.states()
    assert world.requests("reembed") == 3
    assert world.puts() == 2


# -- documents that vanish -----------------------------------------------------------------------------


@long
async def test_status_that_flickers_twice_loses_no_document(world: World) -> None:
    world.base.behaviour.indexing_seconds = 150.0
    poll, missing = world.base.poll, DocStatus(DocState.MISSING)
    flicker = {20, 90}

    def flickering(remote_id: str) -> Any:
        for moment in list(flicker):
            if world.clock.now - began > moment:
                flicker.discard(moment)
                return missing
        return poll(remote_id)

    world.base.poll = flickering  # type: ignore[method-assign]
    world.write("a.md")
    began = world.clock.now
    await world.once()
    assert not flicker
    assert world.puts() == 1
    assert world.searchable_texts() == world.on_disk()


@long
async def test_clock_set_forward_does_not_count_as_waiting_for_the_target(world: World) -> None:
    world.base.clock = world.base._agenda._clock = lambda: world.clock.epoch + world.clock.now
    world.base.behaviour.indexing_seconds = 90.0
    world.write("a.md")

    async def set_forward() -> None:
        while world.clock.now < 30:
            await asyncio.sleep(0)
        world.clock.skew = 7200.0

    async with world.running() as store:
        run = run_once(world.make_run(store))
        await asyncio.wait_for(asyncio.gather(run, set_forward()), 60)
    assert world.puts() == 1
    assert world.searchable_texts() == world.on_disk()


@long
async def test_deletions_are_weighed_after_the_clock_was_set_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    wall, readings = world.clock.wall, itertools.count()
    # As on a real machine, no two readings are equal.
    monkeypatch.setattr(world.clock, "wall", lambda: wall() + next(readings) * 1e-6)
    await world.mirrored(10)
    async with world.start_mirror() as bound:
        world.delete("f1.md")
        world.clock.skew = 7200.0
        for _ in range(40):
            await bound.compare()
            await bound.turn()
            await world.clock.sleep(0.2)
            if await bound.mirror.store.read(lambda tx: tx.removals.times(bound.mirror.id)[0]):
                break
        world.clock.skew = 0.0
        await world.take_turns(bound)
    assert world.searchable_texts() == world.on_disk()


@long
async def test_document_that_keeps_vanishing_is_sent_a_few_times_and_quarantined(world: World) -> None:
    world.base.behaviour.indexing_seconds = 1000.0
    put = world.base.accept

    def accept(content: Any, remote_id: str) -> Any:
        document = put(content, remote_id)
        world.base.later(2.0, lambda: world.base.remove(document.remote_id, "vanished"))
        return document

    world.base.accept = accept  # type: ignore[method-assign]
    world.write("a.md")
    assert (await world.once()).complete
    assert world.puts() <= 1 + world.limits.reembed_tries + 1
    assert world.statuses() == {"failed": 1}


# -- waiting and repairs -------------------------------------------------------------------------------


async def test_work_done_before_a_halt_during_polling_is_recorded(world: World) -> None:
    world.base.behaviour.failures.append(Failure(lambda s: s.name < "c", times=1))
    world.write("a.md", "a")
    world.write("b.md", "b")
    world.write("c.md", "c")
    world.base.faults.append(Fault("reembed", error=lambda: Halted("quota", "no money"), nth=2))
    await world.once()
    assert world.run.halt is not None
    assert "c.md" in world.searchable_texts()
    assert world.states().count("SERVING") == 1
    assert sorted(row.repairs for row in world.rows()) == [0, 0, 1]


async def test_texts_stay_searchable_while_the_service_cannot_use_its_model(world: World) -> None:
    world.write_many(4)
    await world.once()
    texts = {*world.searchable_texts().values()}
    lacks_its_model(world)
    (world.root / "f0.md").rename(world.root / "moved.md")
    world.write("f1.md", "edited")
    world.write("copy.md", world.on_disk()["f2.md"])
    for _ in range(3):  # each is a restart
        await world.once()
        assert world.run.halt is not None and world.run.halt.reason == "target-rejects"
        assert texts <= {*world.searchable_texts().values()}
        (world.root / "f2.md").unlink(missing_ok=True)
        world.clock.now += 90
    assert "FAILED" not in world.states()
    world.base.behaviour.failures.clear()
    for _ in range(3):
        world.clock.now += 90
        await world.once()
    assert world.searchable_texts() == world.on_disk()
    assert world.run.halt is None


# -- state lost ----------------------------------------------------------------------------------------


@long
async def test_outage_during_confirmation_creates_no_duplicates(world: World) -> None:
    world.settings = replace(world.settings, names="plain")
    await world.mirrored(3)
    puts = world.puts()
    world.lose_state()
    for op in ("digest", "put", "status"):
        world.base.faults.append(Fault(op, error=lambda: Unavailable("down"), times=FOREVER))
    world.base.faults.append(Fault("base", error=lambda: Unavailable("down"), nth=2, times=FOREVER))
    await world.once()
    world.base.faults.clear()
    world.clock.now += 400
    await world.once()
    assert world.puts() == puts
    assert world.searchable_texts() == world.on_disk()


@pytest.fixture
async def world_with_a_deleted_document_listed(tmp_path: Path) -> World:
    """Return a world whose state is lost while the list shows two documents of `a.md`, the first deleted."""
    world = World(tmp_path, list_lag=5.0)
    world.base.behaviour = Behaviour(list_lag=5.0, indexing_seconds=4.0)
    for text in ("one", "two"):
        world.write("a.md", text)
        await world.once()
    world.clock.now += 2.0
    world.lose_state()
    return world


@long
async def test_document_is_found_until_the_edit_is_ready_although_a_deleted_one_is_listed(
    world_with_a_deleted_document_listed: World,
) -> None:
    world, gaps = world_with_a_deleted_document_listed, list[str]()

    def check(op: str, phase: str, _what: object) -> None:
        if not world.base.searchable("a.md"):
            gaps.append(f"{op} {phase}")

    world.write("a.md", "three")
    world.base.at_request = check
    await world.ends_equal()
    assert gaps == []


@long
async def test_document_stays_until_approval_although_a_deleted_one_is_listed(
    world_with_a_deleted_document_listed: World,
) -> None:
    world = world_with_a_deleted_document_listed
    world.delete("a.md")
    await world.once()
    assert world.searchable_texts() == {"a.md": "two"}
    world.approve()
    await world.once()
    assert world.searchable_texts() == {}


class StatelessList(MemoryTarget):
    """Its list doesn't show whether a document is searchable."""

    def _row(self, document: Document) -> Listed:
        return replace(super()._row(document), state=DocState.UNKNOWN)


async def test_found_documents_without_files_stay_until_approval_although_polls_fail(tmp_path: Path) -> None:
    world = World(tmp_path, StatelessList)
    names = [f"{number}.md" for number in range(5)]
    for name in names:
        world.write(name, f"text of {name}")
    await world.once()
    world.lose_state()
    for name in names:
        world.delete(name)
    world.base.faults.append(Fault("status", Unavailable("down"), times=3))
    await world.once()
    assert sorted(world.searchable_texts()) == names
    world.approve()
    await world.once()
    assert world.searchable_texts() == {}


# -- rules of the state --------------------------------------------------------------------------------


@long
async def test_file_renamed_back_and_forth_during_a_lost_answer_breaks_no_rule(world: World) -> None:
    world.settings = replace(world.settings, settle=0.1)
    await world.mirrored({"a.md": "none"})
    world.base.faults.append(Fault("put", error=lambda: Unsure("reset"), effect=False))
    hang = asyncio.Event()
    world.base.faults.append(Fault("put", hang=hang, nth=2))
    world.write("a.md", "one")
    async with world.start_mirror() as bound:
        await bound.compare()
        await world.take_turns(bound, 200, 0.02, until=lambda: "UNSURE" in world.states())
        world.move("a.md", "b.md")
        await bound.compare()
        await world.take_turns(bound, 200, 0.02, until=lambda: "SENDING" in world.states())
        assert "SENDING" in world.states()
        assert "UNSURE" in world.states()
        world.move("b.md", "a.md")
        await bound.compare()
        await bound.turn()
        hang.set()
    await world.ends_equal()


async def test_rows_with_future_times_are_processed(world: World) -> None:
    world.base.faults.append(Fault("put", error=lambda: Unavailable("busy", retry_after=200.0), times=1))
    world.write("a.md")
    world.clock.skew = 4 * 365 * 86400.0
    await world.once()
    world.clock.skew = 0.0
    world.clock.now += 400
    assert (await world.once()).complete
    assert world.statuses() == {"ready": 1}


@pytest.mark.parametrize(
    ("attempts", "reason", "seconds"),
    [(0, "", 3000.0), (1, "", 3000.0), (2, "busy", 3000.0), (5, "no", 4000.0)],
)
async def test_deletion_does_not_wait_for_a_clock_set_back(
    world: World, attempts: int, reason: str, seconds: float
) -> None:
    """The program was killed between the decision, made by a clock that ran ahead, and the response."""
    await world.mirrored({"keep.md": "hello", "a.md": "hello"})
    world.delete("a.md")
    retired = replace(world.row_of("a.md"), purpose=Purpose.RETIRE, attempts=attempts, reason=reason)
    in_future = world.clock.wall() + seconds
    decided = replace(retired, state=UploadState.RETIRING, due_at=in_future)
    world.change(lambda tx: tx.uploads.save(decided))
    await world.once()
    assert world.searchable_texts().keys() == {"keep.md"}
    assert world.clock.wall() < in_future


# -- the daemon ----------------------------------------------------------------------------------------


class Still:
    """A watcher that never reports anything."""

    is_local = True

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        self.hints = HintSet()
        self.rescan_reason, self.rescan_every = "", 900.0
        self.report = SimpleNamespace(mode="still", why="", fix="", advice="")

    async def start(self, _directories: int = 0) -> Any:
        return self.report

    async def stop(self) -> None: ...

    async def check(self) -> list[Any]:
        return []

    def scan_started(self) -> None: ...

    def scan_ended(self, *_args: Any) -> None: ...

    def note_mounts(self, _points: Any) -> None: ...


@pytest.fixture
def halts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every logged halt, and "" for its end."""
    reasons: list[str] = []
    show = Halts.show

    async def record_halt(halts: Halts, halt: Any) -> None:
        await show(halts, halt)
        reason = "" if halts.stored is None else halts.stored.reason
        if reason != (reasons[-1] if reasons else ""):
            reasons.append(reason)

    monkeypatch.setattr(Halts, "show", record_halt)
    return reasons


@asynccontextmanager
async def watched(world: World) -> AsyncIterator[MirrorLoop]:
    async with world.running() as store:
        stop = asyncio.Event()
        watching = MirrorLoop(world.make_run(store), world.state, stop, make_watcher=Still)  # type: ignore[arg-type]
        task = asyncio.create_task(watching.keep())
        try:
            yield watching
        finally:
            stop.set()
            await asyncio.wait_for(task, 60)


async def until(world: World, condition: Callable[[], object], seconds: float) -> None:
    """Virtual seconds."""
    end = world.clock.now + seconds
    while not condition() and world.clock.now < end:
        await asyncio.sleep(0.001)


def full(world: World) -> None:
    world.base.behaviour.capacity = 2


def full_and_asks_for_uploads(world: World) -> None:
    full(world)
    world.base.behaviour.not_offered = ("reembed",)


def lacks_its_model(world: World) -> None:
    failure = Failure(lambda _s: True, FOREVER, "Incorrect API key provided", halt="target-rejects")
    world.base.behaviour.failures.append(failure)


def may_not_write(world: World) -> None:
    world.base.faults.append(Fault("put", error=lambda: Halted("credentials", "no"), times=FOREVER))


def rejects_everything(world: World) -> None:
    world.base.faults.append(Fault("put", error=lambda: Rejected("maintenance", code="99"), times=FOREVER))


@long
@pytest.mark.parametrize(
    ("cause", "files", "reason", "most"),
    [
        (full, 60, "quota", 8),
        (full_and_asks_for_uploads, 5, "quota", 35),
        (lacks_its_model, 60, "target-rejects", 8),
        (may_not_write, 6, "credentials", 55),
        (rejects_everything, 40, "target-rejects", 55),
    ],
)
async def test_failure_of_the_whole_target_is_one_halt_and_few_requests(
    world: World, halts: list[str], cause: Callable[[World], None], files: int, reason: str, most: int
) -> None:
    cause(world)
    world.write_many(files)
    async with watched(world):
        await until(world, lambda: halts, 100)
        failed = world.states().count("FAILED")
        puts, reembeds = world.requests("put"), world.requests("reembed")
        await until(world, lambda: False, 3600)
        assert halts == [reason]
        assert world.states().count("FAILED") == failed
        assert world.requests("put") <= puts + most
        assert world.requests("reembed") <= reembeds + 20
        world.base.behaviour.capacity = None
        world.base.behaviour.failures.clear()
        world.base.faults.clear()
        await until(world, lambda: len(halts) == 2 and len(world.searchable_texts()) == files - failed, 4000)
    assert halts == [reason, ""]
    assert len(world.base.documents) == len(world.searchable_texts()) == files - failed


async def test_work_started_during_the_check_for_pending_work_counts_as_pending(world: World) -> None:
    world.write("a.md")
    hang = asyncio.Event()
    world.base.faults.append(Fault("put", hang=hang, effect=True))
    async with world.start_mirror() as bound:
        worker, read_next = bound.worker, bound.worker._read_next
        bound.working.cancel()
        await asyncio.wait([bound.working])
        await bound.compare()

        async def late() -> Any:
            await worker._round()
            while world.states() != ["SENDING"]:
                await asyncio.sleep(0)
            return await read_next()

        worker._read_next = late  # type: ignore[method-assign]
        worker._has_read = True
        assert not await worker.is_idle(60.0)
        hang.set()
        await worker.stop()


@long
async def test_loss_found_during_repair_of_other_losses_is_repaired_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.limits = replace(world.limits, batch=1)
    world.write_many(2)
    hang = asyncio.Event()
    world.base.faults.append(Fault("put", hang=hang, effect=True, nth=2))
    async with world.start_mirror() as bound:
        worker = bound.worker
        record, failures = worker._record_puts, [StateError("the disk is full")] * 2

        async def failing(*args: Any) -> None:
            if failures:
                raise failures.pop()
            await record(*args)

        write = bound.mirror.store.write

        async def slowly(work: Callable[[Tx], Any]) -> Any:
            if "_catch_up" in getattr(work, "__qualname__", ""):
                hang.set()
                while failures:
                    await asyncio.sleep(0)
            return await write(work)

        worker._record_puts = failing  # type: ignore[method-assign]
        monkeypatch.setattr(bound.mirror.store, "write", slowly)
        await bound.compare()
        await world.take_turns(bound, 1000, 0.05, until=lambda: world.states() == ["SERVING", "SERVING"])
    assert world.states() == ["SERVING", "SERVING"]
    assert world.puts() == 2


@long
async def test_document_that_never_finishes_is_given_up_after_all_others(world: World) -> None:
    world.limits = replace(world.limits, give_up=100.0)
    world.base.behaviour = Behaviour(indexing_seconds=30.0, one_at_a_time=True, never_says="f0*")
    await world.mirrored(12)
    assert world.statuses() == {"ready": 12}
    assert world.puts() == 12
    assert world.requests("is_searchable") == 1, "it is given up, unless a search finds it"
    assert world.clock.now < 600.0


@pytest.mark.parametrize("is_deleted", [False, True])
@pytest.mark.parametrize("is_known", [False, True])
async def test_outdated_listing_does_not_undo_a_newer_check(
    tmp_path: Path, is_known: bool, is_deleted: bool
) -> None:
    """A scan lists an empty file, which is filled or deleted, and checked, before the listing is recorded."""
    world = World(tmp_path)
    if is_known:
        await world.mirrored({"other.md": "known folder"})
    world.write("a.md", "")
    async with world.start_mirror() as bound:
        reconciler = bound.reconciler
        classify_all = reconciler._classify_all

        async def late(files: Iterable[Any]) -> bool:
            listed = list(files)
            if world.on_disk().get("a.md") == "":
                world.delete("a.md") if is_deleted else world.write("a.md", "words")
                await world.clock.sleep(5.0)
                await reconciler.check(["a.md"])
            return await classify_all(listed)

        reconciler._classify_all = late  # type: ignore[method-assign]
        await bound.compare()
        await world.take_turns(bound)
        row = world.read_state(lambda tx: tx.entries.get(bound.mirror.id, "a.md"))
    if is_deleted:
        assert row is None
    else:
        assert world.searchable_texts() == world.on_disk()


@pytest.mark.parametrize("problem", ["", "input/output error; check the disk and the kernel log"])
async def test_file_whose_stat_failed_in_a_scan_is_checked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: str
) -> None:
    world = World(tmp_path)
    world.write_many(1)
    world.write("photo.raw", "not a format of the target")
    unknown = PathStat(Presence.UNKNOWN, problem=problem)
    if problem:
        monkeypatch.setattr(reconcile, "stat_path", lambda _root, _path: unknown)
    async with world.start_mirror() as bound:
        classify_all = bound.reconciler._classify_all

        async def unclear(files: Iterable[Any]) -> bool:
            return await classify_all([replace(file, stamp=NO_STAMP) for file in files])

        bound.reconciler._classify_all = unclear  # type: ignore[method-assign]
        await bound.compare()
        monkeypatch.undo()
        await world.take_turns(bound)
        entries = world.read_state(
            lambda tx: [tx.entries.get(bound.mirror.id, path) for path in ("f0.md", "photo.raw")]
        )
        rows = {row.path: row for row in entries if row is not None}
    if problem:
        assert rows.keys() == {"f0.md"}, "an excluded file can't fail"
        assert rows["f0.md"].verdict.reason == f"cannot be accessed: {problem}"
    else:
        assert {path: row.status for path, row in rows.items()} == {
            "f0.md": Status.READY,
            "photo.raw": Status.SKIPPED,
        }


async def test_outdated_second_check_does_not_undo_a_newer_scan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Missing files return, and a scan records them, before the check that missed them again is recorded."""
    world = World(tmp_path)
    await world.mirrored(10)
    texts = world.on_disk()
    world.delete_many(10)
    async with world.start_mirror() as bound:
        stat_paths = Deletions._stat_paths

        async def late(deletions: Deletions, paths: Iterable[str]) -> Any:
            checked = await stat_paths(deletions, paths)
            if checked and not world.on_disk():
                for path, text in texts.items():
                    world.write(path, text)
                await world.clock.sleep(5.0)
                await bound.reconciler.scan()
            return checked

        monkeypatch.setattr(Deletions, "_stat_paths", late)
        await bound.compare()
        await world.take_turns(bound)
    assert world.on_disk() == texts
    assert world.statuses() == {"ready": 10}
    assert world.puts() == 10


async def test_outdated_problem_of_a_folder_does_not_outlast_a_newer_scan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scan can't list a folder, and another scan lists it, before the first one's problem is recorded."""
    world = World(tmp_path)
    world.write("sub/a.md", "words")
    read, failures = _Folder.read, list[str]()

    def fail_once(folder: _Folder) -> None:
        if folder.path == "sub" and not failures:
            failures.append(folder.path)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        read(folder)

    monkeypatch.setattr(_Folder, "read", fail_once)
    async with world.start_mirror() as bound:
        reconciler = bound.reconciler
        record_listing = reconciler._record_listing

        async def late(listing: FolderListing, *scan: Any) -> None:
            if listing.problem:
                await reconciler.take_hints([Hint("sub", HintKind.TREE)])
                await reconciler.scan_trees()
            await record_listing(listing, *scan)

        reconciler._record_listing = late  # type: ignore[method-assign]
        await bound.compare()
        await world.take_turns(bound)
        assert world.read_state(lambda tx: tx.folders.problems(bound.mirror.id)) == []
    assert failures == ["sub"]
    assert world.searchable_texts() == world.on_disk()


@pytest.mark.parametrize("is_excluded", [False, True])
async def test_running_scan_does_not_undo_newer_rules(tmp_path: Path, is_excluded: bool) -> None:
    """The user edits an ignore file, and its folder is scanned again, while a scan uses the old rules."""
    world = World(tmp_path)
    world.write("notes/a.md", "private words")
    world.write("b.md", "other words")
    if not is_excluded:
        world.write(".kbsyncignore", "notes/\n")
    async with world.start_mirror() as bound:
        reconciler = bound.reconciler
        record_listing = reconciler._record_listing

        async def late(*listing: Any) -> None:
            if is_excluded != (world.root / ".kbsyncignore").exists():
                world.write(".kbsyncignore", "notes/\n") if is_excluded else world.delete(".kbsyncignore")
                await world.clock.sleep(5.0)
                await reconciler.check([".kbsyncignore"])
            await record_listing(*listing)

        reconciler._record_listing = late  # type: ignore[method-assign]
        await bound.compare()
        await world.take_turns(bound)
    expected = {"b.md": "other words"} | ({} if is_excluded else {"notes/a.md": "private words"})
    assert world.searchable_texts() == expected
    assert world.puts() == len(expected)


async def test_tree_that_changes_during_its_scan_is_scanned_again(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.write("a.md", "words")
    async with world.start_mirror() as bound:
        reconciler = bound.reconciler
        await bound.compare()
        record_listing = reconciler._record_listing

        async def late(*listing: Any) -> None:
            await record_listing(*listing)
            if "sub/late.md" not in world.on_disk():
                world.write("sub/late.md", "later words")
                await reconciler.take_hints([Hint("sub", HintKind.TREE)])

        reconciler._record_listing = late  # type: ignore[method-assign]
        world.write("sub/early.md", "early words")
        await reconciler.take_hints([Hint("sub", HintKind.TREE)])
        await world.clock.sleep(5.0)
        await world.take_turns(bound)
    assert world.searchable_texts() == world.on_disk()


@pytest.mark.parametrize("path", ["a\0b.md", "no\0folder/a.md"])
async def test_path_that_no_file_can_have_stops_no_mirror(tmp_path: Path, path: str) -> None:
    """Someone gave a document a mark with such a path."""
    world = World(tmp_path)
    world.write("a.md", "words")
    world.base.add("odd.md", b"odd", path=path, upload_id=7, foreign=False)
    assert (await world.once()).complete
    assert world.searchable_texts()["a.md"] == "words"
    await world.once()


async def test_two_documents_that_never_finish_do_not_stop_the_mirror(tmp_path: Path) -> None:
    """Each is sent several times, which says nothing about other documents (promise 9)."""
    world = World(tmp_path, MemoryTarget, poll_first=1.0, give_up=20.0)
    world.base.behaviour = Behaviour(indexing_seconds=10_000.0)
    world.write("a.md", "one")
    world.write("b.md", "two")
    end = await world.once()
    assert world.statuses() == {"failed": 2}, end


async def test_file_deleted_at_the_end_of_a_scan_of_a_folder_loses_its_document(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.write_many(8)
    await world.mirrored({"d/a.md": "about herons", "b.md": "about owls"})
    async with world.start_mirror() as bound:
        await bound.compare()
        store = world.store
        assert store is not None
        write = store.write

        def is_missed(tx: Tx) -> bool:
            return tx.entries.is_missed_by_scan(bound.mirror.id)

        async def write_then_delete(work: Callable[[Tx], Any]) -> Any:
            before = world.read_state(is_missed)
            result = await write(work)
            if before and not world.read_state(is_missed):
                store.write = write  # type: ignore[method-assign]
                world.delete("b.md")
                await bound.reconciler.take_hints([Hint("b.md", HintKind.FILE)])
            return result

        store.write = write_then_delete  # type: ignore[method-assign]
        world.write("e/new.md", "about kestrels")
        world.delete("d/a.md")
        await bound.reconciler.take_hints([Hint("e", HintKind.TREE), Hint("d/a.md", HintKind.FILE)])
        await bound.reconciler.scan_trees()
        await bound.compare()
        await world.take_turns(bound)
    assert world.searchable_texts() == world.on_disk()


async def test_deleted_folder_is_not_a_change_for_every_scan(tmp_path: Path) -> None:
    """The watcher would poll: no event reports such a change."""
    world = World(tmp_path)
    world.write_many(8)
    await world.mirrored({"d/a.md": "about herons"})
    world.delete("d/a.md")
    (world.root / "d").rmdir()
    counts = []
    async with world.start_mirror() as bound:
        for _ in range(3):
            summary = await bound.compare()
            assert summary is not None
            counts.append(summary.changes)
            await bound.compared()
            await world.take_turns(bound)
    assert counts == [1, 0, 0]


async def test_folder_that_returns_while_its_deletion_is_held_can_vanish_again(tmp_path: Path) -> None:
    """If no event reports it, the watcher learns from the scan that it misses events."""
    world = World(tmp_path)
    await world.mirrored({f"d/s/{n}.md": f"about {n} herons" for n in range(12)})
    counts = []
    async with world.start_mirror() as bound:
        for before, after in (("d", "../d"), ("../d", "d"), ("d", "../d")):
            world.move(before, after)
            summary = await bound.compare()
            assert summary is not None
            counts.append(summary.changes)
            await bound.compared()
            await world.take_turns(bound)
    assert (counts[0], counts[2], world.statuses()) == (1, 1, {"held": 12})
