"""The jobs of crash tests: every kind of work on a folder and its base, for any target.

A job prepares the pass that will be interrupted. It can run repeatedly in one world; `turn` makes texts
differ.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kbsync.engine.settings import DeletionLimits
from kbsync.once import run_once
from kbsync.state.approvals import RENEWALS
from tests.bench.bench import SharedBench
from tests.crash.harness import Guillotine, Work, audit_and_work
from tests.crash.mirror import CrashedMirror


@dataclass(slots=True)
class Edit:
    """What searches must no longer find, and what they find under a new path.

    `resends`: documents must be stored again although their bytes are at the target.
    """

    deleted: set[str] = field(default_factory=set)
    moved: dict[str, str] = field(default_factory=dict)
    resends: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """A job. `settings`: changes to its config. `may_fail`: a version may have to be stored once more.

    `work`: the work to interrupt, repeated before the pass that must repair everything. `finish`: what a
    person does after the recovery.
    """

    begin: Callable[[CrashedMirror, int], Awaitable[Edit]]
    settings: Mapping[str, Any] = field(default_factory=dict)
    may_fail: bool = False
    work: Work = run_once
    finish: Callable[[CrashedMirror], Awaitable[None]] | None = None


async def create(mirror: CrashedMirror, turn: int) -> Edit:
    mirror.world.write(f"new{turn}.md", f"new in turn {turn}")
    return Edit()


async def change(mirror: CrashedMirror, turn: int) -> Edit:
    mirror.world.write(mirror.kept_path, f"kept, changed in turn {turn}")
    return Edit()


async def rename(mirror: CrashedMirror, turn: int) -> Edit:
    before, mirror.kept_path = mirror.kept_path, f"sub{turn}/kept.md"
    mirror.move(before, mirror.kept_path)
    return Edit(moved={before: mirror.kept_path}, resends=not (mirror.bench.renames or mirror.keeps_names))


async def rename_failing(mirror: CrashedMirror, turn: int) -> Edit:
    """The document with the new name is accepted and fails to index at first."""
    mirror.bench.fail_once(f"sub{turn}/kept.md")
    return await rename(mirror, turn)


async def copy(mirror: CrashedMirror, turn: int) -> Edit:
    """A file has the same text as another one."""
    mirror.world.write(f"copy{turn}.md", (mirror.world.root / mirror.kept_path).read_text())
    return Edit(resends=True)


async def delete(mirror: CrashedMirror, turn: int) -> Edit:
    [path] = mirror.spare(1)
    return Edit(mirror.delete(path))


async def keep(mirror: CrashedMirror, turn: int) -> Edit:
    """A document stays without its file; an earlier deleted file returns, every other time with other
    bytes.
    """
    [goes] = mirror.spare(1)
    for back in list(mirror.deleted)[:1]:
        text = mirror.deleted.pop(back)
        mirror.world.write(back, f"back in turn {turn}" if turn % 2 else text)
    await change(mirror, turn)
    return Edit(mirror.delete(goes))


async def mend(mirror: CrashedMirror, turn: int) -> Edit:
    """The document fails to index at first."""
    mirror.bench.fail_once(f"new{turn}.md")
    return await create(mirror, turn)


async def adopt(mirror: CrashedMirror, turn: int) -> Edit:
    """The state is lost; all documents at the target are adopted."""
    mirror.world.lose_state()
    return await create(mirror, turn)


async def approve(mirror: CrashedMirror, turn: int) -> Edit:
    """Two held deletions are approved, and a third file returned meanwhile."""
    first, second, back = mirror.spare(3)
    text = (mirror.world.root / back).read_text()
    for path in (first, second, back):
        mirror.world.delete(path)
    await mirror.world.once()
    held = mirror.world.read_state(lambda tx: [hold.id for hold in tx.holds.current(mirror.world.run.id)])
    assert held
    mirror.world.post_request("approve", holds=held)
    mirror.world.write(back, text)
    return Edit({first, second})


async def supersede_indexing(mirror: CrashedMirror, turn: int) -> Edit:
    """Write a newer version while the state records the older one as accepted."""
    await change(mirror, turn)
    await mirror.world.crash(Guillotine(upon=mirror.bench.accepted))
    mirror.world.write(mirror.kept_path, f"kept, superseded in turn {turn}")
    return Edit()


async def supersede_unsure(mirror: CrashedMirror, turn: int) -> Edit:
    """Write a newer version while the older one was stored without a response."""
    await change(mirror, turn)
    await mirror.world.crash(Guillotine(upon=mirror.bench.stored))
    mirror.world.write(mirror.kept_path, f"kept, superseded in turn {turn}")
    return Edit()


async def supersede_late(mirror: CrashedMirror, turn: int) -> Edit:
    """Write a newer version while the older one is still being sent to the target."""
    assert isinstance(mirror.bench, SharedBench)
    mirror.bench.come_late(mirror.kept_path)
    return await supersede_unsure(mirror, turn)


async def set_anew(mirror: CrashedMirror, turn: int) -> Edit:
    """Another prefix renames every document."""
    mirror.world.settings = replace(mirror.world.settings, prefix=f"p{turn}-")
    return Edit(resends=True)


async def audit(mirror: CrashedMirror, turn: int) -> Edit:
    """Another user deleted a document, and a deleted one still exists."""
    bench = mirror.bench
    assert isinstance(bench, SharedBench)
    lost, deleted = mirror.spare(2)
    bench.keep_deleted()
    mirror.world.delete(deleted)
    await mirror.world.once()
    bench.lose(lost)
    return Edit({lost, deleted}, resends=True)


async def set_recipe(mirror: CrashedMirror, turn: int) -> Edit:
    """Changed settings affect every document's recipe, differently each time."""
    settings = {"knowledge_type": 2 - mirror.recipes_set % 2, "chunk_token": 300 + mirror.recipes_set}
    mirror.recipes_set += 1
    world = mirror.world
    world.settings = replace(
        world.settings, document_settings=lambda _path: settings, fingerprint=str(settings)
    )
    mirror.sent_before = len(mirror.bench.uploads())
    return Edit(resends=True)


async def say_yes(mirror: CrashedMirror) -> None:
    """Approve everything that is held, exactly as it was shown."""
    assert len(mirror.bench.uploads()) == mirror.sent_before, "sent before anybody said yes"
    assert set(mirror.world.statuses()) == {"held"}, mirror.world.statuses()
    mirror.world.post_request("approve", holds=_held_recipes(mirror))
    await mirror.world.once()


async def let_recipe_go(mirror: CrashedMirror, turn: int) -> Edit:
    """Approve the changed recipes; one file was edited meanwhile."""
    edit = await set_recipe(mirror, turn)
    await mirror.world.once()
    mirror.world.post_request("approve", holds=_held_recipes(mirror))
    await change(mirror, turn)
    return edit


def _held_recipes(mirror: CrashedMirror) -> list[int]:
    run = mirror.world.run
    held: list[int] = mirror.world.read_state(lambda tx: [h.id for h in tx.holds.current(run.id, RENEWALS)])
    assert held
    return held


async def everything(mirror: CrashedMirror, turn: int) -> Edit:
    edit = await delete(mirror, turn)
    await create(mirror, turn)
    await change(mirror, turn)
    [path] = mirror.spare(1)
    mirror.move(path, f"moved{turn}.md")
    return Edit(edit.deleted, {path: f"moved{turn}.md"}, resends=not mirror.bench.renames)


JOBS = {
    "create": Job(create),
    "change": Job(change),
    "rename": Job(rename),
    "rename-keep": Job(rename, {"renames": "keep"}),
    "delete": Job(delete),
    "keep": Job(keep, {"deletions": DeletionLimits(never=True)}),
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
"""For a service: its requests in progress outlive the program, names are all that it keeps, and others
write to the base as well.
"""

COPY_JOBS = {"copy": Job(copy)}
"""For targets that refuse equal texts, so that a copy needs another one."""

TEXT_JOBS = {"rename-failing": Job(rename_failing, may_fail=True)}
"""For targets that store each text once, so that nothing serves while a renamed document is created."""

RECIPE_JOBS = {"recipe-held": Job(set_recipe, finish=say_yes), "recipe-approved": Job(let_recipe_go)}
"""For targets where recreating documents costs money."""
