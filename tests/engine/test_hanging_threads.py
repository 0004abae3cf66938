"""Tests that a thread that hangs in a dead mount blocks no other work and no exit."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kbsync.contract.target import Base
from kbsync.engine import mirror, worker
from kbsync.errors import StateError
from kbsync.once import run_once
from kbsync.source.scan import Scan
from kbsync.state import db, read_only
from kbsync.state import store as state_store
from kbsync.state.mirrors import MirrorRecord
from kbsync.state.store import StateStore
from tests.dead_mount import let_hang
from tests.engine.auditing import audited, start_audits, verified
from tests.engine.read_only_commands import explained
from tests.engine.test_watching import WatchingWorld, until
from tests.engine.world import World
from tests.memory.target import MemoryTarget
from tests.share import long


@pytest.fixture
def hang() -> Iterator[threading.Event]:
    released = threading.Event()
    yield released
    released.set()


Hold = Callable[[Any, str], tuple[threading.Event, list[Any]]]


@pytest.fixture
def hold(hang: threading.Event, monkeypatch: pytest.MonkeyPatch) -> Hold:
    """Let calls hang; record when one starts and what it returned in the end."""

    def hold(where: Any, name: str) -> tuple[threading.Event, list[Any]]:
        real, entered, results = getattr(where, name), threading.Event(), list[Any]()

        def slow(*args: Any) -> Any:
            entered.set()
            hang.wait(20)
            results.append(real(*args))
            return results[-1]

        monkeypatch.setattr(where, name, slow)
        return entered, results

    return hold


async def turn_until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


@long
async def test_hanging_path_lookup_blocks_no_other_mirror(
    tmp_path: Path, hang: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = WatchingWorld(tmp_path)
    link = tmp_path / "link"
    link.symlink_to(daemon.root)
    daemon.settings = replace(daemon.settings, given=link)
    real, loops = os.path.realpath, threading.get_ident()
    in_loop: list[Any] = []

    def realpath(path: Any, **kwargs: Any) -> Any:
        if Path(path) == link and threading.get_ident() == loops:
            in_loop.append(path)  # a dead mount would block all mirrors here
        return real(path, **kwargs)

    monkeypatch.setattr(os.path, "realpath", realpath)
    daemon.write("a.md")
    async with daemon.run_daemon():
        assert daemon.watching is not None
        daemon.watching._next_check = 0.0
        daemon.run.wake.set()
        await until(lambda: daemon.watching is not None and daemon.watching._next_check > 0.0)
    assert in_loop == []


@pytest.mark.parametrize("name", ["docs", "renamed"])
async def test_mirror_keeps_its_row_while_its_folder_does_not_respond(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    world, is_dead = World(tmp_path), threading.Event()
    world.in_threads = True
    link = tmp_path / "link"
    link.symlink_to(world.root)
    world.settings = replace(world.settings, given=link)
    await world.mirrored(3)
    records = list[MirrorRecord]()

    async def run_pass() -> None:
        async with world.running() as store:
            await run_once(world.make_run(store))
            records[:] = await store.read(lambda tx: tx.mirrors.all())

    await run_pass()
    [before], sent = records, world.puts()
    # The real path is unknown.
    world.settings, world.configured = replace(world.settings, name=name, root=link), (name,)
    for folder in (link, world.root):
        let_hang(folder, is_dead.is_set, monkeypatch.setattr)
    is_dead.set()
    with monkeypatch.context() as patch:
        patch.setattr(mirror, "MAX_PASS_CHECK_SECONDS", 0.01)
        await run_pass()
    assert (halt := world.run.halt) is not None and halt.reason == "folder-missing"
    assert "its file system isn't responding" in halt.detail
    assert records == [replace(before, halt=halt if name == "docs" else None)]
    is_dead.clear()
    await run_pass()  # it waits for the calls that hung
    [after] = records
    assert after == replace(before, name=name, last_pass=after.last_pass)
    assert world.puts() == sent


async def test_pass_waits_for_a_sleeping_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world, is_asleep = World(tmp_path), threading.Event()
    world.in_threads = True
    world.write_many(3)
    world.settings = replace(world.settings, given=world.root)
    monkeypatch.setattr(mirror, "MAX_CHECK_SECONDS", 0.01)
    let_hang(world.root, is_asleep.is_set, monkeypatch.setattr)
    is_asleep.set()
    threading.Timer(0.3, is_asleep.clear).start()
    async with world.running() as store:
        await run_once(world.make_run(store))
    assert world.run.halt is None
    assert world.puts() == 3


async def test_state_queries_during_close_complete_or_are_refused(tmp_path: Path) -> None:
    store = StateStore(tmp_path / "state.db")
    entered, go_on = threading.Event(), threading.Event()

    def slowly(_tx: object) -> str:
        entered.set()
        go_on.wait(10)
        return "done"

    first = asyncio.create_task(store.write(slowly))
    await asyncio.to_thread(entered.wait, 10)
    closing = asyncio.create_task(asyncio.to_thread(store.close))
    late = [asyncio.create_task(store.write(lambda tx: "done")) for _ in range(20)]
    await asyncio.sleep(0.05)
    late += [asyncio.create_task(store.write(lambda tx: "done")) for _ in range(20)]
    go_on.set()
    async with asyncio.timeout(10):
        outcomes = await asyncio.gather(first, *late, return_exceptions=True)
        await closing
    assert outcomes[0] == "done"
    assert all(outcome == "done" or isinstance(outcome, StateError) for outcome in outcomes)


async def test_scan_cancelled_while_listing_ends_at_once_and_releases_later(
    world: World, hang: threading.Event, hold: Hold, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.in_threads = True
    world.write_many(3)
    closed, closing = list[Scan](), Scan.close

    def close(scan: Scan) -> None:
        closing(scan)
        closed.append(scan)

    async with world.start_mirror() as bound:
        entered, _ = hold(Scan, "__next__")
        monkeypatch.setattr(Scan, "close", close)
        scanning = asyncio.create_task(bound.reconciler.scan())
        await turn_until(entered.is_set)
        bound.reconciler.stop()
        scanning.cancel()
        with pytest.raises(asyncio.CancelledError):
            await scanning
        assert closed == []
        hang.set()
        await turn_until(lambda: closed)


async def test_file_being_read_when_a_send_is_cancelled_is_released(
    world: World, hang: threading.Event, hold: Hold
) -> None:
    world.in_threads = True
    world.write("a.md", "text")
    entered, released = hold(worker, "copy_stable")
    async with world.start_mirror() as bound:
        await bound.compare()
        await turn_until(entered.is_set)
        ended = asyncio.create_task(bound.stop(grace=0.0))
        await turn_until(ended.done)
        hang.set()
        await turn_until(lambda: released and released[0]._content is None)  # closed


class FileMemory(MemoryTarget):
    """A target with its base in a file."""

    async def base(self) -> Base:
        result = await super().base()
        return replace(result, address=f"file:///kb/{result.id}")


@pytest.fixture
def disk_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record calls to the disk by threads with an open transaction of the state."""
    state = threading.local()
    calls: list[str] = []

    @contextmanager
    def transaction(*args: Any) -> Iterator[None]:
        state.depth = getattr(state, "depth", 0) + 1
        try:
            with db.transaction(*args):
                yield
        finally:
            state.depth -= 1

    def watch(name: str) -> None:
        real = getattr(os, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            if getattr(state, "depth", 0):
                calls.append(f"os.{name}{args}")
            return real(*args, **kwargs)

        monkeypatch.setattr(os, name, call)

    for module in (read_only, state_store):
        monkeypatch.setattr(module, "transaction", transaction)
    for name in ("open", "stat", "lstat", "scandir", "listdir", "readlink"):
        watch(name)
    return calls


def make_stray(world: World, path: str) -> None:
    """Put a document of ours into the base that nothing needs."""
    world.base.add(path, path.encode(), path=path, upload_id=7, foreign=False)


@long
async def test_no_state_transaction_waits_for_a_disk(tmp_path: Path, disk_calls: list[str]) -> None:
    world = World(tmp_path, FileMemory, embedded=True)
    await world.mirrored(12)
    world.write("f0.md", "changed")
    world.write("new.md")
    world.move("f1.md", "moved.md")
    world.delete("f2.md")
    make_stray(world, "gone.md")
    findings = await verified(world)
    assert [finding.path for finding in findings.orphaned] == ["f2.md", "gone.md"]
    assert [finding.path for finding in findings.stale] == ["f0.md", "moved.md", "new.md"]
    for path in ("f0.md", "f2.md", ""):
        await explained(world, path)
    await world.once()
    assert (await audited(world)).orphaned == 1
    world.base.recreate()  # the file of the old base may be on a lost disk
    await world.once()
    assert disk_calls == []


async def test_audit_waiting_for_a_dead_mount_does_not_block_state_readers(
    tmp_path: Path, hang: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, embedded=True)
    world.in_threads = True
    await world.mirrored(3)
    make_stray(world, "gone.md")
    real, is_hanging, entered = os.open, threading.Event(), threading.Event()

    def open_slowly(path: Any, *args: Any, **kwargs: Any) -> int:
        if path == world.root and is_hanging.is_set():
            entered.set()
            hang.wait(20)
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", open_slowly)
    async with start_audits(world) as auditing:
        is_hanging.set()
        audit = asyncio.create_task(auditing.audit())
        await turn_until(entered.is_set)
        async with asyncio.timeout(5):
            await world.run.store.read(lambda tx: tx.mirrors.all())
        hang.set()
        assert (await audit).orphaned == 1
