"""Tests `forget --delete-documents` while uploads are in flight: only our documents go, and all of them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from kbsync.core.model import OUTCOME_OPEN, UploadState
from kbsync.engine.forget import StillThere, forget
from kbsync.errors import Rejected, Unavailable, Unsure
from tests.engine.auditing import verified
from tests.engine.read_only_commands import open_target
from tests.engine.world import World
from tests.memory.behaviour import FOREVER, Behaviour, Fault
from tests.memory.variants import ForgetfulMemory
from tests.share import long


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, ForgetfulMemory, list_lag=1.0, marks=False, batch=1, concurrency=1)


async def forgotten(world: World) -> int:
    async with world.running() as store:
        record = await store.read(lambda tx: tx.mirrors.named("docs"))
        assert record is not None
        return await forget(store, record, open_target(world), clock=world.clock)


async def lose_answers(world: World, *, late: float | None = None) -> None:
    """Run a pass that ends without knowing the outcome of its uploads."""
    world.base.faults += [
        Fault("put", error=lambda: Unsure("reset"), effect=late is None, late=late, times=FOREVER),
        # A first pass reads the list before it sends anything.
        Fault("list", error=lambda: Unavailable("busy"), nth=1 if world.runs else 2, times=FOREVER),
    ]
    await world.once()
    assert world.rows(*OUTCOME_OPEN)
    world.base.faults.clear()


async def rename_all(world: World, fault: str) -> None:
    """Change the prefix, and end the pass before the documents with the new names serve."""
    await world.mirrored(2)
    world.settings = replace(world.settings, prefix="new-")
    if fault == "put":
        await lose_answers(world)
    else:
        world.base.faults.append(Fault("status", error=lambda: Unavailable("busy"), times=FOREVER))
        world.base.behaviour = Behaviour(indexing_seconds=3.0)
        await world.once()
        world.base.faults.clear()
    states = (UploadState.UNSURE,) if fault == "put" else (UploadState.INDEXING,)
    versions = {(row.path, row.version) for row in world.rows(*states)}
    assert versions & {(row.path, row.version) for row in world.rows(UploadState.SERVING)}


@pytest.mark.parametrize("fault", ["put", "status"])
async def test_documents_being_renamed_are_deleted_under_both_names(world: World, fault: str) -> None:
    await rename_all(world, fault)
    assert len(world.base.documents) > 2
    await forgotten(world)
    assert world.base.documents == {}


@long
@pytest.mark.parametrize("fault", ["put", "status"])
@pytest.mark.parametrize("deletes", [1, 2, 3])
async def test_killed_during_a_rename_the_mirror_ends_with_each_file_once(
    world: World, fault: str, deletes: int
) -> None:
    await rename_all(world, fault)
    world.base.faults.append(Fault("delete", error=asyncio.CancelledError, effect=True, nth=deletes))
    with pytest.raises(asyncio.CancelledError):
        await forgotten(world)
    world.base.faults.clear()
    world.clock.now += 100
    await world.ends_equal()
    assert len(world.base.documents) == 2


@long
async def test_refused_deletion_during_a_rename_keeps_the_mirror_working(world: World) -> None:
    await rename_all(world, "put")
    locked = Fault("delete", error=lambda: Rejected("locked"), match=lambda _: True, times=FOREVER)
    world.base.faults.append(locked)
    with pytest.raises(StillThere, match="locked"):
        await forgotten(world)
    world.base.faults.clear()
    world.clock.now += 100
    await world.ends_equal()
    assert len(world.base.documents) == 2


@pytest.mark.parametrize("late", [None, 8.0])
async def test_document_of_a_lost_answer_is_deleted_and_a_colleagues_stays(
    world: World, late: float | None
) -> None:
    world.write_many(3)
    await lose_answers(world, late=late)
    name = world.rows(*OUTCOME_OPEN)[0].name
    theirs = {
        world.base.add(name, b"a text of another length").remote_id,
        world.base.add(f"copy of {name}", b"text of f0").remote_id,
    }
    await forgotten(world)
    assert set(world.base.documents) == theirs


@pytest.mark.parametrize("lag", [0.0, 5.0])
async def test_mark_proves_the_document_of_a_lost_answer(tmp_path: Path, lag: float) -> None:
    world = World(tmp_path, list_lag=lag)
    theirs = world.base.add("f1.md", b"text of f1 edited").remote_id
    await world.mirrored(1)
    world.write("f0.md", "edited")
    world.write("f1.md", "text of f1 edited")
    await lose_answers(world)
    await forgotten(world)
    assert set(world.base.documents) == {theirs}


async def test_without_a_tag_only_equal_bytes_prove_a_document_ours(world: World) -> None:
    world.settings = replace(world.settings, names="plain")
    world.write("f0.md", "ours")
    await lose_answers(world)
    theirs = world.base.add("f0.md", b"them").remote_id
    await forgotten(world)
    assert set(world.base.documents) == {theirs}


async def test_incomplete_list_deletes_nothing_and_keeps_the_mirror(world: World) -> None:
    await world.mirrored(1)
    world.write_many(3)
    await lose_answers(world)
    before = set(world.base.documents)
    world.base.faults.append(Fault("list", error=lambda: Unavailable("busy"), times=FOREVER))
    with pytest.raises(Unavailable):
        await forgotten(world)
    assert set(world.base.documents) == before
    world.base.faults.clear()
    await forgotten(world)
    assert world.base.documents == {}


@long
@pytest.mark.parametrize("prefix", ["", "new-"])
async def test_documents_of_a_detached_mirrors_lost_answers_are_reported_and_deleted(
    world: World, prefix: str
) -> None:
    world.settings = replace(world.settings, prefix="old-")
    await world.mirrored(2)
    world.write_many(4)
    await lose_answers(world)
    theirs = {
        world.base.add("theirs.txt", b"x").remote_id,
        world.base.add(world.rows(*OUTCOME_OPEN)[0].name, b"a text of another length").remote_id,
    }
    documents = len(world.base.documents)
    world.root = world.root.rename(world.root.with_name("moved"))
    world.settings = replace(world.settings, name="moved", root=world.root, prefix=prefix)
    world.configured = ("moved",)
    await world.once()
    verification = await verified(world)
    assert dict(verification.detached) == {"docs": documents - 2}
    await forgotten(world)
    assert theirs < set(world.base.documents) and len(world.base.documents) == 4 + 2
    assert (await verified(world)).detached == {}
    await world.once()
    texts = world.searchable_texts()
    assert len(world.base.documents) == 4 + 2 and world.on_disk().items() <= texts.items()


@long
@pytest.mark.parametrize("late", [None, 300.0])
async def test_new_mirror_with_a_former_prefix_has_each_file_once(world: World, late: float | None) -> None:
    world.settings = replace(world.settings, prefix="old-")
    world.write_many(3)
    await lose_answers(world, late=late)
    world.settings = replace(world.settings, prefix="mid-")
    world.base.faults.append(Fault("list", error=lambda: Unavailable("busy"), times=FOREVER))
    await world.once()
    world.base.faults.clear()
    world.root = world.root.rename(world.root.with_name("moved"))
    world.settings = replace(world.settings, name="moved", root=world.root, prefix="old-")
    world.configured = ("moved",)
    await world.once()
    world.clock.now += 400
    await forgotten(world)
    await world.once()
    assert len(world.base.documents) == 3
    assert world.searchable_texts() == world.on_disk()
    verification = await verified(world)
    assert verification.ok and not verification.detached
