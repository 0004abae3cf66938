"""What a folder and its base go through in crash tests: every kind of work, on any target.

A job prepares the pass that is going to be cut. It can be done again and again in one world; `turn` keeps
texts apart.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kbsync.core.brake import DeletionLimits
from kbsync.once import run_once
from kbsync.state.approvals import RENEWALS
from tests.crash.harness import Guillotine, Work, audit_and_work
from tests.crash.stages import SharedStage, Stage


@dataclass(slots=True)
class Edit:
    """What must not be found any more, and what goes by another path now.

    `resends`: documents have to be stored again although their bytes are at the target.
    """

    gone: set[str] = field(default_factory=set)
    moved: dict[str, str] = field(default_factory=dict)
    resends: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """`plan`: what its config says otherwise. `may_fail`: a version may have to be stored once more.

    `work`: what is cut, and done again before the pass that has to put all in order. `finish`: what a person
    does after the recovery.
    """

    begin: Callable[[Stage, int], Awaitable[Edit]]
    plan: Mapping[str, Any] = field(default_factory=dict)
    may_fail: bool = False
    work: Work = run_once
    finish: Callable[[Stage], Awaitable[None]] | None = None


async def create(stage: Stage, turn: int) -> Edit:
    stage.world.write(f"new{turn}.md", f"new in turn {turn}")
    return Edit()


async def change(stage: Stage, turn: int) -> Edit:
    stage.world.write(stage.kept, f"kept, changed in turn {turn}")
    return Edit()


async def rename(stage: Stage, turn: int) -> Edit:
    before, stage.kept = stage.kept, f"sub{turn}/kept.md"
    stage.move(before, stage.kept)
    return Edit(moved={before: stage.kept}, resends=not (stage.renames or stage.keeps_names))


async def delete(stage: Stage, turn: int) -> Edit:
    [gone] = stage.spare(1)
    stage.world.delete(gone)
    return Edit({gone})


async def mend(stage: Stage, turn: int) -> Edit:
    """It does not index at first."""
    stage.fail_once(f"new{turn}.md")
    return await create(stage, turn)


async def adopt(stage: Stage, turn: int) -> Edit:
    """The state is lost; everything that is at the target already is taken over."""
    stage.lose_state()
    return await create(stage, turn)


async def approve(stage: Stage, turn: int) -> Edit:
    """Two deletions were held and are let go, a third file came back meanwhile."""
    first, second, back = stage.spare(3)
    text = (stage.world.root / back).read_text()
    for path in (first, second, back):
        stage.world.delete(path)
    await stage.world.once()
    held = stage.world.look_up(lambda tx: [hold.id for hold in tx.holds.current(stage.world.run.mirror)])
    assert held
    stage.world.tell("approve", holds=held)
    stage.world.write(back, text)
    return Edit({first, second})


async def supersede_indexing(stage: Stage, turn: int) -> Edit:
    """A newer version while the state knows that the older one is accepted."""
    await change(stage, turn)
    await stage.crash(Guillotine(upon=stage.accepted))
    stage.world.write(stage.kept, f"kept, superseded in turn {turn}")
    return Edit()


async def supersede_unsure(stage: Stage, turn: int) -> Edit:
    """A newer version while nobody knows what became of the older one, which was stored."""
    await change(stage, turn)
    await stage.crash(Guillotine(upon=stage.stored))
    stage.world.write(stage.kept, f"kept, superseded in turn {turn}")
    return Edit()


async def supersede_late(stage: Stage, turn: int) -> Edit:
    """A newer version while the older one is still on its way to the target."""
    stage.come_late()
    return await supersede_unsure(stage, turn)


async def set_anew(stage: Stage, turn: int) -> Edit:
    """Another prefix renames every document."""
    stage.world.settings = replace(stage.world.settings, prefix=f"p{turn}-")
    return Edit(resends=True)


async def audit(stage: Stage, turn: int) -> Edit:
    """Somebody else deleted a document; one that was deleted is there all the same."""
    assert isinstance(stage, SharedStage)
    lost, kept = stage.spare(2)
    stage.keep_deleted()
    stage.world.delete(kept)
    await stage.world.once()
    stage.lose(lost)
    return Edit({lost, kept}, resends=True)


async def set_recipe(stage: Stage, turn: int) -> Edit:
    """Settings change how every document is made, and each time to others than the last ones."""
    settings = {"knowledge_type": 2 - stage.recipes_set % 2, "chunk_token": 300 + stage.recipes_set}
    stage.recipes_set += 1
    world = stage.world
    world.settings = replace(
        world.settings, document_settings=lambda _path: settings, fingerprint=str(settings)
    )
    stage.sent_before = len(stage.sent())
    return Edit(resends=True)


async def say_yes(stage: Stage) -> None:
    """What waits for a person is as it was, all of it, and is let go."""
    assert len(stage.sent()) == stage.sent_before, "sent before anybody said yes"
    assert set(stage.world.statuses()) == {"held"}, stage.world.statuses()
    stage.world.tell("approve", holds=_held_recipes(stage))
    await stage.world.once()


async def say_yes_if_asked(stage: Stage) -> None:
    """To cut back what was cut already costs as much, and asks as well."""
    if "held" in stage.world.statuses():
        stage.world.tell("approve", holds=_held_recipes(stage))
        await stage.world.once()


async def let_recipe_go(stage: Stage, turn: int) -> Edit:
    """A person said yes; one file was edited meanwhile."""
    edit = await set_recipe(stage, turn)
    await stage.world.once()
    stage.world.tell("approve", holds=_held_recipes(stage))
    await change(stage, turn)
    return edit


def _held_recipes(stage: Stage) -> list[int]:
    mirror = stage.world.run.mirror
    held: list[int] = stage.world.look_up(lambda tx: [h.id for h in tx.holds.current(mirror, RENEWALS)])
    assert held
    return held


async def everything(stage: Stage, turn: int) -> Edit:
    edit = await delete(stage, turn)
    await create(stage, turn)
    await change(stage, turn)
    [path] = stage.spare(1)
    stage.move(path, f"moved{turn}.md")
    return Edit(edit.gone, {path: f"moved{turn}.md"}, resends=not stage.renames)


JOBS = {
    "create": Job(create),
    "change": Job(change),
    "rename": Job(rename),
    "rename-keep": Job(rename, {"renames": "keep"}),
    "delete": Job(delete),
    "mend": Job(mend, may_fail=True),
    "adopt": Job(adopt),
    "approve": Job(approve, {"deletions": DeletionLimits(0.2, 1, 3600.0)}),
    "supersede-indexing": Job(supersede_indexing),
    "supersede-unsure": Job(supersede_unsure),
    "everything": Job(everything),
}
"""For every target."""

REMOTE_JOBS = {
    **JOBS,
    "supersede-late": Job(supersede_late),
    "adopt-plain": Job(adopt, {"names": "plain"}),
    "prefix": Job(set_anew),
    "audit": Job(audit, work=audit_and_work),
}
"""For a service: what is on its way there outlives the program, names are all that it keeps, and others
work on the base as well."""

RECIPE_JOBS = {
    "recipe-held": Job(set_recipe, finish=say_yes),
    "recipe-approved": Job(let_recipe_go),
}
"""Where it costs money to make documents anew."""
