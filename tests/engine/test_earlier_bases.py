"""A mirror that goes to another knowledge base, and perhaps back: what was left behind is not forgotten."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.world import World
from tests.memory.base import MemoryBase


@pytest.fixture
def world(tmp_path: Path) -> World:
    """x, y and z are in the first base; the mirror has gone to another one."""
    return World(tmp_path)


async def turned_away(world: World) -> MemoryBase:
    """The base in which all three were; the mirror is in another one now."""
    for name in "xyz":
        world.write(f"{name}.md", f"text of {name}")
    await world.once()
    first, world.base = world.base, MemoryBase(clock=world.clock.wall)
    world.base.id = "another"
    await world.once()
    assert world.served() == world.on_disk()
    return first


async def test_a_file_may_take_the_name_of_one_whose_document_was_left_behind(world: World) -> None:
    await turned_away(world)
    world.delete("y.md")
    await world.once()
    world.move("x.md", "y.md")
    assert (await world.once()).complete
    assert world.served() == world.on_disk() == {"y.md": "text of x", "z.md": "text of z"}


async def test_back_in_the_first_base_what_went_meanwhile_goes_there_as_well(world: World) -> None:
    first = await turned_away(world)
    world.delete("y.md")
    world.move("x.md", "x2.md")
    world.write("z.md", "text of z, changed")
    await world.once()
    world.base = first
    assert (await world.once()).complete
    assert world.served() == world.on_disk() == {"x2.md": "text of x", "z.md": "text of z, changed"}


async def test_back_in_the_first_base_a_file_of_another_name_replaces_what_is_there(world: World) -> None:
    first = await turned_away(world)
    world.delete("y.md")
    await world.once()
    world.move("x.md", "y.md")
    await world.once()
    world.base = first
    assert (await world.once()).complete
    assert world.served() == world.on_disk() == {"y.md": "text of x", "z.md": "text of z"}
