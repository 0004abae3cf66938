"""Tests that the history records each change exactly once, however the process ends, and nothing else."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from kbsync.engine.journal import DocumentEvent
from kbsync.engine.mirror import Mirror
from kbsync.engine.status import OUT_OF_DATE
from kbsync.once import run_once
from kbsync.state import history
from kbsync.state.history import HistoryEntry, HistoryEvent
from kbsync.state.read_only import Tx
from tests.crash.harness import Guillotine
from tests.engine.world import World
from tests.memory.behaviour import Failure
from tests.memory.variants import RenamingMemory
from tests.share import enumerated

MIRROR = 1


def entries(world: World) -> list[HistoryEntry]:
    results: list[HistoryEntry] = world.read_state(lambda tx: tx.history.newest((MIRROR,), 0.0, 1000))
    return results


def events(world: World) -> list[tuple[str, str]]:
    return [(entry.event.value, entry.path) for entry in entries(world)]


@pytest.mark.parametrize("renames", [False, True])
async def test_each_kind_of_change_is_recorded_with_its_file(world: World, renames: bool) -> None:
    if renames:
        world.target_type = RenamingMemory
    world.base.behaviour.failures.append(Failure("bad.md", times=100, reason="it has no text"))
    await world.mirrored(10)
    assert events(world) == [("uploaded", f"f{number}.md") for number in range(10)]
    await world.mirrored({"bad.md": "bad"})
    failed = entries(world)[-1]
    assert (failed.event, failed.path, failed.reason) == ("failed", "bad.md", "it has no text")
    await world.mirrored({"f0.md": "changed"})
    assert events(world)[-1] == ("replaced", "f0.md")
    world.move("f1.md", "g1.md")
    await world.once()
    renamed = entries(world)[-1]
    assert (renamed.event, renamed.former, renamed.path) == ("renamed", "f1.md", "g1.md")
    world.delete("f2.md")
    await world.once()
    deleted = entries(world)[-1]
    assert (deleted.event, deleted.path, bool(deleted.document_id)) == ("deleted", "f2.md", True)
    assert "changed" not in str(entries(world)) and "hello" not in str(entries(world))


async def test_failure_before_any_upload_is_reported_once_for_each_cause(tmp_path: Path) -> None:
    world, events = World(tmp_path, max_bytes=20), list[tuple[str, str, str, bool]]()

    def report(event: DocumentEvent) -> None:
        events.append((event.event, event.path, event.upload.reason, bool(event.upload.remote_id)))

    async def run_pass(run: Mirror) -> None:
        run.on_event = report
        await run_once(run)

    async def events_of_pass() -> list[tuple[str, str, str, bool]]:
        events.clear()
        await world.doing(run_pass)
        return sorted(events)

    world.write("a.md", "short")
    world.write("sub/b.md", "short")
    assert [event for event, *_ in await events_of_pass()] == ["document.ready"] * 2
    world.write("a.md", "long " * 5)
    world.write("c.md", "long " * 6)
    world.write("sub/.kbsyncignore", "[bad")
    (world.root / "link.md").symlink_to("a.md")
    unlistable = "sub/.kbsyncignore:1: a bracket that is not closed in '[bad'; correct that line"
    failed = [
        ("document.failed", "a.md", f"25 bytes, over the limit of 20 bytes; {OUT_OF_DATE}", True),
        ("document.failed", "c.md", "30 bytes, over the limit of 20 bytes", False),
        ("document.failed", "sub/", unlistable, False),
    ]
    assert await events_of_pass() == [
        *failed,
        ("document.skipped", "link.md", "symlink (not followed)", False),
    ]
    recorded = sorted((entry.path, entry.reason) for entry in entries(world) if entry.event == "failed")
    assert recorded == [(path, reason) for _, path, reason, _ in failed]
    world.write("a.md", "longer " * 5)
    assert await events_of_pass() == [], "for the same cause as before"
    world.write("sub/.kbsyncignore", "[worse")
    (world.root / "c.md").write_text("")
    assert [(event, path) for event, path, *_ in await events_of_pass()] == [
        ("document.failed", "sub/"),
        ("document.skipped", "c.md"),
    ]


async def test_hold_and_approver_are_recorded_for_each_document(world: World) -> None:
    await world.mirrored(10)
    world.delete_many(8)
    await world.once()
    names = [f"f{number}.md" for number in range(8)]
    assert events(world)[10:] == [("held", name) for name in names]
    holds = world.read_state(lambda tx: [hold.id for hold in tx.holds.current(MIRROR)])
    for _ in range(2):  # the same approval twice
        world.post_request("approve", holds=holds, by="page")
    await world.once()
    entries_since = entries(world)[18:]
    assert [(entry.event, entry.path) for entry in entries_since[:8]] == [
        ("approved", name) for name in names
    ]
    assert {entry.by for entry in entries_since[:8]} == {"page"}
    assert Counter(entry.event for entry in entries_since[8:]) == {"deleted": 8}


async def test_rename_without_a_target_change_is_recorded(world: World) -> None:
    world.settings = replace(world.settings, renames="keep")
    await world.mirrored(3)
    world.move("f1.md", "g1.md")
    for _ in range(2):
        await world.once()
    [renamed] = entries(world)[3:]
    assert (renamed.event, renamed.former, renamed.path) == ("renamed", "f1.md", "g1.md")
    assert world.puts() == 3


async def test_accepted_folder_replacement_is_recorded(world: World) -> None:
    await world.mirrored(3)
    world.post_request("approve", holds=[], root=True, by="command")
    await world.once()
    [approved] = entries(world)[3:]
    assert (approved.event, approved.by) == ("approved", "command")
    assert approved.reason == "the folder as it is now"


async def test_unchanged_files_are_not_recorded(world: World) -> None:
    await world.mirrored(10)
    for number in range(10):
        (world.root / f"f{number}.md").touch()
    await world.once()
    assert len(entries(world)) == 10


@enumerated()
@pytest.mark.parametrize("boundary", range(1, 30))
async def test_kill_neither_loses_nor_invents_an_entry(world: World, boundary: int) -> None:
    world.write_many(3)
    await world.crash(Guillotine(boundary), run_once)
    await world.mirrored({"g.md": "hello"})
    assert Counter(events(world)) == {("uploaded", path): 1 for path in world.on_disk()}
    world.delete("g.md")
    world.write("f0.md", "changed")
    await world.crash(Guillotine(boundary), run_once)
    await world.once()
    assert Counter(events(world)[4:]) == {("deleted", "g.md"): 1, ("replaced", "f0.md"): 1}


async def test_old_and_excess_entries_are_removed_by_the_next_pass(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.mirrored(3)
    world.clock.now += history.RETENTION - 60
    await world.mirrored({"g.md": "hello"})
    assert len(entries(world)) == 4
    world.clock.now += 120
    await world.once()
    assert events(world) == [("uploaded", "g.md")]
    monkeypatch.setattr(history, "MAX_ENTRIES", 5)
    await world.mirrored(8, "h")
    assert events(world) == [("uploaded", f"h{number}.md") for number in range(3, 8)]


def test_entries_are_found_by_file_folder_and_former_path_and_removed_with_their_mirror(world: World) -> None:
    def work(tx: Tx) -> None:
        number = tx.mirrors.add("docs", "/srv/docs", "memory").id
        other = tx.mirrors.add("other", "/srv/other", "memory").id
        for path in ("a/b.md", "a/b.md.md", "ab/c.md", "a%/d.md", "caf\udce9.md"):
            tx.history.add(number, 1.0, HistoryEvent.UPLOADED, path)
        tx.history.add(other, 1.0, HistoryEvent.UPLOADED, "a/b.md")
        tx.history.add(number, 2.0, HistoryEvent.RENAMED, "z.md", former="a/b.md")

        def paths(folder: str, since: float = 0.0) -> list[str]:
            return [entry.path for entry in tx.history.newest((number,), since, 9, ((number, folder),))]

        assert paths("a/b.md") == ["a/b.md", "z.md"]
        assert paths("a") == ["a/b.md", "a/b.md.md", "z.md"]
        assert paths("a%") == ["a%/d.md"]
        assert paths("caf\udce9.md") == ["caf\udce9.md"]
        assert len(paths("")) == 6 and paths("", 1.5) == ["z.md"]
        assert [tx.history.has(number, path) for path in ("a", "a/b", "z.md")] == [True, False, True]
        tx.mirrors.remove(number)
        assert [entry.mirror for entry in tx.history.newest((number, other), 0.0, 9)] == ["other"]

    world.change(work)
