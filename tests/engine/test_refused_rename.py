"""A renamed file whose new upload is refused: a failure that is seen, while its bytes are still found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kbsync.engine.explain import explain_path
from kbsync.engine.plan import CommandContext
from kbsync.engine.status import mirror_status
from kbsync.engine.verify import verify_mirror
from kbsync.errors import Rejected
from kbsync.state.read_only import Tx
from tests.engine.read_only_commands import open_target, planned, state_of
from tests.engine.world import World
from tests.memory.behaviour import Fault

OLD, NEW = "old.md", "sub/new.md"


@pytest.fixture
async def world(tmp_path: Path) -> World:
    """The rename was refused twice, and would be again."""
    world = World(tmp_path)
    world.write_many(3)
    world.write(OLD, "as it was")
    await world.once()
    world.base.faults.append(Fault("put", error=lambda: Rejected("too large"), match=NEW, times=99))
    world.move(OLD, NEW)
    await world.once()
    await world.once()
    return world


def item(world: World) -> dict[str, Any]:
    def work(tx: Tx) -> dict[str, Any]:
        record = tx.mirrors.named("docs")
        assert record is not None
        status = mirror_status(tx, record, now=world.clock.wall(), documents=True, cure=str)
        assert status.items is not None
        [found] = [one for one in status.items if one.path == NEW]
        return found.to_json()

    return dict(world.look_up(work))


async def test_it_is_told_as_failed_with_the_targets_words_and_the_name_it_is_found_by(world: World) -> None:
    [document] = world.base.served(OLD)
    assert world.statuses() == {"ready": 3, "failed": 1}
    found = item(world)
    assert (found["state"], found["document_id"]) == ("failed", document.remote_id)
    assert found["reason"] == f"too large; it is still found by its old name, {OLD}"


async def test_it_is_sent_once_and_again_when_a_person_asks(world: World) -> None:
    assert len([one for one in world.base.requests if one.op == "put"]) == 5
    world.base.faults.clear()
    world.tell("retry")
    await world.once()
    assert world.statuses() == {"ready": 4}
    assert world.served() == world.on_disk()


async def test_its_old_name_given_back_is_no_failure(world: World) -> None:
    world.move(NEW, OLD)
    await world.once()
    assert world.statuses() == {"ready": 4}
    assert world.served() == world.on_disk()


async def test_where_old_names_are_kept_it_is_none_either(world: World) -> None:
    world.settings = replace(world.settings, renames="keep")
    world.write(NEW, "as it was")  # looked at again
    await world.once()
    assert world.statuses() == {"ready": 4}


async def test_verify_plan_and_explain_say_the_same(world: World) -> None:
    target = open_target(world)
    with state_of(world) as state:
        found = await verify_mirror(
            world.settings, target, state, world.clock, CommandContext(world.configured)
        )
        told = await explain_path(
            world.settings,
            target,
            state,
            world.clock,
            NEW,
            context=CommandContext(world.configured),
        )
    [stale] = found.stale
    assert stale.path == NEW and f"was {OLD} when" in stale.why and "too large" in stale.why
    assert f"found by its old name, {OLD}, because the target refused it (too large)" in told.answer
    plan = await planned(world)
    assert [one.path for one in plan.failed] == [NEW]
    assert plan.rename == []
