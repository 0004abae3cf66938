"""Tests settings that change how documents are made: at a paid service, large changes need approval."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kbsync.engine.settings import MirrorSettings
from kbsync.state.approvals import RENEWALS
from tests.engine.read_only_commands import planned, plans_nothing
from tests.engine.test_plan import paths
from tests.engine.test_status import status
from tests.engine.world import World
from tests.memory.base import MemoryBase
from tests.memory.behaviour import Failure
from tests.memory.target import MemoryTarget
from tests.memory.variants import RenamingMemory
from tests.share import enumerated, long

MANY = 10
Steps = list[Callable[[World], object]]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path, paid=True)
    await world.mirrored(MANY)
    world.clock.now += 100
    yield world


def set_to(world: World, size: int, *only: str) -> None:
    """Change the config's chunk size, for all documents or `only` some."""

    def settings(path: str) -> dict[str, Any]:
        return {"size": size} if not only or path in only else {}

    world.settings = replace(world.settings, document_settings=settings, fingerprint=f"{size} {only}")


def halt(world: World) -> dict[str, str]:
    """Return what the mirror waits for, as a person sees it; empty if it doesn't wait."""
    return status(world)["halt"] or {}


def holds(world: World) -> list[int]:
    hold_ids: list[int] = world.read_state(
        lambda tx: [h.id for h in tx.holds.current(world.run.id, RENEWALS)]
    )
    return hold_ids


def recipes(world: World) -> dict[str, str]:
    """Return the recipe of each searchable document."""
    target = MemoryTarget(world.base, limits=world.limits)
    sizes = {target.recipe("x.md", {"size": n} if n else {}): f"size {n}" for n in range(5)}
    return {d.path: sizes[d.recipe] for d in world.base.documents.values() if d.searchable is not None}


def paths_with_size(world: World, size: int) -> set[str]:
    return {path for path, recipe in recipes(world).items() if recipe == f"size {size}"}


@long
async def test_settings_change_affecting_many_documents_waits_for_approval(world: World) -> None:
    served = world.searchable_texts()
    set_to(world, 2)
    end = await world.once()
    assert end.complete and not end.problem
    assert world.statuses() == {"held": MANY} and paths_with_size(world, 0) == set(served)
    assert (halt(world)["reason"], halt(world)["cure"]) == ("recipe-held", "kbsync approve docs --here")
    assert halt(world)["detail"].startswith("10 of 10 documents (100 B) would be reindexed")
    await world.once()
    assert world.puts() == MANY and len(holds(world)) == 1 and world.searchable_texts() == served
    world.approve()
    await world.once()
    assert world.searchable_texts() == served and paths_with_size(world, 2) == set(served)
    assert world.statuses() == {"ready": MANY} and holds(world) == [] and halt(world) == {}
    await world.once()
    assert world.puts() == 2 * MANY


@long
async def test_gradual_changes_beyond_a_fifth_of_the_documents_wait_too(world: World) -> None:
    set_to(world, 2, "f0.md", "f1.md")
    await world.once()
    assert paths_with_size(world, 2) == {"f0.md", "f1.md"} and world.statuses() == {"ready": MANY}
    for many in (5, 6):  # held documents are counted together with later ones
        set_to(world, 2, *(f"f{n}.md" for n in range(many)))
        await world.once()
        assert len(paths_with_size(world, 2)) == 2 and world.statuses() == {
            "ready": MANY + 2 - many,
            "held": many - 2,
        }


@long
async def test_free_target_never_asks(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.mirrored(MANY)
    set_to(world, 2)
    await world.once()
    assert len(paths_with_size(world, 2)) == MANY and world.statuses() == {"ready": MANY}


@long
async def test_upgrade_reindexes_no_document(world: World) -> None:
    plan = world.settings
    set_to(world, 2)
    world.settings = replace(world.settings, fingerprint=plan.fingerprint)  # the config is unchanged
    plan_after = await planned(world)
    assert plan_after.reembed == [] and plan_after.held == [] and plan_after.unchanged == MANY
    await world.once()
    assert world.statuses() == {"ready": MANY} and world.puts() == MANY
    for path in world.root.iterdir():
        path.touch()
    await world.once()
    assert world.puts() == MANY and world.statuses() == {"ready": MANY}
    await world.mirrored({"f0.md": "changed"})
    assert paths_with_size(world, 2) == {"f0.md"}


def two(world: World) -> None:
    set_to(world, 2)


def back(world: World) -> None:
    """Restore the first config."""
    world.settings = MirrorSettings("docs", world.root, "memory")


def approve_and_turn_back(world: World) -> None:
    world.approve()
    back(world)


def upgrade(world: World) -> None:
    """Change the program's recipes, with the same config."""
    fingerprint = world.settings.fingerprint
    set_to(world, 3)
    world.settings = replace(world.settings, fingerprint=fingerprint)


def edit_one_and_add_one(world: World) -> None:
    world.write("f0.md", "edited")
    world.write("new.md", "new")


def edit_all(world: World) -> None:
    for path in world.root.iterdir():
        path.write_text(f"edited {path.name}")


ALL = {f"f{n}.md" for n in range(MANY)}
OF_ALL = "10 of 10 documents"


@enumerated()
@pytest.mark.parametrize(
    ("before", "after", "recreated", "held_count", "detail"),
    [
        ([two], [edit_one_and_add_one], {"new.md", "f0.md"}, MANY - 1, "9 of 11 documents"),
        ([two], [lambda world: world.delete("f0.md")], set(), MANY - 1, "9 of 9 documents"),
        ([two], [back], set(), 0, ""),
        ([two], [upgrade], set(), MANY, OF_ALL),  # deletions that need approval stay held
        ([two, approve_and_turn_back], [two], set(), MANY, OF_ALL),
        ([], [two, edit_all], ALL, 0, ""),  # edited before the change was counted
        ([], [World.lose_state, two], set(), MANY, OF_ALL),  # adopted, not sent again
    ],
)
async def test_approval_is_asked_for_changes_made_meanwhile(
    world: World, before: Steps, after: Steps, recreated: set[str], held_count: int, detail: str
) -> None:
    """Run a pass after each step of `before`, and one after all steps of `after`."""
    for step in before:
        step(world)
        await world.once()
    for step in after:
        step(world)
    await world.once()
    ready = len(world.on_disk()) - held_count
    assert world.statuses() == {state: n for state, n in (("ready", ready), ("held", held_count)) if n}
    assert paths_with_size(world, 2) == recreated and len(holds(world)) == bool(held_count)
    assert halt(world).get("detail", "").startswith(detail) and bool(halt(world)) == bool(held_count)


@long
@pytest.mark.parametrize(("first", "second"), [((2,), (3,)), ((2, *(f"f{n}.md" for n in range(5))), (2,))])
async def test_different_or_wider_change_needs_a_new_approval(
    world: World, first: tuple[Any, ...], second: tuple[Any, ...]
) -> None:
    set_to(world, *first)
    await world.once()
    hold_ids = holds(world)
    set_to(world, *second)
    await world.once()
    more = holds(world)
    assert len(hold_ids) == len(more) == 1 and more != hold_ids
    world.post_request("approve", holds=hold_ids)
    await world.once()
    assert paths_with_size(world, 0) == set(world.searchable_texts()) and holds(world) == more
    world.post_request("approve", holds=more)
    await world.once()
    assert paths_with_size(world, second[0]) == set(world.searchable_texts()) and world.statuses() == {
        "ready": MANY
    }


@long
async def test_deletions_and_settings_changes_are_held_separately(world: World) -> None:
    set_to(world, 2)
    await world.once()
    texts = {n: (world.root / f"f{n}.md").read_text() for n in range(6)}
    for n in texts:
        world.delete(f"f{n}.md")
    await world.once()
    assert halt(world)["reason"] == "deletions-held"
    for words in ("6 of 10 documents would be deleted", "4 of 10 documents (40 B)"):
        assert words in halt(world)["detail"]
    await world.mirrored({f"f{n}.md": text for n, text in texts.items()})
    assert halt(world)["detail"].startswith("10 of 10 documents")
    assert world.statuses() == {"held": MANY} and paths_with_size(world, 0) == set(world.searchable_texts())


@long
@pytest.mark.parametrize("kind", [MemoryTarget, RenamingMemory])
async def test_renamed_file_with_a_held_change_is_searchable_and_nothing_is_sent(
    tmp_path: Path, kind: type[MemoryTarget]
) -> None:
    world = World(tmp_path, kind, paid=True)
    await world.mirrored(MANY)
    world.clock.now += 100
    set_to(world, 2)
    await world.once()
    world.move("f0.md", "moved.md")
    await world.once()
    assert "moved.md" in world.searchable_texts() and "f0.md" not in world.searchable_texts()
    sent = set() if kind is RenamingMemory else {"moved.md"}
    assert paths_with_size(world, 2) == sent
    assert world.statuses() == ({"held": MANY} if not sent else {"held": MANY - 1, "ready": 1})


@long
async def test_failed_reindexing_keeps_the_old_document_and_retry_needs_no_approval(world: World) -> None:
    set_to(world, 2)
    await world.once()
    failure = Failure("f0.md", times=4)
    world.base.behaviour.failures.append(failure)
    world.approve()
    await world.once()
    assert recipes(world)["f0.md"] == "size 0" and world.statuses() == {"ready": MANY - 1, "failed": 1}
    world.post_request("retry")
    await world.once()
    assert recipes(world)["f0.md"] == "size 2" and world.statuses() == {"ready": MANY}


@long
async def test_plan_announces_what_a_pass_will_hold(world: World) -> None:
    set_to(world, 2)
    before = await planned(world)
    assert len(before.held) == MANY and before.reembed == [] and before.bytes_to_send == 0
    assert {planned_file.cause for planned_file in before.held} == {"recipe"} and sum(
        planned_file.size for planned_file in before.held
    ) == 100
    await world.once()
    held = await planned(world)
    assert paths(held.held) == paths(before.held) and held.unchanged == 0
    world.approve()
    approved = await planned(world)
    assert paths(approved.reembed) == paths(before.held) and approved.held == []
    assert approved.bytes_to_send == 100
    await world.once()
    assert plans_nothing(await planned(world))


@long
async def test_another_base_needs_no_approval_and_the_first_one_asks_again(world: World) -> None:
    first = world.base
    set_to(world, 2)
    await world.once()
    world.base = MemoryBase(clock=world.clock.wall)
    world.base.recreate()
    await world.once()
    assert world.statuses() == {"ready": MANY} and halt(world) == {}
    assert paths_with_size(world, 2) == set(world.searchable_texts())
    world.base = first
    await world.once()
    assert world.statuses() == {"held": MANY} and len(holds(world)) == 1
    world.approve()
    await world.once()
    assert world.statuses() == {"ready": MANY} and paths_with_size(world, 2) == set(world.searchable_texts())
