from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from kbsync.engine.plan import MirrorPlan, Planned
from tests.engine.read_only_commands import planned
from tests.engine.world import World
from tests.memory.behaviour import Behaviour
from tests.memory.target import MemoryTarget
from tests.memory.variants import AbleMemory, RenamingMemory, UpdatingMemory

NAMES = ["a.md", "b.md", "c.txt", "d.md", "sub/e.md", "sub/f.md", "sub/deep/g.md", "other/h.txt"]


def random_edit(world: World, chance: random.Random) -> None:
    there = sorted(p for p in world.root.rglob("*") if p.is_file() and p.name != ".kbsyncignore")
    kind = chance.randrange(12)
    if kind <= 2 or not there:
        world.write(chance.choice(NAMES), f"text {chance.randrange(6)}")
        return
    file = chance.choice(there)
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


def paths(planned: list[Planned]) -> list[str]:
    return [one.path for one in planned]


def check(world: World, plan: MirrorPlan, before: dict[str, str], effects: int) -> None:
    """What was done is what was planned, seen from the target."""
    done = world.base.effects[effects:]
    sent = sorted(e.path for e in done if e.op in ("put", "update"))
    to_send = [p for p in (*plan.upload, *plan.replace, *plan.rename, *plan.reembed) if p.sends]
    assert sorted(paths(to_send)) == sent
    renamed = sorted(e.path for e in done if e.op == "rename")
    assert sorted(p.path for p in plan.rename if not p.sends) == renamed
    after = world.served()
    left = {p.source for p in plan.rename}
    assert set(before) - set(after) == {*paths(plan.delete), *left} - set(after)
    assert set(after) - set(before) == {*paths(plan.upload), *paths(plan.rename)} - set(before)
    assert set(paths(plan.held)) <= set(after)
    statuses = world.statuses()
    assert statuses.get("held", 0) == len(plan.held)
    changed = len(plan.upload) + len(plan.replace) + len(plan.rename) + len(plan.reembed)
    assert statuses.get("ready", 0) == plan.unchanged + changed - len(plan.failed)


@pytest.mark.parametrize("target", [MemoryTarget, RenamingMemory, UpdatingMemory, AbleMemory])
@pytest.mark.parametrize("seed", range(3))
async def test_a_pass_does_what_was_planned(tmp_path: Path, target: type[MemoryTarget], seed: int) -> None:
    chance = random.Random(seed)
    # where a target charges and renames, a plan lists what it does both to as held alone
    world = World(tmp_path, target, paid=seed > 0 and not issubclass(target, RenamingMemory))
    world.base.behaviour = Behaviour(indexing_seconds=30)  # what is new serves after deletions are weighed
    for name in chance.sample(NAMES, chance.randrange(len(NAMES))):
        world.write(name, f"text {chance.randrange(6)}")
    for _ in range(6):
        for _ in range(chance.randrange(4)):
            random_edit(world, chance)
        plan = await planned(world)
        assert plan.halt is None
        before, effects = world.served(), len(world.base.effects)
        await world.once()
        check(world, plan, before, effects)
        again = await planned(world)
        assert [*again.upload, *again.replace, *again.rename, *again.delete, *again.reembed] == []
