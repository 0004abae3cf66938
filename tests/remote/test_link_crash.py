"""Kills kbsync at every commit and request about a link: its page exists once, and is never another's.

One link file stays, and a colleague has a page of the same address.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.crash.benches import SERVICES
from tests.crash.harness import Guillotine
from tests.crash.mirror import CrashedMirror
from tests.engine.world import World
from tests.remote.test_links import PAGE, beside, pages, shortcut
from tests.share import boundaries, in_parts, long

# A killed process would close its connections; here the process continues.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

Edit = Callable[[World, int], list[str]]


def create(world: World, turn: int) -> list[str]:
    world.write("faq.url", shortcut())
    world.write(f"new{turn}.url", shortcut(f"{PAGE}/{turn}"))
    return [PAGE, f"{PAGE}/{turn}"]


def replace(world: World, turn: int) -> list[str]:
    world.write("faq.url", shortcut(f"{PAGE}/turn{turn}"))
    return [f"{PAGE}/turn{turn}"]


def rewrite(world: World, turn: int) -> list[str]:
    """Write the same address in other bytes."""
    world.write("faq.url", shortcut(lines=f"IconIndex={turn}\r\n"))
    return [PAGE]


def delete(world: World, turn: int) -> list[str]:
    world.delete("faq.url")
    return []


def retry(world: World, turn: int) -> list[str]:
    """Request the current version of the page."""
    world.post_request("retry", paths=["faq.url"])
    return [PAGE]


@long
@in_parts
@pytest.mark.parametrize("edit", [create, replace, rewrite, delete, retry])
def test_crash_anywhere_leaves_one_page_per_link(tmp_path: Path, edit: Edit, part: int) -> None:
    assert asyncio.run(cut_everywhere(tmp_path, edit, part)) >= 1


async def cut_everywhere(folder: Path, edit: Edit, part: int) -> int:
    """Crash at one boundary after the other, until one is past the last."""
    crashes = 0
    bench = SERVICES["zhipu"](folder)
    world: Any = bench.world
    async with CrashedMirror(bench).serving():
        beside(world, PAGE)
        world.clock.now += 1000.0
        for turn, number in enumerate(boundaries(part)):
            for path in world.root.rglob("*.url"):
                path.unlink()
            world.write("faq.url", shortcut())
            world.clock.now += 4000.0  # deletions of earlier turns no longer count
            await world.once()
            expected = edit(world, turn)
            guillotine = Guillotine(stop_at=number)
            await world.crash(guillotine)
            crashes += guillotine.fallen
            await world.once()
            assert pages(world) == sorted(expected), guillotine.passed[-1]
            assert set(world.statuses()) == {"ready"}, guillotine.passed[-1]
            assert bench.touched() == 0
            assert bench.violations() == []
            if not guillotine.fallen:
                break
    return crashes
