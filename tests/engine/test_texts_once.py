"""Tests a base that stores each text once: a renamed file's old document is deleted before its new one is
stored.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kbsync.contract.searching import Hit, Query
from kbsync.core.model import SERVING, Presence, UploadState
from kbsync.engine import polling
from kbsync.engine.reconcile import Reconciler
from kbsync.engine.search import SearchedMirror, locate
from kbsync.engine.settings import DeletionLimits
from kbsync.errors import Unavailable, Unsure
from kbsync.source.stat import PathStat
from tests.crash.harness import Guillotine
from tests.engine.world import World
from tests.memory.base import MemoryBase
from tests.memory.behaviour import FOREVER, Behaviour, Failure, Fault
from tests.memory.variants import OnceMemory
from tests.share import enumerated, long

BOUNDARIES = 24
"""The boundaries of the pass after a failing rename: slightly fewer than it has today."""


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


def make_world(folder: Path) -> World:
    world = World(folder, OnceMemory, list_lag=1.0, marks=False, poll_first=1.0, reembed_tries=1)
    world.base.behaviour = Behaviour(indexing_seconds=3.0)
    return world


async def moved(world: World) -> str:
    """Rename the mirrored `a.md` to `b.md` and return its document's id."""
    world.write("a.md", "about kestrels")
    await world.mirrored(8)
    [old] = world.base.searchable("a.md")
    world.move("a.md", "b.md")
    return old.remote_id


def fail_for_good(world: World) -> None:
    """Let documents of the new path never be indexed."""
    world.base.behaviour.failures.append(Failure(lambda document: document.path == "b.md", times=FOREVER))


def seeming(world: World) -> list[str | None]:
    """Return paths whose document serves according to the state, but doesn't exist."""
    return [row.path for row in world.rows(*SERVING) if row.remote_id not in world.base.documents]


@long
async def test_renamed_file_is_counted_as_renamed(world: World) -> None:
    await moved(world)
    await world.ends_equal()
    assert world.run.counts == {"renamed": 1}
    assert world.requests("delete") == 0, "what the base removed is deleted once more"


async def test_old_document_stops_serving_when_the_new_one_is_accepted(world: World) -> None:
    old = await moved(world)
    await world.crash(Guillotine(upon=["put answer", "commit after"]))
    assert old not in {row.remote_id for row in world.rows(*SERVING)}
    hit = Hit(old, 1.0, ())
    async with world.running() as store:
        mirror = SearchedMirror("docs", world.root, await world.open_target(), store.read)
        assert await locate([mirror], [hit], Query("kestrels")) == []


def killed_everywhere(folder: Path) -> Iterator[tuple[World, Guillotine]]:
    """Yield a new world for each boundary of a pass, until one isn't reached."""
    for boundary in itertools.count(1):
        (folder / str(boundary)).mkdir()
        guillotine = Guillotine(boundary)
        yield make_world(folder / str(boundary)), guillotine
        if not guillotine.fallen:
            return


@long
async def test_failure_of_the_new_document_never_claims_that_one_serves_after_a_kill(tmp_path: Path) -> None:
    lives = 0
    for world, guillotine in killed_everywhere(tmp_path):
        lives += 1
        await moved(world)
        fail_for_good(world)
        await world.crash(guillotine)
        world.clock.now += 100
        await world.once()
        assert seeming(world) == [], guillotine.passed[-3:]
        assert world.statuses() == {"ready": 8, "failed": 1}, guillotine.passed[-3:]
    assert lives > BOUNDARIES


@long
@enumerated()
@pytest.mark.parametrize("scan_seconds", [0.0, 0.3])
@pytest.mark.parametrize("error", [Unavailable, Unsure])
async def test_reverted_rename_during_an_outage_leaves_a_document(
    world: World, error: type[Unavailable | Unsure], scan_seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old document is deleted, then the base refuses a new one. The worker may find the new name gone
    before a long scan finds the old one.
    """
    await moved(world)

    def accept(*_: object) -> None:
        raise error("down")

    with monkeypatch.context() as patched:
        patched.setattr(world.base, "accept", accept)
        await world.once(budget=5.0)
    world.move("b.md", "a.md")
    scan = Reconciler.scan

    async def scan_slowly(*args: Any, **options: Any) -> Any:
        await asyncio.sleep(scan_seconds)
        return await scan(*args, **options)

    monkeypatch.setattr(Reconciler, "scan", scan_slowly)
    for _ in range(2):
        await world.once()
        world.clock.now += 100
    assert world.searchable_texts() == world.on_disk()
    assert seeming(world) == []


@long
async def test_document_that_survived_a_failed_rename_is_not_uploaded_again(world: World) -> None:
    await moved(world)
    world.base.faults.append(Fault("put", error=lambda: Unavailable("down"), times=FOREVER))
    await world.once(budget=5.0)
    world.base.faults.clear()
    world.move("b.md", "a.md")
    puts = world.requests("put")
    await world.ends_equal()
    assert (world.run.counts, world.requests("put")) == ({}, puts)


@long
async def test_files_deleted_while_their_new_documents_are_made_need_approval(world: World) -> None:
    await world.mirrored(12)
    for number in range(12):
        world.move(f"f{number}.md", f"sub/f{number}.md")
    await world.crash(Guillotine(upon=["put answer", "commit after"] * 12))
    for path in (world.root / "sub").iterdir():
        path.unlink()
    await world.once()
    assert world.statuses() == {"held": 12}
    assert len(world.searchable_texts()) == 12


@long
async def test_single_file_deleted_while_many_documents_are_made_needs_no_approval(world: World) -> None:
    world.write("a.md", "about kestrels")
    await world.mirrored(12)
    for number in range(12):
        world.move(f"f{number}.md", f"sub/f{number}.md")
    await world.crash(Guillotine(upon=["put answer", "commit after"] * 12))
    world.delete("a.md")
    world.base.behaviour.indexing_seconds = 0.0
    await world.ends_equal()
    assert world.run.halt is None


@long
async def test_late_change_does_not_replace_what_was_sent_instead(world: World) -> None:
    await world.mirrored(8)
    world.clock.now += 10
    world.write("f0.md", "about kestrels")
    world.base.faults.append(Fault("put", error=lambda: Unsure("lost"), effect=False))
    await world.once()
    [lost] = world.rows(UploadState.PRESUMED_LOST)
    [server] = world.base.searchable("f0.md")
    world.base.behaviour.failures.append(Failure(lambda document: document.name == lost.name, times=FOREVER))
    late = world.base.add(lost.name, b"about kestrels", foreign=False)
    for _ in range(2):
        world.clock.now += 86400
        await world.once()
    assert world.searchable_texts() == world.on_disk()
    assert world.statuses() == {"ready": 8}
    assert server.remote_id in world.base.documents
    assert late.remote_id not in world.base.documents
    assert len(world.base.effects_of("put")) == 9


@long
async def test_old_text_of_a_changed_file_is_found_in_another_after_a_lost_state(world: World) -> None:
    await moved(world)
    world.lose_state()
    await world.mirrored({"a.md": "about herons"})
    assert world.searchable_texts() == world.on_disk()
    assert seeming(world) == []


@long
async def test_copy_takes_nothing_from_an_existing_file(world: World) -> None:
    world.write("a.md", "about kestrels")
    await world.mirrored(8)
    [old] = world.base.searchable("a.md")
    world.lose_state()
    await world.mirrored({"b.md": "about kestrels"})
    assert world.statuses() == {"ready": 9, "failed": 1}
    assert world.base.searchable("a.md") == [old]


@long
async def test_copy_replaces_a_file_found_after_the_state_was_lost(world: World) -> None:
    world.write("a.md", "about kestrels")
    await world.mirrored(8)
    world.lose_state()
    await world.mirrored({"b.md": "about kestrels"})
    world.post_request("retry")
    world.delete("a.md")
    await world.once()
    assert world.statuses() == {"ready": 9}
    assert world.searchable_texts() == world.on_disk()


@long
async def test_nothing_is_taken_from_an_unreadable_file(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await moved(world)
    world.lose_state()
    monkeypatch.setattr(polling, "stat_path", lambda *_: PathStat(Presence.UNKNOWN))
    await world.once()
    assert world.statuses() == {"ready": 8, "failed": 1}
    assert world.base.searchable("a.md") != []


async def test_nothing_is_taken_that_may_be_foreign(world: World) -> None:
    world.base.add("kestrels.md", b"about kestrels")
    world.write("b.md", "about kestrels")
    await world.mirrored(8)
    assert world.statuses() == {"ready": 8, "failed": 1}
    [other] = world.base.searchable("kestrels.md")
    assert other.foreign


async def exchange(world: World, count: int = 2) -> None:
    """Mirror some files, then write each one's text into the next."""
    names = [f"{n}.md" for n in range(count)]
    await world.mirrored({name: f"about {name}" for name in names})
    for name, other in zip(names, (*names[1:], names[0]), strict=True):
        world.write(name, f"about {other}")


@long
@pytest.mark.parametrize("count", [2, 3])
async def test_files_that_exchange_their_texts_become_searchable_again(world: World, count: int) -> None:
    await exchange(world, count)
    await world.once()
    assert world.statuses() == {"ready": count}
    assert world.searchable_texts() == world.on_disk()
    assert seeming(world) == []


async def moved_without_a_state(world: World) -> None:
    await moved(world)
    world.lose_state()


def undo_move(world: World) -> None:
    world.move("b.md", "a.md")


def wait(world: World) -> None:
    world.clock.now += 100


@long
@pytest.mark.parametrize(
    ("before", "between", "passes", "boundaries"),
    [
        pytest.param(moved, undo_move, 2, 16, id="a rename is reverted after the kill"),
        pytest.param(moved_without_a_state, wait, 2, BOUNDARIES, id="the state was lost during a rename"),
        pytest.param(exchange, wait, 1, BOUNDARIES, id="two files exchanged their texts"),
    ],
)
async def test_every_file_is_searchable_again_after_a_kill(
    tmp_path: Path,
    before: Callable[[World], Awaitable[object]],
    between: Callable[[World], None],
    passes: int,
    boundaries: int,
) -> None:
    lives = 0
    for world, guillotine in killed_everywhere(tmp_path):
        lives += 1
        await before(world)
        await world.crash(guillotine)
        between(world)
        for _ in range(passes):
            await world.once()
            world.clock.now += 100
        assert world.searchable_texts() == world.on_disk(), guillotine.passed[-3:]
        assert seeming(world) == [], guillotine.passed[-3:]
    assert lives > boundaries


@long
async def test_rotated_logs_stay_searchable(world: World) -> None:
    world.base.behaviour = Behaviour(indexing_seconds=60.0)
    await world.mirrored(
        {"log.md": "today", "log.1.md": "yesterday", "log.2.md": "before", "note.md": "note"}
    )
    world.move("log.1.md", "log.2.md")
    world.move("log.md", "log.1.md")
    world.write("log.md", "tomorrow")
    observed: list[set[str]] = []
    world.base.observers.append(lambda base: observed.append(set(base.searchable_texts())))
    await world.once()
    assert all(paths == {"log.md", "log.1.md", "log.2.md", "note.md"} for paths in observed)
    assert world.statuses() == {"ready": 4}
    assert world.searchable_texts() == world.on_disk()
    assert seeming(world) == []


async def test_old_text_of_a_file_whose_new_version_fails_stays(world: World) -> None:
    await world.mirrored({"a.md": "about kestrels", "c.md": "about herons"})
    [old] = world.base.searchable("a.md")
    world.base.behaviour.failures.append(Failure(lambda document: document.path == "a.md", times=FOREVER))
    await world.mirrored({"a.md": "about owls", "b.md": "about kestrels"})
    assert world.statuses() == {"ready": 1, "failed": 2}
    assert world.base.searchable("a.md") == [old]


async def test_text_of_a_file_deleted_during_an_exchange_is_uploaded(world: World) -> None:
    world.write_many(8)
    await exchange(world)

    def delete(base: MemoryBase) -> None:
        if base.effects_of("fail", path="0.md") and (world.root / "1.md").exists():
            world.delete("1.md")

    world.base.observers.append(delete)
    await world.once()
    world.clock.now += 100
    await world.once()
    assert world.statuses() == {"ready": 9}
    assert world.searchable_texts() == world.on_disk()


async def test_copy_of_a_file_whose_deletion_is_held_fails(world: World) -> None:
    world.settings = replace(world.settings, deletions=DeletionLimits())
    await world.mirrored(8)
    world.write("copy.md", world.on_disk()["f0.md"])
    world.delete(*(f"f{n}.md" for n in range(6)))
    await world.once()
    assert world.statuses() == {"ready": 2, "held": 6, "failed": 1}


async def test_file_that_returns_during_its_deletion_becomes_searchable(world: World) -> None:
    await world.mirrored(8)
    text = world.on_disk()["f0.md"]
    world.delete("f0.md")

    def refuse() -> Unavailable:
        world.write("f0.md", text)
        return Unavailable("the server is indexing", retry_after=3.0)

    world.base.faults.append(Fault("delete", error=refuse))
    await world.once()
    world.clock.now += 100
    await world.ends_equal()
    assert world.statuses() == {"ready": 8}
