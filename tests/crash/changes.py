"""Changes the config, kills the program before it has finished, and changes the config back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from kbsync.errors import Unavailable
from tests.crash.harness import Guillotine
from tests.engine.world import World
from tests.memory.base import MemoryBase
from tests.memory.behaviour import Fault
from tests.memory.target import MemoryTarget
from tests.memory.variants import AbleMemory, RenamingMemory

KINDS: tuple[type[MemoryTarget], ...] = (MemoryTarget, AbleMemory, RenamingMemory)
MOST = 60
"""More boundaries than a pass after any of these changes has."""


def another_prefix(world: World) -> None:
    world.settings = replace(world.settings, prefix="new-")


def another_setting(world: World) -> None:
    world.settings = replace(
        world.settings, document_settings=lambda _path: {"chunk_size": 99}, fingerprint="other"
    )


def another_selection(world: World) -> None:
    world.settings = replace(world.settings, exclude=("f1.md", "d/"))


def another_base(world: World) -> None:
    world.base = MemoryBase(clock=world.clock.wall)
    world.base.id = "another"


CHANGES: tuple[Callable[[World], None], ...] = (
    another_prefix,
    another_setting,
    another_selection,
    another_base,
)


@dataclass(frozen=True, slots=True)
class Wavering:
    """A config change. `is_down`: the service is down until the change, so nothing was uploaded before."""

    kind: type[MemoryTarget]
    change: Callable[[World], None]
    is_down: bool

    def __str__(self) -> str:
        return f"{self.kind.__name__} {self.change.__name__}{' down' * self.is_down}"


EVERY = [Wavering(kind, change, down) for kind in KINDS for change in CHANGES for down in (False, True)]


async def changed_back(folder: Path, change: Wavering, boundary: int) -> bool:
    """Kill the pass at `boundary` and change back; return False if the pass ended before. Folder and
    base must end up equal.
    """
    folder.mkdir()
    world = World(folder, change.kind)
    plan, base = world.settings, world.base
    for path in ("f0.md", "f1.md", "d/a.md", "d/e/b.md"):
        world.write(path)
    if change.is_down:
        world.base.faults = [Fault("put", error=lambda: Unavailable("down"), times=99)]
    await world.once()
    world.base.faults = []
    change.change(world)
    guillotine = Guillotine(stop_at=boundary)
    await world.crash(guillotine)
    world.settings, world.base = plan, base
    await world.once()
    world.clock.now += 4000
    await world.once()
    assert world.statuses() == {"ready": 4}, f"{change}, {boundary}: {world.statuses()}"
    assert world.searchable_texts() == world.on_disk(), f"{change}, {boundary}: {world.searchable_texts()}"
    assert len(base.documents) == 4, f"{change}, {boundary}: {base.documents}"
    return guillotine.fallen
