from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kbsync.core.model import RootIdentity
from kbsync.engine.plan import LOST, MirrorPlan, Planned, plan_mirror
from kbsync.engine.settings import DeletionLimits
from kbsync.errors import Halted, Rejected, Unavailable, Unsure
from kbsync.once import run_once
from kbsync.source.roots import identify
from tests.engine.read_only_commands import once_for, open_target, planned, plans_nothing, state_of
from tests.engine.world import World
from tests.memory.behaviour import Behaviour, Fault
from tests.memory.target import MemoryTarget
from tests.memory.variants import AbleMemory, RenamingMemory, UpdatingMemory
from tests.share import enumerated, long


def paths(listed: list[Planned]) -> list[str]:
    return [row.path for row in listed]


# -- planned uploads -----------------------------------------------------------------------------------


async def test_planning_works_while_another_process_holds_the_state(world: World) -> None:
    await world.mirrored(2)
    world.write("new.md")
    async with world.running():
        assert paths((await planned(world)).upload) == ["new.md"]


async def test_recent_file_counts_as_an_upload_with_a_note(world: World) -> None:
    world.clock.epoch -= 1000  # the files' own wall clock
    world.write("a.md")
    plan = await planned(world)
    assert paths(plan.upload) == ["a.md"] and "after 2 s without changes" in plan.upload[0].note


@long
async def test_equal_documents_are_adopted_after_a_lost_state(world: World) -> None:
    await world.mirrored(4)
    world.lose_state()
    world.write("f0.md", "changed meanwhile")
    effects = len(world.base.effects)
    plan = await planned(world)
    assert paths(plan.replace) == ["f0.md"] and plan.unchanged == 3
    assert len(world.base.effects) == effects


@long
async def test_lost_answer_is_listed_with_a_note(world: World) -> None:
    world.limits = replace(world.limits, list_lag=5.0)
    world.base.faults.append(Fault("put", error=lambda: Unsure("reset"), effect=False))
    world.base.faults.append(Fault("list", error=lambda: Unavailable("busy"), nth=2, times=10_000))
    await world.mirrored(1)
    for at_work in (True, False):
        plan = await planned(world, at_work=at_work)
        assert paths(plan.upload) == ["f0.md"] and "got no response" in plan.upload[0].note


async def test_upload_in_progress_is_not_listed_as_lost_unless_kbsync_was_killed(world: World) -> None:
    response = asyncio.Event()
    world.base.faults.append(Fault("put", hang=response))
    world.write("a.md")
    async with world.running() as store:
        passing = asyncio.create_task(run_once(world.make_run(store)))
        while world.states() != ["SENDING"]:
            await world.clock.sleep(1)
        notes = {at_work: (await planned(world, at_work=at_work)).upload[0].note for at_work in (True, False)}
        response.set()
        await passing
    assert notes == {True: "", False: LOST}


@long
@pytest.mark.parametrize("target", [MemoryTarget, UpdatingMemory, AbleMemory])
async def test_document_being_indexed_is_not_planned_until_the_file_changes(
    tmp_path: Path, target: type[MemoryTarget]
) -> None:
    world = World(tmp_path, target)
    world.write("a.md", "one")
    await world.mirrored(3)
    world.base.behaviour = Behaviour(indexing_seconds=1000)
    world.write("a.md", "two")
    await once_for(world, 20)
    plan = await planned(world)
    assert plans_nothing(plan) and plan.unchanged == 3
    world.write("a.md", "three")
    assert paths((await planned(world)).replace) == ["a.md"]


@long
async def test_file_deleted_before_it_served_is_deleted_without_approval(world: World) -> None:
    await world.mirrored(1)
    world.base.behaviour = Behaviour(indexing_seconds=1000)
    world.write("a.md")
    await once_for(world, 20)
    world.delete("a.md")
    plan = await planned(world)
    assert paths(plan.delete) == ["a.md"] and plan.held == []


@long
async def test_quarantined_files_are_not_sent_and_show_their_reason(world: World) -> None:
    world.base.faults.append(Fault("put", error=lambda: Rejected("too ugly"), match="a.md", times=99))
    await world.mirrored({"a.md": "hello"})
    plan = await planned(world)
    assert plan.upload == [] and [(f.path, f.note) for f in plan.failed] == [("a.md", "too ugly")]
    world.post_request("retry")
    assert paths((await planned(world)).upload) == ["a.md"]
    world.write("a.md", "edited")
    assert paths((await planned(world)).upload) == ["a.md"]


# -- deletions -----------------------------------------------------------------------------------------


@long
async def test_approved_deletions_are_planned(world: World) -> None:
    await world.mirrored(10)
    world.delete_many(6)
    await world.once()
    world.approve()
    plan = await planned(world)
    assert len(plan.delete) == 6 and plan.held == []
    world.change(lambda tx: tx.inbox.done(tx.inbox.waiting("docs")[0].id))
    world.change(lambda tx: tx.holds.approve(tx.holds.current(world.run.id)[0].id, world.clock.wall()))
    assert len((await planned(world)).delete) == 6


async def test_deletion_causes_distinguish_missing_deselected_and_emptied(world: World) -> None:
    world.settings = replace(world.settings, deletions=DeletionLimits(count=50))
    world.write_many(8)
    await world.mirrored({"drafts/d.md": "hello"})
    world.delete("f0.md")
    world.write("f1.md", "")
    world.write(".kbsyncignore", "drafts/\nf2.md\n")
    plan = await planned(world)
    causes = {file.path: file.cause for file in plan.delete}
    assert causes == {
        "f0.md": "gone", "f1.md": "emptied", "f2.md": "deselected", "drafts/d.md": "deselected",
    }  # fmt: skip


# -- problems ------------------------------------------------------------------------------------------


def is_halted(plan: MirrorPlan, reason: str) -> bool:
    return plan.halt is not None and plan.halt.reason == reason and plans_nothing(plan)


async def test_missing_mount_plans_nothing(world: World) -> None:
    await world.mirrored(3)
    now = identify(world.root)
    was = RootIdentity(now.dev, now.ino, now.fs_type, True)
    world.change(lambda tx: tx.mirrors.set_root(world.run.id, was))
    world.delete_many(3)
    assert is_halted(await planned(world), "folder-missing")
    world.post_request("approve", root=True)
    assert len((await planned(world)).held) == 3


async def test_refused_credentials_plan_nothing(world: World) -> None:
    world.write_many(1)
    world.base.faults.append(
        Fault("base", error=lambda: Halted("credentials", "refused", fix="kbsync doctor"))
    )
    plan = await planned(world)
    assert is_halted(plan, "credentials")
    assert plan.halt is not None and plan.halt.fix == "kbsync doctor"


async def test_unreachable_target_adds_a_note_to_a_valid_plan(world: World) -> None:
    await world.mirrored(3)
    world.write("new.md")
    world.base.faults.append(Fault("base", error=lambda: Unavailable("no route")))
    plan = await planned(world)
    assert paths(plan.upload) == ["new.md"] and plan.unchanged == 3 and "no route" in plan.note


async def test_invalid_ignore_file_leaves_its_directory_alone(world: World) -> None:
    await world.mirrored(10, "sub/f")
    world.write("sub/.kbsyncignore", "[[:nonsense:]]\n")
    for i in range(8):
        world.delete(f"sub/f{i}.md")
    for _ in range(2):  # before and after a pass
        plan = await planned(world)
        assert plans_nothing(plan) and [f.path for f in plan.failed] == ["sub/"]
        await world.once()
    (world.root / "sub").rename(world.root.parent / "away")
    assert [f.path for f in (await planned(world)).failed] == []


async def test_root_changing_during_the_scan_plans_nothing(world: World) -> None:
    await world.mirrored(3)
    world.write("f0.md", "changed")
    target = open_target(world)
    recipe = target.recipe

    def meddling(path: str, settings: Mapping[str, Any]) -> str:
        if world.root.exists():
            world.root.rename(world.root.parent / "away")
        return recipe(path, settings)

    target.recipe = meddling  # type: ignore[method-assign]
    with state_of(world) as state:
        plan = await plan_mirror(world.settings, target, state, world.clock)
    assert is_halted(plan, "folder-missing")


# -- a pass does what was planned ------------------------------------------------------------------------

NAMES = ["a.md", "b.md", "c.txt", "d.md", "sub/e.md", "sub/f.md", "sub/deep/g.md", "other/h.txt"]


def random_edit(world: World, chance: random.Random) -> None:
    files = sorted(p for p in world.root.rglob("*") if p.is_file() and p.name != ".kbsyncignore")
    kind = chance.randrange(12)
    if kind <= 2 or not files:
        world.write(chance.choice(NAMES), f"text {chance.randrange(6)}")
        return
    file = chance.choice(files)
    match kind:
        case 3:
            file.unlink()
        case 4:
            to = (
                world.root / chance.choice(["moved", "sub", "other"]) / f"m{chance.randrange(4)}{file.suffix}"
            )
            to.parent.mkdir(exist_ok=True)
            file.rename(to)
        case 5:
            file.touch()
        case 6:
            file.write_text("")
        case 7 if file.parent != world.root:
            to = world.root / f"dir{chance.randrange(3)}"
            if not to.exists():
                file.parent.rename(to)
        case 9 | 10:
            size, suffix = chance.randrange(3), chance.choice([".md", ".txt", "e.md", "g.md"])
            settings = {"size": size} if size else {}
            world.settings = replace(
                world.settings,
                document_settings=lambda path: settings if path.endswith(suffix) else {},
                fingerprint=f"{size} {suffix}",
            )
        case 11 if world.runs:
            world.approve()
        case 8:
            world.write(".kbsyncignore", chance.choice(["", "other/\n", "b.md\n", "sub/deep/\n", "*.txt\n"]))


def check(world: World, plan: MirrorPlan, before: dict[str, str], effects: int) -> None:
    """Assert that the target got exactly the planned changes."""
    effects_made = world.base.effects[effects:]
    sent = sorted(e.path for e in effects_made if e.op in ("put", "update"))
    to_send = [p for p in (*plan.upload, *plan.replace, *plan.rename, *plan.reembed) if p.sends]
    assert sorted(paths(to_send)) == sent
    renamed = sorted(e.path for e in effects_made if e.op == "rename")
    assert sorted(p.path for p in plan.rename if not p.sends) == renamed
    after = world.searchable_texts()
    old_paths = {p.source for p in plan.rename}
    assert set(before) - set(after) == {*paths(plan.delete), *old_paths} - set(after)
    assert set(after) - set(before) == {*paths(plan.upload), *paths(plan.rename)} - set(before)
    assert set(paths(plan.held)) <= set(after)
    statuses = world.statuses()
    assert statuses.get("held", 0) == len(plan.held)
    changed = len(plan.upload) + len(plan.replace) + len(plan.rename) + len(plan.reembed)
    assert statuses.get("ready", 0) == plan.unchanged + changed - len(plan.failed)


@long
@enumerated()
@pytest.mark.parametrize("target", [MemoryTarget, RenamingMemory, UpdatingMemory, AbleMemory])
@pytest.mark.parametrize("seed", range(3))
async def test_pass_does_what_was_planned(tmp_path: Path, target: type[MemoryTarget], seed: int) -> None:
    chance = random.Random(seed)
    # if a target charges and can rename, a plan lists documents that need both only as held
    world = World(tmp_path, target, paid=seed > 0 and not issubclass(target, RenamingMemory))
    world.base.behaviour = Behaviour(
        indexing_seconds=30
    )  # new documents serve after kbsync decides about deletions
    for name in chance.sample(NAMES, chance.randrange(len(NAMES))):
        world.write(name, f"text {chance.randrange(6)}")
    for _ in range(6):
        for _ in range(chance.randrange(4)):
            random_edit(world, chance)
        plan = await planned(world)
        assert plan.halt is None
        before, effects = world.searchable_texts(), len(world.base.effects)
        await world.once()
        check(world, plan, before, effects)
        second_plan = await planned(world)
        assert [
            *second_plan.upload,
            *second_plan.replace,
            *second_plan.rename,
            *second_plan.delete,
            *second_plan.reembed,
        ] == []
