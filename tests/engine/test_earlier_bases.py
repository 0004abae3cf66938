"""A mirror that goes to another knowledge base, and perhaps back: what was left behind is not forgotten."""

from __future__ import annotations

from pathlib import Path

from tests.engine.world import World
from tests.memory.base import MemoryBase


async def turned_away(world: World) -> MemoryBase:
    """The base in which x, y and z were; the mirror is in another one now."""
    for name in "xyz":
        world.write(f"{name}.md", f"text of {name}")
    await world.once()
    first, world.base = world.base, MemoryBase(clock=world.clock.wall)
    world.base.id = "another"
    await world.once()
    assert world.served() == world.on_disk()
    return first


async def test_a_file_may_take_the_name_of_one_whose_document_was_left_behind(tmp_path: Path) -> None:
    world = World(tmp_path)
    await turned_away(world)
    world.delete("y.md")
    await world.once()
    world.move("x.md", "y.md")
    assert (await world.once()).complete
    assert world.served() == world.on_disk() == {"y.md": "text of x", "z.md": "text of z"}


async def test_back_in_the_first_base_what_went_meanwhile_goes_there_as_well(tmp_path: Path) -> None:
    world = World(tmp_path)
    first = await turned_away(world)
    world.delete("y.md")
    world.move("x.md", "x2.md")
    world.write("z.md", "text of z, changed")
    await world.once()
    world.base = first
    assert (await world.once()).complete
    assert world.served() == world.on_disk() == {"x2.md": "text of x", "z.md": "text of z, changed"}
