"""A renamed file whose new upload is refused: a failure that is seen, while its bytes are still found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kbsync.errors import Rejected
from tests.engine.auditing import verified
from tests.engine.read_only_commands import planned
from tests.engine.test_explain import explained
from tests.engine.test_status import items
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


async def test_it_is_told_as_failed_with_the_targets_words_and_the_name_it_is_found_by(world: World) -> None:
    [document] = world.base.served(OLD)
    assert world.statuses() == {"ready": 3, "failed": 1}
    found = items(world)[NEW]
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
    [stale] = (await verified(world)).stale
    assert stale.path == NEW and f"was {OLD} when" in stale.why and "too large" in stale.why
    assert (
        f"found by its old name, {OLD}, because the target refused it (too large)"
        in (await explained(world, NEW)).answer
    )
    plan = await planned(world)
    assert [one.path for one in plan.failed] == [NEW]
    assert plan.rename == []
